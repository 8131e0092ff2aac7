package token_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// request is one with these header lines; values come after names.
func request(lines ...string) *authz.Request {
	r := &authz.Request{}
	for i := 0; i < len(lines); i += 2 {
		r.Headers = append(r.Headers, authz.Header{Name: lines[i], Value: lines[i+1]})
	}
	return r
}

// RFC 6750 and RFC 9110 section 11: where a token may be, and that there is
// exactly one.
func TestBRR(t *testing.T) {
	c := newCorp(t)
	good := c.Mint(nil)
	standard := newVerifier(t, []token.Issuer{c.config()})
	many, err := token.New([]token.Issuer{c.config()}, []token.Credential{
		{Header: "authorization", Scheme: "Bearer"}, {Header: "authorization", Scheme: "Token"},
		{Header: "x-token"}, {Cookie: "session"},
	})
	if err != nil {
		t.Fatal(err)
	}
	query := func(q string, lines ...string) *authz.Request { r := request(lines...); r.Query = q; return r }
	for _, x := range []struct {
		name   string
		v      *token.Verifier
		r      *authz.Request
		reason authz.Reason // empty: accepted
		detail authz.Detail
	}{
		{"BRR-01", standard, request("authorization", "Bearer "+good, "authorization", "Bearer "+good), authz.MalformedCredential, authz.TwoCredentials},
		{"BRR-01 other scheme beside", standard, request("authorization", "Basic YTpi", "authorization", "Bearer "+good), authz.MalformedCredential, authz.TwoCredentials},
		{"BRR-02", standard, request("authorization", "Bearer "+good+",Bearer "+good), authz.MalformedCredential, authz.TwoCredentials},
		{"BRR-02 space", standard, request("authorization", "Basic YTpi, bearer "+good), authz.MalformedCredential, authz.TwoCredentials},
		{"BRR-02 parameters", standard, request("authorization", `Digest a="b",c="d"`), authz.NoCredential, ""},
		{"BRR-03", standard, query("access_token="+good, "authorization", "Bearer "+good), authz.MalformedCredential, authz.QueryCredential},
		{"BRR-03 escaped", standard, query("a=b&access%5Ftoken=" + good), authz.MalformedCredential, authz.QueryCredential},
		{"BRR-03 semicolon", standard, query("a=b;access_token=" + good), authz.MalformedCredential, authz.QueryCredential},
		{"BRR-03 escaped badly", standard, query("access_token%=1&%zz=2", "authorization", "Bearer "+good), "", ""},
		{"BRR-03 another name", standard, query("xaccess_token=1&access_tokens=2", "authorization", "Bearer "+good), "", ""},
		// BRR-04: a token in a form body is not seen, as Envoy sends no body; it is no credential.
		{"BRR-04", standard, request("content-type", "application/x-www-form-urlencoded"), authz.NoCredential, ""},
		{"BRR-05", standard, query("access_token=x"), authz.MalformedCredential, authz.QueryCredential},
		{"BRR-06", standard, request("authorization", "bearer "+good), "", ""},
		{"BRR-06 upper", standard, request("authorization", "BEARER "+good), "", ""},
		{"BRR-07", standard, request("authorization", "Bearer"), authz.MalformedCredential, authz.NotToken68},
		{"BRR-07 space", standard, request("authorization", "Bearer "), authz.MalformedCredential, authz.NotToken68},
		{"BRR-08 two spaces", standard, request("authorization", "Bearer  "+good), "", ""}, // RFC 9110 section 11.4: one or more
		{"BRR-08 tab", standard, request("authorization", "Bearer\t"+good), authz.MalformedCredential, authz.NotToken68},
		{"BRR-08 slash", standard, request("authorization", "Bearer/"+good), authz.MalformedCredential, authz.NotToken68},
		{"BRR-08 before", standard, request("authorization", " Bearer"), authz.MalformedCredential, authz.NotToken68},
		{"BRR-08 trailing", standard, request("authorization", "Bearer "+good+" x"), authz.MalformedCredential, authz.NotToken68},
		{"BRR-09", standard, request("authorization", "Basic YTpi"), authz.NoCredential, ""},
		{"BRR-09 longer name", standard, request("authorization", "Bearers "+good), authz.NoCredential, ""},
		{"BRR-10 quote", standard, request("authorization", `Bearer "`+good+`"`), authz.MalformedCredential, authz.NotToken68},
		{"BRR-10 CR", standard, request("authorization", "Bearer a\rb"), authz.MalformedCredential, authz.NotToken68},
		{"BRR-10 LF", standard, request("authorization", "Bearer a\nb"), authz.MalformedCredential, authz.NotToken68},
		{"BRR-10 NUL", standard, request("authorization", "Bearer a\x00b"), authz.MalformedCredential, authz.NotToken68},
		{"BRR-10 0x80", standard, request("authorization", "Bearer a\x80b"), authz.MalformedCredential, authz.NotToken68},
		{"BRR-10 sanitised", standard, request("authorization", "Bearer a!b"), authz.MalformedCredential, authz.NotToken68},
		{"BRR-11", standard, request(), authz.NoCredential, ""},
		{"size", standard, request("authorization", "Bearer "+strings.Repeat("a", 16<<10+1)), authz.MalformedCredential, authz.CredentialTooLong},
		{"size, as long as it may be", standard, request("authorization", "Bearer "+strings.Repeat("a", 16<<10)), authz.InvalidToken, authz.MalformedToken},
		{"not a token", standard, request("authorization", "Bearer opaque"), authz.InvalidToken, authz.MalformedToken},
		{"other scheme of ours", many, request("authorization", "token "+good), "", ""},
		{"custom header", many, request("x-token", good), "", ""},
		{"custom header twice", many, request("x-token", good, "x-token", good), authz.MalformedCredential, authz.TwoCredentials},
		{"header and cookie", many, request("authorization", "Bearer "+good, "cookie", "session="+good), authz.MalformedCredential, authz.TwoCredentials},
		{"cookie", many, request("cookie", "a=b; session="+good+"; c=d"), "", ""},
		{"cookie in the second line", many, request("cookie", "a=b", "cookie", "session="+good), "", ""},
		{"cookie merged with a comma", many, request("cookie", "a=b,session="+good), "", ""},
		{"cookie twice", many, request("cookie", "session="+good+"; session="+good), authz.MalformedCredential, authz.TwoCredentials},
		{"cookie twice, merged", many, request("cookie", "session="+good+",session=x"), authz.MalformedCredential, authz.TwoCredentials},
		{"another cookie", many, request("cookie", "xsession="+good+"; Session="+good), authz.NoCredential, ""},
		{"cookie in another header", many, request("x-cookie", "session="+good), authz.NoCredential, ""},
		{"empty cookie", many, request("cookie", "session="), authz.MalformedCredential, authz.NotToken68},
		{"a place that is not configured", standard, request("x-token", good, "cookie", "session="+good), authz.NoCredential, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, _, err := x.v.Route(token.RouteOptions{}).Authenticate(t.Context(), x.r)
			if x.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, x.reason, x.detail)
		})
	}

	t.Run("BRR-12", func(t *testing.T) {
		expired := c.Mint(map[string]any{"iat": time.Now().Unix() - 600, "exp": time.Now().Unix() - 300})
		_, _, err := standard.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(expired))
		refused(t, err, authz.InvalidToken, authz.Expired)
	})
	t.Run("BRR-14", func(t *testing.T) {
		set, err := keys.New(keys.Config{Issuer: c.URL()}) // not running: keys never came
		if err != nil {
			t.Fatal(err)
		}
		v := newVerifier(t, []token.Issuer{c.config(func(i *token.Issuer) { i.Keys = set })})
		_, _, err = v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(good))
		refused(t, err, authz.IssuerUnavailable, authz.KeysMissing)
	})
	t.Run("optional", func(t *testing.T) {
		r := standard.Route(token.RouteOptions{Optional: true})
		if sub, _, err := r.Authenticate(t.Context(), request("authorization", "Basic YTpi")); err != nil || sub != authz.Nobody {
			t.Errorf("%v %v", sub, err)
		}
		_, _, err := r.Authenticate(t.Context(), bearer("a.b.c"))
		refused(t, err, authz.InvalidToken, authz.MalformedToken)
	})
}

