package keys_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// A holder is an issuer and a set of its keys that runs.
type holder struct {
	t       testing.TB
	issuer  *authztest.Issuer
	set     *keys.Set
	stop    func() // ends Run; may be called twice
	mu      sync.Mutex
	results []string
	errs    []error
	now     time.Time // zero: the real clock
}

func (h *holder) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now.IsZero() {
		return time.Now()
	}
	return h.now
}

func (h *holder) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now.IsZero() {
		h.now = time.Now()
	}
	h.now = h.now.Add(d)
}

// newIssuer serves an issuer. It has no RSA key unless the test asks for one:
// making those is slow.
func newIssuer(t testing.TB, opts ...authztest.Option) *authztest.Issuer {
	t.Helper()
	i := authztest.NewIssuer(append([]authztest.Option{authztest.WithAlgorithms("ES256", "EdDSA")}, opts...)...)
	if err := i.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func hold(t testing.TB, i *authztest.Issuer, cfg keys.Config, opts ...keys.Option) *holder {
	t.Helper()
	h := &holder{t: t, issuer: i}
	if cfg.Issuer == "" {
		cfg.Issuer = i.URL()
	}
	opts = append(opts, keys.WithClock(h.clock), keys.WithObserver(func(result string, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.results, h.errs = append(h.results, result), append(h.errs, err)
	}))
	var err error
	if h.set, err = keys.New(cfg, opts...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.set.Run(ctx) }()
	h.stop = func() { cancel(); <-done }
	t.Cleanup(h.stop)
	return h
}

func (h *holder) eventually(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			h.mu.Lock()
			last := h.errs[max(0, len(h.errs)-3):]
			h.mu.Unlock()
			h.t.Fatalf("not within 10 s: %s; last refreshes: %v", what, last)
		}
	}
}

// told waits until operators are told this of a refresh with this result.
func (h *holder) told(result, want string) {
	h.t.Helper()
	h.eventually(result+": "+want, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for n, err := range h.errs {
			if h.results[n] == result && err != nil && strings.Contains(err.Error(), want) {
				return true
			}
		}
		return false
	})
}

// saw waits for a result of a refresh and returns its error.
func (h *holder) saw(result string) (err error) {
	h.t.Helper()
	h.eventually("result "+result, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		n := slices.Index(h.results, result)
		if n >= 0 {
			err = h.errs[n]
		}
		return n >= 0
	})
	return err
}

// counts returns how often each result of a refresh came.
func (h *holder) counts() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := map[string]int{}
	for _, r := range h.results {
		n[r]++
	}
	return n
}

// weakJWK is a well-formed RSA key of 1024 bits.
var weakJWK = `{"kty":"RSA","kid":"weak","e":"AQAB","n":"` + strings.Repeat("_", 171) + `"}`

