package keys_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

func newIssuer(t testing.TB, opts ...authztest.Option) *authztest.Issuer {
	t.Helper()
	i := authztest.NewIssuer(opts...)
	if err := i.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func hold(t testing.TB, i *authztest.Issuer, cfg keys.Config) *holder {
	t.Helper()
	h := &holder{t: t, issuer: i}
	if cfg.Issuer == "" {
		cfg.Issuer = i.URL()
	}
	var err error
	h.set, err = keys.New(cfg, keys.WithClock(h.clock), keys.WithObserver(func(result string, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.results, h.errs = append(h.results, result), append(h.errs, err)
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.set.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
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

func (h *holder) accepted(tok string) {
	h.t.Helper()
	if err := h.verify(tok); err != nil {
		h.t.Error(err)
	}
}

var quick = keys.Config{Refresh: 40 * time.Millisecond, Cooldown: 10 * time.Millisecond, Timeout: 300 * time.Millisecond}

// flood is how many forged tokens come, half with an unknown kid and half with
// a known one.
const flood = 50_000

func junk([]byte) []byte { return make([]byte, 256) }

// What forged tokens, broken issuers and rotation may and may not do.
func TestKEY(t *testing.T) {
	t.Parallel()
	t.Run("KEY-01", func(t *testing.T) { // unknown kids: one fetch in a cooldown, whatever comes
		h := hold(t, newIssuer(t), keys.Config{}).ready()
		before := h.issuer.Fetches()
		start := time.Now()
		for n := range flood {
			tok := h.issuer.Mint(nil, authztest.Signature(junk), authztest.Header("kid", fmt.Sprint(n)))
			h.refused(h.verify(tok), authz.InvalidToken, authz.UnknownKey)
		}
		if time.Since(start) > 29*time.Second {
			t.Fatal("too slow to say anything: the cooldown has passed")
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
	outage := func(name string, fault authztest.Fault, result string) {
		t.Run(name, func(t *testing.T) {
			h := hold(t, newIssuer(t), quick).ready()
			tok := h.issuer.Mint(nil)
			h.issuer.BreakKeys(fault)
			if err := h.saw(result); err == nil || len(err.Error()) > 2000 {
				t.Errorf("error %v", err)
			}
			h.accepted(tok) // the last good keys
			h.issuer.Heal()
			fresh := h.issuer.Rotate("RS256")
			h.eventually("recovery", func() bool { return h.verify(h.issuer.Mint(nil, authztest.SignedBy(fresh))) == nil })
		})
	}
	outage("KEY-03", authztest.Fault{Kind: authztest.Hang}, keys.ResultUnreachable)
	outage("KEY-04", authztest.Fault{Kind: authztest.ServerError}, keys.ResultStatus)
	outage("KEY-05", authztest.Fault{Kind: authztest.EmptyObject}, keys.ResultDocument)
	t.Run("KEY-06", func(t *testing.T) { // an explicit empty set withdraws everything
		h := hold(t, newIssuer(t), quick).ready()
		tok := h.issuer.Mint(nil)
		h.issuer.BreakKeys(authztest.Fault{Kind: authztest.NoKeys})
		h.eventually("withdrawal", func() bool { return authz.DetailOf(h.verify(tok)) == authz.UnknownKey })
		if !h.set.Ready() {
			t.Error("not ready any more")
		}
	})
	outage("KEY-07", authztest.Fault{Kind: authztest.HTML}, keys.ResultDocument)
	outage("KEY-08", authztest.Fault{Kind: authztest.Huge}, keys.ResultDocument)
	outage("KEY-09", authztest.Fault{Kind: authztest.SlowLoris}, keys.ResultUnreachable)
	t.Run("KEY-10", func(t *testing.T) { // redirects stay on their origin
		canary := newIssuer(t)
		for _, to := range []string{canary.KeysURL(), "https://example.com/keys", "http://[::1]:1/keys"} {
			h := hold(t, newIssuer(t), quick).ready()
			tok := h.issuer.Mint(nil)
			h.issuer.BreakKeys(authztest.Fault{Kind: authztest.Redirect, Location: to})
			_ = h.saw(keys.ResultUnreachable)
			h.accepted(tok)
		}
		if got := canary.Requests(); got != 0 {
			t.Errorf("%d requests went where a redirect led", got)
		}
	})
	t.Run("KEY-11", func(t *testing.T) { // one bad key among good ones
		i := newIssuer(t)
		for _, bad := range badKeys(t) {
			i.AddJWK(bad.jwk)
		}
		h := hold(t, i, keys.Config{}).ready()
		for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
			h.accepted(i.Mint(nil, authztest.SignedWith(alg)))
		}
	})
	t.Run("KEY-12", func(t *testing.T) { // two keys under one kid: that which fits decides
		i := newIssuer(t)
		rs, es := i.Key("RS256"), i.Key("ES256")
		i.Alter(es, map[string]any{"kid": rs.ID})
		h := hold(t, i, keys.Config{}).ready()
		h.accepted(i.Mint(nil, authztest.SignedBy(rs)))
		h.accepted(i.Mint(nil, authztest.SignedBy(es), authztest.Header("kid", rs.ID)))
	})
	t.Run("KEY-13", func(t *testing.T) { // rotation with overlap: both are believed, the new one at once
		h := hold(t, newIssuer(t), keys.Config{}).ready()
		old := h.issuer.Key("RS256")
		h.issuer.Rotate("RS256")
		h.accepted(h.issuer.Mint(nil)) // waits for the one fetch it causes
		h.accepted(h.issuer.Mint(nil, authztest.SignedBy(old)))
	})
	t.Run("KEY-14", func(t *testing.T) { // a withdrawn key is gone at the next refresh
		h := hold(t, newIssuer(t), quick).ready()
		key := h.issuer.Key("RS256")
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
		h.issuer.Replace(h.issuer.Key("RS256"))
		before := h.issuer.Fetches()
		h.refused(h.verify(h.issuer.Mint(nil)), authz.InvalidToken, authz.BadSignature)
		if got := h.issuer.Fetches() - before; got != 0 {
			t.Errorf("%d fetches", got)
		}
		q := hold(t, h.issuer, quick).ready()
		h.issuer.Replace(h.issuer.Key("RS256"))
		q.eventually("the refresh", func() bool { return q.verify(h.issuer.Mint(nil)) == nil })
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

type badKey struct{ what, jwk string }

// badKeys are keys that must not be used, each for its own reason, all under
// the kid "bad".
func badKeys(t testing.TB) []badKey {
	t.Helper()
	change := func(alg string, members map[string]any) string {
		jwk := authztest.NewIssuer(authztest.WithAlgorithms(alg)).Key(alg).JWK()
		jwk["kid"] = "bad"
		for k, v := range members {
			if v == nil {
				delete(jwk, k)
			} else {
				jwk[k] = v
			}
		}
		b, err := json.Marshal(jwk)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakJWK := authztest.NewKey("RS256", "bad", weak).JWK()
	small, _ := json.Marshal(weakJWK)
	return []badKey{
		{"RSA-1024", string(small)},
		{"use enc", change("RS256", map[string]any{"use": "enc"})},
		{"key_ops sign", change("RS256", map[string]any{"use": nil, "key_ops": []string{"sign"}})},
		{"alg of another type", change("RS256", map[string]any{"alg": "ES256"})},
		{"unknown alg", change("RS256", map[string]any{"alg": "RSA-OAEP"})},
		{"symmetric", `{"kty":"oct","kid":"bad","k":"c2VjcmV0","alg":"HS256"}`},
		{"curve of another name", change("ES256", map[string]any{"crv": "secp256k1"})},
		{"no exponent", change("RS256", map[string]any{"e": nil})},
		{"even exponent", change("RS256", map[string]any{"e": "Ag"})},
		{"exponent one", change("RS256", map[string]any{"e": "AQ"})},
		{"point off the curve", change("ES256", map[string]any{"x": strings.Repeat("A", 43)})},
		{"point of small order", change("EdDSA", map[string]any{"x": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})},
		{"short Ed25519", change("EdDSA", map[string]any{"x": "AQ"})},
		{"private", change("EdDSA", map[string]any{"d": strings.Repeat("A", 43)})},
		{"unknown kty", `{"kty":"LMS","kid":"bad"}`},
		{"number for kid", `{"kty":"oct","kid":7}`},
		{"string for a key", `"bad"`},
	}
}

// Weak and misused keys are refused one by one; a set of nothing else is a
// failed fetch.
func TestWeakAndMisusedKeys(t *testing.T) {
	t.Parallel()
	for _, bad := range badKeys(t) {
		t.Run(bad.what, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t)
			i.SetKeySet([]byte(`{"keys":[` + bad.jwk + `]}`))
			h := hold(t, i, quick)
			_ = h.saw(keys.ResultDocument)
			if h.set.Ready() {
				t.Error("ready with a key that must not be used")
			}
			h.refused(h.verify(i.Mint(nil, authztest.Header("kid", "bad"))), authz.IssuerUnavailable, authz.KeysMissing)
		})
	}
}

// Last good keys live for a stated time, then nothing is verified; they come
// back with the issuer.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	h := hold(t, newIssuer(t), keys.Config{Refresh: 50 * time.Millisecond, MaxAge: time.Hour, Timeout: time.Second}).ready()
	tok := h.issuer.Mint(nil)
	h.accepted(tok)
	h.issuer.Break(authztest.Fault{Kind: authztest.ServerError})
	_ = h.saw(keys.ResultStatus)
	h.advance(59 * time.Minute)
	h.accepted(tok)
	h.advance(2 * time.Minute)
	h.refused(h.verify(tok), authz.IssuerUnavailable, authz.KeysStale)
	if age, ok := h.set.Age(); !ok || age < time.Hour {
		t.Errorf("age %v %v", age, ok)
	}
	if !h.set.Ready() {
		t.Error("an outage reverts readiness")
	}
	h.issuer.Heal()
	h.eventually("recovery", func() bool { return h.verify(tok) == nil })
}

// What discovery may say.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	for what, set := range map[string]func(*authztest.Issuer){
		"another issuer":      func(i *authztest.Issuer) { i.SetMetadata("issuer", "https://evil.example") },
		"trailing slash":      func(i *authztest.Issuer) { i.SetMetadata("issuer", i.URL()+"/") },
		"no jwks_uri":         func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", authztest.Absent) },
		"http elsewhere":      func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", "http://example.com/keys") },
		"file":                func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", "file:///etc/passwd") },
		"user information":    func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", "https://a:b@example.com/keys") },
		"a number for a text": func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", 7) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t)
			set(i)
			h := hold(t, i, quick)
			if err := h.saw(keys.ResultDiscovery); err == nil {
				t.Error("no error")
			}
			if h.set.Ready() || i.Fetches() != 0 {
				t.Errorf("ready %v after %d fetches", h.set.Ready(), i.Fetches())
			}
		})
	}
	t.Run("retried", func(t *testing.T) {
		t.Parallel()
		i := newIssuer(t)
		i.BreakDiscovery(authztest.Fault{Kind: authztest.ServerError})
		h := hold(t, i, quick)
		_ = h.saw(keys.ResultDiscovery)
		i.Heal()
		h.ready()
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]keys.Config{
		`issuer "http://id.example.com" is not an https URL`: {Issuer: "http://id.example.com"},
		`issuer "id.example.com" is not a URL`:               {Issuer: "id.example.com"},
		`algorithm "HS256" is not one of`:                    {Issuer: "https://a.example", Algorithms: []string{"HS256"}},
		`both a key set file and a key set URI`:              {JWKSURI: "https://a.example", JWKSFile: "x"},
		`refresh -1s is negative`:                            {Issuer: "https://a.example", Refresh: -time.Second},
	} {
		if _, err := keys.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A file with keys needs no network and follows its contents.
func TestFile(t *testing.T) {
	t.Parallel()
	i := authztest.NewIssuer(authztest.WithURL("https://id.example.com"))
	path := filepath.Join(t.TempDir(), "jwks.json")
	write := func() {
		t.Helper()
		if err := os.WriteFile(path, i.KeySet(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	h := hold(t, i, keys.Config{JWKSFile: path, Issuer: i.URL()}).ready()
	h.accepted(i.Mint(nil))
	fresh := i.Rotate("RS256")
	h.refused(h.verify(i.Mint(nil, authztest.SignedBy(fresh))), authz.InvalidToken, authz.UnknownKey)
	write()
	start := time.Now()
	h.eventually("the changed file", func() bool { return h.verify(i.Mint(nil, authztest.SignedBy(fresh))) == nil })
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}

// A set that did not change is not read again.
func TestConditionalGet(t *testing.T) {
	t.Parallel()
	h := hold(t, newIssuer(t), quick).ready()
	_ = h.saw(keys.ResultUnchanged)
	h.eventually("304", func() bool { return h.issuer.NotModified() > 0 })
}

// Two issuers share nothing: not even a kid.
func TestIssuersAreIsolated(t *testing.T) {
	t.Parallel()
	a, b := hold(t, newIssuer(t), keys.Config{}).ready(), hold(t, newIssuer(t), keys.Config{}).ready()
	if a.issuer.Key("RS256").ID != b.issuer.Key("RS256").ID {
		t.Fatal("the test needs the same kid at both")
	}
	a.refused(a.verify(b.issuer.Mint(nil)), authz.InvalidToken, authz.BadSignature)
	b.issuer.Break(authztest.Fault{Kind: authztest.Hang})
	a.accepted(a.issuer.Mint(nil))
}

// A request that waits for a fetch waits no longer than it has time.
func TestWaitEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	h := hold(t, newIssuer(t), keys.Config{Timeout: 30 * time.Second}).ready()
	h.issuer.BreakKeys(authztest.Fault{Kind: authztest.Hang})
	tok, _ := jws.Parse(h.issuer.Mint(nil, authztest.Header("kid", "new")))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := h.set.Verify(ctx, tok)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// Too many keys, and a key set on its own address.
func TestURI(t *testing.T) {
	t.Parallel()
	i := authztest.NewIssuer(authztest.WithURL("https://id.example.com"))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(i.KeySet()) }))
	t.Cleanup(srv.Close)
	h := hold(t, i, keys.Config{JWKSURI: srv.URL, Issuer: i.URL()}).ready()
	h.accepted(i.Mint(nil))

	many := authztest.NewIssuer(authztest.WithURL("https://id.example.com"))
	for range 70 {
		many.Rotate("EdDSA")
	}
	crowd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(many.KeySet()) }))
	t.Cleanup(crowd.Close)
	c := hold(t, many, keys.Config{JWKSURI: crowd.URL, Issuer: many.URL(), Refresh: 40 * time.Millisecond})
	_ = c.saw(keys.ResultDocument)
}
