package token_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token"
)

// claim is a token whose claims differ in one from a good one's.
func (c *corp) claim(name string, value any) string { return c.Mint(map[string]any{name: value}) }

// payload is a token with this text in place of the closing brace of its
// claims.
func (c *corp) payload(more string) string {
	claims := c.Claims(nil)
	text := fmt.Sprintf(`{"iss":%q,"sub":"ada","aud":%q,"client_id":"web","iat":%d,"exp":%d,"jti":"1"%s}`,
		claims["iss"], audience, claims["iat"], claims["exp"], more)
	return c.Mint(nil, authztest.RawClaims(text))
}

// RFC 7519 and 9068: what a token may claim.
func TestCLM(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	clock := func() time.Time { return now }
	c := newCorp(t, authztest.WithClock(clock))
	v := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Leeway = 10 * time.Second })}, token.WithClock(clock))
	accept := func(id string, toks ...string) {
		t.Helper()
		t.Run(id, func(t *testing.T) {
			t.Helper()
			for _, tok := range toks {
				if _, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(tok)); err != nil {
					t.Errorf("refused: %v", err)
				}
			}
		})
	}
	each := func(what string, values []any, name string, detail authz.Detail) (out []refusal) {
		for _, value := range values {
			out = append(out, refusal{fmt.Sprintf("%s %.30v", what, value), c.claim(name, value), detail})
		}
		return out
	}

	jose(t, c, v, "CLM-01", refusal{"iss twice", c.payload(`,"iss":"https://evil.example"`), authz.DuplicateMember})
	jose(t, c, v, "CLM-02", refusal{"ISS", c.payload(`,"ISS":"https://evil.example"`), authz.DuplicateMember})
	jose(t, c, v, "CLM-02 alone",
		refusal{"ROLES", c.payload(`,"ROLES":["admin"]`), authz.DuplicateMember},
		refusal{"\u017fub", c.payload(`,"\u017fcope":"orders"`), authz.DuplicateMember})
	var alone []refusal // each claim that means something, in upper case and without itself
	for _, name := range []string{
		"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "typ", "client_id", "azp", "sid", "scope", "scp", "roles",
		"acr", "amr", "auth_time", "nonce", "at_hash", "events", "cnf", "_claim_names", "_claim_sources",
	} {
		tok := c.Mint(map[string]any{name: authztest.Absent, strings.ToUpper(name): 1})
		alone = append(alone, refusal{name, tok, authz.DuplicateMember})
	}
	jose(t, c, v, "CLM-02 each", alone...)
	jose(t, c, v, "CLM-03", refusal{"iſs", c.payload(`,"iſs":"https://evil.example"`), authz.DuplicateMember})
	jose(t, c, v, "CLM-04",
		refusal{"trailing slash", c.claim("iss", c.URL()+"/"), authz.UnknownIssuer},
		refusal{"upper case", c.claim("iss", strings.ToUpper(c.URL())), authz.UnknownIssuer},
		refusal{"no port", c.claim("iss", c.URL()[:strings.LastIndexByte(c.URL(), ':')]), authz.UnknownIssuer})
	jose(t, c, v, "CLM-05",
		refusal{"array", c.claim("iss", []string{c.URL()}), authz.BadClaim},
		refusal{"absent", c.claim("iss", authztest.Absent), authz.MissingClaim})
	dates := []any{"1790000300", 1 << 53, 1e18, 1e30, -1, 0, nil, []int{1790000300}, true, map[string]any{}}
	jose(t, c, v, "CLM-06", append(each("exp", dates, "exp", authz.BadClaim),
		refusal{"2^53, as a float", c.Mint(nil, authztest.RawClaims(fmt.Sprintf(`{"iss":%q,"sub":"ada","client_id":"web","jti":"1","iat":1,"exp":9007199254740992.0}`, c.URL()))), authz.BadClaim},
		refusal{"NaN", c.payload(`,"x":NaN`), authz.MalformedToken})...)
	jose(t, c, v, "CLM-07", refusal{"no exp", c.claim("exp", authztest.Absent), authz.MissingClaim})
	jose(t, c, v, "CLM-08",
		refusal{"exp is now, less the leeway", c.Mint(map[string]any{"iat": now.Unix() - 60, "exp": now.Unix() - 10}), authz.Expired})
	accept("CLM-08+", c.Mint(map[string]any{"iat": now.Unix() - 60, "exp": now.Unix() - 9}))
	// A token that expired before it was issued has expired, no more.
	jose(t, c, v, "CLM-08 before iat", refusal{"exp before iat", c.claim("exp", now.Unix()-3600), authz.Expired})
	accept("CLM-08+ before iat", c.claim("exp", now.Unix()-9))
	jose(t, c, v, "CLM-09", refusal{"a second over a day", c.claim("exp", now.Unix()+86401), authz.LifetimeTooLong})
	accept("CLM-09+", c.claim("exp", now.Unix()+86400))
	jose(t, c, v, "CLM-10",
		refusal{"nbf in the future", c.claim("nbf", now.Unix()+11), authz.NotYetValid},
		refusal{"nbf 1e30", c.claim("nbf", 1e30), authz.BadClaim},
		refusal{"nbf after exp", c.claim("nbf", now.Unix()+400), authz.BadClaim},
		refusal{"nbf a string", c.claim("nbf", "0"), authz.BadClaim},
		refusal{"nbf at exp", c.Mint(map[string]any{"nbf": now.Unix() + 300, "exp": now.Unix() + 300}), authz.BadClaim},
		refusal{"nbf zero", c.claim("nbf", 0), authz.BadClaim},
		refusal{"nbf before 1970", c.claim("nbf", -1), authz.BadClaim})
	accept("CLM-10+", c.claim("nbf", now.Unix()+10))
	jose(t, c, v, "CLM-11",
		refusal{"iat in the future", c.claim("iat", now.Unix()+11), authz.IssuedInFuture},
		refusal{"no iat", c.claim("iat", authztest.Absent), authz.MissingClaim},
		refusal{"iat a string", c.claim("iat", "1790000000"), authz.BadClaim},
		refusal{"iat zero", c.claim("iat", 0), authz.BadClaim},
		refusal{"iat before 1970", c.claim("iat", -0.5), authz.BadClaim},
		refusal{"iat below a second", c.claim("iat", 0.5), authz.BadClaim})
	jose(t, c, v, "CLM-12", append(each("sub", []any{"", 7, nil, strings.Repeat("s", 256), "a\x00b", "a\nb", "a\u0085b", []string{"ada"}}, "sub", authz.BadClaim),
		refusal{"no sub", c.claim("sub", authztest.Absent), authz.MissingClaim})...)
	accept("CLM-12+", c.claim("sub", "\u05d0\u05d1"), c.claim("sub", strings.Repeat("s", 255)))
	jose(t, c, v, "CLM-13",
		append(append(each("aud", []any{nil, 7, map[string]any{}, []any{audience, 7}}, "aud", authz.BadClaim),
			each("aud", []any{"", []string{}, audience[:len(audience)-1], audience + "/", audience + " b", strings.ToUpper(audience), []string{"x", ""}}, "aud", authz.WrongAudience)...),
			refusal{"no aud", c.claim("aud", authztest.Absent), authz.MissingClaim})...)
	accept("CLM-13+", c.claim("aud", []string{"x", audience}))
	jose(t, c, v, "CLM-14",
		refusal{"no jti", c.claim("jti", authztest.Absent), authz.MissingClaim},
		refusal{"10 kB", c.claim("jti", strings.Repeat("j", 10_000)), authz.BadClaim},
		refusal{"line break", c.claim("jti", "a\nb"), authz.BadClaim})
	jose(t, c, v, "CLM-15",
		refusal{"no client_id", c.claim("client_id", authztest.Absent), authz.MissingClaim},
		refusal{"a number", c.claim("client_id", 7), authz.BadClaim},
		refusal{"azp with a line break", c.claim("azp", "a\nb"), authz.BadClaim})
	accept("CLM-15+", c.Mint(map[string]any{"client_id": authztest.Absent, "azp": "web"})) // contract: any of claims.client will do
	t.Run("CLM-16", func(t *testing.T) {
		for _, s := range []struct {
			claims map[string]any
			want   []string
		}{
			{map[string]any{"scope": "a b"}, []string{"a", "b"}},
			{map[string]any{"scope": []string{"a", "b"}}, []string{"a", "b"}},
			{map[string]any{"scope": "a  b a"}, []string{"a", "b"}},
			{map[string]any{"scp": "c", "scope": "a"}, []string{"a", "c"}},
			{map[string]any{"scope": 7}, nil},
			{map[string]any{"scope": []any{"a", 7}}, nil},
			{map[string]any{"scope": map[string]any{"a": true}}, nil},
		} {
			sub := c.subject(t, v, s.claims)
			if !slices.Equal(sub.Scopes, s.want) {
				t.Errorf("%v: scopes %q, want %q", s.claims, sub.Scopes, s.want)
			}
		}
	})
	jose(t, c, v, "CLM-16-", refusal{"a tab", c.claim("scope", "a\tb"), authz.BadClaim})
	t.Run("CLM-17", func(t *testing.T) {
		for _, s := range []struct {
			roles any
			want  []string
		}{
			{[]string{"a", "b"}, []string{"a", "b"}},
			{"a b", []string{"a b"}}, // one string is one role
			{map[string]any{"a": true}, nil},
			{[]any{"a", nil}, nil},
			{true, nil},
		} {
			if sub := c.subject(t, v, map[string]any{"roles": s.roles}); !slices.Equal(sub.Roles, s.want) {
				t.Errorf("%v: roles %q, want %q", s.roles, sub.Roles, s.want)
			}
		}
	})
	jose(t, c, v, "CLM-17-", refusal{"a role with a line break", c.claim("roles", []string{"a\nb"}), authz.BadClaim})
	jose(t, c, v, "CLM-18", refusal{"invalid UTF-8", c.payload(",\"x\":\"\xff\""), authz.MalformedToken})
	jose(t, c, v, "CLM-19",
		refusal{"unpaired surrogate", c.payload(`,"x":"\ud800"`), authz.MalformedToken},
		refusal{"the second half first", c.payload(`,"x":"\udc00\ud800"`), authz.MalformedToken})
	t.Run("CLM-20", func(t *testing.T) {
		sub := c.subject(t, v, map[string]any{"__proto__": map[string]any{"roles": []string{"admin"}}, "constructor": "x"})
		if len(sub.Roles) != 0 {
			t.Errorf("roles %q", sub.Roles)
		}
	})
	t.Run("CLM-20 many", func(t *testing.T) {
		var more strings.Builder
		for n := range 10_000 {
			fmt.Fprintf(&more, `,"%d":0`, n)
		}
		_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.payload(more.String())))
		refused(t, err, authz.MalformedCredential, authz.CredentialTooLong)
	})
	t.Run("CLM-21", func(t *testing.T) { // what is text stays text: "false" is not false
		sub := c.subject(t, v, map[string]any{"email_verified": "false", "n": 7, "f": 1.5, "big": 1e300})
		for name, want := range map[string]any{"email_verified": "false", "n": int64(7), "f": 1.5, "big": 1e300} {
			if got := sub.Claims[name]; got != want {
				t.Errorf("%s is %T %v, want %T %v", name, got, got, want, want)
			}
		}
	})
	jose(t, c, v, "CLM-22", refusal{"empty claims", c.Mint(nil, authztest.RawClaims(`{}`)), authz.MissingClaim})
}

