package policy

import (
	"slices"
	"strings"
)

// bom is the UTF-8 encoding of U+FEFF at the start of a file.
const bom = "\xef\xbb\xbf"

// firstLine returns the first line of an error: Casbin's may carry a stack.
func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// firstWords shortens a text for a message.
func firstWords(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}

// lowerFirst starts a message with a small letter, as ours do.
func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// suggest returns "did you mean X?" for the name that is near enough to got,
// or a list of what there is.
func suggest(got string, known []string) string {
	slices.Sort(known)
	best, dist := "", 1+len(got)/3
	for _, k := range known {
		if d := distance(strings.ToLower(got), strings.ToLower(k)); d <= dist {
			best, dist = k, d-1
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	if len(known) == 0 {
		return ""
	}
	return "there is " + strings.Join(known, ", ")
}

// distance is the number of single-byte edits between two names.
func distance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		diag := prev[0]
		prev[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = prev[j+1]
			prev[j+1] = min(cost, prev[j]+1, prev[j+1]+1)
		}
	}
	return prev[len(b)]
}
