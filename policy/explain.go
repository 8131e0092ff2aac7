package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
)

const (
	// maxMisses is how many near misses an explanation holds.
	maxMisses = 5
	// maxExplained is how many rules are looked at for near misses: a tenth
	// of a second's work.
	maxExplained = 200_000
)

// An Explanation says what Decide decided and why.
type Explanation struct {
	Rule   authz.Rule // the rule that decided, or none
	Text   string     // that rule as it would be written
	Err    error      // nil for an allow, else the Denial
	Roles  []string   // of the subject, by rules and token; at most 256
	Misses []Miss     // on a denial that no rule made: the rules that came nearest, best first
	Cut    bool       // not every rule was looked at for Misses
}

// A Miss is a rule that would have allowed, but for the conditions that failed.
type Miss struct {
	Rule   authz.Rule
	Text   string
	Failed []string // each condition with the values that it compared
}

// Explain decides q and says why. It is meant for people: it takes up to a
// tenth of a second where Decide takes microseconds. The decision is Decide's.
func (s *Snapshot) Explain(q *Query) Explanation {
	x := Explanation{}
	x.Rule, x.Err = s.Decide(q)
	for i := 0; x.Rule.Line > 0 && i < s.rules.len(); i++ {
		if int(s.rules.lines[i]) == x.Rule.Line {
			x.Text = s.ruleText(i)
		}
	}
	if s.noRules || !s.loops || len(q.Args) != len(s.fields) || len(q.Roles) > maxTokenRoles {
		return x
	}
	ev := s.scratch.Get().(*evaluator)
	defer s.scratch.Put(ev)
	defer ev.end()
	ev.begin(q)
	_ = ev.find() // what it proposes is not needed, what it read is
	x.Roles = ev.roleNames()
	if authz.DetailOf(x.Err) != authz.NoRuleMatched {
		return x
	}
	for i := range s.rules.len() {
		if i == maxExplained {
			x.Cut = true
			break
		}
		if s.denies(i) {
			continue
		}
		limit := 1 << 30
		if len(x.Misses) == maxMisses {
			limit = len(x.Misses[maxMisses-1].Failed)
		}
		if n := ev.failures(i); n < limit {
			x.Misses = append(x.Misses, ev.miss(i))
			slices.SortStableFunc(x.Misses, func(a, b Miss) int { return cmp.Compare(len(a.Failed), len(b.Failed)) })
			x.Misses = x.Misses[:min(len(x.Misses), maxMisses)]
		}
	}
	return x
}

// roleNames lists what g gives to the first argument that the plan found.
func (ev *evaluator) roleNames() []string {
	var names []string
	for i := range ev.closures[:ev.pinned] {
		c := &ev.closures[i]
		for _, id := range c.ids {
			if name := ev.s.syms.text(id); c.graph.key == "g" && name != c.name && len(names) < maxTokenRoles && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// nearest returns the alternative of the matcher of which rule i fails the
// fewest conditions, and how many those are.
func (ev *evaluator) nearest(i int) (branch, failed int) {
	failed = 1 << 30
	for n := range ev.s.plan.branches {
		b, count := &ev.s.plan.branches[n], 0
		for j := range b.atoms {
			if pr := &ev.probes[n][j]; pr.failed || !ev.holds(&b.atoms[j], pr, ev.s.rules.cell(i, b.atoms[j].column)) {
				count++
			}
		}
		for _, c := range b.conds {
			if ok, err := ev.eval(c.run); err != nil || !ok {
				count++
			}
		}
		if count < failed {
			branch, failed = n, count
		}
	}
	return branch, failed
}

// failures counts at least one: the rule did not match.
func (ev *evaluator) failures(i int) int {
	_, n := ev.nearest(i)
	return max(n, 1)
}

// miss says which conditions rule i fails.
func (ev *evaluator) miss(i int) Miss {
	s := ev.s
	m := Miss{Rule: authz.Rule{File: s.file, Line: int(s.rules.lines[i])}, Text: s.ruleText(i)}
	n, _ := ev.nearest(i)
	b := &s.plan.branches[n]
	for j := range b.atoms {
		a, pr := &b.atoms[j], &ev.probes[n][j]
		cell := s.rules.cell(i, a.column)
		if !pr.failed && ev.holds(a, pr, cell) {
			continue
		}
		m.Failed = append(m.Failed, s.failedAtom(a, pr, s.syms.text(cell)))
	}
	for _, c := range b.conds {
		if ok, err := ev.eval(c.run); err != nil {
			m.Failed = append(m.Failed, fmt.Sprintf("%s: %v", s.render(c.term), err))
		} else if !ok {
			m.Failed = append(m.Failed, s.render(c.term)+" is false")
		}
	}
	if len(m.Failed) == 0 {
		what := "another condition of the matcher is false"
		if _, err := ev.match(i); err != nil {
			what = "the rule cannot be evaluated: " + firstLine(err)
		}
		m.Failed = append(m.Failed, what)
	}
	return m
}

func (s *Snapshot) failedAtom(a *atom, pr *probe, cell string) string {
	left, right := s.describe(a.value), s.sections.P+"."+s.pFields[a.column]
	if pr.failed {
		return fmt.Sprintf("%s with %s: the value is missing or of another type", left, right)
	}
	switch a.kind {
	case atomEqual:
		return fmt.Sprintf("%s == %s: %q is not %q", left, right, pr.text, cell)
	case atomRole:
		in := ""
		if a.domain != nil {
			in = fmt.Sprintf(" in %q", pr.roles.domain)
		}
		return fmt.Sprintf("%s(%s, %s): %q does not have %q%s", a.graph.key, left, right, pr.text, cell, in)
	}
	return fmt.Sprintf("%s(%s, %s): %q does not match %q", a.op, left, right, pr.text, cell)
}

// ruleText writes a rule as a line of a rules file, without quotes.
func (s *Snapshot) ruleText(i int) string {
	parts := []string{s.sections.P}
	for _, id := range s.rules.row(i) {
		parts = append(parts, s.syms.text(id))
	}
	return strings.Join(parts, ", ")
}

// render writes a term much as the model has it.
func (s *Snapshot) render(t *term) string {
	switch t.kind {
	case termRequest:
		return strings.Join(append([]string{s.sections.R, t.name}, t.path...), ".")
	case termPolicy:
		return s.sections.P + "." + t.name
	case termConst:
		if text, ok := t.value.(string); ok {
			return strconv.Quote(text)
		}
		return fmt.Sprint(t.value)
	case termCompare:
		return s.render(t.args[0]) + " " + t.name + " " + s.render(t.args[1])
	case termNot:
		return "!" + s.render(t.args[0])
	case termCall:
		return t.name + "(" + s.renderAll(t.args, ", ") + ")"
	case termOr:
		return "(" + s.renderAll(t.args, " || ") + ")"
	case termAnd:
		return "(" + s.renderAll(t.args, " && ") + ")"
	}
	return "(" + s.renderAll(t.args, ", ") + ")"
}

func (s *Snapshot) renderAll(ts []*term, sep string) string {
	parts := make([]string, len(ts))
	for i, t := range ts {
		parts[i] = s.render(t)
	}
	return strings.Join(parts, sep)
}