func (c *corp) subject(t *testing.T, v *token.Verifier, claims map[string]any) *authz.Subject {
	t.Helper()
	sub, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.Mint(claims)))
	if err != nil {
		t.Fatalf("%v: %v", claims, err)
	}
	return sub
}

// RFC 8725 sections 3.11 and 3.12: other kinds of JWT that the same issuer
// signs with the same key are not access tokens.
func TestTYP(t *testing.T) {
	c := newCorp(t)
	strict := newVerifier(t, []token.Issuer{c.config()})
	legacy := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Types = []string{"JWT"} })})
	typed := func(typ any, claims map[string]any) string { return c.Mint(claims, authztest.Header("typ", typ)) }
	for n, typ := range map[int]string{
		2: "logout+jwt", 3: "dpop+jwt", 4: "secevent+jwt", 5: "token-introspection+jwt", 6: "statuslist+jwt", 8: "oauth-authz-req+jwt",
	} {
		jose(t, c, strict, fmt.Sprintf("TYP-%02d", n), refusal{typ, typed(typ, nil), authz.WrongType})
		jose(t, c, legacy, fmt.Sprintf("TYP-%02d legacy", n), refusal{typ, typed(typ, nil), authz.WrongType})
	}
	id := map[string]any{"nonce": "n", "at_hash": "h"}
	jose(t, c, strict, "TYP-01", refusal{"ID token", typed("JWT", id), authz.WrongType})
	jose(t, c, legacy, "TYP-01 legacy",
		refusal{"nonce", typed("JWT", map[string]any{"nonce": "n"}), authz.NotAccessToken},
		refusal{"at_hash", typed("JWT", map[string]any{"at_hash": "h"}), authz.NotAccessToken},
		refusal{"logout token without its type", typed("JWT", map[string]any{"events": map[string]any{}}), authz.NotAccessToken},
		refusal{"Keycloak's ID token", typed("JWT", map[string]any{"typ": "ID"}), authz.NotAccessToken},
		refusal{"Keycloak's refresh token", typed("JWT", map[string]any{"typ": "Refresh"}), authz.NotAccessToken},
		refusal{"Keycloak's offline token", typed("JWT", map[string]any{"typ": "Offline"}), authz.NotAccessToken},
		refusal{"Keycloak's logout token", typed("JWT", map[string]any{"typ": "Logout"}), authz.NotAccessToken})
	jose(t, c, strict, "TYP-07",
		refusal{"JWT", typed("JWT", nil), authz.WrongType},
		refusal{"none", typed(authztest.Absent, nil), authz.WrongType},
		refusal{"x-at+jwt", typed("x-at+jwt", nil), authz.WrongType})
	jose(t, c, strict, "TYP-09", refusal{"client assertion", typed("client-authentication+jwt", nil), authz.WrongType})
	jose(t, c, legacy, "TYP-09 legacy", refusal{"client assertion, whose audience is the issuer", typed("JWT", map[string]any{"aud": c.URL()}), authz.WrongAudience})
	t.Run("TYP-10", func(t *testing.T) {
		for _, typ := range []string{"at+jwt", "AT+JWT", "at+JWT", "application/at+jwt", "Application/AT+JWT"} {
			if _, _, err := strict.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(typed(typ, nil))); err != nil {
				t.Errorf("%s: %v", typ, err)
			}
		}
	})
	jose(t, c, strict, "TYP-11",
		refusal{"parameter", typed("at+jwt; charset=utf-8", nil), authz.WrongType},
		refusal{"two applications", typed("application/application/at+jwt", nil), authz.WrongType})
	jose(t, c, strict, "TYP-12", refusal{"array", typed([]string{"at+jwt"}, nil), authz.BadTokenHeader})

	jose(t, c, strict, "distributed claims",
		refusal{"_claim_names", typed("at+jwt", map[string]any{"_claim_names": map[string]any{"a": "b"}}), authz.NotAccessToken},
		refusal{"_claim_sources", typed("at+jwt", map[string]any{"_claim_sources": 7}), authz.NotAccessToken})
	jose(t, c, strict, "what go-oidc reads as text",
		refusal{"nonce", typed("at+jwt", map[string]any{"nonce": 7}), authz.BadClaim},
		refusal{"at_hash", typed("at+jwt", map[string]any{"at_hash": []string{"h"}}), authz.BadClaim})
	t.Run("at+jwt says what it is", func(t *testing.T) { // a nonce does not make another kind of it
		if _, _, err := strict.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(typed("at+jwt", map[string]any{"nonce": "n"}))); err != nil {
			t.Error(err)
		}
	})
	t.Run("legacy accepts", func(t *testing.T) {
		bare := map[string]any{"jti": authztest.Absent, "client_id": authztest.Absent}
		for _, typ := range []any{"JWT", "jwt", authztest.Absent} {
			if _, _, err := legacy.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(typed(typ, bare))); err != nil {
				t.Errorf("%v: %v", typ, err)
			}
		}
	})
	jose(t, c, legacy, "legacy demands",
		refusal{"sub", typed("JWT", map[string]any{"sub": authztest.Absent}), authz.MissingClaim},
		refusal{"iat", typed("JWT", map[string]any{"iat": authztest.Absent}), authz.MissingClaim},
		refusal{"at+jwt where only JWT is taken", typed("at+jwt", nil), authz.WrongType})
	lifted := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Types, i.AcceptIDTokens = []string{"JWT"}, true })})
	t.Run("acceptIDTokens", func(t *testing.T) {
		if _, _, err := lifted.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(typed("JWT", id))); err != nil {
			t.Error(err)
		}
	})
	jose(t, c, lifted, "acceptIDTokens keeps the ban on events", refusal{"events", typed("JWT", map[string]any{"events": map[string]any{}}), authz.NotAccessToken})
	jose(t, c, strict, "binding",
		refusal{"cnf", typed("at+jwt", map[string]any{"cnf": map[string]any{"jkt": "x"}}), authz.UnsupportedBinding},
		refusal{"empty cnf", typed("at+jwt", map[string]any{"cnf": map[string]any{}}), authz.UnsupportedBinding},
		refusal{"cnf as text", typed("at+jwt", map[string]any{"cnf": "x"}), authz.UnsupportedBinding})
}

