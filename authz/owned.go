package authz

import "slices"

// own makes sure that each owned header is either set by this answer or
// removed from the request, whatever the client sent. Envoy removes after it
// sets, so no name may be in both; and it appends to the client's own value,
// so an append to an owned header becomes a set.
func (a *Answer) own(owned []string) {
	a.Append, a.Remove = slices.Clone(a.Append), slices.Clone(a.Remove) // may be the route's own
	for _, name := range owned {
		if a.sets(name) {
			a.Remove = slices.DeleteFunc(a.Remove, func(n string) bool { return n == name })
			continue
		}
		if i := slices.IndexFunc(a.Append, func(h Header) bool { return h.Name == name }); i >= 0 {
			a.Set = append(a.Set, a.Append[i])
			a.Append = slices.Delete(a.Append, i, i+1)
			continue
		}
		if !slices.Contains(a.Remove, name) {
			a.Remove = append(a.Remove, name)
		}
	}
	byName := func(x, y Header) int {
		switch {
		case x.Name < y.Name:
			return -1
		case x.Name > y.Name:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(a.Set, byName)
	slices.SortStableFunc(a.Append, byName)
	slices.Sort(a.Remove)
}

func (a *Answer) sets(name string) bool {
	return slices.ContainsFunc(a.Set, func(h Header) bool { return h.Name == name })
}
