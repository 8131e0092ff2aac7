package policy

import (
	"strings"
	"unicode/utf8"
)

// Patterns of keyMatch2, 3, 4 and 5 are regular expressions in disguise. Most
// of them hold nothing but literal text, whole-segment parameters, dots and a
// final /*; those are matched as they stand, because a compiled expression
// for each of a million rules would need gigabytes. param is the byte that
// starts a parameter: ':', '{', or 0 for none.

// simplePath reports whether matchPath decides p as Casbin would.
func simplePath(p string, param byte) bool {
	if !plainText(p) {
		return false
	}
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == param && param == ':':
			if end := segmentEnd(p, i); end > i+1 {
				i = end - 1
			}
		case c == param && param == '{':
			end := segmentEnd(p, i)
			if end < i+3 || p[end-1] != '}' {
				return false
			}
			i = end - 1
		case c == '*':
			if i == 0 || p[i-1] != '/' || i != len(p)-1 {
				return false
			}
		case strings.IndexByte(`\+?()[]{}^$|`, c) >= 0:
			return false
		}
	}
	return true
}

// plainText reports whether bytes and runes of p can be compared alike:
// regexp reads every invalid byte as U+FFFD.
func plainText(p string) bool {
	for i := range len(p) {
		if p[i] >= utf8.RuneSelf {
			return utf8.ValidString(p) && !strings.ContainsRune(p, utf8.RuneError)
		}
	}
	return true
}

// segmentEnd returns where the segment around p[i] ends.
func segmentEnd(p string, i int) int {
	if n := strings.IndexByte(p[i:], '/'); n >= 0 {
		return i + n
	}
	return len(p)
}

// matchPath matches value against a simplePath.
func matchPath(value, p string, param byte) bool {
	j := 0
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '*':
			return strings.IndexByte(value[j:], '\n') < 0
		case c == param && param != 0 && segmentEnd(p, i) > i+1:
			end := segmentEnd(value, j)
			if end == j {
				return false
			}
			i, j = segmentEnd(p, i)-1, end
		case j == len(value):
			return false
		case c == '.':
			r, size := utf8.DecodeRuneInString(value[j:])
			if r == '\n' {
				return false
			}
			j += size
		case c != value[j]:
			return false
		default:
			j++
		}
	}
	return j == len(value)
}
