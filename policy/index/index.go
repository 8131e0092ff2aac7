// Package index finds the rules that could match a request without looking
// at the others.
//
// An [Index] is a tree over numbered rules. Each level compares one value of
// the request with one field of a rule: an exact level by a label, a path
// level segment by segment. Where few rules are left the tree ends. What Find
// returns is a superset of the rules that match on every level, in no
// particular order; it never misses one. Whoever asks still has to evaluate
// them.
//
// Labels are numbers. Two texts that share a label (a hash, say) cost a
// superfluous candidate, never a wrong answer.
//
// All nodes and edges live in four flat slices, so that a million rules take
// tens of megabytes and nothing for the garbage collector to walk. An Index
// is immutable and safe for concurrent use.
package index

import (
	"runtime"
	"slices"
)

// Labels of a path level that are no segment. Labels of segments and of exact
// levels start at First.
const (
	End   uint32 = iota // the pattern ends here
	Rest                // the pattern matches anything from here
	Param               // any one segment
	First
)

// leafSize is how many rules are cheaper to look at than to split further.
const leafSize = 8

// A Labeler says under which label a rule stands. depth counts the segments of
// a path level from 0; exact levels are asked for depth 0 alone.
type Labeler func(level, depth int, rule uint32) uint32

// An Index is a tree of rules.
type Index struct {
	path  []bool // by level: whether it is a path level
	nodes []node
	rules []uint32 // of the leaves
	keys  []uint64 // open addressing: parent node and label, plus 1; 0 is free
	child []uint32
}

// A node is a leaf with rules or, where n has the bit inner, has children that
// follow each other.
type node struct{ start, n uint32 }

const inner = 1 << 31

// Build returns an index of rules, which must be in ascending order.
func Build(path []bool, rules []uint32, label Labeler) *Index {
	b := &builder{Index: &Index{path: path, nodes: make([]node, 1), rules: make([]uint32, 0, len(rules))}, label: label}
	b.resize(64)
	b.split(0, rules, 0, 0)
	b.rules = slices.Clip(b.rules)
	b.nodes = slices.Clip(b.nodes)
	return b.Index
}

type builder struct {
	*Index
	label Labeler
	edges int
}

// split distributes rules below a node.
func (b *builder) split(at uint32, rules []uint32, level, depth int) {
	if len(rules) <= leafSize || level == len(b.path) {
		b.nodes[at] = node{uint32(len(b.rules)), uint32(len(rules))} //nolint:gosec // rules are numbered in 32 bits
		b.rules = append(b.rules, rules...)
		return
	}
	pairs := make([]uint64, len(rules))
	for i, r := range rules {
		pairs[i] = uint64(b.label(level, depth, r))<<32 | uint64(r)
	}
	pairs = grouped(pairs)
	group := make([]uint32, len(pairs))
	for i, p := range pairs {
		yield(i)
		group[i] = uint32(p) //nolint:gosec // the lower half
	}
	starts := make([]int, 0, 16) // of the groups
	for i, p := range pairs {
		yield(i)
		if i == 0 || p>>32 != pairs[i-1]>>32 {
			starts = append(starts, i)
		}
	}
	first := uint32(len(b.nodes))                          //nolint:gosec // fewer nodes than rules times depth
	b.nodes[at] = node{first, inner | uint32(len(starts))} //nolint:gosec // as above
	b.nodes = append(b.nodes, make([]node, len(starts))...)
	for i, start := range starts {
		end := len(pairs)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		l, to := uint32(pairs[start]>>32), first+uint32(i) // the upper half
		b.link(at, l, to)
		if b.path[level] && l != End && l != Rest {
			b.split(to, group[start:end], level, depth+1)
		} else {
			b.split(to, group[start:end], level+1, 0)
		}
	}
}

// grouped brings pairs of one label together and keeps their order. Between
// steps it lets others go on: a million pairs take a tenth of a second.
func grouped(pairs []uint64) []uint64 {
	// Label and rule sort as one number.
	if len(pairs) <= 1<<12 {
		slices.Sort(pairs)
		return pairs
	}
	const buckets = 1 << 8 // by the low bits of the label
	var ends [buckets + 1]int
	for i, p := range pairs {
		yield(i)
		ends[p>>32%buckets+1]++
	}
	for i := range buckets {
		ends[i+1] += ends[i]
	}
	out := make([]uint64, len(pairs))
	next := ends
	for i, p := range pairs {
		yield(i)
		out[next[p>>32%buckets]] = p
		next[p>>32%buckets]++
	}
	for i := range buckets {
		runtime.Gosched()
		slices.Sort(out[ends[i]:ends[i+1]])
	}
	return out
}

// yield lets others go on, every few thousand of cheap steps: an index is
// built beside requests, and a loop without end would hold a processor for the
// ten milliseconds after which the scheduler steps in.
func yield(step int) {
	const turn = 1 << 13
	if step%turn == turn-1 {
		runtime.Gosched()
	}
}

func edge(parent, label uint32) uint64 { return (uint64(parent)<<32 | uint64(label)) + 1 }

