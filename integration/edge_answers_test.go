package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const answerRoutes = `
  - {name: health, match: GET /healthz, token: none, allow: true}
  - name: orders
    match: [/orders, "/orders/{order}"]
    policy: api
    onAllow:
      requestHeaders:
        set: {x-user: subject.sub, x-roles: 'subject.roles.join(",")', x-tenant: subject.claims.tenant}
        append: {x-via: '"sallyport"', x-new: '"first"'}
        remove: [authorization, cookie, x-secret]
      responseHeaders: {set: {x-decision: decision.id, set-cookie: '"seen=1"', cache-control: '"no-store"'}}
      query: {set: {user: subject.sub, tenant: subject.claims.tenant}, remove: [debug]}
      metadata: {tier: subject.claims.tier, roles: subject.roles, nothing: subject.claims.nothing}
    onDeny:
      responseHeaders: {set: {x-denied: decision.reason, set-cookie: '"refused=1"'}}
  - {name: scoped, match: /scoped, scopes: [books], allow: true, resourceMetadata: "https://api.example.com/.well-known/oauth-protected-resource"}
  - {name: strong, match: /strong, stepUp: {acr: ["urn:mfa"]}, allow: true}
  - {name: needs, match: /needs, policy: api, enforce: {obj: subject.claims.department}}
  - name: pages
    match: /pages
    policy: api
    onDeny: {redirect: '"https://login.example.com/?back=" + request.path', body: '"sorry, " + decision.reason'}
  - {name: lenient, match: /lenient, allow: true, onError: envoy}
`

// answering starts Sallyport with answerRoutes and an edge in front of it.
func answering(t *testing.T, variants ...variant) (*world, *edge) {
	t.Helper()
	w := newWorld(t, setup{noEnvoy: true, routes: answerRoutes})
	for i, v := range variants {
		variants[i].edit = func(listener, manager, filter tree) {
			v.edit(listener, manager, filter)
			format := within(manager, "access_log", "0", "typed_config", "log_format", "json_format").(tree)
			format["case"] = "%REQ(X-CASE)%"
			format["metadata"] = "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%"
		}
	}
	return w, newEdge(t, w.GRPC, nil, variants...)
}

func asItStands(_, _, _ tree) {}

// protocols are the ways to ask.
func (e *edge) protocols() map[string]func(call) *reply {
	return map[string]func(call) *reply{"HTTP/1.1": e.h1, "HTTP/2": e.h2, "gRPC": e.grpc}
}

// What an allow does, byte by byte at the upstream and at the caller; also
// where Envoy merges headers and checks no mutation.
func TestAllowThroughEnvoy(t *testing.T) {
	t.Parallel()
	w, e := answering(t, variant{"generated", generated}, variant{"open", failsOpen})
	max := w.issuer.Mint(map[string]any{"sub": "max", "roles": []string{"manager", "clerk"}, "tier": "gold"})
	for _, listener := range []string{"ingress", "generated", "open"} {
		for protocol, ask := range e.protocols() {
			got := ask(call{listener: listener, method: "POST", target: "/orders?user=root&debug=1&page=2&tenant=x&user=eve&de%62ug=2&c", headers: [][2]string{
				{"Authorization", "Bearer " + max},
				{"X-User", "root"}, {"x-user", "eve"}, {"x-roles", "director"}, {"X-Tenant", "other"},
				{"x-via", "one"}, {"x-secret", "1"}, {"cookie", "a=1"}, {"x-other", "1"}, {"x-other", "2"},
				{"x-answer", "set-cookie: theirs=1"}, {"x-answer", "cache-control: public"}, {"x-answer", "x-decision: forged"}, {"x-answer", "x-theirs: 1"},
			}})
			name := listener + ", " + protocol
			if got.status != 200 || got.upstream == "" {
				t.Errorf("%s: %d %v %q", name, got.status, got.header, got.body)
				continue
			}
			for header, want := range map[string][]string{
				"x-user": {"max"}, "x-roles": {"manager,clerk"}, "x-tenant": nil,
				"x-via": {"one,sallyport"}, "x-new": {"first"},
				"authorization": nil, "cookie": nil, "x-secret": nil,
				"x-other": {"1", "2"},
			} {
				if values := got.upstreamLines(header); !slices.Equal(values, want) {
					t.Errorf("%s: %s is %q upstream, want %q", name, header, values, want)
				}
			}
			if want := "/orders?c=&page=2&user=max"; got.target() != want {
				t.Errorf("%s: the upstream is asked for %s, want %s", name, got.target(), want)
			}
			if id := got.header.Values("x-decision"); len(id) != 1 || len(id[0]) != 32 {
				t.Errorf("%s: x-decision %q", name, id)
			}
			for header, want := range map[string][]string{"set-cookie": {"theirs=1", "seen=1"}, "cache-control": {"no-store"}, "x-theirs": {"1"}} {
				if values := got.header.Values(header); !slices.Equal(values, want) {
					t.Errorf("%s: %s is %q to the caller, want %q", name, header, values, want)
				}
			}
		}
	}
	// Owned headers go on a route that sets nothing, in any protocol.
	for protocol, ask := range map[string]func(call) *reply{"HTTP/1.1": e.h1, "HTTP/2": e.h2} {
		got := ask(call{listener: "generated", target: "/healthz?debug=1&b&a", headers: [][2]string{{"x-user", "root"}, {"x-roles", "director"}, {"X-TENANT", "t"}, {"cookie", "a=1"}}})
		if got.status != 200 || got.upstreamLines("x-user") != nil || got.upstreamLines("x-roles") != nil || got.upstreamLines("x-tenant") != nil {
			t.Errorf("%s: %d %q", protocol, got.status, got.upstream)
		}
		if got.target() != "/healthz?debug=1&b&a" || len(got.upstreamLines("cookie")) != 1 {
			t.Errorf("%s: more was changed than had to be: %q", protocol, got.upstream)
		}
	}
}

