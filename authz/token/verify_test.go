package token

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// The last line: what go-oidc refuses is refused, and so is what it took
// without asking for the signature. No token gets there, so these change the
// configuration that it is asked with.
func TestSecondOpinion(t *testing.T) {
	iss := authztest.NewIssuer(authztest.WithAlgorithms("ES256"))
	if err := iss.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = iss.Close() })
	set, err := keys.New(keys.Config{Issuer: iss.URL()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); set.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	for end := time.Now().Add(10 * time.Second); !set.Ready(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("keys never came")
		}
	}

	for name, tt := range map[string]struct {
		change func(*issuer)
		reason authz.Reason // empty: accepted
		detail authz.Detail
	}{
		"as ever":        {func(*issuer) {}, "", ""},
		"a later clock":  {func(i *issuer) { i.oidc.Now = func() time.Time { return time.Now().Add(time.Hour) } }, authz.InvalidToken, authz.SecondOpinion},
		"no algorithm":   {func(i *issuer) { i.oidc.SupportedSigningAlgs = []string{"RS256"} }, authz.InvalidToken, authz.SecondOpinion},
		"another issuer": {func(i *issuer) { i.URL += "/" }, authz.InvalidToken, authz.SecondOpinion},
		"no signature":   {func(i *issuer) { i.oidc.InsecureSkipSignatureCheck = true }, authz.Internal, ""},
	} {
		v, err := New([]Issuer{{Name: "corp", URL: iss.URL(), Audiences: []string{"https://api.example.com"}, Keys: set}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		tt.change(v.issuers[iss.URL()])
		r := &authz.Request{Headers: []authz.Header{{Name: "authorization", Value: "Bearer " + iss.Mint(nil)}}}
		sub, _, err := v.Route(RouteOptions{}).Authenticate(t.Context(), r)
		if authz.ReasonOf(err) != tt.reason || authz.DetailOf(err) != tt.detail || (sub != nil) != (tt.reason == "") {
			t.Errorf("%s: got %v, %v, want %q (%q)", name, sub, err, tt.reason, tt.detail)
		}
	}

	v, err := New([]Issuer{{Name: "corp", URL: iss.URL(), Audiences: []string{"https://api.example.com"}, Keys: set}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := v.Route(RouteOptions{}).(*route).screen(iss.Mint(nil))
	if err != nil {
		t.Fatal(err)
	}
	ks := &keySet{set: set, token: s.token}
	payload, err := ks.VerifySignature(t.Context(), iss.Mint(nil)) // as good, and another
	if payload != nil || ks.key != nil || err == nil || !strings.Contains(err.Error(), "another token") {
		t.Errorf("got %q, %v", payload, err)
	}
}
