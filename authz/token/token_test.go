package token_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

const audience = "https://api.example.com"

// corp is an issuer that is served, with its keys fetched, and a verifier.
type corp struct {
	*authztest.Issuer
	keys *keys.Set
}

// allKinds are the algorithms of an issuer with a key of each kind.
var allKinds = authztest.WithAlgorithms("RS256", "ES256", "EdDSA")

// newCorp starts an issuer and waits for its keys. It has no RSA key unless the
// test asks for one: making those is slow.
func newCorp(t testing.TB, opts ...authztest.Option) *corp {
	t.Helper()
	iss := authztest.NewIssuer(append([]authztest.Option{authztest.WithAlgorithms("ES256", "EdDSA")}, opts...)...)
	if err := iss.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = iss.Close() })
	return &corp{iss, runKeys(t, keys.Config{Issuer: iss.URL()})}
}

// runKeys returns a running set that has keys.
func runKeys(t testing.TB, cfg keys.Config, opts ...keys.Option) *keys.Set {
	t.Helper()
	came := make(chan struct{}, 100)
	opts = append([]keys.Option{keys.WithObserver(func(result string, err error) {
		if result != keys.ResultOK {
			t.Logf("refresh: %s: %v", result, err)
		}
		came <- struct{}{}
	})}, opts...)
	set, err := keys.New(cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); set.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-came:
	case <-time.After(10 * time.Second):
		t.Fatal("keys never came")
	}
	return set
}

// config is the issuer as a verifier takes it.
func (c *corp) config(change ...func(*token.Issuer)) token.Issuer {
	i := token.Issuer{Name: "corp", URL: c.URL(), Audiences: []string{audience}, Keys: c.keys}
	for _, f := range change {
		f(&i)
	}
	return i
}

func newVerifier(t testing.TB, issuers []token.Issuer, opts ...token.Option) *token.Verifier {
	t.Helper()
	v, err := token.New(issuers, nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// bearer is a request with a token in the authorization header.
func bearer(tok string) *authz.Request {
	return &authz.Request{Headers: []authz.Header{{Name: "authorization", Value: "Bearer " + tok}}}
}

// refused checks reason and detail of a refusal.
func refused(t testing.TB, err error, reason authz.Reason, detail authz.Detail) {
	t.Helper()
	if got, gotDetail := authz.ReasonOf(err), authz.DetailOf(err); got != reason || gotDetail != detail {
		t.Errorf("got %q (%q): %v; want %q (%q)", got, gotDetail, err, reason, detail)
	}
}

// Both names of EdDSA over curve 25519 (RFC 9864) count, whichever is configured.
func TestEd25519(t *testing.T) {
	c := newCorp(t)
	for _, configured := range []string{"EdDSA", "Ed25519"} {
		v := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Algorithms = []string{configured} })})
		for _, alg := range []string{"EdDSA", "Ed25519"} {
			tok := c.Mint(nil, authztest.SignedWith("EdDSA"), authztest.Header("alg", alg))
			if _, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(tok)); err != nil {
				t.Errorf("%s where %s is configured: %v", alg, configured, err)
			}
		}
		jose(t, c, v, configured, refusal{"ES256", c.Mint(nil, authztest.SignedWith("ES256")), authz.BadAlgorithm})
	}
}

// A route may narrow issuers and audiences, and widens neither.
func TestRoute(t *testing.T) {
	c := newCorp(t)
	v := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Audiences = []string{audience, "other"} })})
	for _, x := range []struct {
		opts   token.RouteOptions
		aud    any
		detail authz.Detail // empty: accepted
		says   string
	}{
		{token.RouteOptions{}, "other", "", ""},
		{token.RouteOptions{Issuers: []string{"x", "corp"}}, audience, "", ""},
		{token.RouteOptions{Issuers: []string{"x"}}, audience, authz.UnknownIssuer, "route does not take"},
		{token.RouteOptions{Audiences: []string{"other"}}, []string{"x", "other"}, "", ""},
		{token.RouteOptions{Audiences: []string{"other"}}, audience, authz.WrongAudience, "another audience"},
		{token.RouteOptions{Audiences: []string{"x"}}, "x", authz.WrongAudience, "another audience"},
	} {
		_, _, err := v.Route(x.opts).Authenticate(t.Context(), bearer(c.Mint(map[string]any{"aud": x.aud})))
		if x.detail == "" {
			if err != nil {
				t.Errorf("%+v: %v", x.opts, err)
			}
			continue
		}
		refused(t, err, authz.InvalidToken, x.detail)
		if err != nil && !strings.Contains(err.Error(), x.says) {
			t.Errorf("%+v: got %v, want %q", x.opts, err, x.says)
		}
	}
	_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.Mint(map[string]any{"iss": "https://x"})))
	refused(t, err, authz.InvalidToken, authz.UnknownIssuer)
	if err != nil && !strings.Contains(err.Error(), "iss is not a configured issuer") {
		t.Errorf("got %v", err)
	}
}

