package gate_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/sallyport-authz/sallyport/authz/gate"
)

// check sends one message and returns the reason.
func (s *server) check(m *authv3.CheckRequest) string {
	s.t.Helper()
	return s.answer(m).GetDynamicMetadata().GetFields()["reason"].GetStringValue()
}

// answer sends one message and returns the answer.
func (s *server) answer(m *authv3.CheckRequest) *authv3.CheckResponse {
	s.t.Helper()
	resp, err := authv3.NewAuthorizationClient(s.conn).Check(s.t.Context(), m)
	if err != nil {
		s.t.Fatalf("check: %v", err)
	}
	if resp.GetStatus() == nil {
		s.t.Fatal("no status: Envoy would allow")
	}
	return resp
}

func httpCheck(method, path string, headers ...string) *authv3.CheckRequest {
	h := &authv3.AttributeContext_HttpRequest{Method: method, Path: path, Host: "api.example.com", HeaderMap: &corev3.HeaderMap{}}
	for i := 0; i < len(headers); i += 2 {
		h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: headers[i], RawValue: []byte(headers[i+1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: h}}}
}

const duties = `server:
  grpc: {listen: "127.0.0.1:0"}
  admin: {listen: "127.0.0.1:0"}
  deadline: 2s
issuers:
  - {name: corp, issuer: ISSUER, audiences: [api, other], claims: {tenant: tid}}
revocations: {file: revoked.yaml}
policies:
  api: {model: model.conf, rules: policy.csv}
  owner: {model: owner.conf, rules: empty.csv}
routes:
  - {name: scoped, match: /scoped, allow: true, scopes: [orders, "orders:write"]}
  - {name: strong, match: /strong, allow: true, stepUp: {acr: [mfa], maxAge: 15m}}
  - {name: narrow, match: /narrow, allow: true, audiences: [other]}
  - {name: maybe, match: /maybe, allow: true, token: optional}
  - {name: open, match: /open, allow: true, preflight: true}
  - {name: tenant, match: /tenant, policy: api, enforce: {sub: subject.tenant}}
  - {name: kept, match: /kept/, allow: true, token: none, paths: {escapedSlash: keep}}
  - {name: own, match: "/accounts/{account}", policy: owner, enforce: {sub: subject, obj: request}}
  - {name: chosen, allow: true, token: none}
`

const ownerModel = `[request_definition]
r = sub, obj
[policy_definition]
p = sub
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub.sub == r.obj.params.account
`

// Each duty of a route refuses with its own reason.
func TestDuties(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.write("owner.conf", ownerModel)
	s.write("empty.csv", "")
	s.write("revoked.yaml", "")
	s.write("sallyport.yaml", strings.ReplaceAll(duties, "ISSUER", s.issuer.URL()))
	s.start()
	s.awaitReady()
	bearer := func(claims map[string]any) string { return "Bearer " + s.issuer.Mint(claims) }
	for _, c := range []struct {
		name    string
		message *authv3.CheckRequest
		want    string
	}{
		{"no scope", httpCheck("GET", "/scoped", "authorization", bearer(nil)), "insufficient_scope"},
		{"one scope of two", httpCheck("GET", "/scoped", "authorization", bearer(map[string]any{"scope": "orders ordersx"})), "insufficient_scope"},
		{"both scopes", httpCheck("GET", "/scoped", "authorization", bearer(map[string]any{"scope": "orders:write orders"})), "allowed"},
		{"no acr", httpCheck("GET", "/strong", "authorization", bearer(nil)), "step_up_required"},
		{"narrowed audience", httpCheck("GET", "/narrow", "authorization", bearer(nil)), "invalid_token"},
		{"the route's audience", httpCheck("GET", "/narrow", "authorization", bearer(map[string]any{"aud": "other"})), "allowed"},
		{"optional, none", httpCheck("GET", "/maybe"), "allowed"},
		{"optional, bad", httpCheck("GET", "/maybe", "authorization", "Bearer a.b.c"), "invalid_token"},
		{"preflight", httpCheck("OPTIONS", "/open", "origin", "https://app.example.com", "access-control-request-method", "GET"), "allowed"},
		{"options that is none", httpCheck("OPTIONS", "/open"), "no_credential"},
		{"preflight of a route that lets none pass", httpCheck("OPTIONS", "/scoped", "origin", "https://app.example.com", "access-control-request-method", "GET"), "no_credential"},
		{"attribute missing", httpCheck("GET", "/tenant", "authorization", bearer(nil)), "attribute_missing"},
		{"escaped slash kept", httpCheck("GET", "/kept/a%2Fb"), "allowed"},
		{"escaped slash elsewhere", httpCheck("GET", "/scoped/a%2Fb"), "malformed_request"},
		{"owner", httpCheck("GET", "/accounts/ada", "authorization", bearer(nil)), "allowed"},
		{"not the owner", httpCheck("GET", "/accounts/bob", "authorization", bearer(nil)), "not_permitted"},
		{"two credentials", httpCheck("GET", "/maybe", "authorization", "Bearer a,Bearer b"), "malformed_credential"},
		{"tcp check", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{}}, "no_route"},
	} {
		if got := s.check(c.message); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}

	m := httpCheck("POST", "/anything")
	m.Attributes.ContextExtensions = map[string]string{"sallyport.route": "chosen"}
	if got := s.check(m); got != "allowed" {
		t.Errorf("route chosen by Envoy: got %s", got)
	}
	m.Attributes.ContextExtensions["sallyport.route"] = "unheard-of"
	if got := s.check(m); got != "no_route" {
		t.Errorf("unknown route chosen by Envoy: got %s", got)
	}
}

