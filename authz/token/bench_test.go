package token_test

import (
	"crypto"
	"crypto/sha256"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token"
)

// BenchmarkWarm is a token that is remembered: everything that runs on a hit,
// in multiples of one SHA-256 of that token.
func BenchmarkWarm(b *testing.B) {
	c := newCorp(b, allKinds)
	a := newVerifier(b, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
	tok := c.Mint(map[string]any{"roles": []string{"manager"}, "scope": "orders read"})
	raw, r := []byte(tok), bearer(tok) // a conversion in the loop would count as hashing
	hit := func() {
		if _, outcome, err := a.Authenticate(b.Context(), r); err != nil || outcome != authz.CacheHit {
			b.Fatal(outcome, err)
		}
	}
	if _, _, err := a.Authenticate(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	var theirs, ours []time.Duration
	for b.Loop() {
		theirs = append(theirs, timed(func() {
			for range 100 {
				sum := sha256.Sum256(raw)
				sink = sum[0]
			}
		}))
		ours = append(ours, timed(func() {
			for range 100 {
				hit()
			}
		}))
	}
	b.ReportMetric(ratio(ours, theirs), "x-sha256")
	b.ReportMetric(float64(median(ours).Nanoseconds())/100, "ns/hit")
	allocs := testing.AllocsPerRun(100, hit)
	b.ReportMetric(allocs, "allocs/hit")
	if allocs > 5 {
		b.Errorf("%v allocations on a hit, want at most 5", allocs)
	}
}

var sink byte

// BenchmarkCold is a token that was never seen, with the cache on: lookup,
// every check and remembering it, in multiples of go-oidc's own Verify over a
// static key set. Who goes first alternates.
func BenchmarkCold(b *testing.B) {
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			c := newCorp(b, authztest.WithAlgorithms(alg))
			static := &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{c.Key(alg).Private.Public()}}
			o := oidc.NewVerifier(c.URL(), static, &oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{alg}})
			toks := make([]string, 100)
			for n := range toks {
				toks[n] = c.Mint(map[string]any{"roles": []string{"manager"}, "scope": "orders read"})
			}
			var a authz.Authenticator
			var theirs, ours []time.Duration
			for b.Loop() {
				n := len(ours) % len(toks)
				if n == 0 { // nothing is remembered
					a = newVerifier(b, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
				}
				tok := toks[n]
				r := bearer(tok)
				verify := func() {
					if _, err := o.Verify(b.Context(), tok); err != nil {
						b.Fatal(err)
					}
				}
				miss := func() {
					if _, outcome, err := a.Authenticate(b.Context(), r); err != nil || outcome != authz.CacheMiss {
						b.Fatal(outcome, err)
					}
				}
				if n%2 == 0 {
					theirs = append(theirs, timed(verify))
					ours = append(ours, timed(miss))
				} else {
					ours = append(ours, timed(miss))
					theirs = append(theirs, timed(verify))
				}
			}
			b.ReportMetric(ratio(ours, theirs), "x-go-oidc")
		})
	}
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// ratio compares medians: a mean is at the mercy of what else runs.
func ratio(ours, theirs []time.Duration) float64 {
	return float64(median(ours)) / float64(median(theirs))
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
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
		held := float64(heap()-before) / bound
		b.ReportMetric(held, "x-bound")
		if held > 1.1 {
			b.Errorf("%.2f of the configured bytes are held, want at most 1.1", held)
		}
		runtime.KeepAlive(v)
	}
}
