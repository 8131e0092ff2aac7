package token_test

import (
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
	"github.com/sallyport-authz/sallyport/authz/token/revocation"
)

var cached = token.WithCache(1000, 8<<20, 5*time.Minute)

// ask authenticates and checks what the cache said and how it ended; an empty
// detail is an acceptance, any other belongs to invalid_token.
func ask(t *testing.T, a authz.Authenticator, tok string, outcome authz.CacheOutcome, detail authz.Detail) *authz.Subject {
	t.Helper()
	sub, got, err := a.Authenticate(t.Context(), bearer(tok))
	if got != outcome {
		t.Errorf("cache %q, want %q", got, outcome)
	}
	if detail == "" {
		if err != nil {
			t.Errorf("got %v, want an acceptance", err)
		}
		return sub
	}
	refused(t, err, authz.InvalidToken, detail)
	return sub
}

// Remembering tokens changes nothing but the cost.
func TestCACHE(t *testing.T) {
	t.Run("CACHE-01", func(t *testing.T) { // one token never yields another's claims
		c := newCorp(t)
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		toks := map[string]string{} // by sub
		var last string
		for n := range 500 {
			name := fmt.Sprint("user", n)
			tok := c.Mint(map[string]any{"sub": name, "jti": "same"}, authztest.SignedWith("ES256"))
			for _, outcome := range []authz.CacheOutcome{authz.CacheMiss, authz.CacheHit} {
				if sub := ask(t, a, tok, outcome, ""); sub.Sub != name {
					t.Fatalf("%s got the claims of %s", name, sub.Sub)
				}
			}
			if last != "" { // the one's claims under the other's signature
				h, p, _ := segments(tok)
				_, _, s := segments(last)
				ask(t, a, h+"."+p+"."+s, authz.CacheMiss, authz.BadSignature)
			}
			last, toks[name] = tok, tok
		}
		for name, tok := range toks { // in any order, with all of them remembered
			if sub := ask(t, a, tok, authz.CacheHit, ""); sub.Sub != name {
				t.Fatalf("%s got the claims of %s", name, sub.Sub)
			}
		}
	})
	t.Run("CACHE-02", func(t *testing.T) { // a route that takes another audience
		c := newCorp(t)
		v := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Audiences = append(i.Audiences, "other") })}, cached)
		tok := c.Mint(nil)
		ask(t, v.Route(token.RouteOptions{}), tok, authz.CacheMiss, "")
		ask(t, v.Route(token.RouteOptions{Audiences: []string{"other"}}), tok, authz.CacheHit, authz.WrongAudience)
		ask(t, v.Route(token.RouteOptions{Issuers: []string{"another"}}), tok, authz.CacheHit, authz.UnknownIssuer)
	})
	t.Run("CACHE-03", func(t *testing.T) { // a key that is withdrawn while its token is remembered
		iss := authztest.NewIssuer(authztest.WithAlgorithms("ES256"))
		if err := iss.Listen(""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = iss.Close() })
		c := &corp{iss, runKeys(t, keys.Config{Issuer: iss.URL(), Refresh: 50 * time.Millisecond})}
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		tok := c.Mint(nil)
		ask(t, a, tok, authz.CacheMiss, "")
		c.Withdraw(c.Key("ES256"))
		// The first fetch from now on lacks the key, and refreshes follow one
		// another: when the second begins, the first has taken effect.
		after := iss.Fetches()
		for end := time.Now().Add(10 * time.Second); iss.Fetches() < after+2; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no refresh came")
			}
		}
		ask(t, a, tok, authz.CacheMiss, authz.UnknownKey) // as if it had never been remembered
	})
	t.Run("CACHE-11 keys", func(t *testing.T) { // on and off give the same when keys change under a remembered token
		for what, change := range map[string]func(*authztest.Issuer){
			"a second key for a token without kid": func(i *authztest.Issuer) { i.Rotate("ES256") },
			"another id for the key":               func(i *authztest.Issuer) { i.Alter(i.Key("ES256"), map[string]any{"kid": "renamed"}) },
			"new material under the old id":        func(i *authztest.Issuer) { i.Replace(i.Key("ES256")) },
			"no keys":                              func(i *authztest.Issuer) { i.Withdraw(i.Key("ES256")) },
		} {
			iss := authztest.NewIssuer(authztest.WithAlgorithms("ES256"))
			if err := iss.Listen(""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = iss.Close() })
			c := &corp{iss, runKeys(t, keys.Config{Issuer: iss.URL(), Refresh: 30 * time.Millisecond})}
			on := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
			off := newVerifier(t, []token.Issuer{c.config()}).Route(token.RouteOptions{})
			toks := []string{c.Mint(nil), c.Mint(nil, authztest.Header("kid", authztest.Absent))}
			for _, tok := range toks {
				ask(t, on, tok, authz.CacheMiss, "")
				ask(t, on, tok, authz.CacheHit, "")
			}
			change(iss)
			after := iss.Fetches()
			for end := time.Now().Add(10 * time.Second); iss.Fetches() < after+2; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("no refresh came")
				}
			}
			for n, tok := range toks {
				_, _, errOn := on.Authenticate(t.Context(), bearer(tok))
				_, _, errOff := off.Authenticate(t.Context(), bearer(tok))
				if authz.ReasonOf(errOn) != authz.ReasonOf(errOff) || authz.DetailOf(errOn) != authz.DetailOf(errOff) {
					t.Errorf("%s, token %d: on %v, off %v", what, n, errOn, errOff)
				}
			}
		}
	})
	t.Run("CACHE-04", func(t *testing.T) { // revoked while remembered: the next request
		c := newCorp(t)
		var live revocation.Live
		a := newVerifier(t, []token.Issuer{c.config()}, cached, token.WithRevocations(&live)).Route(token.RouteOptions{})
		tok := c.Mint(map[string]any{"jti": "one"})
		ask(t, a, tok, authz.CacheMiss, "")
		list, problems := revocation.Parse([]byte("- {jti: one, issuer: corp}\n"), []string{"corp"})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		live.Store(list)
		ask(t, a, tok, authz.CacheHit, authz.Revoked)
		live.Store(&revocation.List{})
		ask(t, a, tok, authz.CacheHit, "")
	})
	t.Run("CACHE-05", func(t *testing.T) { // exp passes while remembered
		var ahead atomic.Int64
		start := time.Now()
		clock := func() time.Time { return start.Add(time.Duration(ahead.Load())) }
		c := newCorp(t, authztest.WithClock(clock))
		a := newVerifier(t, []token.Issuer{c.config()}, token.WithCache(10, 1<<20, time.Hour), token.WithClock(clock)).Route(token.RouteOptions{})
		tok := c.Mint(map[string]any{"exp": start.Unix() + 60})
		ask(t, a, tok, authz.CacheMiss, "")
		ahead.Store(int64(58 * time.Second))
		ask(t, a, tok, authz.CacheHit, "")
		ahead.Store(int64(60 * time.Second))
		ask(t, a, tok, authz.CacheMiss, authz.Expired)
		ahead.Store(-int64(time.Hour)) // a clock that was set back: the token is from the future
		ask(t, a, tok, authz.CacheHit, authz.IssuedInFuture)
	})
	t.Run("CACHE-06", func(t *testing.T) { // other spellings are no hits
		c := newCorp(t)
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		for pad := range 3 { // so that each segment has unused bits, whatever its length
			tok := c.Mint(map[string]any{"pad": strings.Repeat("x", pad)})
			ask(t, a, tok, authz.CacheMiss, "")
			for _, twin := range respelled(tok) {
				ask(t, a, twin, authz.CacheMiss, authz.MalformedToken)
			}
			ask(t, a, tok, authz.CacheHit, "")
		}
		// ECDSA has two signatures for one (s and n-s), and JWS takes both: the
		// other one is no hit, but it is as valid. Nothing is revoked or counted
		// by a token's spelling, so it gains nobody anything.
		tok := c.Mint(nil, authztest.SignedWith("ES256"))
		ask(t, a, tok, authz.CacheMiss, "")
		ask(t, a, otherS(t, tok), authz.CacheMiss, "")
	})
	t.Run("CACHE-07", func(t *testing.T) { // DPoP is not built: a bound token is refused each time, and never remembered
		c := newCorp(t)
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		tok := c.Mint(map[string]any{"cnf": map[string]any{"jkt": "x"}})
		for range 2 {
			ask(t, a, tok, authz.CacheMiss, authz.UnsupportedBinding)
		}
	})
	t.Run("CACHE-08", func(t *testing.T) { // a flood of distinct valid tokens keeps memory flat
		const bytes = 512 << 10
		c := newCorp(t, authztest.WithAlgorithms("EdDSA"))
		a := newVerifier(t, []token.Issuer{c.config()}, token.WithCache(1<<20, bytes, time.Hour)).Route(token.RouteOptions{})
		ask(t, a, c.Mint(nil), authz.CacheMiss, "")
		before := heap()
		for range 2_000 { // several times what fits
			if _, _, err := a.Authenticate(t.Context(), bearer(c.Mint(nil))); err != nil {
				t.Fatal(err)
			}
		}
		if grown := heap() - before; grown > bytes*11/10 {
			t.Errorf("%d bytes are held, want at most %d and a tenth", grown, bytes)
		}
		ask(t, a, c.Mint(nil), authz.CacheMiss, "") // keeps the cache alive until here
	})
	t.Run("CACHE-09", func(t *testing.T) { // another configuration remembers nothing of this one
		c := newCorp(t)
		tok := c.Mint(map[string]any{"tier": "gold", "r": []string{"x"}})
		ask(t, newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{}), tok, authz.CacheMiss, "")
		other := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Claims.Roles = []string{"r"} })}, cached).Route(token.RouteOptions{})
		if sub := ask(t, other, tok, authz.CacheMiss, ""); len(sub.Roles) != 1 {
			t.Errorf("roles %q", sub.Roles)
		}
	})
	t.Run("CACHE-10", func(t *testing.T) { // ten thousand requests at once
		c := newCorp(t)
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		toks := make([]string, 20)
		for n := range toks {
			toks[n] = c.Mint(map[string]any{"sub": fmt.Sprint(n)}, authztest.SignedWith("EdDSA"))
		}
		var all sync.WaitGroup
		for n := range 10_000 {
			all.Go(func() {
				sub, _, err := a.Authenticate(t.Context(), bearer(toks[n%len(toks)]))
				if err != nil || sub.Sub != fmt.Sprint(n%len(toks)) {
					t.Errorf("%v %v", sub, err)
				}
			})
		}
		all.Wait()
	})
	t.Run("CACHE-11", func(t *testing.T) { // on and off give the same, twice
		c := newCorp(t)
		on := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		off := newVerifier(t, []token.Issuer{c.config()}, token.WithCache(0, 0, 0)).Route(token.RouteOptions{})
		good := c.Mint(nil)
		corpus := []string{good, good + "=", good[:len(good)-4] + "AAAA", c.Mint(map[string]any{"aud": "x"}), c.Mint(map[string]any{"exp": 1}),
			c.Mint(nil, authztest.Header("alg", "none")), c.Mint(nil, authztest.Header("typ", "JWT")), c.Mint(nil, authztest.Header("kid", "nobody")),
			c.Mint(map[string]any{"iss": "https://evil.example"}), c.Mint(map[string]any{"cnf": map[string]any{"jkt": "x"}}),
			c.Mint(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}), c.Mint(map[string]any{"sub": authztest.Absent}), c.Mint(map[string]any{"roles": []string{"a"}}, authztest.SignedWith("ES256")), "x", "a.b.c", ""}
		for range 2 {
			for _, tok := range corpus {
				subOn, _, errOn := on.Authenticate(t.Context(), bearer(tok))
				subOff, outcome, errOff := off.Authenticate(t.Context(), bearer(tok))
				if authz.ReasonOf(errOn) != authz.ReasonOf(errOff) || authz.DetailOf(errOn) != authz.DetailOf(errOff) {
					t.Errorf("on %v, off %v", errOn, errOff)
				}
				if errOn == nil && (subOn.ID != subOff.ID || fmt.Sprint(subOn.Claims) != fmt.Sprint(subOff.Claims) || outcome != authz.CacheOff) {
					t.Errorf("on %v, off %v (%s)", subOn, subOff, outcome)
				}
			}
		}
	})
	t.Run("CACHE-12", func(t *testing.T) { // the same kid at two issuers
		a, b := newCorp(t), newCorp(t)
		v := newVerifier(t, []token.Issuer{a.config(), b.config(func(i *token.Issuer) { i.Name = "b" })}, cached).Route(token.RouteOptions{})
		if a.Key("ES256").ID != b.Key("ES256").ID {
			t.Fatal("the test needs the same kid at both")
		}
		ask(t, v, a.Mint(nil), authz.CacheMiss, "")
		ask(t, v, b.Mint(nil), authz.CacheMiss, "")
		ask(t, v, b.Mint(map[string]any{"iss": a.URL()}), authz.CacheMiss, authz.BadSignature)
	})
}

