package expr

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-authz/sallyport/authz"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 500e6, time.UTC)

// full is a request of which everything is known.
func full() (*authz.Request, *authz.Subject) {
	return &authz.Request{
			Method: "GET", Scheme: "https", ID: "req-1", Time: noon,
			Headers: []authz.Header{
				{Name: ":path", Value: "/never"},
				{Name: "authorization", Value: "Bearer secret"},
				{Name: "proxy-authorization", Value: "Basic secret"},
				{Name: "cookie", Value: "session=secret"},
				{Name: "x-api-key", Value: "secret"},
				{Name: "x-region", Value: "eu, us"},
				{Name: "x-region", Value: "asia"},
			},
			Source:  authz.Source{Address: netip.MustParseAddr("::ffff:192.0.2.7"), Principal: "spiffe://mesh/ns/a"},
			Context: map[string]string{"tier": "gold"},
			Host:    "api.example.com", Path: "/v1/orders/7", Query: "page=2&page=3&q=a+b",
			Params: []authz.Param{{Name: "order", Value: "7"}, {Name: "account", Value: "bob"}},
		}, &authz.Subject{
			ID: "user:corp/ada", Kind: authz.User, Issuer: "corp", Sub: "ada", Client: "web",
			Roles: []string{"manager", "clerk"}, Scopes: []string{"orders"}, Tenant: "acme", ACR: "urn:mfa",
			AMR: []string{"pwd", "otp"}, AuthTime: noon.Add(-time.Hour),
			Claims: map[string]any{
				"department": "sales", "level": int64(3), "ratio": 0.5, "whole": 3.0, "admin": false, "none": nil,
				"groups": []any{"a", "b"}, "mixed": []any{"a", int64(1), nil},
				"address": map[string]any{"country": "NL", "none": nil}, "https://example.com/tier": "gold",
			},
		}
}