// Cognito's access tokens have no aud: client_id stands in for it.
func TestAudienceInAnotherClaim(t *testing.T) {
	c := newCorp(t)
	v := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Audiences, i.Claims.Audience = []string{"web"}, []string{"client_id"} })})
	for _, aud := range []any{authztest.Absent, "x", "web", []string{"x", "y"}} {
		if _, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.Mint(map[string]any{"aud": aud}))); err != nil {
			t.Errorf("aud %v: %v", aud, err)
		}
	}
	jose(t, c, v, "refused",
		refusal{"another client", c.Mint(map[string]any{"client_id": "x", "aud": "web"}), authz.WrongAudience},
		refusal{"a number in aud", c.claim("aud", 7), authz.BadClaim},
		refusal{"a number in the list", c.claim("aud", []any{"web", 7}), authz.BadClaim})
	v = newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Claims.Audience = []string{"resource"} })})
	jose(t, c, v, "refused beside a good aud",
		refusal{"a number", c.claim("resource", 7), authz.BadClaim},
		refusal{"nothing", c.Mint(nil), authz.MissingClaim},
		refusal{"another", c.claim("resource", "x"), authz.WrongAudience})
}

// deaf is a place for revocations that cannot be asked.
type deaf struct{}

func (deaf) Revoked(context.Context, *authz.Subject) (bool, error) {
	return false, errors.New("no answer")
}

// Who cannot be asked cannot say no: the request is refused, remembered token
// or not.
func TestRevocationsThatFail(t *testing.T) {
	c := newCorp(t)
	a := newVerifier(t, []token.Issuer{c.config()}, cached, token.WithRevocations(deaf{})).Route(token.RouteOptions{})
	tok := c.Mint(nil)
	for _, want := range []authz.CacheOutcome{authz.CacheMiss, authz.CacheHit} {
		_, outcome, err := a.Authenticate(t.Context(), bearer(tok))
		if outcome != want {
			t.Errorf("cache %q, want %q", outcome, want)
		}
		refused(t, err, authz.Internal, "")
	}
}

func TestVerifierAcceptsAnAccessToken(t *testing.T) {
	c := newCorp(t, allKinds)
	v := newVerifier(t, []token.Issuer{c.config()}, token.WithCache(100, 1<<20, time.Minute))
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		tok := c.Mint(map[string]any{"roles": []string{"manager"}, "scope": "orders read"}, authztest.SignedWith(alg))
		for _, want := range []authz.CacheOutcome{authz.CacheMiss, authz.CacheHit} {
			sub, outcome, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(tok))
			if err != nil {
				t.Fatalf("%s: %v", alg, err)
			}
			if sub.ID != "user:corp/ada" || sub.Client != "web" || len(sub.Roles) != 1 || len(sub.Scopes) != 2 || outcome != want {
				t.Errorf("%s: %+v %s", alg, sub, outcome)
			}
		}
	}
}

// Claims without a token are read as strictly as those of one.
func TestParseClaims(t *testing.T) {
	for text, want := range map[string]string{
		`{"iss":"a","iss":"a"}`: "token: JSON object has a member twice",
		`{"ISS":"a"}`:           "token: claim that differs from a registered one in case only",
		`[1]`:                   "token: JSON is not an object",
		"{\"a\":\"\xff\"}":      "token: JSON is not valid UTF-8",
	} {
		if claims, err := token.ParseClaims([]byte(text)); claims != nil || err == nil || err.Error() != want {
			t.Errorf("%s: got %v, %v, want %s", text, claims, err, want)
		}
	}
}