// RFC 9068 section 4, RFC 9700 section 4.15: who a token may appear as.
func TestAUTZ(t *testing.T) {
	c, other := newCorp(t), newCorp(t)
	v := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Claims.Tenant = []string{"tid"} }),
		other.config(func(i *token.Issuer) { i.Name = "other" })})
	id := func(c *corp, claims map[string]any) string { return c.subject(t, v, claims).ID }
	for _, x := range []struct{ name, got, want string }{
		{"AUTZ-01", id(c, map[string]any{"sub": "role:admin"}), "user:corp/role:admin"},
		{"AUTZ-02", id(c, map[string]any{"sub": "web", "client_id": "web"}), "client:corp/web"},
		{"AUTZ-02 azp", id(c, map[string]any{"sub": "web", "client_id": "x", "azp": "web"}), "client:corp/web"},
		{"AUTZ-02 user", id(c, map[string]any{"sub": "ada", "client_id": "web"}), "user:corp/ada"},
		{"AUTZ-03", id(other, map[string]any{"sub": "ada"}), "user:other/ada"},
		{"AUTZ-04", id(c, map[string]any{"sub": `*,".*[`}), `user:corp/*,".*[`},
	} {
		t.Run(x.name, func(t *testing.T) {
			if x.got != x.want {
				t.Errorf("id %q, want %q", x.got, x.want)
			}
		})
	}
	t.Run("AUTZ-05", func(t *testing.T) { // a role stays a bare name: role:role:admin for Casbin
		if sub := c.subject(t, v, map[string]any{"roles": []string{"role:admin"}}); sub.Roles[0] != "role:admin" {
			t.Errorf("roles %q", sub.Roles)
		}
	})
	t.Run("AUTZ-02 other claims", func(t *testing.T) { // claims.client moves nothing out of the namespace of clients
		v := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Types, i.Claims.Client = []string{"JWT"}, []string{"app.id", "cid"} })})
		mint := func(claims map[string]any) string {
			return c.Mint(claims, authztest.Header("typ", "JWT"))
		}
		for _, x := range []struct {
			claims     map[string]any
			id, client string
		}{
			{map[string]any{"client_id": authztest.Absent}, "user:corp/ada", ""},
			{map[string]any{"cid": "web"}, "user:corp/ada", "web"},
			{map[string]any{"cid": "web", "app": map[string]any{"id": "first"}}, "user:corp/ada", "first"},
			{map[string]any{"sub": "web", "cid": "web", "client_id": authztest.Absent}, "client:corp/web", "web"},
			{map[string]any{"sub": "web", "cid": "x", "client_id": "web"}, "client:corp/web", "x"},
			{map[string]any{"sub": "web", "cid": "x", "client_id": authztest.Absent, "azp": "web"}, "client:corp/web", "x"},
		} {
			sub, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(mint(x.claims)))
			if err != nil || sub.ID != x.id || sub.Client != x.client {
				t.Errorf("%v: got %+v, %v", x.claims, sub, err)
			}
		}
		jose(t, c, v, "names",
			refusal{"the configured claim", mint(map[string]any{"cid": "a\nb"}), authz.BadClaim},
			refusal{"client_id", mint(map[string]any{"client_id": "a\nb"}), authz.BadClaim},
			refusal{"azp", mint(map[string]any{"azp": 7}), authz.BadClaim})
	})
	t.Run("AUTZ-06", func(t *testing.T) {
		sub := c.subject(t, v, map[string]any{"scope": "orders:readx"})
		refused(t, token.Scopes([]string{"orders:read"}).Hold(t.Context(), nil, sub), authz.InsufficientScope, authz.MissingScope)
		if err := token.Scopes([]string{"orders:readx"}).Hold(t.Context(), nil, sub); err != nil {
			t.Error(err)
		}
	})
	t.Run("AUTZ-07", func(t *testing.T) { // RFC 9396 details grant nothing here: there is no scope in them
		sub := c.subject(t, v, map[string]any{"authorization_details": []any{map[string]any{"type": "orders", "scope": "orders"}}})
		refused(t, token.Scopes([]string{"orders"}).Hold(t.Context(), nil, sub), authz.InsufficientScope, authz.MissingScope)
	})
	t.Run("AUTZ-08", func(t *testing.T) {
		sub := c.subject(t, v, map[string]any{"act": map[string]any{"sub": "root", "roles": []string{"admin"}}})
		if sub.ID != "user:corp/ada" || len(sub.Roles) != 0 {
			t.Errorf("%s with roles %q", sub.ID, sub.Roles)
		}
	})
	t.Run("tenant", func(t *testing.T) {
		for value, want := range map[any]string{"acme": "acme", 7: ""} {
			if sub := c.subject(t, v, map[string]any{"tid": value}); sub.Tenant != want {
				t.Errorf("%v: tenant %q", value, sub.Tenant)
			}
		}
	})
	jose(t, c, v, "tenant with a control character", refusal{"tid", c.claim("tid", "a\u2028b\x7f"), authz.BadClaim})
}