func newEnvT(t testing.TB) *Env {
	t.Helper()
	e, err := New("X-API-Key")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func compile(t testing.TB, e *Env, src string, use Use, want Type) *Program {
	t.Helper()
	p, err := e.Compile(src, use, want)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return p
}

// decide runs a pipeline, and hands over the decision as obligations see it.
func decide(t testing.TB, r *authz.Request, sub *authz.Subject, rule authz.Rule, refusal error) *authz.Decision {
	t.Helper()
	f := &fake{sub: sub, rule: rule, refusal: refusal}
	p, err := authz.New(f, f)
	if err != nil {
		t.Fatal(err)
	}
	p.Decide(t.Context(), r)
	return f.seen
}

type fake struct {
	sub     *authz.Subject
	rule    authz.Rule
	refusal error
	seen    *authz.Decision
}

func (f *fake) Route(*authz.Request) (*authz.Route, error) {
	return &authz.Route{Name: "orders", Policy: "shop", Revision: "r1", Authenticator: f, Authorizer: f, Obligations: f}, nil
}

func (f *fake) Authenticate(context.Context, *authz.Request) (*authz.Subject, authz.CacheOutcome, error) {
	if f.sub == nil {
		return nil, "", authz.Refuse(authz.InvalidToken, "", nil)
	}
	return f.sub, "", nil
}

func (f *fake) Authorize(context.Context, *authz.Request, *authz.Subject) (authz.Rule, error) {
	return f.rule, f.refusal
}

func (f *fake) OnAllow(_ *authz.Request, d *authz.Decision) authz.Answer {
	f.seen = d
	return authz.Answer{}
}

func (f *fake) OnDeny(r *authz.Request, d *authz.Decision) authz.Answer { return f.OnAllow(r, d) }

func (f *fake) Record(context.Context, *authz.Request, *authz.Decision) error { return nil }

// TestValue has a row for each thing that the contract lets expressions say.
func TestValue(t *testing.T) {
	seconds := float64(noon.Unix())
	tests := []struct {
		src  string
		want any
	}{
		{"subject.id", "user:corp/ada"},
		{"subject.kind", "user"},
		{"subject.issuer", "corp"},
		{"subject.sub", "ada"},
		{"subject.client", "web"},
		{"subject.roles", []any{"manager", "clerk"}},
		{"subject.scopes", []any{"orders"}},
		{"subject.tenant", "acme"},
		{"subject.acr", "urn:mfa"},
		{"subject.amr", []any{"pwd", "otp"}},
		{"subject.authTime", seconds - 3600 + .5},
		{"subject.claims.department", "sales"},
		{`subject.claims["https://example.com/tier"]`, "gold"},
		{"subject.claims.address.country", "NL"},
		{"subject.claims.groups[1]", "b"},
		{"request.method", "GET"},
		{"request.host", "api.example.com"},
		{"request.path", "/v1/orders/7"},
		{"request.query", map[string]any{"page": []any{"2", "3"}, "q": []any{"a b"}}},
		{"request.query.page[1]", "3"},
		{"request.params", map[string]any{"order": "7", "account": "bob"}},
		{"request.params.order", "7"},
		{"request.headers", map[string]any{"x-region": []any{"eu, us", "asia"}}},
		{`request.headers["x-region"][0]`, "eu, us"},
		{"request.headers.`x-region`[1]", "asia"},
		{"request.scheme", "https"},
		{"request.id", "req-1"},
		{"request.time", seconds + .5},
		{"source.address", "192.0.2.7"},
		{"source.principal", "spiffe://mesh/ns/a"},
		{"route.name", "orders"},
		{"context", map[string]any{"tier": "gold"}},
		{"context.tier", "gold"},

		// Whole objects, and maps.
		{"source", map[string]any{"address": "192.0.2.7", "principal": "spiffe://mesh/ns/a"}},
		{"route", map[string]any{"name": "orders"}},
		{`{"owner": request.params.account}`, map[string]any{"owner": "bob"}},
		{`{"who": subject.sub, "in": [route, 1]}`, map[string]any{"who": "ada", "in": []any{map[string]any{"name": "orders"}, 1.0}}},
		{"request", map[string]any{
			"method": "GET", "host": "api.example.com", "path": "/v1/orders/7", "scheme": "https", "id": "req-1", "time": seconds + .5,
			"query":   map[string]any{"page": []any{"2", "3"}, "q": []any{"a b"}},
			"params":  map[string]any{"order": "7", "account": "bob"},
			"headers": map[string]any{"x-region": []any{"eu, us", "asia"}},
		}},
		{"subject", map[string]any{
			"id": "user:corp/ada", "kind": "user", "issuer": "corp", "sub": "ada", "client": "web", "tenant": "acme", "acr": "urn:mfa",
			"roles": []any{"manager", "clerk"}, "scopes": []any{"orders"}, "amr": []any{"pwd", "otp"}, "authTime": seconds - 3600 + .5,
			"claims": map[string]any{ // null has no plain form, nor has a list that holds it
				"department": "sales", "level": 3.0, "ratio": 0.5, "whole": 3.0, "admin": false, "groups": []any{"a", "b"},
				"address": map[string]any{"country": "NL"}, "https://example.com/tier": "gold",
			},
		}},

		// Standard library, strings, optionals.
		{`subject.sub + "@" + subject.tenant`, "ada@acme"},
		{`"manager" in subject.roles`, true},
		{"subject.roles.exists(r, r.startsWith('cl'))", true},
		{`subject.claims.groups.map(g, "group:" + g)`, []any{"group:a", "group:b"}},
		{`subject.roles.join(",")`, "manager,clerk"},
		{`subject.claims.groups.join(" ")`, "a b"},
		{`request.path.split("/")[2]`, "orders"},
		{`"ADA".lowerAscii()`, "ada"},
		{`request.host.replace("api.", "")`, "example.com"},
		{`"%s has %d".format([subject.sub, subject.claims.level])`, "ada has 3"},
		{`request.path.matches("^/v1/orders/[0-9]+$")`, true},
		{`request.time - subject.authTime < duration("2h")`, true},
		{"request.time - subject.authTime", 3600.0},
		{"request.time.getHours()", 12.0},
		{"string(request.time)", "2026-11-22T12:00:00.5Z"},
		{`subject.?tenant.orValue("none")`, "acme"},
		{`subject.claims.?address.?city.orValue("none")`, "none"},
		{`subject.?tenant`, "acme"},
		{`{?"tenant": subject.?tenant, ?"city": subject.claims.?city}`, map[string]any{"tenant": "acme"}},
		{"has(subject.tenant) && has(subject.claims.none) && !has(subject.claims.nowhere)", true},
		{`has(dyn(subject).tenant) && dyn(subject)["tenant"] == "acme"`, true},
		{"subject == subject && dyn(subject) != dyn(route)", true},
		{"type(subject) != type(request)", true},

		// A claim's number is an int where it is whole, and compares by value.
		{"subject.claims.level", 3.0},
		{"subject.claims.level == 3 && subject.claims.level == subject.claims.whole", true},
		{"subject.claims.level > 2.5 && subject.claims.ratio < 1", true},
		{"subject.claims.whole in [3]", true},
		{"subject.claims.level + 1", 4.0},

		{`"x"`, "x"},
		{"true", true},
		{"1.5", 1.5},
		{"7u", 7.0},
		{`duration("90s")`, 90.0},
		{"-9007199254740991", -9007199254740991.0},
		{"9007199254740991u", 9007199254740991.0},
	}
	e := newEnvT(t)
	r, sub := full()
	for _, tt := range tests {
		got, err := compile(t, e, tt.src, Enforce, Any).Value(NewScope(r, sub, "orders", nil))
		if err != nil {
			t.Errorf("%s: %v", tt.src, err)
		} else if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s:\n%s", tt.src, d)
		}
	}
}