// What is remembered, and for how long.
func TestCacheBounds(t *testing.T) {
	t.Run("failures", func(t *testing.T) {
		c := newCorp(t)
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		bad := c.Mint(map[string]any{"aud": "x"})
		forged := c.Mint(nil, authztest.Signature(func([]byte) []byte { return make([]byte, 64) }))
		for range 2 {
			ask(t, a, bad, authz.CacheMiss, authz.WrongAudience)
			ask(t, a, forged, authz.CacheMiss, authz.BadSignature)
		}
	})
	t.Run("4 KiB", func(t *testing.T) { // the longest token that is remembered, and the next longer one
		c := newCorp(t, authztest.WithAlgorithms("EdDSA")) // whose signatures have one length
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		mint := func(pad int) string { return c.Mint(map[string]any{"pad": strings.Repeat("x", pad)}) }
		pad := 0
		for len(mint(pad+1)) <= 4<<10 {
			pad++
		}
		for _, l := range []struct {
			tok   string
			again authz.CacheOutcome
		}{{mint(pad), authz.CacheHit}, {mint(pad + 1), authz.CacheMiss}} {
			ask(t, a, l.tok, authz.CacheMiss, "")
			ask(t, a, l.tok, l.again, "")
		}
	})
	t.Run("defaults", func(t *testing.T) { // of a cache that names no size and no time
		c := newCorp(t)
		a := newVerifier(t, []token.Issuer{c.config()}, token.WithCache(10, 0, 0)).Route(token.RouteOptions{})
		tok := c.Mint(nil)
		ask(t, a, tok, authz.CacheMiss, "")
		ask(t, a, tok, authz.CacheHit, "")
	})
	t.Run("ttl", func(t *testing.T) { // at least nine tenths of it, never all of it, and not together
		const ttl, tokens = 10 * time.Minute, 100
		var ahead atomic.Int64
		start := time.Now()
		clock := func() time.Time { return start.Add(time.Duration(ahead.Load())) }
		c := newCorp(t, authztest.WithAlgorithms("EdDSA"), authztest.WithClock(clock))
		for _, at := range []struct {
			age  time.Duration
			want func(hits int) bool
		}{
			{ttl*9/10 - 1, func(hits int) bool { return hits == tokens }},
			{ttl * 19 / 20, func(hits int) bool { return hits > 0 && hits < tokens }}, // otherwise once in 2^99 runs
			{ttl, func(hits int) bool { return hits == 0 }},
		} {
			ahead.Store(0)
			a := newVerifier(t, []token.Issuer{c.config()}, token.WithCache(1000, 8<<20, ttl), token.WithClock(clock)).Route(token.RouteOptions{})
			toks := make([]string, tokens)
			for n := range toks {
				toks[n] = c.Mint(map[string]any{"exp": start.Add(time.Hour).Unix()})
				ask(t, a, toks[n], authz.CacheMiss, "")
			}
			ahead.Store(int64(at.age))
			hits := 0
			for _, tok := range toks {
				_, outcome, err := a.Authenticate(t.Context(), bearer(tok))
				if err != nil {
					t.Fatal(err)
				}
				if outcome == authz.CacheHit {
					hits++
				}
			}
			if !at.want(hits) {
				t.Errorf("%d of %d hits after %v", hits, tokens, at.age)
			}
		}
	})
}

