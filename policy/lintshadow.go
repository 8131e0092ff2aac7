package policy

import (
	"strings"

	"github.com/casbin/casbin/v2/constant"
)

const (
	// maxCovered is how many rules a policy may have for each of them to be
	// compared with those that match more: a tenth of a second's work.
	maxCovered = 100_000
	// maxCompared bounds those comparisons, where many rules match the same.
	maxCompared = 2_000_000
)

// lintShadowed finds rules that can never decide, because another one matches
// whatever they match and decides before them.
func (l *loader) lintShadowed(s *Snapshot) {
	for _, i := range s.plan.deny {
		if s.effect == constant.AllowOverrideEffect {
			l.ruleWarnf("nodeny", int(s.rules.lines[i]), "the rule is ignored: what it denies is not denied", "use the effect some(where (p.eft == allow)) && !some(where (p.eft == deny))",
				"the rule denies, and the effect %s looks at rules that allow alone", s.sections.E)
		}
	}
	shadowed := make([]bool, s.rules.len())
	l.lintEqual(s, shadowed)
	l.lintCovered(s, shadowed)
}

func (l *loader) shadowed(s *Snapshot, i, by int) {
	l.ruleWarnf("shadowed", int(s.rules.lines[i]), "the rule never decides", "delete one of the two, or move this one up",
		"the rule never decides: the one in line %d matches whatever it matches, and decides before it", s.rules.lines[by])
}

// decidesBefore reports whether rule i decides where both i and j match.
func (s *Snapshot) decidesBefore(i, j int) bool {
	switch s.effect {
	case constant.AllowOverrideEffect:
		return i < j && !s.denies(i) && !s.denies(j)
	case constant.DenyOverrideEffect:
		return i < j && s.denies(i) && s.denies(j)
	case constant.AllowAndDenyEffect: // a rule that denies decides wherever it stands
		return s.denies(i) && !s.denies(j) || i < j && s.denies(i) == s.denies(j)
	}
	return i < j
}

// lintEqual finds rules that are alike in every column that is read.
func (l *loader) lintEqual(s *Snapshot, shadowed []bool) {
	columns := s.columnsRead()
	if len(columns) == len(s.pFields) {
		return // those are duplicates
	}
	set := newRowSet(s.rules, columns)
	look := func(i int) {
		yield(i)
		if by, found := set.add(i); found && s.decidesBefore(by, i) {
			shadowed[i] = true
			l.shadowed(s, i, by)
		}
	}
	if s.effect == constant.AllowAndDenyEffect {
		for i := range s.rules.len() {
			if s.denies(i) {
				look(i)
			}
		}
	}
	for i := range s.rules.len() {
		switch {
		case s.denies(i) && (s.effect == constant.AllowOverrideEffect || s.effect == constant.AllowAndDenyEffect):
		case !s.denies(i) && s.effect == constant.DenyOverrideEffect:
		default:
			look(i)
		}
	}
}

// lintCovered finds rules that match less than another: it asks the index who
// would match a request that only a rule at least as wide can match, newlines
// aside, which no path holds. It looks at matchers that are conditions joined
// by && alone.
func (l *loader) lintCovered(s *Snapshot, shadowed []bool) {
	if len(s.plan.branches) != 1 || len(s.plan.branches[0].rest) > 0 || s.rules.len() > maxCovered {
		return
	}
	b := &s.plan.branches[0]
	for i := range b.atoms {
		if a := &b.atoms[i]; a.kind == atomRole && a.graph.patterns() || a.kind == atomMatch && !pathOps[a.op] {
			return
		}
	}
	e := &explainer{evaluator: newEvaluator(s)}
	compared := 0
	for j := range s.rules.len() {
		yield(j)
		q := s.sample(b, j)
		if q == nil || shadowed[j] {
			continue
		}
		e.begin(q)
		_ = e.find()
		if compared += e.count(); e.all || compared > maxCompared {
			return
		}
		for _, i := range e.found {
			if e.row = s.rules.row(int(i)); s.decidesBefore(int(i), j) && e.fitsAll() {
				l.shadowed(s, j, int(i))
				break
			}
		}
		e.end()
	}
}

// fitsAll reports whether the current rule fits every atom of the one branch.
func (e *explainer) fitsAll() bool {
	for j := range e.s.plan.branches[0].atoms {
		if !e.fits(0, j) {
			return false
		}
	}
	return true
}

// odd is text that no rule holds and only a wildcard matches.
const odd = "\x01"

// sample returns a request for rule j that no narrower rule matches, or nil
// where there is none.
func (s *Snapshot) sample(b *branch, j int) *Query {
	q := &Query{Args: make([]any, len(s.fields))}
	for k := range b.atoms {
		a := &b.atoms[k]
		v, ok := a.sample(s.syms.text(s.rules.cell(j, a.column)))
		if !ok || !put(q.Args, a.value, v) {
			return nil
		}
	}
	return q
}

// put sets an operand, unless it has another value.
func put(args []any, o operand, v string) bool {
	at := &args[o.field]
	if len(o.path) == 0 {
		if *at == nil {
			*at = v
		}
		return *at == any(v)
	}
	if *at == nil {
		*at = map[string]any{}
	}
	m, ok := (*at).(map[string]any)
	for i := 0; ok && i < len(o.path)-1; i++ {
		if m[o.path[i]] == nil {
			m[o.path[i]] = map[string]any{}
		}
		m, ok = m[o.path[i]].(map[string]any)
	}
	if !ok {
		return false
	}
	last := o.path[len(o.path)-1]
	if m[last] == nil {
		m[last] = v
	}
	return m[last] == any(v)
}

// sample returns a value that fits cell, and no cell that is narrower.
func (a *atom) sample(cell string) (value string, ok bool) {
	switch {
	case a.kind == atomEqual:
		for _, c := range a.consts {
			if cell == c {
				return odd, true
			}
		}
		return cell, true
	case a.kind == atomRole:
		return cell, true
	case a.op == "globMatch":
		return cell, !strings.ContainsAny(cell, `*?[]{}\`)
	case a.op == "keyMatch":
		prefix, _, wild := strings.Cut(cell, "*")
		if wild {
			prefix += odd
		}
		return prefix, true
	}
	var param byte // keyMatch4 compares parameters with each other
	switch a.op {
	case "keyMatch2":
		param = ':'
	case "keyMatch3", "keyMatch5":
		param = '{'
	}
	if !simplePath(cell, param) {
		return "", false
	}
	var out strings.Builder
	for i := 0; i < len(cell); i++ {
		switch c := cell[i]; {
		case c == '*':
			out.WriteString(odd + "//" + odd) // several segments, and an empty one
		case c == '.':
			out.WriteString(odd)
		case c == param && segmentEnd(cell, i) > i+1:
			out.WriteString(odd)
			i = segmentEnd(cell, i) - 1
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), true
}