func TestMissing(t *testing.T) {
	tests := []struct{ src, what, why string }{
		{"subject.tenant", "subject.tenant", unknown},
		{`subject.tenant + "x"`, "subject.tenant", unknown},
		{"dyn(subject).tenant", "subject.tenant", unknown},
		{`dyn(subject)["ten" + "ant"]`, "subject.tenant", unknown},
		{`dyn(subject).nothing`, "dyn(subject).nothing", unknown},
		{`{"t": subject.tenant}`, "subject.tenant", unknown},
		{"subject.?tenant", "subject.?tenant", unknown},
		{"optional.of(subject.?tenant)", "optional.of(subject.?tenant)", unknown},
		{"subject.authTime", "subject.authTime", unknown},
		{"source.principal", "source.principal", unknown},
		{"subject.claims.nothing", "subject.claims.nothing", unknown},
		{`"x-" + subject.claims["https://a/b"]`, `subject.claims["https://a/b"]`, unknown},
		{"subject.roles[9]", "subject.roles[9]", unknown},
		{"request.headers.accept[0]", "request.headers.accept[0]", unknown},
		{"request.headers.authorization", "request.headers.authorization", unknown},
		{"request.query.nothing", "request.query.nothing", unknown},
		{"request.params.nothing", "request.params.nothing", unknown},
		{"context.nothing", "context.nothing", unknown},

		{"subject.claims.n + 'x'", "subject.claims.n + 'x'", wrongType},
		{"subject.claims.n.deeper", "subject.claims.n.deeper", unknown},
		{"(false ? subject : dyn(1)).id", "(false ? subject : dyn(1)).id", unknown},
		{"dyn(subject)[1]", "dyn(subject)[1]", wrongType},
		{"has(dyn(subject).x) || dyn(1)", "has(dyn(subject).x) || dyn(1)", wrongType},
		{"null", "null", wrongType},
		{"subject.claims.null_", "subject.claims.null_", wrongType},
		{"[1, null]", "[1, null]", wrongType},
		{"{1: 'x'}", "{1: 'x'}", wrongType},
		{"dyn(b'x')", "dyn(b'x')", wrongType},
		{"1.0 / 0.0", "1.0 / 0.0", wrongType},
		{"9007199254740992", "9007199254740992", wrongType}, // as a float64, 9007199254740993 is the same
		{"-9007199254740992", "-9007199254740992", wrongType},
		{"9007199254740992u", "9007199254740992u", wrongType},
		{"1e20", "1e20", wrongType},
		{"18446744073709551615u", "18446744073709551615u", wrongType},

		{"subject.claims.n / 0", "subject.claims.n / 0", incomplete},
		{"int(subject.id)", "int(subject.id)", incomplete},
		{"request.path.substring(99)", "request.path.substring(99)", incomplete},
		{"subject.id.matches(subject.claims.pattern)", "subject.id.matches(subject.claims.pattern)", incomplete},
		{`subject.claims.bad.join(",")`, `subject.claims.bad.join(",")`, ambiguous},
	}
	e := newEnvT(t)
	r := &authz.Request{Path: "/", Headers: []authz.Header{{Name: "authorization", Value: "Bearer x"}}}
	sub := &authz.Subject{ID: "anonymous", Kind: authz.Anonymous, Claims: map[string]any{
		"n": int64(1), "null_": nil, "pattern": "[", "bad": []any{"a,b"},
	}}
	for _, tt := range tests {
		got, err := compile(t, e, tt.src, Enforce, Any).Value(NewScope(r, sub, "r", nil))
		var m *Missing
		if !errors.As(err, &m) {
			t.Errorf("%s: got %v, %v, want it missing", tt.src, got, err)
		} else if m.What != tt.what || m.Why != tt.why {
			t.Errorf("%s: got %q (%v), want %q", tt.src, m, m.Err, tt.what+" "+tt.why)
		}
	}
}