// says checks what an error tells operators.
func says(t testing.TB, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

func (h *holder) ready() *holder {
	h.t.Helper()
	h.eventually("ready", h.set.Ready)
	return h
}

func (h *holder) verify(tok string) error {
	h.t.Helper()
	t, err := jws.Parse(tok)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err = h.set.Verify(ctx, t)
	return err
}

func (h *holder) refused(err error, reason authz.Reason, detail authz.Detail) {
	h.t.Helper()
	if authz.ReasonOf(err) != reason || authz.DetailOf(err) != detail {
		h.t.Errorf("got %s (%s) %v, want %s (%s)", authz.ReasonOf(err), authz.DetailOf(err), err, reason, detail)
	}
}

// held verifies a token and returns what Holds is asked with later.
func (h *holder) held(tok string) (*keys.Key, jws.Header) {
	h.t.Helper()
	t, err := jws.Parse(tok)
	if err != nil {
		h.t.Fatal(err)
	}
	k, err := h.set.Verify(context.Background(), t)
	if err != nil {
		h.t.Fatal(err)
	}
	return k, t.Header
}

func (h *holder) accepted(tok string) {
	h.t.Helper()
	if err := h.verify(tok); err != nil {
		h.t.Error(err)
	}
}

var quick = keys.Config{Refresh: 40 * time.Millisecond, Cooldown: 10 * time.Millisecond, Timeout: 300 * time.Millisecond}

// What broken issuers and rotation may and may not do.
func TestKEY(t *testing.T) {
	t.Parallel()
	outage := func(name string, fault authztest.Fault, result, message string) {
		t.Run(name, func(t *testing.T) {
			h := hold(t, newIssuer(t), quick).ready()
			tok := h.issuer.Mint(nil)
			h.issuer.BreakKeys(fault)
			err := h.saw(result)
			says(t, name, err, message)
			if err == nil || len(err.Error()) > 2000 {
				t.Errorf("error %v", err)
			}
			h.accepted(tok) // the last good keys
			h.issuer.Heal()
			fresh := h.issuer.Rotate("ES256")
			h.eventually("recovery", func() bool { return h.verify(h.issuer.Mint(nil, authztest.SignedBy(fresh))) == nil })
		})
	}
	outage("KEY-03", authztest.Fault{Kind: authztest.Hang}, keys.ResultUnreachable, "context deadline exceeded")
	outage("KEY-04", authztest.Fault{Kind: authztest.ServerError}, keys.ResultStatus, "answered 500")
	outage("KEY-05", authztest.Fault{Kind: authztest.EmptyObject}, keys.ResultDocument, "no member keys")
	t.Run("KEY-06", func(t *testing.T) { // an explicit empty set withdraws everything
		h := hold(t, newIssuer(t), quick).ready()
		tok := h.issuer.Mint(nil)
		h.issuer.BreakKeys(authztest.Fault{Kind: authztest.NoKeys})
		h.eventually("withdrawal", func() bool { return authz.DetailOf(h.verify(tok)) == authz.UnknownKey })
		if !h.set.Ready() {
			t.Error("not ready any more")
		}
	})
	outage("KEY-07", authztest.Fault{Kind: authztest.HTML}, keys.ResultDocument, "not a JSON object")
	outage("KEY-08", authztest.Fault{Kind: authztest.Huge}, keys.ResultDocument, "larger than 512 KiB")
	outage("KEY-09", authztest.Fault{Kind: authztest.SlowLoris}, keys.ResultUnreachable, "no whole answer after")
	t.Run("KEY-10", func(t *testing.T) { // redirects stay on their origin
		canary := newIssuer(t)
		for _, to := range []string{canary.KeysURL(), "https://example.com/keys", "http://[::1]:1/keys"} {
			h := hold(t, newIssuer(t), quick).ready()
			tok := h.issuer.Mint(nil)
			h.issuer.BreakKeys(authztest.Fault{Kind: authztest.Redirect, Location: to})
			h.told(keys.ResultUnreachable, "redirect to another origin")
			h.accepted(tok)
		}
		h := hold(t, newIssuer(t), quick).ready()
		before := h.issuer.Fetches()
		h.issuer.BreakKeys(authztest.Fault{Kind: authztest.Redirect, Location: h.issuer.KeysURL()})
		h.told(keys.ResultUnreachable, "more than three redirects")
		if got := h.issuer.Fetches() - before; got > 20 {
			t.Errorf("%d fetches along a loop", got)
		}
		if got := canary.Requests(); got != 0 {
			t.Errorf("%d requests went where a redirect led", got)
		}
	})
	t.Run("KEY-11", func(t *testing.T) { // one bad key among good ones
		for some := range slices.Chunk(badKeys(t), 40) { // a set holds no more than 64
			i := newIssuer(t, authztest.WithAlgorithms("RS256", "ES256", "EdDSA"))
			for _, bad := range some {
				i.AddJWK(bad.jwk)
			}
			h := hold(t, i, keys.Config{}).ready()
			for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
				h.accepted(i.Mint(nil, authztest.SignedWith(alg)))
			}
			for n, bad := range some {
				if bad.says != "" {
					h.told(keys.ResultOK, fmt.Sprintf("key %d of the set: ", n+4))
				}
			}
		}
	})
	t.Run("KEY-12", func(t *testing.T) { // two keys under one kid: that which fits decides
		i := newIssuer(t, authztest.WithAlgorithms("RS256", "ES256"))
		rs, es := i.Key("RS256"), i.Key("ES256")
		i.Alter(es, map[string]any{"kid": rs.ID})
		h := hold(t, i, keys.Config{}).ready()
		h.accepted(i.Mint(nil, authztest.SignedBy(rs)))
		h.accepted(i.Mint(nil, authztest.SignedBy(es), authztest.Header("kid", rs.ID)))
	})
	t.Run("KEY-13", func(t *testing.T) { // rotation with overlap: both are believed, the new one at once
		h := hold(t, newIssuer(t), keys.Config{}).ready()
		old := h.issuer.Key("ES256")
		h.issuer.Rotate("ES256")
		h.accepted(h.issuer.Mint(nil)) // waits for the one fetch it causes
		h.accepted(h.issuer.Mint(nil, authztest.SignedBy(old)))
	})
	t.Run("KEY-14", func(t *testing.T) { // a withdrawn key is gone at the next refresh
		h := hold(t, newIssuer(t), quick).ready()
		key := h.issuer.Key("ES256")
		tok := h.issuer.Mint(nil)
		h.accepted(tok)
		parsed, _ := jws.Parse(tok)
		held, err := h.set.Verify(t.Context(), parsed)
		if err != nil || !h.set.Holds(held, parsed.Header) {
			t.Fatalf("%v, and the set does not hold a key that it just used", err)
		}
		h.issuer.Withdraw(key)
		h.eventually("withdrawal", func() bool { return authz.DetailOf(h.verify(tok)) == authz.UnknownKey })
		if h.set.Holds(held, parsed.Header) {
			t.Error("the set holds a key that was withdrawn")
		}
	})
	t.Run("KEY-15", func(t *testing.T) { // new key material under an old kid: healed by the refresh, not by forgeries
		h := hold(t, newIssuer(t), keys.Config{}).ready()
		h.issuer.Replace(h.issuer.Key("ES256"))
		before := h.issuer.Fetches()
		h.refused(h.verify(h.issuer.Mint(nil)), authz.InvalidToken, authz.BadSignature)
		if got := h.issuer.Fetches() - before; got != 0 {
			t.Errorf("%d fetches", got)
		}
		q := hold(t, h.issuer, quick).ready()
		k, header := q.held(h.issuer.Mint(nil))
		h.issuer.Replace(h.issuer.Key("ES256"))
		q.eventually("the refresh", func() bool { return q.verify(h.issuer.Mint(nil)) == nil })
		if q.set.Holds(k, header) {
			t.Error("other material under the same kid is held")
		}
	})
	t.Run("KEY-16", func(t *testing.T) { // RFC 9864's name for EdDSA over curve 25519
		for _, named := range []string{"Ed25519", "EdDSA"} {
			i := newIssuer(t)
			key := i.Key("EdDSA")
			i.Alter(key, map[string]any{"alg": named})
			h := hold(t, i, keys.Config{}).ready()
			for _, alg := range []string{"Ed25519", "EdDSA"} {
				h.accepted(i.Mint(nil, authztest.SignedBy(key), authztest.Header("alg", alg)))
			}
		}
	})
}

