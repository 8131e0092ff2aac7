package policy

import (
	"slices"
)

// maxDepth is how many links Casbin's role manager follows.
const maxDepth = 10

// maxTokenRoles bounds the roles of one request.
const maxTokenRoles = 256

// rolePrefix stands before every role that comes from a token, so that no
// subject's name can be a role's.
const rolePrefix = "role:"

// A graph holds the links of one role definition, laid out at load so that
// walking them takes no lock and no allocation. Without domains every link is
// in the domain none.
type graph struct {
	key     string
	domains bool
	nodes   map[uint64]uint32 // domain and name to node
	names   []uint32          // node to name
	first   []uint32          // node to its first link; one more than nodes
	links   []uint32          // nodes

	matching  Matching
	ops       *patterns
	anyDomain []uint32            // domains that are patterns
	members   map[uint32][]uint32 // domain to its names, where names are patterns
}

// none is the domain of links without one. No symbol has this number.
const none = ^uint32(0)

func nodeKey(domain, name uint32) uint64 { return uint64(domain)<<32 | uint64(name) }

// newGraph lays out the links of t.
func newGraph(t *table) *graph {
	g := &graph{key: t.key, domains: t.width == 3, nodes: make(map[uint64]uint32, t.len())}
	node := func(domain, name uint32) uint32 {
		k := nodeKey(domain, name)
		n, ok := g.nodes[k]
		if !ok {
			n = uint32(len(g.names)) //nolint:gosec // bounded by maxRulesFile
			g.nodes[k] = n
			g.names = append(g.names, name)
		}
		return n
	}
	ends := make([][2]uint32, t.len())
	for i := range t.len() {
		domain := none
		if g.domains {
			domain = t.cell(i, 2)
		}
		ends[i] = [2]uint32{node(domain, t.cell(i, 0)), node(domain, t.cell(i, 1))}
	}
	g.first = make([]uint32, len(g.names)+1)
	for _, e := range ends {
		g.first[e[0]+1]++
	}
	for i := range g.names {
		g.first[i+1] += g.first[i]
	}
	g.links = make([]uint32, len(ends))
	next := slices.Clone(g.first)
	for _, e := range ends {
		g.links[next[e[0]]] = e[1]
		next[e[0]]++
	}
	return g
}

// patterns reports whether names in g are patterns for other names.
func (g *graph) patterns() bool { return g.matching.Role != "" }

// A closure is the set of names that one name of one request reaches: the
// roles it has. It is scratch space, filled by fill and reused.
type closure struct {
	graph  *graph
	name   string // whose roles
	domain string
	ids    []uint32 // symbols, in the order of their distance; name itself first where it is one
	level  []uint8
	set    set
	in     []uint32 // domains whose links count
	direct []uint32 // ends of links, where names are patterns
	filled bool
}

// fill walks the links from name. extra are names that are one link away for
// this request only, and ids their symbols.
func (c *closure) fill(syms *symbols, extra []string, ids map[string]uint32) {
	c.ids, c.level, c.filled = c.ids[:0], c.level[:0], true
	c.set.reset()
	if id, ok := syms.lookup(c.name); ok {
		c.add(id, 0)
	}
	c.findDomains(syms)
	if c.graph.patterns() {
		c.fillPatterns(syms, extra, ids)
		return
	}
	walked := c.walk(0, 1) // so that the names of level 1 follow each other
	for _, r := range extra {
		if id, ok := ids[r]; ok {
			c.add(id, 1)
		}
	}
	c.walk(walked, maxDepth)
}

// findDomains lists the domains whose links count: the one asked for, and
// those that it matches.
func (c *closure) findDomains(syms *symbols) {
	c.in, c.direct = c.in[:0], c.direct[:0]
	if !c.graph.domains {
		c.in = append(c.in, none)
		return
	}
	own, known := syms.lookup(c.domain)
	if known {
		c.in = append(c.in, own)
	}
	for _, d := range c.graph.anyDomain {
		if (!known || d != own) && c.graph.matches(c.graph.matching.Domain, c.domain, syms.text(d)) {
			c.in = append(c.in, d)
		}
	}
}

func (c *closure) add(id uint32, level uint8) {
	if c.set.add(id) {
		c.ids, c.level = append(c.ids, id), append(c.level, level)
	}
}

// walk follows the links of what lies from index i on, below a level, and
// returns the index where it stopped.
func (c *closure) walk(i int, below uint8) int {
	for ; i < len(c.ids) && c.level[i] < below; i++ {
		for _, d := range c.in {
			if n, ok := c.graph.nodes[nodeKey(d, c.ids[i])]; ok {
				for _, to := range c.graph.links[c.graph.first[n]:c.graph.first[n+1]] {
					c.add(c.graph.names[to], c.level[i]+1)
				}
			}
		}
	}
	return i
}

// eachLink calls f for the end of each link of a name.
func (c *closure) eachLink(id uint32, f func(to uint32)) {
	for _, d := range c.in {
		if n, ok := c.graph.nodes[nodeKey(d, id)]; ok {
			for _, to := range c.graph.links[c.graph.first[n]:c.graph.first[n+1]] {
				f(c.graph.names[to])
			}
		}
	}
}

// has reports whether the closure holds a symbol.
func (c *closure) has(id uint32) bool { return c.set.has(id) }

// A set of symbols that is emptied in time proportional to its size.
type set struct {
	table []uint32 // open addressing; symbol + 1
	used  []uint32 // filled slots
}

func (s *set) slot(id uint32) uint32 {
	mask := uint32(len(s.table) - 1) //nolint:gosec // a power of two below 2^32
	i := id * 2654435769 >> 7 & mask // Fibonacci hashing: symbols are consecutive
	for s.table[i] != 0 && s.table[i] != id+1 {
		i = (i + 1) & mask
	}
	return i
}

// add reports whether id is new.
func (s *set) add(id uint32) bool {
	if 2*(len(s.used)+1) > len(s.table) {
		old := s.table
		s.table = make([]uint32, max(32, 2*len(old)))
		for i, slot := range s.used {
			v := old[slot]
			s.used[i] = s.slot(v - 1)
			s.table[s.used[i]] = v
		}
	}
	i := s.slot(id)
	if s.table[i] != 0 {
		return false
	}
	s.table[i] = id + 1
	s.used = append(s.used, i)
	return true
}

func (s *set) has(id uint32) bool { return len(s.used) > 0 && s.table[s.slot(id)] != 0 }

func (s *set) reset() {
	for _, i := range s.used {
		s.table[i] = 0
	}
	s.used = s.used[:0]
}