// Ten requests that bring the same new token at once share one verification.
// Verifying reads the clock, and so do lookup, screening and the checks on each
// request: the clock holds the first request inside its verification, and the
// number of readings tells whether one of the others verified as well.
func TestSingleFlight(t *testing.T) {
	c := newCorp(t)
	tok, minted := c.Mint(nil), time.Now() // the bubble has a time of its own
	synctest.Test(t, func(t *testing.T) {
		const each = 2 // readings before verification: lookup and screening
		var readings atomic.Int64
		verifying := make(chan struct{})
		a := newVerifier(t, []token.Issuer{c.config()}, cached, token.WithClock(func() time.Time {
			if readings.Add(1) == each+1 {
				<-verifying
			}
			return minted
		})).Route(token.RouteOptions{})
		var all sync.WaitGroup
		request := func() { all.Go(func() { ask(t, a, tok, authz.CacheMiss, "") }) }
		request()
		synctest.Wait()
		if got := readings.Load(); got != each+1 {
			t.Errorf("%d readings, want the first request in its verification", got)
		}
		for range 9 {
			request()
		}
		synctest.Wait()
		if got, want := readings.Load(), int64(each+1+9*each); got != want {
			t.Errorf("%d readings, want %d: others verified too", got, want)
		}
		close(verifying)
		all.Wait()
		ask(t, a, tok, authz.CacheHit, "")
	})
}

