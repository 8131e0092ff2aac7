package policy

import (
	"fmt"
	"slices"

	"github.com/casbin/casbin/v2/constant"

	"github.com/sallyport-authz/sallyport/policy/index"
)

// A plan says how to find the rules that could match: the matcher as
// alternatives of conditions. It only proposes candidates; the compiled
// matcher decides.
//
// A rule that allows can be left out as soon as one condition of every
// alternative fails for it or cannot be evaluated, for then it does not match.
// A rule that denies must be kept if the matcher cannot be evaluated for it,
// because then it refuses. So for those only conditions count before which
// nothing can go wrong, see [atom.safe]; a rule that no safe condition leaves
// out is looked at on every request.
type plan struct {
	branches []branch
	deny     []uint32 // the rules that deny
}

// A branch is one alternative of the matcher.
type branch struct {
	conds []cond // what reads the request alone
	atoms []atom
	rest  []cond // everything else
	level []int  // the atoms that are levels of the indexes
	allow *index.Index
	deny  *index.Index // nil: all rules that deny are candidates
	loose []operand    // values whose absence makes the branch fail somewhere
	why   string       // why there is no index, or empty
}

// A cond is a condition that the engine evaluates.
type cond struct {
	term *term
	run  *expression
	safe bool
}

// An operand is a value of the request.
type operand struct {
	field int
	path  []string
}

type atomKind int

const (
	atomEqual atomKind = iota // operand == column
	atomRole                  // g(operand, column, domain)
	atomMatch                 // op(operand, column)
)

// An atom is a condition that compares one value of the request with one
// column of a rule.
type atom struct {
	kind   atomKind
	value  operand
	column int
	consts []string // further values of the column that count as equal
	graph  *graph
	domain *operand
	op     string
	safe   bool // nothing that can fail stands before it
}

// newPlan analyses the matcher and builds the indexes.
func newPlan(s *Snapshot) *plan {
	p := &plan{}
	var allow []uint32
	for i := range s.rules.len() {
		yield(i)
		if s.denies(i) {
			p.deny = append(p.deny, uint32(i)) // bounded by maxRulesFile
		} else {
			allow = append(allow, uint32(i)) // bounded by maxRulesFile
		}
	}
	alternatives := flatten(s.matcher.tree, termOr)
	firm := true // whether all alternatives can be evaluated whatever the rule
	for _, t := range alternatives {
		b, ok := newBranch(s, t)
		firm = firm && ok
		p.branches = append(p.branches, b)
	}
	for i := range p.branches {
		b := &p.branches[i]
		b.build(s, allow, p.deny, firm || len(p.branches) == 1)
	}
	return p
}

// flatten returns the terms that a chain of && or || joins.
func flatten(t *term, kind termKind) []*term {
	if t.kind != kind {
		return []*term{t}
	}
	var out []*term
	for _, a := range t.args {
		out = append(out, flatten(a, kind)...)
	}
	return out
}

// newBranch sorts the conditions of one alternative. firm is false if one of
// them can fail for some rules and not for others.
func newBranch(s *Snapshot, t *term) (b branch, firm bool) {
	firm = true
	for _, c := range flatten(t, termAnd) {
		a, ok := s.atom(c)
		if ok {
			a.safe = firm
			b.atoms = append(b.atoms, a)
			continue
		}
		run, err := link(c.tokens, s.functions)
		switch {
		case err != nil: // then only the matcher as a whole can tell
			firm = false
		case c.readsPolicy():
			b.rest = append(b.rest, cond{c, &expression{run: run}, firm})
			firm = firm && s.firm(c, &b)
		default:
			b.conds = append(b.conds, cond{c, &expression{run: run}, firm})
		}
	}
	return b, firm
}

// atom recognises a condition that an index understands.
func (s *Snapshot) atom(t *term) (atom, bool) {
	switch t.kind {
	case termCompare:
		if t.name != "==" {
			return atom{}, false
		}
		l, r := t.args[0], t.args[1]
		if l.kind == termPolicy {
			l, r = r, l
		}
		if l.kind == termRequest && r.kind == termPolicy {
			return atom{kind: atomEqual, value: s.operand(l), column: s.column(r.name)}, true
		}
	case termOr:
		return s.equalOrConst(t)
	case termCall:
		return s.callAtom(t)
	}
	return atom{}, false
}

// equalOrConst recognises r.x == p.y || p.y == "*", in any order.
func (s *Snapshot) equalOrConst(t *term) (a atom, ok bool) {
	a.column = -1
	for _, alt := range flatten(t, termOr) {
		if alt.kind != termCompare || alt.name != "==" {
			return atom{}, false
		}
		l, r := alt.args[0], alt.args[1]
		if l.kind == termPolicy {
			l, r = r, l
		}
		if r.kind != termPolicy || a.column >= 0 && a.column != s.column(r.name) {
			return atom{}, false
		}
		a.column = s.column(r.name)
		text, isText := l.value.(string)
		switch {
		case l.kind == termConst && isText:
			a.consts = append(a.consts, text)
		case l.kind == termRequest && len(l.path) == 0 && !ok:
			a.value, ok = s.operand(l), true
		default:
			return atom{}, false
		}
	}
	return a, ok
}

