package route

import (
	"errors"
	"fmt"
)

// A builder collects the routes of a Table and what is wrong with them.
type builder struct {
	table    *Table
	names    map[string]int
	problems []Problem
	seen     map[[2]*pattern]bool // conflicts that were reported for another host
}

func newBuilder(g Guard) *builder {
	return &builder{
		table: &Table{guard: newGuard(g), byName: make(map[string]*entry)},
		names: make(map[string]int),
		seen:  make(map[[2]*pattern]bool),
	}
}

func (b *builder) problem(route int, key string, err error) {
	b.problems = append(b.problems, Problem{Route: route, Key: key, Err: err})
}

// add checks one Spec and puts it into the table.
func (b *builder) add(i int, s *Spec) {
	e := &entry{name: s.Name, route: s.Route, group: new(group), bare: len(s.Match) == 0}
	if s.KeepEscapedSlash {
		e.keep |= keptSlash
	}
	if s.KeepSemicolon {
		e.keep |= keptSemicolon
	}
	if s.Route == nil {
		b.problem(i, "", errors.New("route leads nowhere"))
	}
	if first, ok := b.names[s.Name]; ok {
		b.problem(i, "name", fmt.Errorf("name %q is taken by route %d", s.Name, first+1))
	} else {
		b.names[s.Name] = i
		b.table.byName[s.Name] = e
	}

	rules := b.hosts(i, s)
	for j, text := range s.Match {
		key := fmt.Sprintf("match[%d]", j)
		p, err := parsePattern(text, e.keep)
		if err != nil {
			b.problem(i, key, err)
			continue
		}
		p.entry = e
		if p.kind == tcpPattern {
			b.tcp(i, key, s, e)
			continue
		}
		e.group.insert(p)
		for _, rule := range rules {
			b.join(i, key, rule, p)
		}
	}
}

// hosts returns the host rules of a Spec; a rule that matches every host
// where it has none.
func (b *builder) hosts(i int, s *Spec) []hostRule {
	if len(s.Hosts) == 0 {
		return []hostRule{{kind: anyHost}}
	}
	if len(s.Match) == 0 {
		b.problem(i, "hosts", errors.New("a route without match is reachable only where Envoy names it, and then hosts are not consulted"))
	}
	var rules []hostRule
	first := make(map[hostRule]int)
	for j, text := range s.Hosts {
		key := fmt.Sprintf("hosts[%d]", j)
		rule, err := parseHostRule(text)
		if err != nil {
			b.problem(i, key, err)
			continue
		}
		if k, ok := first[rule]; ok {
			b.problem(i, key, fmt.Errorf("host %q repeats hosts[%d]", text, k))
			continue
		}
		first[rule] = j
		rules = append(rules, rule)
	}
	return rules
}

// tcp makes e the route of TCP checks.
func (b *builder) tcp(i int, key string, s *Spec, e *entry) {
	switch {
	case len(s.Hosts) > 0:
		b.problem(i, key, errors.New("TCP checks have no host: give TCP a route without hosts"))
	case b.table.tcp == e:
		b.problem(i, key, errors.New("TCP stands twice: remove one"))
	case b.table.tcp != nil:
		b.problem(i, key, fmt.Errorf("TCP is taken by route %q: remove one", b.table.tcp.name))
	default:
		e.tcp, b.table.tcp = true, e
	}
}

// join puts p into the group of a host rule, unless that holds a pattern that
// p conflicts with.
func (b *builder) join(i int, key string, rule hostRule, p *pattern) {
	g := b.table.hosts.group(rule)
	twin := false
	for _, q := range g.candidates(p) {
		rel := p.compare(q)
		if rel != same && rel != overlap {
			continue
		}
		twin = twin || rel == same
		if pair := [2]*pattern{p, q}; !b.seen[pair] {
			b.seen[pair] = true
			b.problem(i, key, conflict(p, q, rule))
		}
	}
	if !twin {
		g.insert(p)
	}
}
