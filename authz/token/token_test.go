package token_test

import (
	"context"
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

// newCorp starts an issuer and waits for its keys.
func newCorp(t testing.TB, opts ...authztest.Option) *corp {
	t.Helper()
	iss := authztest.NewIssuer(opts...)
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

func TestVerifierAcceptsAnAccessToken(t *testing.T) {
	c := newCorp(t)
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
