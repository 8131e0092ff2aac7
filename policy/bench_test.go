package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casbin/casbin/v2"

	"github.com/sallyport-authz/sallyport/policy"
)

// A workload is a policy of n rules and the requests to ask it.
type workload struct {
	name, model string
	rules       func(n int) string
	allow, deny func(n int) *policy.Query
}

const domainModel = `[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = sub, dom, obj, act
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.dom) && r.dom == p.dom && keyMatch2(r.obj, p.obj) && r.act == p.act
`

const abacModel = `[request_definition]
r = sub, obj, act
[policy_definition]
p = department, kind, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub.department == p.department && r.obj.kind == p.kind && r.act == p.act && r.sub.level >= r.obj.level
`

var workloads = []workload{
	{
		name: "rbac", model: rbac,
		rules: func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "p, role:r%d, /v1/things%d/:id, %s\n", i/10, i%10, []string{"GET", "POST"}[i%2])
			}
			for i := range max(1, n/10) {
				fmt.Fprintf(&b, "g, user:corp/u%d, role:r%d\n", i, i)
			}
			return b.String()
		},
		allow: func(n int) *policy.Query {
			return &policy.Query{Subject: "user:corp/u0", Args: []any{fmt.Sprintf("user:corp/u%d", max(1, n/10)-1), "/v1/things9/7", "POST"}}
		},
		deny: func(n int) *policy.Query {
			return &policy.Query{Args: []any{fmt.Sprintf("user:corp/u%d", max(1, n/10)-1), "/v1/things9/7", "GET"}}
		},
	},
	{
		name: "one-role", model: rbac,
		rules: func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "p, role:r, /v1/t%d/:id/x%d, GET\n", i/100, i)
			}
			for i := range max(1, n/10) {
				fmt.Fprintf(&b, "g, user:corp/u%d, role:r\n", i)
			}
			return b.String()
		},
		allow: func(n int) *policy.Query {
			return &policy.Query{Args: []any{"user:corp/u0", fmt.Sprintf("/v1/t%d/7/x%d", (n-1)/100, n-1), "GET"}}
		},
		deny: func(n int) *policy.Query {
			return &policy.Query{Args: []any{"user:corp/u0", fmt.Sprintf("/v1/t%d/7/x%d", (n-1)/100, n), "GET"}}
		},
	},
	{
		name: "domains", model: domainModel,
		rules: func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "p, role:r%d, d%d, /v1/things%d/:id, GET\n", i%100, i/100, i%10)
			}
			for i := range max(1, n/10) {
				fmt.Fprintf(&b, "g, user:corp/u%d, role:r%d, d%d\n", i, (i*10)%100, i/10)
			}
			return b.String()
		},
		allow: func(n int) *policy.Query {
			return domainQuery(n, "/v1/things0/7")
		},
		deny: func(n int) *policy.Query {
			return domainQuery(n, "/v1/things3/7")
		},
	},
	{
		name: "abac", model: abacModel,
		rules: func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "p, department%d, kind%d, %s\n", i/10, i%10, []string{"GET", "PUT"}[i%2])
			}
			return b.String()
		},
		allow: func(n int) *policy.Query { return abacQuery(n, "PUT") },
		deny:  func(n int) *policy.Query { return abacQuery(n, "GET") },
	},
}

// domainQuery asks for the last user, of the last domain.
func domainQuery(n int, path string) *policy.Query {
	user := max(1, n/10) - 1
	return &policy.Query{Args: []any{fmt.Sprintf("user:corp/u%d", user), fmt.Sprintf("d%d", user/10), path, "GET"}}
}

func abacQuery(n int, act string) *policy.Query {
	return &policy.Query{Args: []any{
		map[string]any{"department": fmt.Sprintf("department%d", (n-1)/10), "level": 3.0},
		map[string]any{"kind": "kind9", "level": 2.0}, act,
	}}
}

var sizes = []int{10, 1_000, 100_000, 1_000_000}

// BenchmarkDecide is flat in the number of rules.
func BenchmarkDecide(b *testing.B) {
	for _, w := range workloads {
		for _, n := range sizes {
			var s *policy.Snapshot // loaded once, and only if it is wanted
			for _, c := range []struct {
				name string
				q    *policy.Query
			}{{"allow", w.allow(n)}, {"deny", w.deny(n)}} {
				b.Run(fmt.Sprintf("%s/%d/%s", w.name, n, c.name), func(b *testing.B) {
					if s == nil {
						s = load(b, w.model, w.rules(n))
					}
					if _, err := s.Decide(c.q); (err == nil) != (c.name == "allow") {
						b.Fatal(err)
					}
					b.ReportAllocs()
					for b.Loop() {
						_, _ = s.Decide(c.q)
					}
				})
			}
		}
	}
}

