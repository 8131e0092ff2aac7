package route

import (
	"cmp"
	"slices"
)

// A group holds the patterns of one host rule, or of one route. The nil group
// and the zero one match nothing.
type group struct {
	root    node // of the paths
	connect *pattern
	star    *pattern
	size    int
}

// A node is a place in the tree of path segments. Its zero value matches
// nothing.
type node struct {
	literals map[string]*node
	single   *node
	rest     leaf // all that is below
	end      leaf // a path that ends here
}

// A leaf holds patterns with the same path in order of their arrival; at most
// one of them for a method.
type leaf []numbered

type numbered struct {
	number  int
	pattern *pattern
}

// insert adds a pattern; the first of two that match the same stays.
func (g *group) insert(p *pattern) {
	g.size++
	switch p.kind {
	case connectPattern:
		g.connect = cmp.Or(g.connect, p)
		return
	case starPattern:
		g.star = cmp.Or(g.star, p)
		return
	}
	n := &g.root
	for _, seg := range p.segments {
		switch seg.kind {
		case rest:
			n.rest = append(n.rest, numbered{g.size, p})
			return
		case single:
			if n.single == nil {
				n.single = new(node)
			}
			n = n.single
		default:
			next := n.literals[seg.text]
			if next == nil {
				next = new(node)
				if n.literals == nil {
					n.literals = make(map[string]*node)
				}
				n.literals[seg.text] = next
			}
			n = next
		}
	}
	n.end = append(n.end, numbered{g.size, p})
}

// find returns the most specific pattern for a method and a canonical path.
//
// In a group without conflicts the patterns that match one request form a
// chain: of each two, one is narrower. Its path is narrower in the first
// segment in which they differ, which is why literals are tried before
// wildcards and the first hit is the right one; where the paths are the same,
// its method is, which is what pick looks at.
func (g *group) find(method, path string) *pattern {
	switch {
	case g == nil:
		return nil
	case method == "CONNECT":
		if path == "" {
			return g.connect
		}
		return nil
	case path == "*":
		return g.star
	}
	return g.root.find(method, path)
}

// find visits each node once at most: its depth is that of the patterns, and
// a path of many segments costs no more than one.
func (n *node) find(method, path string) *pattern {
	if path == "" {
		return n.end.pick(method)
	}
	seg, after := cutSegment(path)
	if next := n.literals[seg]; next != nil {
		if p := next.find(method, after); p != nil {
			return p
		}
	}
	if n.single != nil && seg != endOfPath {
		if p := n.single.find(method, after); p != nil {
			return p
		}
	}
	return n.rest.pick(method)
}

// pick returns the pattern whose method is the narrowest.
func (l leaf) pick(method string) *pattern {
	var get, all *pattern
	for _, c := range l {
		switch {
		case c.pattern.method == method:
			return c.pattern
		case c.pattern.method == "":
			all = c.pattern
		case c.pattern.method == "GET" && method == "HEAD":
			get = c.pattern
		}
	}
	return cmp.Or(get, all)
}

// candidates returns the patterns that p may conflict with, in order of their
// arrival: all that match a path that p matches too, and a few more.
func (g *group) candidates(p *pattern) []*pattern {
	switch {
	case p.kind == connectPattern && g.connect != nil:
		return []*pattern{g.connect}
	case p.kind == starPattern && g.star != nil:
		return []*pattern{g.star}
	case p.kind != pathPattern:
		return nil
	}
	found := g.root.candidates(p.segments, nil)
	slices.SortFunc(found, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	patterns := make([]*pattern, len(found))
	for i, c := range found {
		patterns[i] = c.pattern
	}
	return patterns
}

func (n *node) candidates(segs []segment, found leaf) leaf {
	if len(segs) == 0 {
		return append(found, n.end...)
	}
	found = append(found, n.rest...)
	seg := segs[0]
	switch seg.kind {
	case rest:
		return n.below(found)
	case single:
		for _, next := range n.literals {
			found = next.candidates(segs[1:], found)
		}
	default:
		if next := n.literals[seg.text]; next != nil {
			found = next.candidates(segs[1:], found)
		}
	}
	if n.single != nil {
		found = n.single.candidates(segs[1:], found)
	}
	return found
}

// below appends every pattern that goes on after n.
func (n *node) below(found leaf) leaf {
	visit := func(next *node) {
		found = append(found, next.end...)
		found = append(found, next.rest...)
		found = next.below(found)
	}
	for _, next := range n.literals {
		visit(next)
	}
	if n.single != nil {
		visit(n.single)
	}
	return found
}
