package policy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sallyport-authz/sallyport/authz"
)

const (
	// maxMisses is how many near misses an explanation holds.
	maxMisses = 5
	// maxExplained is how many rules are looked at for near misses one by one:
	// a tenth of a second's work.
	maxExplained = 200_000
	// maxNear is how much of the index is walked for near misses among the
	// rules beyond those.
	maxNear = 50_000
)

// An Explanation says what Decide decided and why.
type Explanation struct {
	Rule   authz.Rule // the rule that decided, or none
	Text   string     // that rule as it would be written
	Err    error      // nil for an allow, else the Denial
	Roles  []string   // of the subject, by rules and token, the nearest first; at most 256
	Misses []Miss     // on a denial that no rule made: what came nearest, best first
	Cut    bool       // not every rule was looked at for Misses
}

// A Miss is a rule that would have allowed, but for the conditions that
// failed. Where the matcher reads no rules it is the matcher itself, and Rule
// and Text are empty.
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
	if i := slices.Index(s.rules.lines, uint32(x.Rule.Line)); x.Rule.Line > 0 && i >= 0 { //nolint:gosec // lines are numbered in 32 bits
		x.Text = s.ruleText(i)
	}
	if s.noRules || len(q.Args) != len(s.fields) || len(q.Roles) > maxTokenRoles {
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
	e := newExplainer(ev)
	if s.loops {
		x.Misses, x.Cut = e.misses()
	} else {
		x.Misses = []Miss{{Failed: e.why()}}
	}
	return x
}

// roleNames lists what g gives to the names that the matcher asks it about.
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

// An explainer looks at rules that did not match.
type explainer struct {
	*evaluator
	base []int // by branch: how many conditions the request fails whatever the rule
}

func newExplainer(ev *evaluator) *explainer {
	e := &explainer{evaluator: ev}
	for i := range ev.s.plan.branches {
		n := 0
		for _, c := range ev.s.plan.branches[i].conds {
			if ok, err := ev.eval(c.run); err != nil || !ok {
				n++
			}
		}
		e.base = append(e.base, n)
	}
	return e
}

// misses finds the rules that allow and fail the fewest conditions. cut says
// that there are rules it did not look at.
func (e *explainer) misses() (list []Miss, cut bool) {
	type near struct{ rule, failed int }
	s, best := e.s, []near(nil)
	look := func(i int) {
		if s.denies(i) {
			return
		}
		limit := 1 << 30
		if len(best) == maxMisses {
			limit = best[maxMisses-1].failed
		}
		e.row = s.rules.row(i)
		if _, n := e.nearest(limit); n < limit {
			at, _ := slices.BinarySearchFunc(best, n+1, func(b near, n int) int { return cmp.Compare(b.failed, n) })
			best = slices.Insert(best, at, near{i, n})
			best = best[:min(len(best), maxMisses)]
		}
	}
	cut = s.rules.len() > maxExplained
	for i := range min(s.rules.len(), maxExplained) {
		look(i)
	}
	if cut {
		for _, i := range e.nearBy() {
			look(i)
		}
	}
	for _, b := range best {
		e.row = s.rules.row(b.rule)
		list = append(list, Miss{Rule: s.ruleAt(b.rule), Text: s.ruleText(b.rule), Failed: e.why()})
	}
	return list, cut
}

// nearBy returns rules beyond maxExplained that the index finds when one of
// its levels may fail, in order.
func (e *explainer) nearBy() []int {
	var found []uint32
	for i := range e.s.plan.branches {
		if b := &e.s.plan.branches[i]; b.allow != nil {
			found = b.allow.Near(found, e.level(i, b), maxNear)
		}
	}
	slices.Sort(found)
	var out []int
	for _, i := range slices.Compact(found) {
		if i >= maxExplained {
			out = append(out, int(i))
		}
	}
	return out
}

// nearest returns the alternative of the matcher of which the current rule
// fails the fewest conditions, and how many those are: at least one, and at
// most limit, where counting stops.
func (e *explainer) nearest(limit int) (branch, failed int) {
	failed = limit
	for i := range e.s.plan.branches {
		if n := e.failures(i, failed); n < failed {
			branch, failed = i, n
		}
	}
	return branch, failed
}

