package token

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
)

// A Credential is a place where a token may be: a header with a scheme, a
// header whose whole value is the token, or a cookie.
type Credential struct {
	Header, Scheme string
	Cookie         string
}

// A source is a place to look in. All schemes of a header are one source,
// because two of them in one header are two credentials.
type source struct {
	header  string
	schemes []string // empty: the whole value is the token
	cookie  string   // in header cookie
}

func newSources(creds []Credential) ([]source, error) {
	if len(creds) == 0 {
		creds = []Credential{{Header: "authorization", Scheme: "Bearer"}}
	}
	var sources []source
	var errs []error
	for _, c := range creds {
		s := source{header: strings.ToLower(c.Header), cookie: c.Cookie}
		switch {
		case (c.Header == "") == (c.Cookie == ""):
			errs = append(errs, errors.New("a credential is either a header or a cookie"))
			continue
		case c.Cookie != "":
			s.header = "cookie"
		case c.Scheme != "":
			s.schemes = []string{c.Scheme}
		}
		if !isName(s.header) || c.Cookie != "" && !isName(c.Cookie) || c.Scheme != "" && (!isName(c.Scheme) || c.Cookie != "") {
			errs = append(errs, fmt.Errorf("credential %+v: not a name of a header, scheme or cookie", c))
			continue
		}
		var err error
		if sources, err = add(sources, s); err != nil {
			errs = append(errs, err)
		}
	}
	return sources, errors.Join(errs...)
}

// add merges the schemes of one header.
func add(sources []source, s source) ([]source, error) {
	for i := range sources {
		old := &sources[i]
		if old.header != s.header || old.cookie != s.cookie {
			continue
		}
		if len(old.schemes) == 0 || len(s.schemes) == 0 {
			return sources, fmt.Errorf("credential in %s is there twice, or with and without a scheme", s.header)
		}
		old.schemes = append(old.schemes, s.schemes...)
		return sources, nil
	}
	return append(sources, s), nil
}

// credential returns the one token of a request, or nothing where none came.
func (v *Verifier) credential(r *authz.Request) (string, error) {
	if queryToken(r.Query) {
		return "", malformed(authz.QueryCredential, "access_token in the query (RFC 9700 section 4.3.2)")
	}
	var token string
	var found bool
	for i := range v.sources {
		t, n, err := v.sources[i].read(r)
		if err != nil {
			return "", err
		}
		if n > 1 || n == 1 && found {
			return "", malformed(authz.TwoCredentials, "more than one credential (RFC 6750 section 2)")
		}
		if n == 1 {
			token, found = t, true
		}
	}
	if !found {
		return "", nil
	}
	if len(token) > jws.MaxSize {
		return "", malformed(authz.CredentialTooLong, fmt.Sprintf("credential is longer than %d bytes", jws.MaxSize))
	}
	if !isToken68(token) {
		return "", malformed(authz.NotToken68, "credential is not one token68 (RFC 9110 section 11.2)")
	}
	return token, nil
}

// read returns the token in this place and how many there are.
func (s *source) read(r *authz.Request) (token string, n int, err error) {
	if s.cookie != "" {
		token, n = s.readCookie(r)
		return token, n, nil
	}
	lines, ours := 0, 0
	var value string
	for i := range r.Headers {
		if r.Headers[i].Name != s.header {
			continue
		}
		lines++
		value = r.Headers[i].Value
		ours += s.count(value)
	}
	switch {
	case ours == 0:
		return "", 0, nil
	case lines > 1 || strings.Contains(value, ","):
		return "", 2, nil // Envoy joins lines with a comma, in raw mode too
	case len(s.schemes) == 0:
		return value, 1, nil
	}
	scheme, _ := s.scheme(value)
	token = strings.TrimLeft(value[scheme:], " ")
	if scheme == 0 || len(token) == len(value)-scheme {
		return "", 0, malformed(authz.NotToken68, "scheme without a space and a token")
	}
	return token, 1, nil
}

// count returns how many of our schemes stand where a credential may begin: at
// the start of the value and after each comma.
func (s *source) count(value string) int {
	if len(s.schemes) == 0 {
		return 1
	}
	n := 0
	for part := range strings.SplitSeq(value, ",") {
		if _, ok := s.scheme(strings.TrimLeft(part, " \t")); ok {
			n++
		}
	}
	return n
}

// scheme returns the length of the scheme of ours that begins a value. A
// scheme ends where its characters do.
func (s *source) scheme(value string) (int, bool) {
	for _, scheme := range s.schemes {
		n := len(scheme)
		if len(value) >= n && strings.EqualFold(value[:n], scheme) && (len(value) == n || !isTokenChar(value[n])) {
			return n, true
		}
	}
	return 0, false
}

// readCookie counts the cookie in all lines. Envoy joins lines with "; " or,
// where it merges headers, with a comma; no token holds either.
func (s *source) readCookie(r *authz.Request) (token string, n int) {
	for i := range r.Headers {
		if r.Headers[i].Name != "cookie" {
			continue
		}
		for pair := range strings.FieldsFuncSeq(r.Headers[i].Value, func(c rune) bool { return c == ';' || c == ',' }) {
			name, value, _ := strings.Cut(pair, "=")
			if strings.Trim(name, " \t") == s.cookie {
				token = strings.Trim(value, " \t")
				n++
			}
		}
	}
	return token, n
}

// queryToken reports whether the query has a parameter access_token (RFC 6750
// section 2.3), however it is escaped.
func queryToken(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if strings.Contains(name, "%") {
			if plain, err := url.QueryUnescape(name); err == nil {
				name = plain
			}
		}
		if name == "access_token" {
			return true
		}
	}
	return false
}

// isToken68 reports whether s is a token68 (RFC 9110 section 11.2).
func isToken68(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !token68[s[i]] {
			return false
		}
	}
	return s != ""
}

// token68 are the characters of a token68 but for the padding.
var token68 = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/") {
		set[c] = true
	}
	return set
}()

// isName reports whether s is a token of RFC 9110 section 5.6.2, as names of
// headers, schemes and cookies are.
func isName(s string) bool {
	for i := range len(s) {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenChar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func malformed(detail authz.Detail, message string) error {
	return authz.Refuse(authz.MalformedCredential, detail, errors.New(message))
}