// Every reason that a caller can cause, at every kind of caller: status,
// gRPC status, what the body says, and that nothing arrives upstream; also
// where Envoy fails open.
func TestDenialsThroughEnvoy(t *testing.T) {
	t.Parallel()
	w, e := answering(t, variant{"generated", generated}, variant{"open", failsOpen})
	token := func(claims map[string]any) [][2]string {
		return [][2]string{{"authorization", "Bearer " + w.issuer.Mint(claims)}}
	}
	bob := token(map[string]any{"sub": "bob", "roles": []string{"clerk"}})
	const bearer = `Bearer realm="sallyport"`
	for _, c := range []struct {
		reason    string
		target    string
		headers   [][2]string
		status    int
		code      string
		challenge string // how it begins
	}{
		{"malformed_request", "/orders;a", bob, 400, "3", ""},
		{"malformed_credential", "/orders", [][2]string{{"authorization", "Bearer a b"}}, 400, "3", bearer + `, error="invalid_request"`},
		{"no_credential", "/orders", nil, 401, "16", bearer},
		{"invalid_token", "/orders", token(map[string]any{"exp": 1000}), 401, "16", bearer + `, error="invalid_token"`},
		{"step_up_required", "/strong", bob, 401, "16", bearer + `, error="insufficient_user_authentication"`},
		{"insufficient_scope", "/scoped", bob, 403, "7", bearer + `, error="insufficient_scope"`},
		{"no_route", "/elsewhere", bob, 403, "7", ""},
		{"attribute_missing", "/needs", bob, 403, "7", ""},
		{"not_permitted", "/orders", bob, 403, "7", ""},
	} {
		for _, listener := range []string{"ingress", "generated", "open"} {
			name := c.reason + " " + listener
			ask := call{listener: listener, method: "POST", target: c.target, headers: append(slices.Clone(c.headers), [2]string{"x-case", name})}
			html := ask
			html.headers = append(slices.Clone(ask.headers), [2]string{"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"})
			for protocol, send := range map[string]func(call) *reply{"HTTP/1.1": e.h1, "HTTP/2": e.h2} {
				got := send(ask)
				var problem struct {
					Title, Reason, Decision string
					Status                  int
				}
				if err := json.Unmarshal([]byte(got.body), &problem); err != nil {
					t.Errorf("%s, %s: %q: %v", name, protocol, got.body, err)
				}
				if got.status != c.status || problem.Reason != c.reason || problem.Status != c.status || problem.Title != http.StatusText(c.status) || len(problem.Decision) != 32 {
					t.Errorf("%s, %s: %d %+v, want %d", name, protocol, got.status, problem, c.status)
				}
				challenges := got.header.Values("www-authenticate")
				if c.challenge == "" != (len(challenges) == 0) || len(challenges) > 0 && !strings.HasPrefix(challenges[0], c.challenge) {
					t.Errorf("%s, %s: challenges %q, want %q", name, protocol, challenges, c.challenge)
				}
				if got.header.Get("content-type") != "application/problem+json" || got.header.Get("cache-control") != "no-store" {
					t.Errorf("%s, %s: %v", name, protocol, got.header)
				}
				if c.target == "/orders" && c.reason != "malformed_request" {
					if got.header.Get("x-denied") != c.reason || got.header.Get("set-cookie") != "refused=1" {
						t.Errorf("%s, %s: the route's own headers: %v", name, protocol, got.header)
					}
				}
				got = send(html)
				if got.status != c.status || !strings.HasPrefix(got.header.Get("content-type"), "text/html") || !strings.Contains(got.body, "<code>"+c.reason+"</code>") {
					t.Errorf("%s, browser over %s: %d %v %q", name, protocol, got.status, got.header, got.body)
				}
			}
			got := e.grpc(ask)
			if got.status != 200 || got.header.Get("grpc-status") != c.code || got.body != "" || !strings.Contains(got.header.Get("grpc-message"), "("+c.reason+", decision ") {
				t.Errorf("%s, gRPC: %d %v %q, want %s", name, got.status, got.header, got.body, c.code)
			}
			ask.method = "HEAD"
			if got := e.h1(ask); got.status/100 != 4 || got.body != "" {
				t.Errorf("%s, HEAD: %d %q", name, got.status, got.body)
			}
		}
		if heads := e.upstream.Heads("x-case: " + c.reason); len(heads) > 0 {
			t.Errorf("%s: arrived upstream: %q", c.reason, heads)
		}
	}
}