// Where an issuer's roles are.
func TestPaths(t *testing.T) {
	c := newCorp(t)
	claims := map[string]any{
		"a.b": []string{"whole"}, "a": map[string]any{"b": []string{"steps"}, "c.d": []string{"dotted"}, "": "empty"},
		"n": map[string]any{"m": []string{"nested"}}, "x/y~z": []string{"escaped"}, "": []string{"nameless"},
		"list": []any{"zero", map[string]any{"r": "one"}}, "text": "a role",
	}
	for name, want := range map[string][]string{
		"a.b":       {"whole"}, // the name as a whole comes first
		"/a/b":      {"steps"}, // a JSON Pointer has no whole
		"/a/c.d":    {"dotted"},
		"/a/":       {"empty"},
		"/":         {"nameless"},
		"n.m":       {"nested"},
		"n":         nil,
		"n.x":       nil,
		"n.m.x":     nil,
		"/x~1y~0z":  {"escaped"},
		"/list/0":   {"zero"},
		"/list/1/r": {"one"},
		"/list/2":   nil,
		"/list/-":   nil,
		"/list/x":   nil,
		"list.0":    nil, // only a pointer counts elements
		"text":      {"a role"},
		"text.x":    nil,
		"/text/0":   nil,
		"/nowhere":  nil,
	} {
		v := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Claims.Roles = []string{name} })})
		if sub := c.subject(t, v, claims); !slices.Equal(sub.Roles, want) {
			t.Errorf("%s: roles %q, want %q", name, sub.Roles, want)
		}
	}
}

