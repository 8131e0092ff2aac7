package index_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sallyport-authz/sallyport/policy/index"
)

// rule has one exact field and one path pattern, already as labels.
type rule struct {
	exact uint32
	path  []uint32 // segments or Param; Rest or End last
}

func (r rule) matches(exact, path []uint32) bool {
	if !slices.Contains(exact, r.exact) {
		return false
	}
	for i, l := range r.path {
		switch {
		case l == index.Rest:
			return true
		case l == index.End:
			return i == len(path)
		case i == len(path) || l != index.Param && l != path[i]:
			return false
		}
	}
	return false
}

func TestFind(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pruned := 0
	for _, n := range []int{0, 1, 8, 9, 100, 3000} {
		rules, numbers := make([]rule, n), make([]uint32, n)
		for i := range rules {
			numbers[i] = uint32(i)
			rules[i].exact = index.First + rng.Uint32N(5)
			for range rng.IntN(4) {
				rules[i].path = append(rules[i].path, []uint32{index.Param, index.First, index.First + 1, index.First + 2}[rng.IntN(4)])
			}
			rules[i].path = append(rules[i].path, []uint32{index.Rest, index.End}[rng.IntN(2)])
		}
		x := index.Build([]bool{false, true}, numbers, func(level, depth int, r uint32) uint32 {
			if level == 0 {
				return rules[r].exact
			}
			return rules[r].path[depth]
		})
		for range 300 {
			exact := []uint32{index.First + rng.Uint32N(6)}
			if rng.IntN(2) == 0 {
				exact = append(exact, exact[0]+1)
			}
			var path []uint32
			for range rng.IntN(5) {
				path = append(path, index.First+rng.Uint32N(4))
			}
			found := x.Find(nil, [][]uint32{exact, path})
			if len(found) < n {
				pruned++
			}
			for i, r := range rules {
				if r.matches(exact, path) && !slices.Contains(found, uint32(i)) {
					t.Fatalf("rule %d, %+v, is not found for %v %v", i, r, exact, path)
				}
			}
			near := x.Near(nil, [][]uint32{exact, path}, 10*n+10)
			slices.Sort(near)
			if len(slices.Compact(slices.Clone(near))) != len(near) {
				t.Fatalf("a rule is near twice: %v", near)
			}
			for i, r := range rules {
				// One level may differ, not both.
				if (r.matches(exact, path) || r.matches([]uint32{r.exact}, path) || slices.Contains(exact, r.exact)) && !slices.Contains(near, uint32(i)) {
					t.Fatalf("rule %d, %+v, is not near %v %v", i, r, exact, path)
				}
			}
			for _, i := range found {
				if !slices.Contains(near, i) {
					t.Fatalf("rule %d is found and not near", i)
				}
			}
			if near := x.Near(nil, [][]uint32{exact, path}, 20); len(near) > 40 {
				t.Fatalf("%d rules are near, the limit is 20", len(near))
			}
			slices.Sort(found)
			if len(slices.Compact(slices.Clone(found))) != len(found) {
				t.Fatalf("a rule is found twice: %v", found)
			}
		}
	}
	if pruned < 800 {
		t.Errorf("only %d lookups left out any rule", pruned)
	}
}