// Last good keys live for a stated time, then nothing is verified; they come
// back with the issuer.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	h := hold(t, newIssuer(t), keys.Config{Refresh: 50 * time.Millisecond, MaxAge: time.Hour, Timeout: time.Second}).ready()
	tok := h.issuer.Mint(nil)
	k, header := h.held(tok)
	h.issuer.Break(authztest.Fault{Kind: authztest.ServerError})
	_ = h.saw(keys.ResultStatus)
	h.advance(59 * time.Minute)
	h.accepted(tok)
	h.advance(2 * time.Minute)
	h.refused(h.verify(tok), authz.IssuerUnavailable, authz.KeysStale)
	if h.set.Holds(k, header) {
		t.Error("a key is held that is too old to verify")
	}
	if age, ok := h.set.Age(); !ok || age < time.Hour {
		t.Errorf("age %v %v", age, ok)
	}
	if !h.set.Ready() {
		t.Error("an outage reverts readiness")
	}
	h.issuer.Heal()
	h.eventually("recovery", func() bool { return h.verify(tok) == nil })
}

// Two issuers share nothing: not even a kid.
func TestIssuersAreIsolated(t *testing.T) {
	t.Parallel()
	a, b := hold(t, newIssuer(t), keys.Config{}).ready(), hold(t, newIssuer(t), keys.Config{}).ready()
	if a.issuer.Key("ES256").ID != b.issuer.Key("ES256").ID {
		t.Fatal("the test needs the same kid at both")
	}
	a.refused(a.verify(b.issuer.Mint(nil)), authz.InvalidToken, authz.BadSignature)
	b.issuer.Break(authztest.Fault{Kind: authztest.Hang})
	a.accepted(a.issuer.Mint(nil))
}

// flood is how many forged tokens come, half with an unknown kid and half with
// a known one.
const flood = 50_000

// junk is a signature that nobody made.
func junk([]byte) []byte { return make([]byte, 64) }

// What forged tokens may do: KEY-01 and KEY-02.
func TestKEYFlood(t *testing.T) {
	t.Parallel()
	t.Run("KEY-01", func(t *testing.T) { // unknown kids: one fetch in a cooldown, whatever comes
		h := hold(t, newIssuer(t), keys.Config{}).ready()
		h.advance(0) // however long it takes, no cooldown passes
		before := h.issuer.Fetches()
		_, rest, _ := strings.Cut(h.issuer.Mint(nil), ".")
		for n := range flood {
			header := fmt.Sprintf(`{"typ":"at+jwt","alg":"ES256","kid":"%d"}`, n)
			tok := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + rest
			h.refused(h.verify(tok), authz.InvalidToken, authz.UnknownKey)
		}
		if got := h.issuer.Fetches() - before; got != 1 {
			t.Errorf("%d fetches, want 1", got)
		}
		h.advance(31 * time.Second)
		h.refused(h.verify(h.issuer.Mint(nil, authztest.Header("kid", "x"))), authz.InvalidToken, authz.UnknownKey)
		if got := h.issuer.Fetches() - before; got != 2 {
			t.Errorf("%d fetches after the cooldown, want 2", got)
		}
	})
	t.Run("KEY-02", func(t *testing.T) { // a bad signature by a known kid never fetches
		h := hold(t, newIssuer(t), keys.Config{}).ready()
		before := h.issuer.Requests()
		tok := h.issuer.Mint(nil, authztest.Signature(junk))
		for range flood {
			h.refused(h.verify(tok), authz.InvalidToken, authz.BadSignature)
		}
		if got := h.issuer.Requests() - before; got != 0 {
			t.Errorf("%d requests, want none", got)
		}
	})
}