// callAtom recognises g and the operators that match a value against a field.
func (s *Snapshot) callAtom(t *term) (atom, bool) {
	if len(t.args) < 2 || t.args[0].kind != termRequest || t.args[1].kind != termPolicy {
		return atom{}, false
	}
	a := atom{value: s.operand(t.args[0]), column: s.column(t.args[1].name)}
	if g := s.graphs[t.name]; g != nil {
		a.kind, a.graph = atomRole, g
		if len(t.args) == 3 {
			if t.args[2].kind != termRequest {
				return atom{}, false
			}
			o := s.operand(t.args[2])
			a.domain = &o
		}
		return a, true
	}
	a.kind, a.op = atomMatch, t.name
	return a, operators[t.name].args == 2 && !operators[t.name].get
}

func (s *Snapshot) operand(t *term) operand {
	return operand{slices.Index(s.fields, t.name), t.path}
}

func (s *Snapshot) column(field string) int { return slices.Index(s.pFields, field) }

// firm reports whether a condition that is no atom can be evaluated for every
// rule once the values in b.loose are there and are strings.
func (s *Snapshot) firm(t *term, b *branch) bool {
	simple := func(t *term) bool {
		if t.kind == termRequest {
			b.loose = append(b.loose, s.operand(t))
		}
		return t.kind == termRequest || t.kind == termPolicy || t.kind == termConst
	}
	switch t.kind {
	case termOr, termAnd, termNot:
		for _, a := range t.args {
			if !s.firm(a, b) {
				return false
			}
		}
		return true
	case termCompare:
		return (t.name == "==" || t.name == "!=") && simple(t.args[0]) && simple(t.args[1])
	case termCall:
		if op, ok := operators[t.name]; t.name == "eval" || t.name == "ipMatch" || ok && op.get {
			return false
		}
		for _, a := range t.args {
			if !simple(a) || a.kind == termConst && !isText(a.value) {
				return false
			}
		}
		return true
	}
	return false
}

func isText(v any) bool { _, ok := v.(string); return ok }

// build builds the indexes of a branch. others says that no alternative can
// fail for some rules only.
func (b *branch) build(s *Snapshot, allow, deny []uint32, others bool) {
	order := func(safe bool) []int {
		var exact, paths []int
		for i, a := range b.atoms {
			switch {
			case safe && !a.safe:
			case a.kind == atomMatch && pathOps[a.op]:
				paths = append(paths, i)
			case a.kind == atomEqual, a.kind == atomRole && !a.graph.patterns():
				exact = append(exact, i)
			}
		}
		// Equality first: it has one label to follow, a role has several.
		slices.SortStableFunc(exact, func(i, j int) int { return int(b.atoms[i].kind) - int(b.atoms[j].kind) })
		return append(exact, paths...)
	}
	index := func(levels []int, rules []uint32) *index.Index {
		path := make([]bool, len(levels))
		for i, l := range levels {
			path[i] = b.atoms[l].kind == atomMatch
		}
		step := 0
		return index.Build(path, rules, func(level, depth int, rule uint32) uint32 {
			yield(step)
			step++
			a := &b.atoms[levels[level]]
			id := s.rules.cell(int(rule), a.column)
			if a.kind == atomMatch {
				return patternLabel(a.op, s.syms.text(id), depth)
			}
			return symbolLabel(id)
		})
	}
	if b.level = order(false); len(b.level) > 0 {
		b.allow = index(b.level, allow)
	} else if len(b.atoms)+len(b.rest) > 0 { // or the first rule that is looked at matches
		b.why = "no condition compares a value of the request with a field by ==, g or a path operator"
	}
	// The deny index shares the levels of the other, or there is none.
	if len(b.level) > 0 && others && !slices.ContainsFunc(b.level, func(l int) bool { return !b.atoms[l].safe }) {
		b.deny = index(b.level, deny)
	}
}

// symbolLabel is the label of a symbol on an exact level.
func symbolLabel(id uint32) uint32 { return id + index.First }

// cost describes what one decision costs, for the linter.
func (p *plan) cost(s *Snapshot) (linear bool, why string) {
	for _, b := range p.branches {
		if b.why != "" {
			return true, b.why
		}
		if b.deny == nil && len(p.deny) > 0 && len(b.level) > 0 && s.effect != constant.AllowOverrideEffect {
			return true, fmt.Sprintf("the %d rules that deny are all looked at, because a condition that can fail stands before the others", len(p.deny))
		}
	}
	return false, ""
}
