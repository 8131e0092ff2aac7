package envoy_test

import (
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A reporter lists what differs, one line each.
type reporter struct {
	path  cmp.Path
	found *[]string
}

func (r *reporter) PushStep(s cmp.PathStep) { r.path = append(r.path, s) }
func (r *reporter) PopStep()                { r.path = r.path[:len(r.path)-1] }

func (r *reporter) Report(rs cmp.Result) {
	if rs.Equal() {
		return
	}
	var steps []string
	for _, s := range r.path {
		switch s := s.(type) {
		case cmp.MapIndex:
			steps = append(steps, fmt.Sprint(s.Key()))
		case cmp.SliceIndex:
			i, j := s.SplitKeys()
			steps = append(steps, fmt.Sprint(max(i, j)))
		}
	}
	x, y := r.path.Last().Values()
	line := strings.Join(steps, ".")
	switch {
	case !x.IsValid():
		line += ": added"
	case !y.IsValid():
		line += ": removed"
	default:
		line += fmt.Sprintf(": %v to %v", x, y)
	}
	*r.found = append(*r.found, line)
}

func sorted(less func(a, b string) bool) cmp.Option { return cmpopts.SortSlices(less) }