// A route's redirect and body, each to those that they are for.
func TestRouteAnswersThroughEnvoy(t *testing.T) {
	t.Parallel()
	w, e := answering(t)
	bob := [2]string{"authorization", w.token("bob", "clerk")}
	bad := [2]string{"authorization", "Bearer bad"}
	html := [2]string{"accept", "text/html"}
	for _, c := range []struct {
		name     string
		headers  [][2]string
		status   int
		location string
		body     string
	}{
		{"a browser without a token", [][2]string{html}, 302, "https://login.example.com/?back=/pages", ""},
		{"a browser with an invalid one", [][2]string{html, bad}, 302, "https://login.example.com/?back=/pages", ""},
		{"a browser that may not", [][2]string{html, bob}, 403, "", "sorry, not_permitted"},
		{"a program without a token", nil, 401, "", "sorry, no_credential"},
		{"a program that may not", [][2]string{bob}, 403, "", "sorry, not_permitted"},
	} {
		for protocol, ask := range map[string]func(call) *reply{"HTTP/1.1": e.h1, "HTTP/2": e.h2} {
			got := ask(call{target: "/pages", headers: c.headers})
			if got.status != c.status || got.header.Get("location") != c.location || got.body != c.body || got.upstream != "" {
				t.Errorf("%s over %s: %d %v %q", c.name, protocol, got.status, got.header, got.body)
			}
		}
	}
	if got := e.grpc(call{target: "/pages", headers: [][2]string{html}}); got.header.Get("grpc-status") != "16" || got.header.Get("location") != "" || got.body != "" {
		t.Errorf("gRPC: %v %q", got.header, got.body)
	}
}