// BRR-11, BRR-13 and BRR-15: what a challenge says, and that it says no more.
func TestChallenges(t *testing.T) {
	full := token.Challenge{
		Realm: "sallyport", Scopes: []string{"orders", "orders:write"}, ACR: []string{"mfa", "phr"}, MaxAge: 15 * time.Minute,
		ResourceMetadata: "https://api.example.com/.well-known/oauth-protected-resource",
	}
	meta := `, resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`
	for _, x := range []struct {
		name string
		c    token.Challenge
		want map[authz.Reason]string
	}{
		{"BRR-11", token.Challenge{Realm: "sallyport"}, map[authz.Reason]string{
			authz.NoCredential:   `Bearer realm="sallyport"`,
			authz.InvalidToken:   `Bearer realm="sallyport", error="invalid_token"`,
			authz.StepUpRequired: `Bearer realm="sallyport", error="insufficient_user_authentication"`,
		}},
		// RFC 9110 section 5.6.4: what a quoted-string escapes, and what no header may hold.
		{"quoted", token.Challenge{Realm: "a\"b\\c\x00\r\n\x1f \x7f\u00e9~"}, map[authz.Reason]string{
			authz.NoCredential: `Bearer realm="a\"b\\c ~"`,
		}},
		{"BRR-13", full, map[authz.Reason]string{
			authz.NoCredential:        `Bearer realm="sallyport"` + meta,
			authz.InvalidToken:        `Bearer realm="sallyport", error="invalid_token"` + meta,
			authz.MalformedCredential: `Bearer realm="sallyport", error="invalid_request"` + meta,
			authz.InsufficientScope:   `Bearer realm="sallyport", error="insufficient_scope", scope="orders orders:write"` + meta,
			authz.StepUpRequired:      `Bearer realm="sallyport", error="insufficient_user_authentication", acr_values="mfa phr", max_age="900"` + meta,
			authz.IssuerUnavailable:   "", // a client must not throw away a good token
			authz.NotPermitted:        "",
			authz.Internal:            "",
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := token.Challenges(x.c)
			for reason, want := range x.want {
				if got[reason] != want {
					t.Errorf("%s: %s\nwant %s", reason, got[reason], want)
				}
			}
		})
	}
}

