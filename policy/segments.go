package policy

import (
	"strings"

	"github.com/sallyport-authz/sallyport/policy/index"
)

// pathOps are the operators whose patterns have segments that an index can
// follow.
var pathOps = map[string]bool{"keyMatch": true, "keyMatch2": true, "keyMatch3": true, "keyMatch4": true, "keyMatch5": true, "globMatch": true}

// hashLabel is the label of a segment: FNV-1a, out of the way of the labels
// that are none.
func hashLabel(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return max(h, index.First)
}

// segmentLabels appends the labels of a request's path.
func segmentLabels(dst []uint32, op, value string) []uint32 {
	if op == "keyMatch5" {
		value, _, _ = strings.Cut(value, "?")
	}
	for more := true; more; {
		var seg string
		seg, value, more = strings.Cut(value, "/")
		dst = append(dst, hashLabel(seg))
	}
	return dst
}

// patternLabel returns the label of the segment at depth of a pattern. Where
// the segment is not understood it says that anything may follow.
func patternLabel(op, pattern string, depth int) uint32 {
	cutAt := -1 // keyMatch is a prefix up to the first star
	if op == "keyMatch" {
		cutAt = strings.IndexByte(pattern, '*')
		if cutAt >= 0 {
			pattern = pattern[:cutAt]
		}
	} else if !plainText(pattern) || strings.IndexByte(pattern, '|') >= 0 && op != "globMatch" {
		return index.Rest // an alternative may start anywhere
	}
	for d := 0; ; d++ {
		seg, rest, more := strings.Cut(pattern, "/")
		if d < depth {
			if !more {
				return index.End
			}
			pattern = rest
			continue
		}
		switch {
		case cutAt >= 0 && !more:
			return index.Rest
		case op == "keyMatch":
			return hashLabel(seg)
		}
		// A quantifier after the slash makes the slash optional, and with it
		// the end of this segment.
		if more && op != "globMatch" && rest != "" && strings.IndexByte("?+{", rest[0]) >= 0 && !braces(op, rest) {
			return index.Rest
		}
		return segmentLabel(op, seg)
	}
}

// braces reports whether the segment that starts rest is {a parameter}.
func braces(op, rest string) bool {
	seg := rest[:segmentEnd(rest, 0)]
	return strings.IndexByte("345", op[len(op)-1]) >= 0 && len(seg) > 2 && seg[0] == '{' && seg[len(seg)-1] == '}'
}

func segmentLabel(op, seg string) uint32 {
	switch {
	case op == "globMatch":
		if strings.ContainsAny(seg, `*?[]{}\`) {
			return index.Rest
		}
		return hashLabel(seg)
	case braces(op, seg):
		return index.Param
	case op == "keyMatch2":
		if head, name, ok := strings.Cut(seg, ":"); ok && name != "" {
			if strings.ContainsAny(head, metacharacters) {
				return index.Rest
			}
			return index.Param
		}
	}
	if strings.ContainsAny(seg, metacharacters) {
		return index.Rest
	}
	return hashLabel(seg)
}

// metacharacters of regular expressions, all of which Casbin's path operators
// pass on.
const metacharacters = `\.+*?()[]{}^$|`
