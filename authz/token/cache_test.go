package token_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
	"github.com/sallyport-authz/sallyport/authz/token/revocation"
)

var cached = token.WithCache(1000, 8<<20, 5*time.Minute)

// ask authenticates and checks what the cache said and how it ended; an empty
// detail is an acceptance.
func ask(t *testing.T, a authz.Authenticator, tok string, outcome authz.CacheOutcome, detail authz.Detail) *authz.Subject {
	t.Helper()
	sub, got, err := a.Authenticate(t.Context(), bearer(tok))
	if got != outcome {
		t.Errorf("cache %q, want %q", got, outcome)
	}
	if (err == nil) != (detail == "") || authz.DetailOf(err) != detail {
		t.Errorf("got %v, want %q", err, detail)
	}
	return sub
}

// Remembering tokens changes nothing but the cost.
func TestCACHE(t *testing.T) {
	t.Run("CACHE-01", func(t *testing.T) { // one token never yields another's claims
		c := newCorp(t)
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
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
			last = tok
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
		iss := authztest.NewIssuer()
		if err := iss.Listen(""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = iss.Close() })
		c := &corp{iss, runKeys(t, keys.Config{Issuer: iss.URL(), Refresh: 50 * time.Millisecond})}
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		tok := c.Mint(nil)
		ask(t, a, tok, authz.CacheMiss, "")
		c.Withdraw(c.Key("RS256"))
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			_, outcome, err := a.Authenticate(t.Context(), bearer(tok))
			if authz.DetailOf(err) == authz.UnknownKey && outcome == authz.CacheHit {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("still %v", err)
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
		tok := c.Mint(nil)
		ask(t, a, tok, authz.CacheMiss, "")
		ask(t, a, tok+"=", authz.CacheMiss, authz.MalformedToken)
		for _, twin := range unusedBits(t, c) {
			ask(t, a, twin.token, authz.CacheMiss, authz.MalformedToken)
		}
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
			c.Mint(nil, authztest.Header("alg", "none")), c.Mint(map[string]any{"roles": []string{"a"}}, authztest.SignedWith("ES256")), "x", "a.b.c", ""}
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
		if a.Key("RS256").ID != b.Key("RS256").ID {
			t.Fatal("the test needs the same kid at both")
		}
		ask(t, v, a.Mint(nil), authz.CacheMiss, "")
		ask(t, v, b.Mint(nil), authz.CacheMiss, "")
		ask(t, v, b.Mint(map[string]any{"iss": a.URL()}), authz.CacheMiss, authz.BadSignature)
	})
	t.Run("failures and long tokens are not remembered", func(t *testing.T) {
		c := newCorp(t)
		a := newVerifier(t, []token.Issuer{c.config()}, cached).Route(token.RouteOptions{})
		long := c.Mint(map[string]any{"pad": strings.Repeat("x", 4<<10)})
		bad := c.Mint(map[string]any{"aud": "x"})
		for range 2 {
			ask(t, a, long, authz.CacheMiss, "")
			ask(t, a, bad, authz.CacheMiss, authz.WrongAudience)
		}
	})
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
