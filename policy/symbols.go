package policy

import (
	"hash/maphash"
	"strings"
)

// symbols numbers the distinct texts of a rule set. Rules are kept as numbers,
// and each text once, boxed as the value that an expression reads, so that
// evaluating a rule allocates nothing for its fields. Read-only after the load.
type symbols struct {
	seed  maphash.Seed
	vals  []any    // each holds a string
	table []symbol // open addressing
	chunk *strings.Builder
}

// A symbol is a place in the table. The hash tells most texts apart without a
// look at them, which would be a miss of the processor's cache or two.
type symbol struct {
	hash uint32
	n    uint32 // number + 1, 0 is free
}

// chunkSize is how much text shares one allocation.
const chunkSize = 64 << 10

// newSymbols returns symbols with room for those of a rules file of that size.
func newSymbols(size int) *symbols {
	room := 64
	for room < size/32 { // a new text in every line, and few free places
		room *= 2
	}
	return &symbols{seed: maphash.MakeSeed(), table: make([]symbol, room)}
}

// text returns the text with a number.
func (s *symbols) text(id uint32) string { return s.vals[id].(string) }

func (s *symbols) hash(t string) uint32 {
	return uint32(maphash.String(s.seed, t)) //nolint:gosec // the lower half is a hash too
}

// slot returns where t is, or where it would go.
func (s *symbols) slot(t string, hash uint32) *symbol {
	mask := uint32(len(s.table) - 1) //nolint:gosec // a power of two below 2^32
	for i := hash & mask; ; i = (i + 1) & mask {
		if e := &s.table[i]; e.n == 0 || e.hash == hash && s.text(e.n-1) == t {
			return e
		}
	}
}

// lookup returns the number of a text that a rule holds.
func (s *symbols) lookup(t string) (uint32, bool) {
	n := s.slot(t, s.hash(t)).n
	return n - 1, n != 0
}

// intern returns the number of t, a new one if need be. It copies t, which is
// a piece of a whole file.
func (s *symbols) intern(t string) uint32 {
	hash := s.hash(t)
	e := s.slot(t, hash)
	if e.n != 0 {
		return e.n - 1
	}
	if 4*len(s.vals) >= 3*len(s.table) {
		s.grow()
		e = s.slot(t, hash)
	}
	s.vals = append(s.vals, s.keep(t))
	*e = symbol{hash, uint32(len(s.vals))} //nolint:gosec // bounded by maxRulesFile
	return e.n - 1
}

func (s *symbols) grow() {
	old := s.table
	s.table = make([]symbol, 2*len(old))
	mask := uint32(len(s.table) - 1) //nolint:gosec // a power of two below 2^32
	for step, e := range old {
		yield(step)
		if e.n == 0 {
			continue
		}
		i := e.hash & mask
		for s.table[i].n != 0 {
			i = (i + 1) & mask
		}
		s.table[i] = e
	}
}

// keep copies t into the current chunk.
func (s *symbols) keep(t string) string {
	if len(t) > chunkSize/8 {
		return strings.Clone(t)
	}
	if s.chunk == nil || s.chunk.Len()+len(t) > chunkSize {
		s.chunk = new(strings.Builder)
		s.chunk.Grow(chunkSize)
	}
	start := s.chunk.Len()
	s.chunk.WriteString(t)
	return s.chunk.String()[start:]
}

// seal drops what only loading needs.
func (s *symbols) seal() {
	s.chunk = nil
	s.vals = append(make([]any, 0, len(s.vals)), s.vals...)
}
