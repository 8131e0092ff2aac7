package token_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
	"github.com/sallyport-authz/sallyport/authz/token/revocation"
)

// assumer returns a verifier that never sees a token.
func assumer(t *testing.T, opts ...token.Option) *token.Verifier {
	t.Helper()
	var issuers []token.Issuer
	for _, name := range []string{"corp", "partner"} {
		set, err := keys.New(keys.Config{Issuer: "https://" + name + ".example.com"})
		if err != nil {
			t.Fatal(err)
		}
		issuers = append(issuers, token.Issuer{Name: name, URL: "https://" + name + ".example.com", Audiences: []string{"api", "other"}, Keys: set})
	}
	v, err := token.New(issuers, nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Claims that are taken as given make the subject that a token would.
func TestAssume(t *testing.T) {
	v := assumer(t)
	claims, err := token.ParseClaims([]byte(`{"iss":"https://corp.example.com","sub":"ada","roles":["a"],"scope":"x y","jti":"1","exp":1}`))
	if err != nil {
		t.Fatal(err)
	}
	who := v.Assume(claims)
	s := who.Subject
	if s.ID != "user:corp/ada" || !slices.Equal(s.Roles, []string{"a"}) || !slices.Equal(s.Scopes, []string{"x", "y"}) || s.TokenID != "1" ||
		!s.IssuedAt.IsZero() || !slices.Equal(who.Audiences, []string{"api", "other"}) || who.Revocable {
		t.Errorf("got %+v of %+v", s, who)
	}
	claims["iat"], claims["aud"] = int64(1_700_000_000), "other"
	if who = v.Assume(claims); !who.Subject.IssuedAt.Equal(time.Unix(1_700_000_000, 0)) || !slices.Equal(who.Audiences, []string{"other"}) {
		t.Errorf("got %+v", who)
	}
}

// Claims that no token may have are refused as the token would be; what is no
// claims at all is an error.
func TestAssumeRefuses(t *testing.T) {
	v := assumer(t)
	for text, want := range map[string]string{
		`{"sub":"ada"}`:         "invalid_token missing_claim",
		`{"iss":1,"sub":"ada"}`: "invalid_token bad_claim",
		`{"iss":"https://evil.example.com","sub":"ada"}`:                      "invalid_token unknown_issuer",
		`{"iss":"https://corp.example.com"}`:                                  "invalid_token missing_claim",
		`{"iss":"https://corp.example.com","sub":"a","aud":[1]}`:              "invalid_token bad_claim",
		`{"iss":"https://corp.example.com","sub":"a\n"}`:                      "invalid_token bad_claim",
		`{"iss":"https://corp.example.com","sub":"a","roles":["x\u0007"]}`:    "invalid_token bad_claim",
		`{"iss":"https://corp.example.com","sub":"a","cnf":{"jkt":"x"}}`:      "invalid_token unsupported_binding",
		`{"iss":"https://corp.example.com","iss":"https://evil.example.com"}`: "error",
		`{"Iss":"https://corp.example.com"}`:                                  "error",
		`[1]`:                                                                 "error",
		``:                                                                    "error",
	} {
		got := "error"
		if claims, err := token.ParseClaims([]byte(text)); err == nil {
			a := v.Assuming(token.RouteOptions{}, func(context.Context) *token.Assumed { return v.Assume(claims) })
			_, _, err = a.Authenticate(t.Context(), &authz.Request{})
			got = string(authz.ReasonOf(err)) + " " + string(authz.DetailOf(err))
		} else if !strings.HasPrefix(err.Error(), "token: ") {
			t.Errorf("%s: %v", text, err)
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// What a route demands holds for assumed callers too; nobody is refused as
// ever.
func TestAssuming(t *testing.T) {
	list, problems := revocation.Load("testdata/assume-revoked.yaml", []string{"corp", "partner"})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	live := new(revocation.Live)
	live.Store(list)
	v := assumer(t, token.WithRevocations(live))
	as := func(issuer, sub string, audiences ...string) *token.Assumed {
		return &token.Assumed{Subject: &authz.Subject{ID: "user:" + issuer + "/" + sub, Issuer: issuer, Sub: sub}, Audiences: audiences}
	}
	revocable := as("corp", "max", "api")
	revocable.Revocable = true
	for _, c := range []struct {
		what string
		opts token.RouteOptions
		who  *token.Assumed
		want string // reason and detail; empty: passes
		has  authz.Request
	}{
		{"anybody", token.RouteOptions{}, as("corp", "ada", "api"), "", authz.Request{}},
		{"a token in the query", token.RouteOptions{}, as("corp", "ada", "api"), "malformed_credential query_credential", authz.Request{Query: "access_token=x"}},
		{"another credential", token.RouteOptions{}, as("corp", "ada", "api"), "malformed_credential two_credentials",
			authz.Request{Headers: []authz.Header{{Name: "authorization", Value: "Bearer abc"}}}},
		{"another issuer", token.RouteOptions{Issuers: []string{"partner"}}, as("corp", "ada", "api"), "invalid_token unknown_issuer", authz.Request{}},
		{"a strange issuer", token.RouteOptions{}, as("evil", "ada", "api"), "invalid_token unknown_issuer", authz.Request{}},
		{"another audience", token.RouteOptions{Audiences: []string{"other"}}, as("corp", "ada", "api"), "invalid_token wrong_audience", authz.Request{}},
		{"no audience", token.RouteOptions{}, as("corp", "ada"), "invalid_token wrong_audience", authz.Request{}},
		{"nobody", token.RouteOptions{}, nil, "no_credential ", authz.Request{}},
		{"nobody, who may", token.RouteOptions{Optional: true}, nil, "", authz.Request{}},
		{"revoked, where it counts", token.RouteOptions{}, revocable, "invalid_token revoked", authz.Request{}},
		{"revoked, where it does not", token.RouteOptions{}, as("corp", "max", "api"), "", authz.Request{}},
	} {
		a := v.Assuming(c.opts, func(context.Context) *token.Assumed { return c.who })
		sub, _, err := a.Authenticate(t.Context(), &c.has)
		got := ""
		if err != nil {
			got = string(authz.ReasonOf(err)) + " " + string(authz.DetailOf(err))
		}
		if got != c.want || err == nil && c.who != nil && sub != c.who.Subject {
			t.Errorf("%s: got %q, %v, want %q", c.what, got, sub, c.want)
		}
	}
}