// respelled returns other spellings of a token that a lax reader takes for it.
func respelled(tok string) []string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	twins := []string{tok + "="}
	parts := strings.Split(tok, ".")
	for i, part := range parts {
		if len(part)%4 == 0 {
			continue // no unused bits
		}
		twin := slices.Clone(parts)
		last := strings.IndexByte(alphabet, part[len(part)-1])
		twin[i] = part[:len(part)-1] + string(alphabet[last|1])
		twins = append(twins, strings.Join(twin, "."))
	}
	return twins
}

// otherS replaces s by n-s in an ES256 signature.
func otherS(t *testing.T, tok string) string {
	t.Helper()
	h, p, s := segments(tok)
	sig, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:])).FillBytes(sig[32:])
	return h + "." + p + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// heap returns the bytes that live, after what is dead has gone.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	time.Sleep(50 * time.Millisecond) // the cache evicts in the background
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The observer learns each result by the issuer's configured name, or none.
func TestObserver(t *testing.T) {
	c := newCorp(t)
	var got []string
	a := newVerifier(t, []token.Issuer{c.config()}, token.WithObserver(func(issuer, result string) { got = append(got, issuer+" "+result) })).Route(token.RouteOptions{})
	for _, tok := range []string{c.Mint(nil), c.Mint(map[string]any{"aud": "x"}), c.Mint(map[string]any{"iss": "https://evil.example"}), "a.b.c"} {
		_, _, _ = a.Authenticate(t.Context(), bearer(tok))
	}
	if want := "[corp ok corp wrong_audience  unknown_issuer  malformed_token]"; fmt.Sprint(got) != want {
		t.Errorf("got %q, want %q", fmt.Sprint(got), want)
	}
}
