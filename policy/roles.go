package policy

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
	nodes   []graphNode // open addressing
	count   int         // of nodes
	links   []uint32    // names

	matching  Matching
	ops       *patterns
	anyDomain []uint32            // domains that are patterns
	members   map[uint32][]uint32 // domain to its names, where names may be patterns
	wild      map[uint32][]uint32 // and to those that are
}

// none is the domain of links without one. No symbol has this number.
const none = ^uint32(0)

func nodeKey(domain, name uint32) uint64 { return uint64(domain)<<32 | uint64(name) }

// A graphNode is a name in a domain, and where its links are.
type graphNode struct {
	key      uint64 // nodeKey + 1, 0 is free
	first, n uint32
}

// newGraph lays out the links of t.
func newGraph(t *table) *graph {
	g := &graph{key: t.key, domains: t.width == 3, nodes: make([]graphNode, 64)}
	domain := func(i int) uint32 {
		if g.domains {
			return t.cell(i, 2)
		}
		return none
	}
	for i := range t.len() {
		yield(i)
		g.node(domain(i), t.cell(i, 1))
		g.node(domain(i), t.cell(i, 0)).n++
	}
	first := uint32(0)
	for i := range g.nodes {
		e := &g.nodes[i]
		e.first = first
		first += e.n
		e.n = 0
	}
	g.links = make([]uint32, t.len())
	for i := range t.len() {
		yield(i)
		e := g.node(domain(i), t.cell(i, 0))
		g.links[e.first+e.n] = t.cell(i, 1)
		e.n++
	}
	return g
}

// node returns the node of a name, a new one if need be.
func (g *graph) node(domain, name uint32) *graphNode {
	k := nodeKey(domain, name)
	i := g.slot(k)
	if g.nodes[i].key != 0 {
		return &g.nodes[i]
	}
	if 2*(g.count+1) > len(g.nodes) {
		old := g.nodes
		g.nodes = make([]graphNode, 2*len(old))
		for _, e := range old {
			if e.key != 0 {
				g.nodes[g.slot(e.key-1)] = e
			}
		}
		i = g.slot(k)
	}
	g.count++
	g.nodes[i].key = k + 1
	return &g.nodes[i]
}

// slot returns where a node is, or where it would go.
func (g *graph) slot(key uint64) int {
	mask := uint64(len(g.nodes) - 1)                                       //nolint:gosec // a power of two
	for i := key * 0x9e3779b97f4a7c15 >> 32 & mask; ; i = (i + 1) & mask { // Fibonacci hashing; the upper bits are the good ones
		if k := g.nodes[i].key; k == 0 || k == key+1 {
			return int(i) //nolint:gosec // below len(g.nodes)
		}
	}
}

// from returns the names to which the links of a name lead.
func (g *graph) from(domain, name uint32) []uint32 {
	e := &g.nodes[g.slot(nodeKey(domain, name))]
	return g.links[e.first : e.first+e.n]
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
	direct []uint32 // ends of links, where names may be patterns
	extra  []string // roles of the token that no rule names, likewise
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
	c.in, c.direct, c.extra = c.in[:0], c.direct[:0], c.extra[:0]
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
			for _, to := range c.graph.from(d, c.ids[i]) {
				c.add(to, c.level[i]+1)
			}
		}
	}
	return i
}

// eachLink calls f for the end of each link of a name.
func (c *closure) eachLink(id uint32, f func(to uint32)) {
	for _, d := range c.in {
		for _, to := range c.graph.from(d, id) {
			f(to)
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
