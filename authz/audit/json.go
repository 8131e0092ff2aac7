package audit

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// cut ends a value that was too long, and stands for one that cannot be
// written at all. No canonical path holds a bracket.
const cut = "...[cut]"

// maxDepth bounds how deep lists and maps may nest in a configured field.
const maxDepth = 16

// plain are the bytes that stand in a JSON string as they are: printable
// ASCII but the quotation mark and the backslash.
var plain = func() (t [256]bool) {
	for c := ' '; c <= '~'; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendText appends s as the inside of a JSON string, in printable ASCII and
// at most limit bytes. Everything else is escaped as \uXXXX (RFC 8259, section
// 7), beyond the basic plane as two surrogates; each byte that is not UTF-8
// becomes U+FFFD. What does not fit is cut, never within an escape, and marked.
func appendText(b []byte, s string, limit int) []byte {
	if len(s) <= limit && allPlain(s) { // nearly always
		return append(b, s...)
	}
	start, room := len(b), len(b) // room: where b may end so that the mark still fits
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case plain[c]:
			b = append(b, c)
			i++
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r1, r2 := utf16.EncodeRune(r); r1 != utf8.RuneError {
				b = appendUnit(appendUnit(b, r1), r2)
			} else {
				b = appendUnit(b, r)
			}
			i += n
		}
		switch n := len(b) - start; {
		case n > limit:
			return append(b[:room], cut...)
		case n <= limit-len(cut):
			room = len(b)
		}
	}
	return b
}

func allPlain(s string) bool {
	for i := range len(s) {
		if !plain[s[i]] {
			return false
		}
	}
	return true
}

// appendUnit appends one UTF-16 code unit as \uXXXX.
func appendUnit(b []byte, u rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[u>>12&0xf], hex[u>>8&0xf], hex[u>>4&0xf], hex[u&0xf])
}

// appendValue appends v as JSON in at most limit bytes. A string is cut to
// that; anything else that is too long, nested too deep or no JSON at all is
// written as the mark.
func appendValue(b []byte, v any, limit int) []byte {
	start := len(b)
	if s, ok := v.(string); ok {
		b = appendText(append(b, '"'), s, limit-2)
		return append(b, '"')
	}
	b, ok := appendTree(b, v, start+limit, 0)
	if !ok {
		b = append(append(append(b[:start], '"'), cut...), '"')
	}
	return b
}

// appendTree appends v as JSON, and reports whether that was possible with no
// more than end bytes in b.
func appendTree(b []byte, v any, end, depth int) ([]byte, bool) {
	if depth > maxDepth {
		return b, false
	}
	ok := true
	switch v := v.(type) {
	case nil:
		b = append(b, "null"...)
	case bool:
		b = strconv.AppendBool(b, v)
	case string:
		if len(v) > end-len(b) {
			return b, false
		}
		b = appendText(append(b, '"'), v, math.MaxInt)
		b = append(b, '"')
	case int64:
		b = strconv.AppendInt(b, v, 10)
	case float64:
		b, ok = appendNumber(b, v)
	case time.Time:
		b = appendTime(b, v)
	case []any:
		b, ok = appendList(b, v, end, depth+1)
	case map[string]any:
		b, ok = appendMap(b, v, end, depth+1)
	default:
		ok = false
	}
	return b, ok && len(b) <= end
}

func appendList(b []byte, list []any, end, depth int) ([]byte, bool) {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var ok bool
		if b, ok = appendTree(b, v, end, depth); !ok {
			return b, false
		}
	}
	return append(b, ']'), true
}

// appendMap writes keys in order. A key that is not UTF-8 could come out equal
// to another, so that the map has no JSON form.
func appendMap(b []byte, m map[string]any, end, depth int) ([]byte, bool) {
	if len(m) > end-len(b) { // each member needs a byte and more
		return b, false
	}
	b = append(b, '{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b = append(b, ',')
		}
		if !utf8.ValidString(k) {
			return b, false
		}
		var ok bool
		if b, ok = appendTree(b, k, end, depth); !ok {
			return b, false
		}
		if b, ok = appendTree(append(b, ':'), m[k], end, depth); !ok {
			return b, false
		}
	}
	return append(b, '}'), true
}

// appendNumber writes a number in the form that JavaScript gives it. JSON has
// none for infinities and NaN.
func appendNumber(b []byte, f float64) ([]byte, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return b, false
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, 64), true
}

// appendTime writes RFC 3339 in UTC with all nine digits, so that lines sort
// as text.
func appendTime(b []byte, t time.Time) []byte {
	// Go has a fast way for RFC3339Nano, which cuts zeros off at the end.
	b = append(b, '"')
	start := len(b)
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	if n := len(b) - start; n < len("2006-01-02T15:04:05.000000000Z") && n > len("2006-01-02T15:04:05") {
		b = b[:len(b)-1] // the Z
		if n == len("2006-01-02T15:04:05Z") {
			b = append(b, '.')
		}
		for len(b)-start < len("2006-01-02T15:04:05.000000000") {
			b = append(b, '0')
		}
		b = append(b, 'Z')
	}
	return append(b, '"')
}
