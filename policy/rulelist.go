package policy

import (
	"iter"
	"strings"
	"unicode"

	"github.com/sallyport-authz/sallyport/authz"
)

// Rules lists the rules of the chosen policy definition, in the order in which
// they are looked at: where each stands, and its text. Links are no rules.
func (s *Snapshot) Rules() iter.Seq2[authz.Rule, string] {
	return func(yield func(authz.Rule, string) bool) {
		for i := range s.rules.len() {
			if !yield(s.ruleAt(i), s.ruleText(i)) {
				return
			}
		}
	}
}

// ruleAt says where rule i stands.
func (s *Snapshot) ruleAt(i int) authz.Rule {
	return authz.Rule{File: s.file, Line: int(s.rules.lines[i])}
}

// ruleText writes rule i as a line of a rules file.
func (s *Snapshot) ruleText(i int) string {
	var b strings.Builder
	b.WriteString(s.sections.P)
	for _, id := range s.rules.row(i) {
		b.WriteString(", ")
		b.WriteString(field(s.syms.text(id)))
	}
	return b.String()
}

// field writes one field of a rule, in quotes where it would else be read in
// another way.
func field(text string) string {
	if !strings.ContainsAny(text, "\",\r\n") && text == strings.TrimFunc(text, unicode.IsSpace) {
		return text
	}
	return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
}
