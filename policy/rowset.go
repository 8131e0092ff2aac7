package policy

// A rowSet finds rules of a table that are alike in some columns. It hashes
// the numbers of their symbols; nobody can choose those to collide, and where
// they do a lookup takes longer.
type rowSet struct {
	table   *table
	columns []int
	slots   []uint32 // open addressing; row + 1
	n       int
}

func newRowSet(t *table, columns []int) *rowSet {
	return &rowSet{table: t, columns: columns, slots: make([]uint32, 64)}
}

// add adds row i, unless one like it is there: then it returns that one.
func (rs *rowSet) add(i int) (first int, found bool) {
	if 2*(rs.n+1) > len(rs.slots) {
		old := rs.slots
		rs.slots = make([]uint32, 2*len(old))
		for i, r := range old {
			yield(i)
			if r != 0 {
				rs.slots[rs.slot(int(r-1))] = r
			}
		}
	}
	s := rs.slot(i)
	if r := rs.slots[s]; r != 0 {
		return int(r - 1), true
	}
	rs.slots[s] = uint32(i + 1) //nolint:gosec // bounded by maxRulesFile
	rs.n++
	return 0, false
}

// slot returns where a row like row i is, or where it would go.
func (rs *rowSet) slot(i int) int {
	h := uint64(14695981039346656037) // FNV-1a, a symbol at a time
	for _, c := range rs.columns {
		h = (h ^ uint64(rs.table.cell(i, c))) * 1099511628211
		h ^= h >> 29 // the low bits of a product know nothing of the high ones
	}
	mask := len(rs.slots) - 1
	for s := int(h) & mask; ; s = (s + 1) & mask { //nolint:gosec // the mask makes it small and positive
		if r := rs.slots[s]; r == 0 || rs.same(i, int(r-1)) {
			return s
		}
	}
}

func (rs *rowSet) same(i, j int) bool {
	for _, c := range rs.columns {
		if rs.table.cell(i, c) != rs.table.cell(j, c) {
			return false
		}
	}
	return true
}