// What else a token says of its subject; a claim of another form is unknown.
func TestSubject(t *testing.T) {
	c := newCorp(t)
	v := newVerifier(t, []token.Issuer{c.config()})
	claims := c.Claims(map[string]any{"jti": "j", "sid": "s", "acr": "mfa", "auth_time": 1_700_000_000})
	sub := c.subject(t, v, claims)
	if sub.TokenID != "j" || sub.SessionID != "s" || sub.ACR != "mfa" || sub.AuthTime.Unix() != 1_700_000_000 || sub.IssuedAt.Unix() != claims["iat"] {
		t.Errorf("got %+v", sub)
	}
	for value, want := range map[string][]string{`["pwd","otp"]`: {"pwd", "otp"}, `"pwd"`: nil, `["pwd",7]`: nil, `{}`: nil} {
		sub, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.payload(`,"amr":`+value)))
		if err != nil || !slices.Equal(sub.AMR, want) {
			t.Errorf("amr %s: %v, %v", value, sub, err)
		}
	}
	jose(t, c, v, "sid", refusal{"a number", c.claim("sid", 7), authz.BadClaim}, refusal{"a line break", c.claim("sid", "a\nb"), authz.BadClaim})
}

// Who brought no token is asked for one, where a route asks for anything.
func TestConditionsOfNobody(t *testing.T) {
	for what, cond := range map[string]authz.Condition{
		"scopes": token.Scopes([]string{"orders"}), "acr": token.StepUp([]string{"mfa"}, 0, nil), "age": token.StepUp(nil, time.Minute, nil),
	} {
		err := cond.Hold(t.Context(), nil, authz.Nobody)
		if err == nil {
			t.Errorf("%s: nobody will do", what)
		}
		refused(t, err, authz.NoCredential, "")
	}
	for what, cond := range map[string]authz.Condition{"no scopes": token.Scopes(nil), "no step-up": token.StepUp(nil, 0, nil)} {
		if err := cond.Hold(t.Context(), nil, authz.Nobody); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// RFC 9470: how well and how lately somebody logged in.
func TestSTEP(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	clock := func() time.Time { return now }
	c := newCorp(t, authztest.WithClock(clock))
	v := newVerifier(t, []token.Issuer{c.config()}, token.WithClock(clock))
	mfa := token.StepUp([]string{"mfa", "phr"}, 0, clock)
	fresh := token.StepUp(nil, 15*time.Minute, clock)
	ago := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	for _, x := range []struct {
		name   string
		cond   authz.Condition
		claims map[string]any
		detail authz.Detail // empty: satisfied
	}{
		{"STEP-01", mfa, nil, authz.WeakAuthn},
		{"STEP-02", mfa, map[string]any{"acr": "pwd"}, authz.WeakAuthn},
		{"STEP-02 case", mfa, map[string]any{"acr": "MFA"}, authz.WeakAuthn},
		{"STEP-02+", mfa, map[string]any{"acr": "phr"}, ""},
		{"STEP-03", mfa, map[string]any{"acr": "pwd mfa"}, authz.WeakAuthn},
		{"STEP-03 array", mfa, map[string]any{"acr": []string{"mfa"}}, authz.WeakAuthn},
		{"STEP-04", fresh, map[string]any{"auth_time": now.Unix() + 60}, authz.OldAuthentication},
		{"STEP-04 string", fresh, map[string]any{"auth_time": fmt.Sprint(ago(time.Minute))}, authz.OldAuthentication},
		{"STEP-05", token.StepUp(nil, time.Second, clock), map[string]any{"auth_time": ago(2 * time.Second)}, authz.OldAuthentication},
		{"STEP-06", fresh, map[string]any{"iat": now.Unix(), "auth_time": ago(16 * time.Minute)}, authz.OldAuthentication},
		{"STEP-06 no auth_time", fresh, nil, authz.OldAuthentication},
		{"STEP-06+", fresh, map[string]any{"iat": ago(time.Hour), "exp": now.Unix() + 60, "auth_time": ago(14 * time.Minute)}, ""},
		{"STEP-07", mfa, map[string]any{"amr": []string{"mfa"}}, authz.WeakAuthn},
		{"STEP-07 substring", mfa, map[string]any{"acr": "xmfax"}, authz.WeakAuthn},
		{"STEP-07 unknown", token.StepUp([]string{""}, 0, clock), nil, authz.WeakAuthn},
		{"STEP-06 forever", token.StepUp(nil, math.MaxInt64, clock), nil, authz.OldAuthentication}, // unknown is not long ago
		{"STEP-06+ forever", token.StepUp(nil, math.MaxInt64, clock), map[string]any{"auth_time": 1}, ""},
		{"STEP-06+ own clock", token.StepUp(nil, time.Hour, nil), map[string]any{"auth_time": time.Now().Unix()}, ""},
		{"STEP-04+ clocks differ", fresh, map[string]any{"auth_time": now.Unix() + 10}, ""},
		{"STEP-04 clocks differ", fresh, map[string]any{"auth_time": now.Unix() + 11}, authz.OldAuthentication},
		{"STEP-05+", fresh, map[string]any{"auth_time": ago(15 * time.Minute)}, ""},
		{"STEP-08", token.StepUp([]string{"mfa"}, 15*time.Minute, clock), map[string]any{"acr": "mfa", "auth_time": ago(time.Minute)}, ""}, // satisfied is satisfied: no loop
	} {
		t.Run(x.name, func(t *testing.T) {
			err := x.cond.Hold(t.Context(), nil, c.subject(t, v, x.claims))
			if x.detail == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, authz.StepUpRequired, x.detail)
		})
	}
}

// A float date is rounded so that a token lives shorter, never longer.
func TestFractionalDates(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	clock := func() time.Time { return now }
	c := newCorp(t, authztest.WithClock(clock))
	v := newVerifier(t, []token.Issuer{c.config()}, token.WithClock(clock))
	exp := float64(now.Unix()) + 0.9
	_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.Mint(map[string]any{"iat": now.Unix() - 5, "exp": exp})))
	refused(t, err, authz.InvalidToken, authz.Expired)
	_, _, err = v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.claim("nbf", float64(now.Unix())+0.1)))
	refused(t, err, authz.InvalidToken, authz.NotYetValid)
	_, _, err = v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.claim("iat", float64(now.Unix())+0.1)))
	if err != nil { // of two readings the one that is not in the future
		t.Error(err)
	}
	_, _, err = v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.claim("exp", math.MaxFloat64)))
	refused(t, err, authz.InvalidToken, authz.BadClaim)
}
