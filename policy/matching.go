package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Matching names the operators by which names in a role definition may be
// patterns for others, for example keyMatch2 for roles and keyMatch for
// domains. Empty means names are compared as they stand.
type Matching struct {
	Role, Domain string
}

// WithMatching lets names in the role definition g be patterns. Casbin calls
// these matching functions and takes them from code alone, but for one: a
// matcher m that holds exactly keyMatch(r.dom, p.dom) makes domains patterns
// of keyMatch in every role definition that has them.
func WithMatching(g string, m Matching) Option {
	return func(l *loader) {
		if l.matching == nil {
			l.matching = map[string]Matching{}
		}
		l.matching[g] = m
	}
}

// implicitMatching is the text for which Casbin registers a function itself.
const implicitMatching = "keyMatch(r_dom, p_dom)"

// matchingOps are the operators that may be used for matching.
var matchingOps = []string{"keyMatch", "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5", "regexMatch", "globMatch"}

// checkMatching checks the options against the model and adds what Casbin
// registers by itself.
func (l *loader) checkMatching(mf *modelFile) {
	for key, m := range l.matching {
		line := mf.lines[key]
		if line == 0 || key[0] != 'g' {
			mf.errorf("matching", 1, "", "", "matching is configured for %q, which is no role definition of the model", key)
			continue
		}
		for _, op := range []string{m.Role, m.Domain} {
			if op != "" && !slices.Contains(matchingOps, op) {
				mf.errorf("matching", line, "", suggest(op, slices.Clone(matchingOps)), "%q is no operator for matching names of %s", op, key)
			}
		}
		if m.Domain != "" && mf.roleArity(key) < 3 {
			mf.errorf("matching", line, "", "", "%s has no domains to match", key)
		}
	}
	if m := mf.def("m"); m == nil || !strings.Contains(m.Value, implicitMatching) {
		return
	}
	for key := range mf.lines {
		if key[0] == 'g' && mf.roleArity(key) == 3 && l.matching[key].Domain == "" {
			WithMatching(key, Matching{Role: l.matching[key].Role, Domain: "keyMatch"})(l)
		}
	}
}

// isPattern reports whether text can match another name.
func isPattern(op, text string) bool {
	switch op {
	case "keyMatch":
		return strings.IndexByte(text, '*') >= 0
	case "keyMatch2":
		return strings.ContainsAny(text, metacharacters+":")
	case "keyMatch3", "keyMatch4":
		return strings.ContainsAny(text, metacharacters)
	}
	return op != "" // regexMatch is not anchored, keyMatch5 cuts the value
}

// match links a graph's names by its operators.
func (g *graph) match(s *Snapshot, l *loader, t *table) {
	g.matching, g.ops = l.matching[g.key], s.patterns
	domains, names := map[uint32]bool{}, map[uint64]bool{}
	prepare := func(op string, id uint32, line int) bool {
		text := s.syms.text(id)
		if !isPattern(op, text) {
			return false
		}
		if err := s.patterns.prepare(op, text); err != nil {
			l.ruleErrorf("pattern", line, "every request fails", "", "%q is no pattern for %s, by which names of %s match: %v", text, op, g.key, err)
			return false
		}
		return true
	}
	for i := range t.len() {
		domain, line := none, int(t.lines[i])
		if g.domains {
			domain = t.cell(i, 2)
			if !domains[domain] && prepare(g.matching.Domain, domain, line) {
				g.anyDomain = append(g.anyDomain, domain)
			}
			domains[domain] = true
		}
		if g.matching.Role == "" {
			continue
		}
		if g.members == nil {
			g.members, g.wild = map[uint32][]uint32{}, map[uint32][]uint32{}
		}
		for c := range 2 {
			id := t.cell(i, c)
			wild := prepare(g.matching.Role, id, line)
			if k := nodeKey(domain, id); !names[k] {
				names[k] = true
				g.members[domain] = append(g.members[domain], id)
				if wild {
					g.wild[domain] = append(g.wild[domain], id)
				}
			}
		}
	}
}

// matches runs an operator on two names. Both are known to be prepared.
func (g *graph) matches(op, name, pattern string) bool {
	if name == pattern {
		return true
	}
	if op == "" || !isPattern(op, pattern) {
		return false
	}
	ok, err := g.ops.match(op, name, pattern)
	return ok && err == nil
}

// fillPatterns is fill for graphs whose names are patterns. It follows
// Casbin's role manager: from a name lead its own links, those of every
// pattern that it matches, and from a link's end to every name which that end
// matches as a pattern. Roles of a token are names, never patterns.
func (c *closure) fillPatterns(syms *symbols, extra []string, ids map[string]uint32) {
	start := len(c.ids)
	if start == 0 {
		c.stepByPattern(syms, none, c.name, 1)
	} else {
		c.stepByLink(syms, c.ids[0], 1)
		c.stepByPattern(syms, c.ids[0], c.name, 1)
	}
	for _, r := range extra {
		if id, ok := ids[r]; ok {
			c.add(id, 1)
		} else {
			c.extra = append(c.extra, rolePrefix+r)
		}
	}
	for _, name := range c.extra {
		c.stepByPattern(syms, none, name, 2)
	}
	for i := start; i < len(c.ids); i++ {
		if c.level[i] < maxDepth {
			c.stepByLink(syms, c.ids[i], c.level[i]+1)
			c.stepByPattern(syms, c.ids[i], syms.text(c.ids[i]), c.level[i]+1)
		}
	}
}

// stepByLink adds what the links of a name lead to.
func (c *closure) stepByLink(syms *symbols, id uint32, level uint8) {
	op := c.graph.matching.Role
	c.eachLink(id, func(to uint32) {
		c.addDirect(to, level)
		pattern := syms.text(to)
		if !isPattern(op, pattern) {
			return
		}
		for _, d := range c.in {
			for _, name := range c.graph.members[d] {
				if name != to && c.graph.matches(op, syms.text(name), pattern) {
					c.add(name, level)
				}
			}
		}
	})
}

// stepByPattern adds what the links of the patterns lead to that a name
// matches. id is the name's symbol, or none.
func (c *closure) stepByPattern(syms *symbols, id uint32, name string, level uint8) {
	op := c.graph.matching.Role
	for _, d := range c.in {
		for _, p := range c.graph.wild[d] {
			if p != id && c.graph.matches(op, name, syms.text(p)) {
				c.eachLink(p, func(to uint32) { c.add(to, level) })
			}
		}
	}
}

func (c *closure) addDirect(id uint32, level uint8) {
	c.add(id, level)
	if !slices.Contains(c.direct, id) {
		c.direct = append(c.direct, id)
	}
}

// reaches reports whether the closure holds role, or a name that role matches
// as a pattern, or an end of a link that matches role.
func (c *closure) reaches(syms *symbols, role string) bool {
	op := c.graph.matching.Role
	if c.graph.matches(op, c.name, role) {
		return true
	}
	for _, name := range c.extra {
		if c.graph.matches(op, name, role) {
			return true
		}
	}
	for _, id := range c.ids {
		if c.graph.matches(op, syms.text(id), role) {
			return true
		}
	}
	for _, id := range c.direct {
		if c.graph.matches(op, role, syms.text(id)) {
			return true
		}
	}
	return false
}

// String describes the operators, for the revision.
func (m Matching) String() string { return fmt.Sprintf("%q %q", m.Role, m.Domain) }
