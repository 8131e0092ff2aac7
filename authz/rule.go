package authz

import "strconv"

// A Rule is where the rule stands that decided: its file's base name and
// line, comments and blank lines counted. The zero value is no rule.
type Rule struct {
	File string
	Line int
}

// String returns FILE:LINE, or nothing for no rule.
func (r Rule) String() string {
	if r.Line == 0 {
		return ""
	}
	return r.File + ":" + strconv.Itoa(r.Line)
}
