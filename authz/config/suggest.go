package config

import "strings"

// Bounds of the search for what was meant, which compares every candidate:
// no key is that long, a hint out of so many names is luck, and nobody reads so
// many hints.
const (
	longestMeant   = 64 // bytes
	mostCandidates = 256
	mostHints      = 1000
)

// near returns the candidate that word was probably meant to be, or nothing.
// Spellings that differ in case, dashes and underscores only come first; then
// the least edits, at most one for each three letters.
func near(word string, candidates []string) string {
	if len(word) > longestMeant || len(candidates) > mostCandidates {
		return ""
	}
	best, least := "", longestMeant
	for _, c := range candidates {
		if len(c) > longestMeant {
			continue
		}
		if plain(c) == plain(word) {
			return c
		}
		n := edits(strings.ToLower(word), strings.ToLower(c))
		if n <= (max(len(word), len(c))+1)/3 && n < least && n < len(word) {
			best, least = c, n
		}
	}
	return best
}

// didYouMean returns the end of a message that names the near candidate, or
// nothing.
func (d *decoder) didYouMean(word string, candidates []string) string {
	if d.hints++; d.hints > mostHints {
		return ""
	}
	if c := near(word, candidates); c != "" {
		return " (did you mean " + c + ")"
	}
	return ""
}

func plain(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(s))
}

// edits counts insertions, deletions, replacements and swaps of neighbours
// that make b of a (optimal string alignment), by bytes.
func edits(a, b string) int {
	prev, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], prev[j-2]+1)
			}
		}
		prev, row, next = row, next, prev
	}
	return row[len(b)]
}
