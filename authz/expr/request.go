package expr

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// maxQueryPairs bounds how much of a query is taken apart. A longer one is
// missing as a whole: half of it would be a second reading. Envoy's limit of
// 60 KiB for all headers would allow 30,000 pairs.
const maxQueryPairs = 1000

func (s *Scope) headerMap() map[string]any {
	if s.headers != nil {
		return s.headers
	}
	s.headers = make(map[string]any, len(s.request.Headers))
	for _, h := range s.request.Headers {
		name := clean(strings.ToLower(h.Name))
		if strings.HasPrefix(name, ":") || s.env.hidden[name] {
			continue
		}
		add(s.headers, name, clean(h.Value))
	}
	return s.headers
}

func (s *Scope) queryMap() (map[string]any, bool) {
	if s.query != nil || s.longQuery {
		return s.query, !s.longQuery
	}
	if strings.Count(s.request.Query, "&") >= maxQueryPairs {
		s.longQuery = true
		return nil, false
	}
	s.query = make(map[string]any)
	for pair := range strings.SplitSeq(s.request.Query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		add(s.query, decode(name), decode(value))
	}
	return s.query, true
}

func (s *Scope) paramMap() map[string]string {
	if s.params == nil {
		s.params = make(map[string]string, len(s.request.Params))
		for _, p := range s.request.Params {
			s.params[p.Name] = clean(p.Value)
		}
	}
	return s.params
}

func add(m map[string]any, name, value string) {
	if values, ok := m[name].([]string); ok {
		m[name] = append(values, value)
		return
	}
	m[name] = []string{value}
}

// clean returns s with U+FFFD for each byte that is not part of valid UTF-8.
func clean(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// decode reads one name or value of a query: a plus is a space, and an escape
// that is broken stays as it is (WHATWG URL Standard, section 1.3).
func decode(s string) string {
	if !strings.ContainsAny(s, "+%") {
		return clean(s)
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			b = append(b, ' ')
		case '%':
			if c, err := hex.DecodeString(s[i+1 : min(i+3, len(s))]); err == nil && len(c) == 1 {
				b = append(b, c[0])
				i += 2
				continue
			}
			b = append(b, '%')
		default:
			b = append(b, s[i])
		}
	}
	return clean(string(b))
}
