//go:build !race

// The race detector makes sync.Pool drop what it is given, so allocations are
// counted without it.

package policy_test

import "testing"

// TestAllocations holds the two figures that the benchmarks show.
func TestAllocations(t *testing.T) {
	for _, w := range workloads {
		s := load(t, w.model, w.rules(1000))
		allow, deny := w.allow(1000), w.deny(1000)
		if n := testing.AllocsPerRun(200, func() { _, _ = s.Decide(allow) }); n > 10 {
			t.Errorf("%s: an allow allocates %v times", w.name, n)
		}
		if n := testing.AllocsPerRun(200, func() { _, _ = s.Decide(deny) }); n > 3 {
			t.Errorf("%s: a deny allocates %v times", w.name, n)
		}
	}
}
