package token_test

import (
	"crypto"
	"crypto/sha256"
	"runtime"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token"
)

// BenchmarkWarm is a token that is remembered: everything that runs on a hit,
// in multiples of one SHA-256 of that token.
func BenchmarkWarm(b *testing.B) {
	c := newCorp(b)
	a := newVerifier(b, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
	tok := c.Mint(map[string]any{"roles": []string{"manager"}, "scope": "orders read"})
	r := bearer(tok)
	if _, _, err := a.Authenticate(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	var hashing, all time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for range 100 {
			sum := sha256.Sum256([]byte(tok))
			sink = sum[0]
		}
		middle := time.Now()
		for range 100 {
			if _, _, err := a.Authenticate(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		}
		hashing += middle.Sub(start)
		all += time.Since(middle)
	}
	b.ReportMetric(float64(all)/float64(hashing), "x-sha256")
	b.ReportMetric(float64(all.Nanoseconds())/float64(b.N*100), "ns/hit")
	b.ReportMetric(testing.AllocsPerRun(100, func() { _, _, _ = a.Authenticate(b.Context(), r) }), "allocs/hit")
}

var sink byte

// BenchmarkCold is a token that was never seen, in multiples of go-oidc's own
// Verify over a static key set.
func BenchmarkCold(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			c := newCorp(b)
			a := newVerifier(b, []token.Issuer{c.config()}).Route(token.RouteOptions{})
			static := &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{c.Key(alg).Private.Public()}}
			o := oidc.NewVerifier(c.URL(), static, &oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{alg}})
			tok := c.Mint(map[string]any{"roles": []string{"manager"}, "scope": "orders read"}, authztest.SignedWith(alg))
			r := bearer(tok)
			var theirs, ours time.Duration
			for b.Loop() {
				start := time.Now()
				if _, err := o.Verify(b.Context(), tok); err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if _, _, err := a.Authenticate(b.Context(), r); err != nil {
					b.Fatal(err)
				}
				theirs += middle.Sub(start)
				ours += time.Since(middle)
			}
			b.ReportMetric(float64(ours)/float64(theirs), "x-go-oidc")
		})
	}
}

// BenchmarkFlood is a hundred thousand distinct valid tokens, more than there
// is room for: what is held afterwards, as a share of the configured bytes.
func BenchmarkFlood(b *testing.B) {
	const bound, tokens = 64 << 20, 100_000
	c := newCorp(b, authztest.WithAlgorithms("EdDSA"))
	for b.Loop() {
		before := heap()
		v := newVerifier(b, []token.Issuer{c.config()}, token.WithCache(tokens, bound, time.Hour))
		r := v.Route(token.RouteOptions{})
		for range tokens {
			if _, _, err := r.Authenticate(b.Context(), bearer(c.Mint(map[string]any{"roles": []string{"manager"}}))); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/bound, "x-bound")
		runtime.KeepAlive(v)
	}
}