// TestUnknown goes through every variable where nothing is known: texts and
// times are missing, lists and maps are empty.
func TestUnknown(t *testing.T) {
	e := newEnvT(t)
	for name, sub := range map[string]*authz.Subject{"nobody": nil, "empty": {}} {
		s := NewScope(&authz.Request{}, sub, "", nil)
		for _, v := range Variables() {
			got, err := compile(t, e, v.Name, Answer, Any).Value(s)
			list, dict := strings.HasPrefix(v.Type, "list"), strings.HasPrefix(v.Type, "map")
			var m *Missing
			switch {
			case list && (err != nil || !reflect.DeepEqual(got, []any{})),
				dict && (err != nil || !reflect.DeepEqual(got, map[string]any{})):
				t.Errorf("%s: %s: got %#v, %v, want it empty", name, v.Name, got, err)
			case !list && !dict && (!errors.As(err, &m) || m.What != v.Name || m.Why != unknown):
				t.Errorf("%s: %s: got %#v, %v, want it missing", name, v.Name, got, err)
			}
			if v.Name == "context" {
				continue
			}
			has, err := compile(t, e, "has("+v.Name+")", Answer, Any).Value(s)
			if err != nil || has != (list || dict) {
				t.Errorf("%s: has(%s): got %v, %v", name, v.Name, has, err)
			}
		}
	}
}

