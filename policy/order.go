package policy

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/casbin/casbin/v2/constant"
)

// sort puts the rules into the order in which Casbin looks at them.
func (l *loader) sort(s *Snapshot, rd *reader) {
	if s.effect == constant.SubjectPriorityEffect && s.sections.E == "e" {
		l.sortByHierarchy(s, rd)
	}
	if col := slices.Index(s.pFields, "priority"); col >= 0 {
		l.sortByPriority(s, col)
	}
}

// sortByPriority sorts by the column priority, lowest first. Casbin compares
// what is no integer as if it were both less and more.
func (l *loader) sortByPriority(s *Snapshot, col int) {
	prio := make([]int, s.rules.len())
	order := make([]int, s.rules.len())
	for i := range order {
		order[i] = i
		text := s.syms.text(s.rules.cell(i, col))
		n, err := strconv.Atoi(text)
		if err != nil {
			l.ruleErrorf("priority", int(s.rules.lines[i]), "the order of the rules is undefined", "write an integer; lower numbers come first", "priority %q is no integer", firstWords(text))
		}
		prio[i] = n
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(prio[a], prio[b]) })
	s.rules.reorder(order)
}

// sortByHierarchy sorts by how deep the first field of a rule is in the tree
// of g, deepest first: the subject's own rules before those of its roles.
// Casbin's result is only defined where g is a tree, and it never returns
// where g has a cycle below a root; both are refused.
func (l *loader) sortByHierarchy(s *Snapshot, rd *reader) {
	t := rd.tables["g"]
	if t == nil {
		rd.model.errorf("subjectpriority", rd.model.lines["e"], "loading fails", "define g", "the effect subjectPriority needs a role definition g")
		return
	}
	type name struct{ domain, name uint32 }
	parent := map[name]name{}
	for i := range t.len() {
		domain := none
		if t.width == 3 {
			domain = t.cell(i, 2)
		}
		child, up := name{domain, t.cell(i, 0)}, name{domain, t.cell(i, 1)}
		if old, ok := parent[child]; ok && old != up {
			l.ruleErrorf("tree", int(t.lines[i]), "the order of the rules is undefined", "give it one, or use the effect priority", "%q has two roles, and subjectPriority needs a tree", s.syms.text(child.name))
		}
		parent[child] = up
	}
	depth := func(n name) int {
		d := 0
		for at, ok := parent[n]; ok; at, ok = parent[at] {
			if d++; d > len(parent) {
				return -1
			}
		}
		return d
	}
	for n := range parent {
		if depth(n) < 0 {
			l.ruleErrorf("tree", 1, "loading may never end", "break the cycle", "the roles of %q form a cycle, and subjectPriority needs a tree", s.syms.text(n.name))
			return
		}
	}
	domainCol := slices.Index(s.pFields, "dom")
	levels := make([]int, s.rules.len())
	order := make([]int, s.rules.len())
	for i := range order {
		domain := none
		if domainCol >= 0 {
			domain = s.rules.cell(i, domainCol)
		}
		order[i], levels[i] = i, depth(name{domain, s.rules.cell(i, 0)})
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(levels[b], levels[a]) })
	s.rules.reorder(order)
	s.ownFirst = true
}

// ownFirst moves, under subjectPriority, the subject's own rules before those
// of its roles where a role comes from the token: the order at load cannot
// know that link.
func (ev *evaluator) ownFirst() {
	if !ev.s.ownFirst || len(ev.q.Roles) == 0 {
		return
	}
	own, ok := ev.s.syms.lookup(ev.q.Subject)
	if !ok {
		return
	}
	slices.SortStableFunc(ev.found, func(a, b uint32) int {
		return cmp.Compare(ev.rank(a, own), ev.rank(b, own))
	})
}

func (ev *evaluator) rank(rule, own uint32) int {
	if ev.s.rules.cell(int(rule), 0) == own {
		return 0
	}
	return 1
}
