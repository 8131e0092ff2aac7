package gate_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz/gate"
)

// folder is a configuration on disk.
type folder struct {
	t   *testing.T
	dir string
}

func newFolder(t *testing.T) folder {
	f := folder{t, t.TempDir()}
	f.write("model.conf", model)
	f.write("policy.csv", rules)
	return f
}

func (f folder) write(name, text string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// tested is a configuration with tests.
const tested = `issuers:
  - {name: corp, issuer: "https://id.example.com", audiences: [api, other], claims: {roles: realm_access.roles, tenant: tid}}
  - {name: partner, issuer: "https://partner.example.com", audiences: [api]}
policies:
  api: {model: model.conf, rules: policy.csv, tests: "*.test.yaml"}
  next: {model: model.conf, rules: policy.csv}
routes:
  - {name: health, match: GET /healthz, token: none, allow: true}
  - name: orders
    match: /orders
    issuers: corp
    policy: api
    onAllow: {requestHeaders: {set: {x-user: subject.sub, x-tenant: subject.tenant, x-region: 'request.headers["x-region"].join("+")'}, append: {x-via: '"us"'}, remove: [cookie]}}
  - {name: narrow, match: /narrow, audiences: other, policy: api}
  - {name: strict, match: /strict, scopes: [pay], stepUp: {acr: gold, maxAge: 15m}, policy: api}
  - {name: next, match: /next, policy: next}
  - {name: at-night, match: /night, policy: api, enforce: {obj: '"/orders"', act: 'request.time.getHours() < 6 ? "GET" : "no"'}}
  - {name: by-source, match: /source, policy: api, enforce: {obj: '"/orders"', act: 'source.principal == "spiffe://a" && source.address == "192.0.2.1" && context.k == "v" ? "GET" : "no"'}}
`

// subjects are who asks in these tests.
const subjects = `subjects:
  ada: {issuer: corp, sub: ada, roles: [manager], tenant: blue}
  bob: {issuer: corp, sub: bob, roles: clerk, scopes: pay, acr: gold, authTime: 2026-11-22T09:50:00Z, audiences: other}
  eve: {issuer: corp, sub: eve, claims: {realm_access: {roles: [clerk]}, tid: red}}
  pat: {issuer: partner, sub: pat, roles: clerk}
  nobody: anonymous
tests:
`

// Each test, and what is said of it; nothing where it passes.
func TestPolicyTests(t *testing.T) {
	f := newFolder(t)
	path := f.write("sallyport.yaml", tested)
	for _, c := range []struct{ test, want string }{
		{`{request: POST https://a/orders, subject: ada, expect: allow, upstream: {x-user: ada, X-Tenant: blue, x-region: ~, x-via: us}}`, ""},
		{`{request: POST https://a/orders, subject: ada, expect: deny}`, `want deny, got allow by policy.csv:2 on route "orders"`},
		{`{request: GET https://a/orders, subject: ada, expect: allow}`, `want allow, got deny: not_permitted (no_rule_matched) on route "orders"; nearest policy.csv:1: `},
		{`{request: GET https://a/orders, subject: ada, expect: deny, reason: not_permitted}`, ""},
		{`{request: GET https://a/orders, subject: ada, expect: deny, reason: no_route}`, `want reason no_route, got deny: not_permitted (no_rule_matched) on route "orders"`},
		{`{request: GET https://a/orders, subject: bob, expect: allow, upstream: {x-tenant: ~, cookie: ~, x-region: eu+us}, with: {headers: {x-region: [eu, us], cookie: a=b, x-tenant: forged}}}`, ""},
		{`{request: GET https://a/orders, subject: bob, expect: allow, upstream: {x-user: ada}}`, `want upstream x-user: "ada", got "bob"`},
		{`{request: GET https://a/orders, subject: bob, expect: allow, upstream: {x-user: ~}}`, `want upstream x-user: none, got "bob"`},
		{`{request: GET https://a/orders, subject: bob, expect: allow, upstream: {x-gone: a}}`, `want upstream x-gone: "a", got none`},
		{`{request: GET https://a/orders, subject: eve, expect: allow, upstream: {x-tenant: red}}`, ""},
		{`{request: GET https://a/orders, subject: nobody, expect: deny, reason: no_credential}`, ""},
		{`{request: GET https://a/orders, subject: anonymous, expect: deny, reason: no_credential}`, ""},
		{`{request: GET https://a/orders, subject: pat, expect: deny, reason: invalid_token}`, ""},
		{`{request: GET https://a/narrow, subject: bob, expect: deny, reason: not_permitted}`, ""},
		{`{request: GET https://a/narrow, subject: pat, expect: deny, reason: invalid_token}`, ""},
		{`{request: GET https://a/strict, subject: ada, expect: deny, reason: insufficient_scope}`, ""},
		{`{request: GET https://a/strict, subject: bob, expect: deny, reason: step_up_required}`, ""},
		{`{request: GET https://a/strict, subject: bob, expect: deny, reason: not_permitted, with: {time: 2026-11-22T10:00:00Z}}`, ""},
		{`{request: GET https://a/healthz, subject: ada, expect: allow}`, ""},
		{`{request: GET https://a/nothing, subject: ada, expect: deny, reason: no_route}`, ""},
		{`{request: GET https://a//orders, subject: ada, expect: deny, reason: malformed_request}`, ""},
		{`{request: GET https://a/next, subject: ada, expect: deny}`, `the request lands on route "next", which is of policy "next", not of "api"`},
		{`{request: GET https://a/night, subject: bob, expect: allow, with: {time: 2026-11-22T05:00:00Z}}`, ""},
		{`{request: GET https://a/night, subject: bob, expect: deny, with: {time: 2026-11-22T07:00:00Z}}`, ""},
		{`{request: GET https://a/source, subject: bob, expect: allow, with: {source: {address: 192.0.2.1, principal: "spiffe://a"}, context: {k: v}}}`, ""},
		{`{subjects: [ada, bob], requests: [POST /orders, GET /orders], host: a, allow: {ada: POST /orders, bob: GET /orders}}`, ""},
		{`{name: matrix, subjects: [ada, bob], requests: [POST /orders, GET /orders], host: a, allow: {ada: POST /orders}}`, `want deny, got allow by policy.csv:1 on route "orders"`},
	} {
		f.write("a.test.yaml", subjects+"  - "+c.test+"\n")
		report, err := gate.Test(t.Context(), path, nil)
		if err != nil {
			t.Errorf("%s: %v", c.test, err)
			continue
		}
		got := ""
		for _, r := range report.Tests {
			if !r.Passed {
				got += r.Message
			}
		}
		open := strings.HasSuffix(c.want, ": ") // what follows is the policy's
		if got != c.want && (!open || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s:\n got %s\nwant %s", c.test, got, c.want)
		}
		checked, err := gate.Check(path)
		if err != nil || (len(checked.Failed) == 0) != (c.want == "") {
			t.Errorf("%s: check says %v, %v", c.test, checked.Failed, err)
		}
	}
}

// What is wrong with a file of tests stops it from loading.
func TestMistakesInPolicyTests(t *testing.T) {
	f := newFolder(t)
	path := f.write("sallyport.yaml", tested)
	for _, c := range []struct{ text, want string }{
		{subjects + "  - {request: GET /orders, subject: ada, expect: allow}\n", `a.test.yaml:8: tests[0].request: "/orders" is not an absolute URL (https://HOST/PATH)`},
		{subjects + "  - {request: https://a/orders, subject: ada, expect: allow}\n", `a.test.yaml:8: tests[0].request: a request is METHOD URL`},
		{subjects + "  - {request: 'GET https://a/orders#x', subject: ada, expect: allow}\n", `a.test.yaml:8: tests[0].request: "https://a/orders#x" has a fragment, which no client sends`},
		{subjects + "  - {request: GET https://a/, subject: ada, expect: deny, with: {source: {address: here}}}\n", `a.test.yaml:8: tests[0].with.source.address: "here" is not an IP address`},
		{"subjects: {a: {sub: a}}\ntests: [{request: GET https://a/, subject: a, expect: deny}]\n", `a.test.yaml:1: subjects.a: issuer is required where there are several`},
		{"subjects: {a: {sub: a, issuer: corb}}\ntests: [{request: GET https://a/, subject: a, expect: deny}]\n", `a.test.yaml:1: subjects.a: there is no issuer "corb"`},
		{"subjects: {a: {issuer: corp, sub: a, claims: {sub: b}}}\ntests: [{request: GET https://a/, subject: a, expect: deny}]\n", `a.test.yaml:1: subjects.a: claims.sub contradicts what the subject says beside claims`},
		{subjects + "  - {subjects: [ada], requests: [GET /orders], host: 'http://a'}\n", `a.test.yaml:8: tests[0].requests[0]: host "http://a" is not HOST or HOST:PORT`},
		{"subjects: {a: {issuer: corb, sub: a}}\ntests: [{request: GET /, subject: a, expect: maybe}]\n", `a.test.yaml:1: subjects.a: there is no issuer "corb"`},
		{"tests: [{}]\n", `a.test.yaml:1: tests[0].request: is required`},
		{"\ttests", `a.test.yaml:1: is not YAML`},
	} {
		f.write("a.test.yaml", c.text)
		if got := strings.ReplaceAll(problems(t, path), f.dir+"/", ""); !strings.Contains(got, c.want) {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	if err := os.Remove(filepath.Join(f.dir, "a.test.yaml")); err != nil {
		t.Fatal(err)
	}
	if got, want := problems(t, path), path+":5: policies.api.tests: "+f.dir+"/*.test.yaml matches no file"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A file that is given belongs to the policies that its requests reach, and
// the rules of those are listed that no test reached.
func TestGivenFilesAndUnreachedRules(t *testing.T) {
	f := newFolder(t)
	path := f.write("sallyport.yaml", strings.Replace(tested, `, tests: "*.test.yaml"`, "", 1))
	given := f.write("given.yaml", subjects+"  - {request: POST https://a/orders, subject: ada, expect: allow}\n  - {request: POST https://a/next, subject: ada, expect: deny}\n")
	report, err := gate.Test(t.Context(), path, []string{given})
	if err != nil {
		t.Fatal(err)
	}
	if report.Passed != 2 || report.Failed != 0 || report.Tests[0].Policy != "api" || report.Tests[1].Policy != "next" {
		t.Errorf("got %+v", report)
	}
	var got []string
	for _, u := range report.Unreached {
		got = append(got, u.Policy+" "+u.Rule+" "+u.Text)
	}
	want := "api policy.csv:1 p, role:clerk, /orders, GET\nnext policy.csv:1 p, role:clerk, /orders, GET\nnext policy.csv:2 p, role:manager, /orders, POST"
	if strings.Join(got, "\n") != want {
		t.Errorf("unreached rules:\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if report, err = gate.Test(t.Context(), path, nil); err != nil || len(report.Tests) != 0 {
		t.Errorf("without tests: %+v, %v", report, err)
	}
}

// A generation that fails its own tests is not taken: not at the start, not at
// a reload, and neither if a test file comes along that a pattern matches.
func TestPolicyTestsGateReloads(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.write("sallyport.yaml", strings.NewReplacer("ISSUER", s.issuer.URL(), "rules: policy.csv}", "rules: policy.csv, tests: ['*.test.yaml']}").Replace(config))
	const test = "subjects: {bob: {sub: bob, roles: clerk}}\ntests:\n  - {request: POST https://a/orders, subject: bob, expect: EXPECT}\n"
	s.write("a.test.yaml", strings.Replace(test, "EXPECT", "deny", 1))
	s.start()
	s.awaitReady()
	bob := s.token("bob", "clerk")
	post := func() string { got, _ := s.ask("POST", "/orders", bob); return got }

	s.write("policy.csv", rules+"p, role:clerk, /orders, POST\n")
	s.eventually("the reload is refused", func() bool {
		line := s.log.find("reload refused, the last good generation stays")
		return line != nil && strings.Contains(line["problem"].(string), "a.test.yaml:3: test failed: bob POST https://a/orders: want deny, got allow by policy.csv:4")
	})
	if got := post(); got != "not_permitted" {
		t.Errorf("got %s, want the last good generation", got)
	}
	s.write("a.test.yaml", strings.Replace(test, "EXPECT", "allow", 1))
	s.eventually("a mended test lets the policy in", func() bool { return post() == "allowed" })

	s.write("b.test.yaml", strings.Replace(test, "EXPECT", "deny", 1))
	s.eventually("a new test file is noticed", func() bool {
		_, body := s.get("/metrics")
		return strings.Contains(body, `authz_policy_reloads_total{result="rejected"} 2`)
	})
	if got := post(); got != "allowed" {
		t.Errorf("got %s, want the last good generation", got)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	err := gate.Serve(t.Context(), filepath.Join(s.dir, "sallyport.yaml"), io.Discard, quiet, gate.Version{})
	if err == nil || !strings.Contains(err.Error(), "b.test.yaml:3: test failed: ") {
		t.Errorf("a server starts though its tests fail: %v", err)
	}
}

// A revocation is no matter of the policy: it must not keep the next one from
// being taken.
func TestRevokedSubjectsPassTests(t *testing.T) {
	f := newFolder(t)
	f.write("revoked.yaml", "- {subject: user:corp/ada}\n")
	path := f.write("sallyport.yaml", tested+"revocations: {file: revoked.yaml}\n")
	f.write("a.test.yaml", subjects+"  - {request: POST https://a/orders, subject: ada, expect: allow}\n")
	if report, err := gate.Check(path); err != nil || len(report.Failed) > 0 {
		t.Errorf("got %v, %v", report.Failed, err)
	}
}
