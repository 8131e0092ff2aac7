package jws

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sallyport-authz/sallyport/authz"
)

// ParseObject reads one JSON object and nothing after it. Values are nil,
// bool, string, int64 (integral and in range), float64, []any and
// map[string]any. An object inside objects or arrays more than depth deep is
// refused; the outer object is at depth one.
//
// Duplicate members are refused at every level, and in the outer object also
// members that differ in case only, as encoding/json folds it (the long s
// counts as s): other readers of the same token would take the one for the
// other.
func ParseObject(data []byte, depth int) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, malformed("JSON is not valid UTF-8")
	}
	p := parser{s: string(data)}
	p.space()
	if p.peek() != '{' {
		return nil, malformed("JSON is not an object")
	}
	v, err := p.value(depth)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.i != len(p.s) {
		return nil, malformed("JSON goes on after its object")
	}
	members := v.(map[string]any)
	if err := foldedTwins(members); err != nil {
		return nil, err
	}
	return members, nil
}

// parser is a position in a text. Strings without escapes share its memory.
type parser struct {
	s string
	i int
}

func (p *parser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *parser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// take moves past c, and reports whether it was there.
func (p *parser) take(c byte) bool {
	p.space()
	if p.peek() != c {
		return false
	}
	p.i++
	return true
}

func (p *parser) value(depth int) (any, error) {
	p.space()
	switch p.peek() {
	case '"':
		return p.str()
	case '{':
		return p.object(depth - 1)
	case '[':
		return p.array(depth - 1)
	}
	switch {
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	case p.word("null"):
		return nil, nil
	}
	return p.number()
}

// word moves past w, and reports whether it was there.
func (p *parser) word(w string) bool {
	ok := strings.HasPrefix(p.s[p.i:], w)
	if ok {
		p.i += len(w)
	}
	return ok
}

func (p *parser) object(depth int) (any, error) {
	if depth < 0 {
		return nil, malformed("JSON is nested too deep")
	}
	p.i++
	members := make(map[string]any)
	if p.take('}') {
		return members, nil
	}
	for {
		p.space()
		if p.peek() != '"' {
			return nil, malformed("JSON syntax")
		}
		name, err := p.str()
		if err != nil {
			return nil, err
		}
		if !p.take(':') {
			return nil, malformed("JSON syntax")
		}
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		if _, twice := members[name]; twice {
			return nil, duplicate("JSON object has a member twice")
		}
		members[name] = v
		if p.take('}') {
			return members, nil
		}
		if !p.take(',') {
			return nil, malformed("JSON syntax")
		}
	}
}

func (p *parser) array(depth int) (any, error) {
	if depth < 0 {
		return nil, malformed("JSON is nested too deep")
	}
	p.i++
	list := []any{}
	if p.take(']') {
		return list, nil
	}
	for {
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if p.take(']') {
			return list, nil
		}
		if !p.take(',') {
			return nil, malformed("JSON syntax")
		}
	}
}

// str reads a string (RFC 8259 section 7).
func (p *parser) str() (string, error) {
	p.i++
	start := p.i
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return p.s[start : p.i-1], nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", malformed("JSON string holds a raw control character")
		}
		p.i++
	}
	return "", malformed("JSON string does not end")
}

// escaped reads on where the first backslash is.
func (p *parser) escaped(start int) (string, error) {
	var b strings.Builder
	b.WriteString(p.s[start:p.i])
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch {
		case c == '"':
			return b.String(), nil
		case c < 0x20:
			return "", malformed("JSON string holds a raw control character")
		case c != '\\':
			b.WriteByte(c)
		case p.peek() == 'u':
			r, err := p.unicode()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		default:
			at := strings.IndexByte(`"\/bfnrt`, p.peek())
			if at < 0 {
				return "", malformed("JSON string holds an unknown escape")
			}
			b.WriteByte("\"\\/\b\f\n\r\t"[at])
			p.i++
		}
	}
	return "", malformed("JSON string does not end")
}

// unicode reads uXXXX, and the second half where that is a surrogate. A
// surrogate alone stands for no character.
func (p *parser) unicode() (rune, error) {
	r, err := p.hex4()
	if err != nil {
		return 0, err
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if strings.HasPrefix(p.s[p.i:], `\u`) {
		p.i++
		low, _ := p.hex4() // zero, which is no second half, where it is broken
		if pair := utf16.DecodeRune(r, low); pair != unicode.ReplacementChar {
			return pair, nil
		}
	}
	return 0, malformed("JSON string holds an unpaired surrogate")
}

func (p *parser) hex4() (rune, error) {
	if len(p.s)-p.i < 5 {
		return 0, malformed("JSON string does not end")
	}
	var r rune
	for _, c := range []byte(p.s[p.i+1 : p.i+5]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, malformed("JSON string holds a broken escape")
		}
	}
	p.i += 5
	return r, nil
}

// number reads a number (RFC 8259 section 6), the only value that is left.
func (p *parser) number() (any, error) {
	start := p.i
	digits := func() bool {
		from := p.i
		for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
			p.i++
		}
		return p.i > from
	}
	if p.peek() == '-' {
		p.i++
	}
	if p.peek() == '0' {
		p.i++
	} else if !digits() {
		return nil, malformed("JSON syntax")
	}
	integral := true
	if p.peek() == '.' {
		integral = false
		p.i++
		if !digits() {
			return nil, malformed("JSON syntax")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		integral = false
		p.i++
		if c := p.peek(); c == '+' || c == '-' {
			p.i++
		}
		if !digits() {
			return nil, malformed("JSON syntax")
		}
	}
	text := p.s[start:p.i]
	if integral {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, malformed("JSON number is out of range")
	}
	// 2^53: from there on a float64 stands for several integers.
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f), nil
	}
	return f, nil
}

// foldedTwins refuses members of one object that differ in case only.
func foldedTwins(members map[string]any) error {
	odd := false
	for name := range members {
		if !Plain(name) {
			odd = true
		}
	}
	if !odd {
		return nil // no upper case anywhere: twins would be equal
	}
	seen := make(map[string]bool, len(members))
	for name := range members {
		folded := Fold(name)
		if seen[folded] {
			return duplicate("JSON object has members that differ in case only")
		}
		seen[folded] = true
	}
	return nil
}

// Plain reports whether a name folds to nothing but its own upper case.
func Plain(name string) bool {
	for i := range len(name) {
		if c := name[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// Fold returns a name as encoding/json compares it: each rune is replaced by
// the smallest of those that differ from it in case only.
func Fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

// HasControl reports whether s holds a character that changes how the text
// around it is read: a control character, a line or paragraph separator, or a
// bidirectional control.
func HasControl(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f {
			return hasControlRune(s[i:])
		}
	}
	return false
}

func hasControlRune(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return true
		}
	}
	return false
}

func duplicate(message string) error {
	return authz.Refuse(authz.InvalidToken, authz.DuplicateMember, errors.New(message))
}