// Failures to decide: a denial, which no failure mode opens, unless the route
// says that they are Envoy's to answer.
func TestFailuresThroughEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true, server: "", routes: answerRoutes, noWait: true,
		issuer: `}
  - {name: away, issuer: "http://127.0.0.1:9", audiences: ["https://api.example.com"], required: false, keys: {timeout: 200ms, cooldown: 1h}`})
	e := newEdge(t, w.GRPC, nil, variant{"generated", generated}, variant{"open", failsOpen})
	lenient := func(status int) int {
		if !knowsErrors(t) {
			return 403
		}
		return status
	}
	away := [][2]string{{"authorization", "Bearer " + w.issuer.Mint(map[string]any{"iss": "http://127.0.0.1:9", "sub": "bob"})}, {"x-user", "root"}}
	for _, c := range []struct {
		listener, target string
		want             int
	}{
		{"ingress", "/orders", 503}, {"generated", "/orders", 503}, {"open", "/orders", 503},
		{"ingress", "/lenient", lenient(503)}, {"generated", "/lenient", lenient(503)}, {"open", "/lenient", lenient(200)},
	} {
		for protocol, ask := range e.protocols() {
			got := ask(call{listener: c.listener, target: c.target, headers: away})
			status := got.status
			switch {
			case protocol != "gRPC":
			case got.header.Get("grpc-status") == "14" && strings.Contains(got.header.Get("grpc-message"), "issuer_unavailable"):
				status = 503
			case got.header.Get("grpc-status") == "7":
				status = 403
			}
			if status != c.want || (got.upstream != "") != (c.want == 200) {
				t.Errorf("%s%s over %s: %d %v %q, want %d", c.listener, c.target, protocol, got.status, got.header, got.body, c.want)
			}
			if c.want == 503 && (got.header.Get("retry-after") == "" || got.header.Get("www-authenticate") != "") {
				t.Errorf("%s%s over %s: %v", c.listener, c.target, protocol, got.header)
			}
			// The contract's warning: what fails open takes the client's
			// own copies along.
			if c.want == 200 && !slices.Equal(got.upstreamLines("x-envoy-auth-failure-mode-allowed"), []string{"true"}) {
				t.Errorf("%s%s over %s: %q", c.listener, c.target, protocol, got.upstream)
			}
		}
	}
}

// Dynamic metadata, whole, as a filter behind ext_authz or a log gets it.
func TestMetadataThroughEnvoy(t *testing.T) {
	t.Parallel()
	w, e := answering(t, variant{"named", asItStands}, variant{"generated", generated})
	token := "Bearer " + w.issuer.Mint(map[string]any{"sub": "max", "roles": []string{"manager"}, "tier": map[string]any{"level": 3, "names": []string{"gold", "old"}}})
	for _, listener := range []string{"named", "generated"} {
		for _, c := range []struct {
			name, target string
			token        string
			want         tree
		}{
			{"allow", "/orders", token, tree{"reason": "allowed", "route": "orders", "policy": "api", "subject": "user:corp/max",
				"roles": []any{"manager"}, "tier": tree{"level": 3.0, "names": []any{"gold", "old"}}}},
			{"allow of all", "/healthz", "", tree{"reason": "allowed", "route": "health", "policy": "", "revision": "", "subject": "anonymous"}},
			{"denial", "/needs", token, tree{"reason": "attribute_missing", "route": "needs", "policy": "api", "subject": "user:corp/max"}},
			{"no route", "/elsewhere", token, tree{"reason": "no_route", "route": "", "policy": "", "revision": "", "subject": ""}},
			{"no credential", "/orders", "", tree{"reason": "no_credential", "route": "orders", "policy": "api", "subject": ""}},
		} {
			name := listener + ", " + c.name
			headers := [][2]string{{"x-case", name}}
			if c.token != "" {
				headers = append(headers, [2]string{"authorization", c.token})
			}
			got := e.h1(call{listener: listener, target: c.target, headers: headers})
			metadata, ok := e.logged(func(m tree) bool { return m["case"] == name && m["metadata"] != nil })["metadata"].(tree)
			if !ok {
				t.Fatalf("%s: no metadata", c.name)
			}
			metadata = maps.Clone(metadata)
			id, _ := metadata["decision_id"].(string)
			revision, _ := metadata["revision"].(string)
			if len(id) != 32 || (revision == "") != (c.want["policy"] == "") || got.status == 200 && c.target == "/orders" && got.header.Get("x-decision") != id {
				t.Errorf("%s, %s: decision_id %q, revision %q, x-decision %q", listener, c.name, id, revision, got.header.Get("x-decision"))
			}
			for _, key := range []string{"decision_id", "revision", "ext_authz_duration"} {
				delete(metadata, key)
			}
			delete(c.want, "revision")
			if fmt.Sprint(metadata) != fmt.Sprint(c.want) {
				t.Errorf("%s, %s: %v, want %v", listener, c.name, metadata, c.want)
			}
		}
	}
}