// BenchmarkStock is the stock enforcer on the same workloads.
func BenchmarkStock(b *testing.B) {
	for _, w := range workloads {
		for _, n := range []int{10, 1_000, 10_000} {
			for _, c := range []struct {
				name string
				q    *policy.Query
			}{{"allow", w.allow(n)}, {"deny", w.deny(n)}} {
				b.Run(fmt.Sprintf("%s/%d/%s", w.name, n, c.name), func(b *testing.B) {
					e := stock(b, w.model, w.rules(n))
					b.ReportAllocs()
					for b.Loop() {
						_, _ = e.Enforce(c.q.Args...)
					}
				})
			}
		}
	}
}

// BenchmarkBounds holds the time of a decision to what is promised: at a
// million rules at most one and a half times that at ten, and at a thousand
// at most a fiftieth of stock Casbin's; with ten allocations for an allow and
// three for a deny at most. All are measured in turns, and of
// each the quickest turn counts, so that what else the machine does falls on
// all of them alike or on none.
func BenchmarkBounds(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) {
			snaps := make([]*policy.Snapshot, len(sizes))
			for i, n := range sizes {
				snaps[i] = load(b, w.model, w.rules(n))
			}
			e := stock(b, w.model, w.rules(1_000))
			for b.Loop() {
				for _, c := range []struct {
					name string
					q    func(n int) *policy.Query
				}{{"allow", w.allow}, {"deny", w.deny}} {
					bounds(b, c.name, snaps, c.q, e)
				}
			}
		})
	}
}

func bounds(b *testing.B, name string, snaps []*policy.Snapshot, query func(n int) *policy.Query, e *casbin.Enforcer) {
	const turns, calls = 1000, 20
	queries := make([]*policy.Query, len(sizes))
	for i, n := range sizes {
		queries[i] = query(n)
		if _, err := snaps[i].Decide(queries[i]); (err == nil) != (name == "allow") {
			b.Fatal(err)
		}
	}
	allocs := testing.AllocsPerRun(100, func() { _, _ = snaps[3].Decide(queries[3]) })
	best := make([]time.Duration, len(sizes))
	for turn := range turns {
		for i, s := range snaps {
			start := time.Now()
			for range calls {
				_, _ = s.Decide(queries[i])
			}
			if d := time.Since(start) / calls; turn == 0 || d < best[i] {
				best[i] = d
			}
		}
	}
	var stockBest time.Duration
	for turn := range turns / 20 {
		start := time.Now()
		_, _ = e.Enforce(queries[1].Args...)
		if d := time.Since(start); turn == 0 || d < stockBest {
			stockBest = d
		}
	}
	growth, gain := float64(best[3])/float64(best[0]), float64(stockBest)/float64(best[1])
	b.Logf("%s: %v with %v rules, stock %v with 1000", name, best, sizes, stockBest)
	b.ReportMetric(allocs, name+"-allocs")
	b.ReportMetric(growth, name+"-1M/10")
	b.ReportMetric(gain, name+"-stock/ours")
	if err := errors.Join(within(name+" at a million rules by that at ten", growth, 1.5), within(name+" by a fiftieth of stock's", 50/gain, 1), within(name+" allocations", allocs, map[string]float64{"allow": 10, "deny": 3}[name])); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkParallel holds two goroutines on one snapshot to at least nine
// tenths of what two on separate ones do. They are measured in turns, and of
// each the best turn counts.
func BenchmarkParallel(b *testing.B) {
	const n, turns = 1000, 200
	w := workloads[0]
	a, z := load(b, w.model, w.rules(n)), load(b, w.model, w.rules(n))
	rate := func(snaps ...*policy.Snapshot) float64 {
		var made atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for _, s := range snaps {
			wg.Go(func() {
				q, i := w.allow(n), 0
				for ; time.Since(start) < 5*time.Millisecond; i += 20 {
					for range 20 {
						_, _ = s.Decide(q)
					}
				}
				made.Add(int64(i))
			})
		}
		wg.Wait()
		return float64(made.Load()) / time.Since(start).Seconds()
	}
	for b.Loop() {
		shared, separate := 0.0, 0.0
		for range turns {
			shared, separate = max(shared, rate(a, a)), max(separate, rate(a, z))
		}
		b.ReportMetric(shared, "shared/s")
		b.ReportMetric(separate, "separate/s")
		b.ReportMetric(shared/separate, "shared/separate")
		if err := within("separate snapshots by one that is shared", separate/shared, 1/0.9); err != nil {
			b.Fatal(err)
		}
	}
}
