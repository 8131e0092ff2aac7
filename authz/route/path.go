package route

import (
	"errors"
	"fmt"
	"strings"
)

// kept says which characters stand in a path that are refused unless the
// route keeps them.
type kept uint8

const (
	keptSlash     kept = 1 << iota // %2F
	keptSemicolon                  // ; or %3B
)

// refusedBy returns an error unless keep allows all of k.
func (k kept) refusedBy(keep kept) error {
	switch bad := k &^ keep; {
	case bad&keptSlash != 0:
		return errors.New("path has %2F, and no route that keeps it")
	case bad&keptSemicolon != 0:
		return errors.New("path has a semicolon, and no route that keeps it")
	}
	return nil
}

// readTarget returns the canonical path and the raw query of a request
// target. The path is empty for CONNECT and * for OPTIONS *; every other one
// starts with a slash.
func readTarget(method, target string) (path, query string, found kept, err error) {
	switch {
	case target == "" && method == "CONNECT", target == "*" && method == "OPTIONS":
		return target, "", 0, nil
	}
	raw, query, _ := strings.Cut(target, "?")
	// Envoy refuses both in a whole target: a fragment belongs to no request
	// (RFC 9110 section 4.2.5), a control character to no URI.
	for i := range len(query) {
		if c := query[i]; c == '#' || isControl(c) {
			return "", "", 0, fmt.Errorf("query has the character %q", c)
		}
	}
	path, found, err = canonicalPath(raw)
	return path, query, found, err
}

// canonicalPath returns the one spelling of a path that has no query. It is
// the same string where that is how raw is spelled already.
//
// The form is that of RFC 3986 section 6.2.2: escapes of characters that need
// none are decoded, all others are in upper case. Dot segments and empty
// segments are refused instead of removed, because who removes them, and
// before or after which decoding, is what parsers disagree about. For the
// same reason a segment ends at an escaped slash as at a plain one, and its
// name at a semicolon, plain or escaped: upstreams that decode the one or cut
// at the other must not find a dot segment or an empty one there.
func canonicalPath(raw string) (string, kept, error) {
	if raw == "" || raw[0] != '/' {
		return "", 0, errors.New("path does not start with a slash")
	}
	var (
		out     strings.Builder // the canonical path so far, once it differs from raw
		differs bool
		found   kept
		seg     segmentState
		esc     escapeState
	)
	for i := 1; i < len(raw); {
		c, width, escaped := raw[i], 1, false
		switch {
		case c == '%':
			var ok bool
			if c, ok = unescape(raw[i:]); !ok {
				return "", 0, fmt.Errorf("path has a broken escape at byte %d", i)
			}
			if isControl(c) || c == '\\' {
				return "", 0, fmt.Errorf("path has the escape %%%02X at byte %d", c, i)
			}
			width, escaped = 3, !isPlain(c)
		case isControl(c) || c >= 0x80 || c == '\\' || c == '#':
			return "", 0, fmt.Errorf("path has the character %q at byte %d", c, i)
		default:
			escaped = !isPlain(c) && c != '/' && c != ';'
		}

		switch {
		case c == '/':
			if err := seg.end(false); err != nil {
				return "", 0, fmt.Errorf("path %w at byte %d", err, i)
			}
			seg = segmentState{}
			if escaped {
				found |= keptSlash
			}
		case c == ';':
			found |= keptSemicolon
			seg.params = true
		case !seg.params:
			seg.add(c)
		}
		if err := esc.add(c, escaped); err != nil {
			return "", 0, fmt.Errorf("path %w at byte %d", err, i)
		}

		if !differs && !spelled(raw[i:i+width], c, escaped) {
			differs = true
			out.Grow(len(raw) + 16)
			out.WriteString(raw[:i])
		}
		if differs {
			spell(&out, c, escaped)
		}
		i += width
	}
	if err := seg.end(true); err != nil {
		return "", 0, fmt.Errorf("path %w at its end", err)
	}
	if !differs {
		return raw, found, nil
	}
	return out.String(), found, nil
}

// segmentState is what was read of one segment, up to its first semicolon.
type segmentState struct {
	length int
	dots   int
	blanks int  // spaces, and what forms write for one
	params bool // there is a semicolon
}

func (s *segmentState) add(c byte) {
	s.length++
	switch c {
	case '.':
		s.dots++
	case ' ', '+':
		s.blanks++
	}
}

// end returns an error for a segment that no path may have. An empty last
// segment is a trailing slash. Dots among blanks are a dot segment too: some
// upstreams trim names, as Windows does, before they look at them.
func (s *segmentState) end(last bool) error {
	switch {
	case s.length == 0 && (s.params || !last):
		return errors.New("has an empty segment")
	case s.dots > 0 && s.length == s.dots+s.blanks && (s.dots <= 2 || s.blanks > 0):
		return errors.New("has a dot segment")
	}
	return nil
}

// escapeState watches for escapes that somebody may decode a second time, or
// into ASCII.
type escapeState struct {
	percent int  // how many more hex digits make an escape of a decoded %25
	last    byte // what the escape right before this character stands for
}

func (e *escapeState) add(c byte, escaped bool) error {
	// Overlong UTF-8 (RFC 3629 section 10): %C0%AE is a dot, and %C0%AF a
	// slash, to a decoder that does not look; and so are %C0. and %C0n to one
	// that takes six bits of whatever follows. Nothing in UTF-8 begins with
	// C0 or C1.
	if escaped && (c == 0xC0 || c == 0xC1) || e.last == 0xE0 && c&0x3F < 0x20 || e.last == 0xF0 && c&0x3F < 0x10 {
		return errors.New("has an overlong escape")
	}
	e.last = 0
	if !escaped {
		if e.percent == 0 {
			return nil
		}
		if _, ok := unhex(c); !ok {
			e.percent = 0
			return nil
		}
		if e.percent--; e.percent == 0 {
			return errors.New("is escaped twice")
		}
		return nil
	}
	e.last, e.percent = c, 0
	if c == '%' {
		e.percent = 2
	}
	return nil
}

// spelled reports whether text is how the canonical form writes c.
func spelled(text string, c byte, escaped bool) bool {
	if !escaped {
		return len(text) == 1
	}
	return len(text) == 3 && text[1] == upperHex[c>>4] && text[2] == upperHex[c&15]
}

const upperHex = "0123456789ABCDEF"

// spell writes c the canonical way.
func spell(b *strings.Builder, c byte, escaped bool) {
	if escaped {
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		c = upperHex[c&15]
	}
	b.WriteByte(c)
}

// unescape returns the byte that the escape at the start of s stands for.
func unescape(s string) (byte, bool) {
	if len(s) < 3 {
		return 0, false
	}
	hi, ok1 := unhex(s[1])
	lo, ok2 := unhex(s[2])
	return hi<<4 | lo, ok1 && ok2
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

func isControl(c byte) bool { return c < 0x20 || c == 0x7F }

// isPlain reports whether c is a pchar of RFC 3986 section 3.3 that the
// canonical form never escapes: all but the semicolon.
func isPlain(c byte) bool { return plain[c] }

var plain = byteSet("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~" + ":@" + "!$&'()*+,=")

func byteSet(s string) (set [256]bool) {
	for i := range len(s) {
		set[s[i]] = true
	}
	return set
}