func TestAnonymous(t *testing.T) {
	e := newEnvT(t)
	got, err := compile(t, e, "subject", Enforce, Any).Value(NewScope(&authz.Request{}, authz.Nobody, "r", nil))
	want := map[string]any{"id": "anonymous", "kind": "anonymous", "roles": []any{}, "scopes": []any{}, "amr": []any{}, "claims": map[string]any{}}
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestDecision(t *testing.T) {
	e := newEnvT(t)
	r, sub := full()
	rule := authz.Rule{File: "policy.csv", Line: 3}
	allowed := decide(t, r, sub, rule, nil)
	denied := decide(t, r, sub, authz.Rule{}, authz.Refuse(authz.NotPermitted, authz.NoRuleMatched, nil))
	refused := authz.Refusal(authz.Refuse(authz.Overloaded, "", nil))
	tests := []struct {
		src                      string
		allowed, denied, refused any // nil: missing
	}{
		{"decision.reason", "allowed", "not_permitted", "overloaded"},
		{"decision.policy", "shop", "shop", nil},
		{"decision.revision", "r1", "r1", nil},
		{"decision.rule", "policy.csv:3", nil, nil},
		{"decision.id", allowed.ID(), denied.ID(), refused.ID()},
		{"has(decision.rule)", true, false, false},
		{`subject.sub + " " + decision.reason`, "ada allowed", "ada not_permitted", nil},
	}
	for _, tt := range tests {
		p := compile(t, e, tt.src, Answer, Any)
		for d, want := range map[*authz.Decision]any{allowed: tt.allowed, denied: tt.denied, &refused: tt.refused} {
			got, err := p.Value(NewScope(r, d.Subject(), "orders", d))
			if got != want || (err == nil) != (want != nil) {
				t.Errorf("%s for %s: got %v, %v, want %v", tt.src, d.Reason(), got, err, want)
			}
		}
	}
}

func TestScopeBelongsToOneEnv(t *testing.T) {
	r, sub := full()
	s := NewScope(r, sub, "r", nil)
	open, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		env  *Env
		want bool
	}{{open, true}, {newEnvT(t), false}, {open, true}} {
		got, err := compile(t, tt.env, `"x-api-key" in request.headers`, Enforce, Any).Value(s)
		if err != nil || got != tt.want {
			t.Errorf("got %v, %v, want %v", got, err, tt.want)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	e := newEnvT(t)
	r, sub := full()
	for _, src := range []string{"subject.sub", "subject", `subject.roles.join(",")`, "request.headers", "request.query.page[0]"} {
		p := compile(t, e, src, Enforce, Any)
		want, err := p.Value(NewScope(r, sub, "r", nil))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if got, err := p.Value(NewScope(r, sub, "r", nil)); err != nil || !cmp.Equal(want, got) {
					t.Errorf("%s: got %v, %v, want %v", src, got, err, want)
				}
			})
		}
		wg.Wait()
	}
}

// TestValueIsACopy: a subject is shared between requests.
func TestValueIsACopy(t *testing.T) {
	e := newEnvT(t)
	r, sub := full()
	got, err := compile(t, e, "subject", Enforce, Any).Value(NewScope(r, sub, "r", nil))
	if err != nil {
		t.Fatal(err)
	}
	m := got.(map[string]any)
	m["roles"].([]any)[0] = "changed"
	m["claims"].(map[string]any)["address"].(map[string]any)["country"] = "changed"
	if _, fresh := full(); !cmp.Equal(fresh, sub) {
		t.Error("the subject changed with the value")
	}
}

// TestErrorsTellNoValues: messages go to logs.
func TestErrorsTellNoValues(t *testing.T) {
	e := newEnvT(t)
	s := NewScope(&authz.Request{Query: "q=s3cret"}, &authz.Subject{Sub: "s3cret", Roles: []string{"s3cret"}, Claims: map[string]any{"c": "s3cret"}}, "r", nil)
	for _, src := range []string{
		"int(subject.sub)", "subject.claims[subject.sub + '!']", "dyn(subject)[subject.sub]", `subject.roles.join("s3")`, "timestamp(request.query.q[0])",
		"subject.claims.c + dyn(1)", "subject.roles.map(r, int(r))", "request.headers[request.query.q[0]]",
	} {
		p, err := e.Compile(src, Enforce, Any)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got, err := p.Value(s); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, %v", src, got, err)
		}
	}
}