func (e *explainer) failures(branch, limit int) int {
	b, n := &e.s.plan.branches[branch], e.base[branch]
	for j := 0; j < len(b.atoms) && n < limit; j++ {
		if !e.fits(branch, j) {
			n++
		}
	}
	for j := 0; j < len(b.rest) && n < limit; j++ {
		if ok, err := e.eval(b.rest[j].run); err != nil || !ok {
			n++
		}
	}
	return max(n, 1)
}

// fits reports whether the current rule fits an atom.
func (e *explainer) fits(branch, j int) bool {
	a, pr := &e.s.plan.branches[branch].atoms[j], &e.probes[branch][j]
	return pr.err == nil && e.holds(a, pr, e.row[a.column])
}

// why says which conditions the current rule fails.
func (e *explainer) why() (failed []string) {
	branch, _ := e.nearest(1 << 30)
	b := &e.s.plan.branches[branch]
	for j := range b.atoms {
		if !e.fits(branch, j) {
			failed = append(failed, e.atom(&b.atoms[j], &e.probes[branch][j]))
		}
	}
	for _, list := range [][]cond{b.rest, b.conds} {
		for _, c := range list {
			if ok, err := e.eval(c.run); err != nil || !ok {
				failed = append(failed, e.cond(c, err)...)
			}
		}
	}
	if len(failed) == 0 { // nothing that the plan knows by itself
		_, err := e.eval(e.s.matcher)
		failed = e.cond(cond{term: e.s.matcher.tree}, err)
	}
	return failed
}

// atom says why the current rule does not fit an atom.
func (e *explainer) atom(a *atom, pr *probe) string {
	s := e.s
	left, right := s.describe(a.value), s.sections.P+"."+s.pFields[a.column]
	value, cell := show(pr.text), show(s.syms.text(e.row[a.column]))
	switch a.kind {
	case atomEqual:
		if pr.err != nil {
			return fmt.Sprintf("%s == %s: %v", left, right, pr.err)
		}
		if v, err := e.value(a.value); err == nil && !isText(v) {
			value = show(v)
		}
		return fmt.Sprintf("%s == %s: %s is not %s", left, right, value, cell)
	case atomRole:
		call, in := fmt.Sprintf("%s(%s, %s", a.graph.key, left, right), ""
		if a.domain != nil {
			call += ", " + s.describe(*a.domain)
		}
		if pr.err != nil {
			return fmt.Sprintf("%s): %v", call, pr.err)
		}
		if a.domain != nil {
			in = " in " + show(pr.roles.domain)
		}
		return fmt.Sprintf("%s): %s does not have %s%s", call, value, cell, in)
	}
	if pr.err != nil {
		return fmt.Sprintf("%s(%s, %s): %v", a.op, left, right, pr.err)
	}
	return fmt.Sprintf("%s(%s, %s): %s does not match %s", a.op, left, right, value, cell)
}

// cond says why a condition does not hold, with the values that it reads. Of
// the text that eval() runs it names the conditions that fail.
func (e *explainer) cond(c cond, err error) (failed []string) {
	text := e.s.render(c.term.tokens)
	if c.term.kind == termCall && c.term.name == "eval" {
		x := e.s.evals[e.row[e.s.column(c.term.args[0].name)]]
		if x == nil {
			return []string{text + " was not compiled"}
		}
		for _, t := range flatten(x.tree, termAnd) {
			run, lerr := link(t.tokens, e.s.functions)
			if lerr != nil {
				continue
			}
			if ok, err := e.eval(&expression{run: run}); err != nil || !ok {
				for _, f := range e.cond(cond{term: t}, err) {
					failed = append(failed, text+": "+f)
				}
			}
		}
		if failed != nil {
			return failed
		}
	}
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", text, err)}
	}
	text += " is false"
	seen, sep := map[string]bool{}, ": "
	c.term.walk(func(t *term) {
		var v any
		switch t.kind {
		case termRequest:
			v, err = e.value(e.s.operand(t))
		case termPolicy:
			v = e.s.syms.text(e.row[e.s.column(t.name)])
		default:
			return
		}
		name := e.s.render(t.tokens)
		if err != nil || seen[name] || len(seen) == maxShown {
			return
		}
		seen[name] = true
		text += fmt.Sprintf("%s%s is %s", sep, name, show(v))
		sep = ", "
	})
	return []string{text}
}
