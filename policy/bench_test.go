package policy_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

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
			return &policy.Query{Args: []any{"user:corp/u0", "d0", "/v1/things0/7", "GET"}}
		},
		deny: func(n int) *policy.Query {
			return &policy.Query{Args: []any{"user:corp/u0", "d0", "/v1/things3/7", "GET"}}
		},
	},
	{
		name: "abac", model: abacModel,
		rules: func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "p, department%d, kind%d, GET\n", i/10, i%10)
			}
			return b.String()
		},
		allow: func(n int) *policy.Query { return abacQuery(n, 3) },
		deny:  func(n int) *policy.Query { return abacQuery(n, 1) },
	},
}

func abacQuery(n int, level float64) *policy.Query {
	return &policy.Query{Args: []any{
		map[string]any{"department": fmt.Sprintf("department%d", (n-1)/10), "level": level},
		map[string]any{"kind": "kind9", "level": 2.0}, "GET",
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

// BenchmarkParallel compares two goroutines on one snapshot with two on
// separate ones.
func BenchmarkParallel(b *testing.B) {
	w := workloads[0]
	for _, c := range []struct {
		name string
		n    int
	}{{"shared", 1}, {"separate", 2}} {
		b.Run(c.name, func(b *testing.B) {
			snaps := make([]*policy.Snapshot, c.n)
			for i := range snaps {
				snaps[i] = load(b, w.model, w.rules(1000))
			}
			var next atomic.Int64
			b.SetParallelism(1)
			b.RunParallel(func(pb *testing.PB) {
				s, q := snaps[int(next.Add(1))%len(snaps)], w.allow(1000)
				for pb.Next() {
					_, _ = s.Decide(q)
				}
			})
		})
	}
}
