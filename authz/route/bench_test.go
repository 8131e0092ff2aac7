package route

import (
	"fmt"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
)

// manySpecs returns n routes: a resource each, on one of a hundred hosts.
func manySpecs(n int) []Spec {
	specs := make([]Spec, n)
	for i := range specs {
		specs[i] = spec(fmt.Sprintf("r%d", i), fmt.Sprintf("h%d.test", i%100), fmt.Sprintf("GET /v1/r%d/{id}", i), fmt.Sprintf("/v1/r%d", i))
	}
	return specs
}

var realHeaders = []authz.Header{
	{Name: "accept"}, {Name: "accept-encoding"}, {Name: "accept-language"}, {Name: "authorization"}, {Name: "cache-control"}, {Name: "connection", Value: "keep-alive"},
	{Name: "content-type"}, {Name: "cookie"}, {Name: "origin"}, {Name: "referer"}, {Name: "sec-ch-ua"}, {Name: "sec-ch-ua-mobile"}, {Name: "sec-ch-ua-platform"},
	{Name: "sec-fetch-dest"}, {Name: "sec-fetch-mode"}, {Name: "sec-fetch-site"}, {Name: "user-agent"}, {Name: "x-forwarded-for"}, {Name: "x-forwarded-proto"}, {Name: "x-request-id"},
}

func BenchmarkRoute(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		table := newTable(b, Guard{Owned: []string{"x-user", "x-roles"}, Credentials: []string{"authorization"}}, manySpecs(n)...)
		for _, tt := range []struct{ name, target, want string }{
			{"plain", "/v1/r0", "r0"},
			{"params", "/v1/r0/7?x=y", "r0"},
			{"escaped", "/v1/r0/%7e%20x", "r0"},
			{"none", "/v1/nothing/7", noMatch},
		} {
			b.Run(fmt.Sprintf("%s/%d", tt.name, n), func(b *testing.B) {
				r := get("GET h0.test:443 " + tt.target)
				r.Headers = realHeaders
				if got := outcome(table, r); got != tt.want {
					b.Fatal(got)
				}
				b.ReportAllocs()
				for b.Loop() {
					_, _ = table.Route(r)
				}
			})
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		specs := manySpecs(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, problems := New(specs, Guard{}); problems != nil {
					b.Fatal(problems)
				}
			}
		})
	}
	// The worst that a configuration without conflicts does: all on one host,
	// each under a wildcard.
	specs := make([]Spec, 10_000)
	for i := range specs {
		specs[i] = spec(fmt.Sprintf("r%d", i), "", fmt.Sprintf("GET /{tenant}/r%d/{id}", i))
	}
	b.Run("wildcards", func(b *testing.B) {
		for b.Loop() {
			if _, problems := New(specs, Guard{}); problems != nil {
				b.Fatal(problems)
			}
		}
	})
}