// BRR-15: a challenge is made when the route is, so nothing of a token can be
// in it; and it has no description that could hold more.
func TestChallengesTellNothing(t *testing.T) {
	t.Run("BRR-15", func(t *testing.T) {
		for reason, challenge := range token.Challenges(token.Challenge{Realm: "r", Scopes: []string{"s"}, ACR: []string{"a"}, MaxAge: time.Minute, ResourceMetadata: "https://m"}) {
			for param := range strings.SplitSeq(strings.TrimPrefix(challenge, "Bearer "), ", ") {
				name, _, _ := strings.Cut(param, "=")
				switch name {
				case "realm", "error", "scope", "acr_values", "max_age", "resource_metadata":
				default:
					t.Errorf("%s: parameter %s", reason, name)
				}
			}
		}
	})
}

// Every mistake in what New is given is named.
func TestNewNamesMistakes(t *testing.T) {
	c := newCorp(t)
	for want, change := range map[string]func(*token.Issuer){
		"at least one audience is required": func(i *token.Issuer) { i.Audiences = nil },
		"none may be empty":                 func(i *token.Issuer) { i.Audiences = []string{audience, ""} },
		`algorithm "HS256" is not one of`:   func(i *token.Issuer) { i.Algorithms = []string{"HS256"} },
		`algorithm "none" is not one of`:    func(i *token.Issuer) { i.Algorithms = []string{"none"} },
		"leeway 1m1s is not between":        func(i *token.Issuer) { i.Leeway = 61 * time.Second },
		"leeway -1s is not between":         func(i *token.Issuer) { i.Leeway = -time.Second },
		"maximal lifetime -1s is negative":  func(i *token.Issuer) { i.MaxLifetime = -time.Second },
		"keys are required":                 func(i *token.Issuer) { i.Keys = nil },
		`issuer "": name and URL are req`:   func(i *token.Issuer) { i.Name = "" },
		`issuer "corp": name and URL are r`: func(i *token.Issuer) { i.URL = "" },
	} {
		if _, err := token.New([]token.Issuer{c.config(change)}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := token.New([]token.Issuer{c.config(func(i *token.Issuer) { i.Leeway, i.MaxLifetime = time.Minute, time.Second })}, nil); err != nil {
		t.Error(err)
	}
	for _, typ := range []string{ // of other kinds of JWT
		"logout+jwt", "dpop+jwt", "secevent+jwt", "token-introspection+jwt", "statuslist+jwt",
		"oauth-authz-req+jwt", "client-authentication+jwt", "id+jwt", "Application/ID+JWT",
	} {
		_, err := token.New([]token.Issuer{c.config(func(i *token.Issuer) { i.Types = []string{"at+jwt", typ} })}, nil)
		if err == nil || !strings.Contains(err.Error(), "is not for access tokens") {
			t.Errorf("%s: got %v", typ, err)
		}
	}
	for what, change := range map[string]func(*token.Issuer){
		"name": func(i *token.Issuer) { i.URL += "/other" },
		"URL":  func(i *token.Issuer) { i.Name = "other" },
	} {
		if _, err := token.New([]token.Issuer{c.config(), c.config(change)}, nil); err == nil || !strings.Contains(err.Error(), "name or URL is there twice") {
			t.Errorf("%s twice: %v", what, err)
		}
	}
}

// Places are names, and each is there once, with one way to read it.
func TestNewSources(t *testing.T) {
	const form, twice = "not a name of a header, scheme or cookie", "is there twice, or with and without a scheme"
	for _, x := range []struct {
		creds []token.Credential
		want  string // of the error; empty: taken
	}{
		{nil, ""},
		{[]token.Credential{{Header: "X-Token2"}, {Header: "authorization", Scheme: "Bearer"}, {Header: "Authorization", Scheme: "Token"}, {Cookie: "a"}, {Cookie: "b"}}, ""},
		{[]token.Credential{{}}, "either a header or a cookie"},
		{[]token.Credential{{Header: "a", Cookie: "b"}}, "either a header or a cookie"},
		{[]token.Credential{{Scheme: "Bearer"}}, "either a header or a cookie"},
		{[]token.Credential{{Header: "a b"}}, form},
		{[]token.Credential{{Cookie: "a;b"}}, form},
		{[]token.Credential{{Cookie: "a", Scheme: "Bearer"}}, form},
		{[]token.Credential{{Header: "authorization", Scheme: "B r"}}, form},
		{[]token.Credential{{Header: "a"}, {Header: "A"}}, twice},
		{[]token.Credential{{Header: "a"}, {Header: "a", Scheme: "Bearer"}}, twice},
		{[]token.Credential{{Header: "a", Scheme: "Bearer"}, {Header: "a"}}, twice},
		{[]token.Credential{{Cookie: "a"}, {Cookie: "a"}}, twice},
	} {
		_, err := token.New(nil, x.creds)
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%+v: got %v, want %q", x.creds, err, x.want)
		}
	}
	const tchar = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" // RFC 9110 section 5.6.2
	for b := range 256 {
		name := "a" + string([]byte{byte(b)})
		if _, err := token.New(nil, []token.Credential{{Cookie: name}}); (err == nil) != strings.Contains(tchar, name[1:]) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
