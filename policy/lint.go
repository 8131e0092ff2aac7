package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/casbin/govaluate"
)

// lint warns about what is legal, does something, and is hardly what was
// meant. None of it refuses the snapshot, and none of it takes more time than
// is proportional to the number of rules.
func (l *loader) lint(s *Snapshot, rd *reader) {
	l.lintMatcher(s, rd.model)
	l.lintSections(s, rd.model)
	l.lintPatterns(s)
	l.lintLinks(s, rd)
	l.lintRoles(s, rd)
	if s.loops && len(s.matcher.reads) > 0 {
		l.lintFields(s, rd.model)
		l.lintShadowed(s)
		l.lintCost(s, rd.model)
	}
}

func (l *loader) ruleWarnf(kind string, line int, stock, fix, format string, args ...any) {
	l.fs.add(kind, Finding{File: l.text.RulesFile, Line: line, Severity: Warning, Stock: stock, Fix: fix, Message: fmt.Sprintf(format, args...)})
}

func (l *loader) lintMatcher(s *Snapshot, mf *modelFile) {
	line := mf.lines[s.sections.M]
	for _, t := range s.matcher.tokens {
		if t.Kind == govaluate.TIME {
			mf.warnf("date", line, "the text is compared as a number, and never equals a string", "compare with a policy field instead", "%s: a string in the matcher looks like a date and becomes a number", s.sections.M)
		}
	}
	if mixed(s.matcher.tokens) {
		mf.warnf("precedence", line, "a && b || c grants what c alone grants", "write parentheses", "%s mixes && and || without parentheses", s.sections.M)
	}
	if alternatives := flatten(s.matcher.tree, termOr); s.loops && len(alternatives) > 1 {
		for _, alt := range alternatives {
			if !alt.readsPolicy() {
				mf.warnf("bypass", line, "where that alternative holds, every rule matches", "make it a rule, if rules should decide", "%s: an alternative of || reads no field of %s", s.sections.M, s.sections.P)
			}
		}
	}
}

// mixed reports whether && and || stand beside each other at any depth.
func mixed(ts []govaluate.ExpressionToken) bool {
	type ops struct{ and, or bool }
	stack := []ops{{}}
	for _, t := range ts {
		top := &stack[len(stack)-1]
		switch {
		case t.Kind == govaluate.CLAUSE:
			stack = append(stack, ops{})
		case t.Kind == govaluate.CLAUSE_CLOSE:
			stack = stack[:len(stack)-1]
		case t.Kind == govaluate.LOGICALOP && t.Value == "&&":
			top.and = true
		case t.Kind == govaluate.LOGICALOP:
			top.or = true
		}
		if top.and && top.or {
			return true
		}
	}
	return false
}

// lintLinks looks at the shape of the role definitions.
func (l *loader) lintLinks(s *Snapshot, rd *reader) {
	for _, key := range sortedKeys(s.graphs) {
		g, t := s.graphs[key], rd.tables[key]
		if g.domains && g.matching.Domain == "" {
			for i := range t.len() {
				if d := s.syms.text(t.cell(i, 2)); strings.Contains(d, "*") {
					l.ruleWarnf("stardomain", int(t.lines[i]), "the link holds in the domain that is called so", "configure matching for "+key+", for example domain: keyMatch", "domain %q of %s is no pattern", firstWords(d), key)
				}
			}
		}
		depth, cyclic := g.depths()
		for i := range t.len() {
			domain := none
			if g.domains {
				domain = t.cell(i, 2)
			}
			n := g.slot(nodeKey(domain, t.cell(i, 0)))
			switch {
			case cyclic[n] && cyclic[g.slot(nodeKey(domain, t.cell(i, 1)))]:
				l.ruleWarnf("cycle", int(t.lines[i]), "all of them have each other's roles", "delete one of the links", "%q and %q are in a cycle of %s, or lead into one", firstWords(s.syms.text(t.cell(i, 0))), firstWords(s.syms.text(t.cell(i, 1))), key)
			case depth[n] > maxDepth:
				l.ruleWarnf("depth", int(t.lines[i]), "links beyond the tenth are not followed", "flatten the hierarchy", "%q is %d links away from its farthest role in %s", firstWords(s.syms.text(t.cell(i, 0))), depth[n], key)
			}
		}
	}
}

// depths returns, for each slot of a node, how many links its longest chain
// has, and whether it is in a cycle or leads into one. It removes nodes without
// links until none are left (Kahn); what remains is cyclic.
func (g *graph) depths() (depth []int, cyclic []bool) {
	n := len(g.nodes)
	depth, cyclic = make([]int, n), make([]bool, n)
	open := make([]uint32, n)    // links not yet followed
	first := make([]uint32, n+1) // of the links that lead to a node
	ends := make([]uint32, len(g.links))
	for i, e := range g.nodes {
		for l := e.first; l < e.first+e.n; l++ {
			ends[l] = uint32(g.slot((e.key-1)>>32<<32 | uint64(g.links[l]))) //nolint:gosec // below len(g.nodes)
			first[ends[l]+1]++
		}
		open[i], cyclic[i] = e.n, e.key != 0
	}
	for i := range n {
		first[i+1] += first[i]
	}
	back, at := make([]uint32, len(g.links)), slices.Clone(first)
	var ready []uint32
	for i, e := range g.nodes {
		for _, to := range ends[e.first : e.first+e.n] {
			back[at[to]] = uint32(i) // below len(g.nodes)
			at[to]++
		}
		if e.key != 0 && e.n == 0 {
			ready = append(ready, uint32(i)) // below len(g.nodes)
		}
	}
	for len(ready) > 0 {
		to := ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		cyclic[to] = false
		for _, from := range back[first[to]:first[to+1]] {
			depth[from] = max(depth[from], depth[to]+1)
			if open[from]--; open[from] == 0 {
				ready = append(ready, from)
			}
		}
	}
	return depth, cyclic
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