// A revocation takes effect while the token sits in the cache, and its end
// likewise; a file that does not read keeps the last good list.
func TestRevocationReloads(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.write("owner.conf", ownerModel)
	s.write("empty.csv", "")
	s.write("revoked.yaml", "")
	s.write("sallyport.yaml", strings.ReplaceAll(duties, "ISSUER", s.issuer.URL()))
	s.start()
	s.awaitReady()
	m := httpCheck("GET", "/maybe", "authorization", "Bearer "+s.issuer.Mint(map[string]any{"jti": "one"}))
	if got := s.check(m); got != "allowed" {
		t.Fatalf("got %s", got)
	}
	s.write("revoked.yaml", "- {jti: one, issuer: corp}\n")
	s.eventually("revoked", func() bool { return s.check(m) == "invalid_token" })
	s.write("revoked.yaml", "- {jti: one, issuer: crop}\n")
	s.eventually("refused", func() bool { return s.log.find("reload refused, the last good generation stays") != nil })
	if got := s.check(m); got != "invalid_token" {
		t.Errorf("got %s while the file is broken", got)
	}
	s.write("revoked.yaml", "")
	s.eventually("not revoked any more", func() bool { return s.check(m) == "allowed" })
}

// What is read at the start only is checked with everything else.
func TestCheckReadsFilesOfTheStart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sallyport.yaml")
	if err := os.WriteFile(path, []byte(`server:
  grpc:
    tls: {certificate: gone.crt, key: gone.key}
telemetry: {hashKeyFile: short}
routes: [{match: /, token: none, allow: true}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "short"), []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := problems(t, path)
	for _, want := range []string{
		":3: server.grpc.tls.certificate: ", "gone.crt: no such file", ":3: server.grpc.tls.key: ", "gone.key: no such file",
		":4: telemetry.hashKeyFile: ", "a key needs at least 16 bytes, this one has 10",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "0123456789") {
		t.Error("the key is in the message")
	}
}

// Headers that some servers cannot tell apart cannot both be owned, and one
// that is only appended deserves a word.
func TestCheckLooksAtHeaderNames(t *testing.T) {
	f := newFolder(t)
	path := f.write("sallyport.yaml", "routes:\n  - {match: /a, token: none, allow: true, onAllow: {requestHeaders: {set: {x-user: '\"a\"'}}}}\n"+
		"  - {match: /b, token: none, allow: true, onAllow: {requestHeaders: {set: {x_user: '\"b\"'}}}}\n")
	if got, want := problems(t, path), path+`:3: routes[1].onAllow.requestHeaders.set.x_user: "x_user" and "x-user" are one header`; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	path = f.write("sallyport.yaml", "routes:\n  - {match: /a, token: none, allow: true, onAllow: {requestHeaders: {append: {x-via: '\"a\"'}}}}\n")
	report, err := gate.Check(path)
	if want := path + ":2: routes[0].onAllow.requestHeaders.append.x-via: a client's own x-via stays in front"; err != nil || !strings.HasPrefix(report.Warnings.Error(), want) {
		t.Errorf("got %v, %v, want %s", report.Warnings, err, want)
	}
}

// What a route takes away from the upstream it takes away from preflights too,
// however the client spells it.
func TestRemovals(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.write("sallyport.yaml", strings.ReplaceAll(config, "ISSUER", s.issuer.URL())+
		"  - {name: open, match: /open, token: none, allow: true, preflight: true, onAllow: {requestHeaders: {remove: [x-original-url]}, query: {remove: debug}}}\n")
	s.start()
	preflight := httpCheck("OPTIONS", "/open?debug=1", "origin", "https://a", "access-control-request-method", "GET", "x-original-url", "/admin", "x_original-url", "/admin")
	plain := httpCheck("GET", "/open?debug=1", "x_original_url", "/admin", "x-other_one", "a")
	for name, c := range map[string]struct {
		message *authv3.CheckRequest
		want    []string
	}{
		"preflight": {preflight, []string{"x-original-url", "x-tenant", "x-user", "x_original-url"}},
		"plain":     {plain, []string{"x-original-url", "x-tenant", "x-user", "x_original_url"}},
	} {
		ok := s.answer(c.message).GetOkResponse()
		if !slices.Equal(ok.GetHeadersToRemove(), c.want) || !slices.Equal(ok.GetQueryParametersToRemove(), []string{"debug"}) {
			t.Errorf("%s: removes %v and %v, want %v and debug", name, ok.GetHeadersToRemove(), ok.GetQueryParametersToRemove(), c.want)
		}
	}
}
