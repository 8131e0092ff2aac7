package keys

import (
	"encoding/base64"
	"slices"
)

// Thumbprints returns the RFC 7638 thumbprints of the keys that there are,
// sorted; none before keys came.
func (s *Set) Thumbprints() []string {
	st := s.current.Load()
	if st == nil {
		return nil
	}
	all := make([]string, len(st.keys))
	for i, k := range st.keys {
		all[i] = base64.RawURLEncoding.EncodeToString(k.print[:])
	}
	slices.Sort(all)
	return slices.Compact(all)
}
