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
	table []uint32 // open addressing; number + 1, 0 is free
	chunk *strings.Builder
}

// chunkSize is how much text shares one allocation.
const chunkSize = 64 << 10

func newSymbols() *symbols {
	return &symbols{seed: maphash.MakeSeed(), table: make([]uint32, 64)}
}

// text returns the text with a number.
func (s *symbols) text(id uint32) string { return s.vals[id].(string) }

// slot returns where t is, or where it would go.
func (s *symbols) slot(t string) int {
	mask := len(s.table) - 1
	for i := int(maphash.String(s.seed, t)) & mask; ; i = (i + 1) & mask { //nolint:gosec // the mask makes it small and positive
		if n := s.table[i]; n == 0 || s.text(n-1) == t {
			return i
		}
	}
}

// lookup returns the number of a text that a rule holds.
func (s *symbols) lookup(t string) (uint32, bool) {
	n := s.table[s.slot(t)]
	return n - 1, n != 0
}

// intern returns the number of t, a new one if need be. It copies t, which is
// a piece of a whole file.
func (s *symbols) intern(t string) uint32 {
	i := s.slot(t)
	if n := s.table[i]; n != 0 {
		return n - 1
	}
	if 2*len(s.vals) >= len(s.table) {
		s.grow()
		i = s.slot(t)
	}
	s.vals = append(s.vals, s.keep(t))
	s.table[i] = uint32(len(s.vals)) //nolint:gosec // bounded by maxRulesFile
	return s.table[i] - 1
}

func (s *symbols) grow() {
	old := s.table
	s.table = make([]uint32, 2*len(old))
	for _, n := range old {
		if n != 0 {
			s.table[s.slot(s.text(n-1))] = n
		}
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