func (x *Index) slot(key uint64) int {
	mask := uint64(len(x.keys) - 1) //nolint:gosec // a power of two
	h := key * 0x9e3779b97f4a7c15   // Fibonacci hashing; the upper bits are the good ones
	for i := (h >> 32) & mask; ; i = (i + 1) & mask {
		if x.keys[i] == 0 || x.keys[i] == key {
			return int(i) //nolint:gosec // below len(x.keys)
		}
	}
}

func (b *builder) link(parent, label, to uint32) {
	if 2*(b.edges+1) > len(b.keys) {
		b.resize(2 * len(b.keys))
	}
	i := b.slot(edge(parent, label))
	b.keys[i], b.child[i] = edge(parent, label), to
	b.edges++
}

func (b *builder) resize(n int) {
	keys, child := b.keys, b.child
	b.keys, b.child = make([]uint64, n), make([]uint32, n)
	for i, k := range keys {
		yield(i)
		if k != 0 {
			j := b.slot(k)
			b.keys[j], b.child[j] = k, child[i]
		}
	}
}

// follow returns the child under a label; 0, the root, is nobody's child.
func (x *Index) follow(parent, label uint32) uint32 {
	i := x.slot(edge(parent, label))
	if x.keys[i] == 0 {
		return 0
	}
	return x.child[i]
}

// Find appends to dst the rules that could match. labels holds, by level, the
// labels of the request: every one that fits for an exact level, the segments
// in order for a path level.
func (x *Index) Find(dst []uint32, labels [][]uint32) []uint32 {
	return x.find(dst, 0, 0, 0, labels)
}

func (x *Index) find(dst []uint32, at uint32, level, depth int, labels [][]uint32) []uint32 {
	if n := x.nodes[at]; n.n&inner == 0 {
		return append(dst, x.rules[n.start:n.start+n.n]...)
	}
	if !x.path[level] {
		for _, l := range labels[level] {
			if to := x.follow(at, l); to != 0 {
				dst = x.find(dst, to, level+1, 0, labels)
			}
		}
		return dst
	}
	if to := x.follow(at, Rest); to != 0 {
		dst = x.find(dst, to, level+1, 0, labels)
	}
	segments := labels[level]
	if depth == len(segments) {
		if to := x.follow(at, End); to != 0 {
			dst = x.find(dst, to, level+1, 0, labels)
		}
		return dst
	}
	if to := x.follow(at, segments[depth]); to != 0 {
		dst = x.find(dst, to, level, depth+1, labels)
	}
	if to := x.follow(at, Param); to != 0 {
		dst = x.find(dst, to, level, depth+1, labels)
	}
	return dst
}

// Widest returns the largest set of rules that no level tells apart. The caller
// must not change it.
func (x *Index) Widest() []uint32 {
	widest := node{}
	for _, n := range x.nodes {
		if n.n&inner == 0 && n.n > widest.n {
			widest = n
		}
	}
	return x.rules[widest.start : widest.start+widest.n]
}

// Near appends to dst rules that could match but for one level, those that
// Find returns among them. It looks at no more than limit nodes and rules, and
// at those that differ on a later level first.
func (x *Index) Near(dst []uint32, labels [][]uint32, limit int) []uint32 {
	w := walk{x, labels, limit}
	return w.near(dst, 0, 0, 0)
}

type walk struct {
	*Index
	labels [][]uint32
	budget int
}

// near follows what fits, then everything else.
func (w *walk) near(dst []uint32, at uint32, level, depth int) []uint32 {
	n := w.nodes[at]
	if n.n&inner == 0 {
		return w.below(dst, at)
	}
	var fit []uint32
	into := func(label uint32, level, depth int) {
		if to := w.follow(at, label); to != 0 && w.budget > 0 {
			fit = append(fit, to)
			dst = w.near(dst, to, level, depth)
		}
	}
	labels := w.labels[level]
	switch {
	case !w.path[level]:
		for _, l := range labels {
			into(l, level+1, 0)
		}
	case depth == len(labels):
		into(Rest, level+1, 0)
		into(End, level+1, 0)
	default:
		into(Rest, level+1, 0)
		into(labels[depth], level, depth+1)
		into(Param, level, depth+1)
	}
	for to := n.start; to < n.start+n.n&^inner && w.budget > 0; to++ {
		w.budget--
		switch {
		case slices.Contains(fit, to):
		case w.path[level]:
			dst = w.below(dst, to)
		default:
			before := len(dst)
			dst = w.find(dst, to, level+1, 0, w.labels)
			dst = dst[:min(len(dst), before+max(w.budget, 0))]
			w.budget -= len(dst) - before
		}
	}
	return dst
}

// below appends every rule below a node.
func (w *walk) below(dst []uint32, at uint32) []uint32 {
	n := w.nodes[at]
	if n.n&inner == 0 {
		n.n = min(n.n, uint32(max(w.budget, 0))) //nolint:gosec // a budget is small
		w.budget -= int(n.n)
		return append(dst, w.rules[n.start:n.start+n.n]...)
	}
	for to := n.start; to < n.start+n.n&^inner && w.budget > 0; to++ {
		w.budget--
		dst = w.below(dst, to)
	}
	return dst
}
