package token_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token"
)

// An oracle is go-oidc over the same keys, with its clock set back by our
// leeway.
type oracle struct {
	c *corp
	v *token.Verifier
	o *oidc.IDTokenVerifier
}

const leeway = 10 * time.Second

func newOracle(t testing.TB) *oracle {
	c := newCorp(t, allKinds)
	return &oracle{c,
		newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Leeway = leeway })}),
		oidc.NewVerifier(c.URL(), c.keys, &oidc.Config{
			ClientID: audience, SupportedSigningAlgs: []string{"RS256", "PS256", "ES256", "EdDSA"},
			Now: func() time.Time { return time.Now().Add(-leeway) },
		})}
}

// check holds that what we accept go-oidc accepts, that there is one spelling
// of it, and that our claims are its claims.
func (o *oracle) check(t *testing.T, tok string) {
	t.Helper()
	sub, _, err := o.v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(tok))
	if err != nil {
		switch r := authz.ReasonOf(err); r {
		case authz.MalformedCredential, authz.InvalidToken:
			if authz.DetailOf(err) == authz.SecondOpinion {
				t.Errorf("go-oidc refused what we had not: %v", err)
			}
			if len(tok) > 8 && strings.Contains(err.Error(), tok) {
				t.Error("the token is in the error")
			}
		case authz.NoCredential:
			if strings.Trim(tok, " ") != "" {
				t.Errorf("no credential in %q", tok)
			}
		default:
			t.Errorf("reason %s: %v", r, err)
		}
		return
	}
	id, err := o.o.Verify(t.Context(), tok)
	if err != nil {
		t.Fatalf("accepted, and go-oidc says: %v", err)
	}
	if id.Issuer != o.c.URL() || id.Subject != sub.Sub {
		t.Errorf("%s at %s, go-oidc says %s at %s", sub.Sub, sub.Issuer, id.Subject, id.Issuer)
	}
	var theirs, ours any
	if err := id.Claims(&theirs); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(sub.Claims)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &ours); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(ours, theirs) {
		t.Errorf("claims %v, go-oidc has %v", ours, theirs)
	}
	for i, c := range []byte(tok) {
		if c != '.' && !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", rune(c)) {
			t.Errorf("byte %d of an accepted token is %q", i, c)
		}
	}
}

func FuzzToken(f *testing.F) {
	o := newOracle(f)
	good := o.c.Mint(nil)
	for _, seed := range []string{good, good + "=", good[:len(good)-1], "", ".", "..", "a.b.c", o.c.Mint(nil, authztest.SignedWith("ES256")),
		o.c.Mint(nil, authztest.SignedWith("EdDSA")), o.c.Mint(nil, authztest.Header("alg", "none")), o.c.Mint(map[string]any{"exp": 1e30})} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tok string) { o.check(t, tok) })
}

// FuzzClaims signs whatever claims there are, and header beside them: the
// signature is good, so that everything behind it is reached.
func FuzzClaims(f *testing.F) {
	o := newOracle(f)
	base, err := json.Marshal(o.c.Claims(nil))
	if err != nil {
		f.Fatal(err)
	}
	open := strings.TrimSuffix(string(base), "}")
	for _, more := range []string{"", `,"ISS":"x"`, `,"iss":"x"`, `,"exp":1e18`, `,"aud":["a"]`, `,"nonce":"x"`, `,"x":"\ud800"`, `,"roles":[1]`,
		`,"_claim_names":{}`, `,"cnf":{}`, `,"a":{"b":[{"c":1.5e3}]}`, ",\"x\":\"\xff\"", `,"nbf":1`, `,"nonce":7`, `,"at_hash":{}`, `,"_claim_sources":7`, `,"email_verified":"false"`} {
		f.Add(open+more+"}", `at+jwt`)
	}
	f.Fuzz(func(t *testing.T, claims, typ string) {
		o.check(t, o.c.Mint(nil, authztest.SignedWith("ES256"), authztest.RawClaims(claims), authztest.Header("typ", typ)))
	})
}

// FuzzCredential holds that no header line panics, and that at most one token
// ever comes out of it: the one that stands in it.
func FuzzCredential(f *testing.F) {
	o := newOracle(f)
	good := o.c.Mint(nil)
	for _, v := range []string{"Bearer " + good, "bearer  x", "Bearer a,Bearer b", "Basic x", "", "\x00", "Bearer\t" + good, ", Bearer " + good} {
		f.Add(v, "a=b", "q=1")
	}
	f.Fuzz(func(t *testing.T, header, cookie, query string) {
		r := request("authorization", header, "cookie", cookie)
		r.Query = query
		sub, _, err := o.v.Route(token.RouteOptions{}).Authenticate(t.Context(), r)
		if err == nil && (sub.Sub != "ada" || strings.Count(header, good) != 1) {
			t.Errorf("accepted %q", header)
		}
	})
}
