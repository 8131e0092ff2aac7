package integration

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

const fieldRoutes = `
  - {name: health, match: GET /healthz, token: none, allow: true}
  - name: orders
    match: [/orders, "/orders/{order}"]
    policy: api
    onAllow: {requestHeaders: {set: {x-user: subject.sub, x-path: request.path, x-host: request.host, x-scheme: request.scheme}}}
  - name: peers
    match: /peers
    token: none
    policy: peers
    enforce: {sub: source.principal, obj: '"peers"', act: '"GET"'}
    onAllow: {requestHeaders: {set: {x-principal: source.principal, x-address: source.address}}}
  - {name: socket, match: GET /socket, policy: peers, enforce: {sub: subject.sub, obj: '"socket"', act: '"GET"'}}
  - {name: tunnel, match: CONNECT, policy: peers, enforce: {sub: subject.sub, obj: request.host, act: '"CONNECT"'}}
  - {name: streams, match: TCP, token: none, policy: peers, enforce: {sub: source.principal, obj: '"tcp"', act: '"open"'}}
  - {name: chosen, token: none, allow: true, onAllow: {requestHeaders: {set: {x-context: 'context["team"]'}}}}
`

// fieldFiles hold a second policy, of people and of workloads.
var fieldFiles = map[string]string{
	"peers.conf": strings.ReplaceAll(strings.ReplaceAll(rbacModel, "[role_definition]\ng = _, _\n", ""), "g(r.sub, p.sub) && keyMatch2(r.obj, p.obj)", "r.sub == p.sub && r.obj == p.obj"),
	"peers.csv": `p, spiffe://mesh.test/ns/shop/sa/cart, peers, GET
p, spiffe://mesh.test/ns/shop/sa/cart, tcp, open
p, bob, socket, GET
p, bob, db.test, CONNECT
`,
}

// fields starts Sallyport with fieldRoutes.
func fields(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), issuer: authztest.NewIssuer(authztest.WithAudience("https://api.example.com"))}
	if err := w.issuer.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.issuer.Close() })
	files := maps.Clone(fieldFiles)
	files["sallyport.yaml"] = strings.Replace(w.config(setup{routes: fieldRoutes}), "policies:\n", "policies:\n  peers: {model: peers.conf, rules: peers.csv}\n", 1)
	return w.start(setup{noEnvoy: true, files: files})
}

// A body that Envoy sends along changes no decision and breaks no check,
// whole, cut, as text or as bytes; and it reaches the upstream whole.
func TestBodies(t *testing.T) {
	t.Parallel()
	w := fields(t)
	with := func(body tree) func(_, _, filter tree) {
		return func(listener, _, filter tree) {
			listener["per_connection_buffer_limit_bytes"] = 16 << 20
			filter["with_request_body"] = body
		}
	}
	e := newEdge(t, w.GRPC, nil,
		variant{"whole", with(tree{"max_request_bytes": 64 << 10})},
		variant{"cut", with(tree{"max_request_bytes": 8, "allow_partial_message": true})},
		variant{"bytes", with(tree{"max_request_bytes": 64 << 10, "pack_as_bytes": true})},
		variant{"large", with(tree{"max_request_bytes": 6 << 20, "allow_partial_message": true, "pack_as_bytes": true})},
		variant{"merged", func(l, m, f tree) { generated(l, m, f); with(tree{"max_request_bytes": 64 << 10})(l, m, f) }})
	max := [2]string{"authorization", w.token("max", "manager")}
	bob := [2]string{"authorization", w.token("bob", "clerk")}
	forged := [2]string{"x-envoy-auth-partial-body", "true"}
	for name, body := range map[string]string{
		"none": "", "short": "a", "text": `{"order": 7}`, "bytes": "\xff\xfe\x00\x01", "form": strings.Repeat("a=1&", 5000), "5 MiB": strings.Repeat("x", 5<<20),
	} {
		for _, listener := range []string{"whole", "cut", "bytes", "large", "merged"} {
			over := len(body) > 64<<10 && listener != "large" && listener != "cut"
			for protocol, ask := range e.protocols() {
				if protocol != "HTTP/1.1" && len(body) > 1<<20 {
					continue // the windows of HTTP/2 hold less, so that it is 413 in any case
				}
				got := ask(call{listener: listener, method: "POST", target: "/orders", headers: [][2]string{max, forged}, body: body})
				want := 200
				if over {
					want = 413
				}
				if protocol == "gRPC" && over {
					want = 200 // with a grpc-status
				}
				if got.status != want || (got.upstream == "") != over {
					t.Errorf("%s, %s, %s: %d %.200q", name, listener, protocol, got.status, got.body)
				}
				if got.upstream != "" && got.body != body {
					t.Errorf("%s, %s, %s: the upstream got %d bytes of %d", name, listener, protocol, len(got.body), len(body))
				}
				if over {
					continue
				}
				got = ask(call{listener: listener, method: "POST", target: "/orders", headers: [][2]string{bob, forged}, body: body})
				if refused := got.status == 403 || got.header.Get("grpc-status") == "7"; !refused || got.upstream != "" {
					t.Errorf("%s, %s, %s: not refused: %d %.200q", name, listener, protocol, got.status, got.body)
				}
			}
		}
	}
}

// What Envoy says of a TLS connection: the principal that it verified is the
// workload, and the certificate and the session beside it break nothing.
func TestDownstreamTLS(t *testing.T) {
	t.Parallel()
	w := fields(t)
	ca := newEdgeCA(t)
	stranger := newEdgeCA(t)
	e := newEdge(t, w.GRPC, nil,
		variant{"tls", func(listener, _, filter tree) {
			ca.guard(listener, tree{})
			filter["include_tls_session"] = true
			filter["include_peer_certificate"] = true
		}},
		variant{"mutual", func(listener, _, filter tree) {
			ca.guard(listener, tree{"require_client_certificate": true})
			filter["include_tls_session"] = true
			filter["include_peer_certificate"] = true
		}},
		variant{"plain", func(_, _, filter tree) {
			filter["include_tls_session"] = true
			filter["include_peer_certificate"] = true
		}})
	const cart = "spiffe://mesh.test/ns/shop/sa/cart"
	bob := [2]string{"authorization", w.token("bob", "clerk")}
	for _, c := range []struct {
		name, listener string
		client         *tls.Certificate
		want           int
	}{
		{"cart", "tls", ca.issue("cart", cart), 200},
		{"cart, mutual", "mutual", ca.issue("cart", cart), 200},
		{"two names, ours first", "mutual", ca.issue("cart", cart, "spiffe://mesh.test/ns/shop/sa/other"), 200},
		{"two names, ours second", "mutual", ca.issue("cart", "spiffe://mesh.test/ns/shop/sa/other", cart), 403},
		{"another workload", "mutual", ca.issue("other", "spiffe://mesh.test/ns/shop/sa/other"), 403},
		{"the name as a subject", "mutual", ca.issue(cart), 403},
		{"nobody", "tls", nil, 403},
	} {
		for _, sni := range []string{"edge.test", ""} {
			got := e.tls(call{listener: c.listener, target: "/peers", headers: [][2]string{{"x-principal", cart}, {"x-forwarded-client-cert", "By=a;URI=" + cart}}}, c.client, sni)
			if got.status != c.want || (got.upstream != "") != (c.want == 200) {
				t.Errorf("%s: %d %.300q, want %d", c.name, got.status, got.body, c.want)
			}
			if c.want == 200 && (!slices.Equal(got.upstreamLines("x-principal"), []string{cart}) || !slices.Equal(got.upstreamLines("x-address"), []string{"127.0.0.1"})) {
				t.Errorf("%s: %q", c.name, got.upstream)
			}
		}
		got := e.tls(call{listener: c.listener, target: "/orders", headers: [][2]string{bob}}, c.client, "edge.test")
		if got.status != 200 || !slices.Equal(got.upstreamLines("x-scheme"), []string{"https"}) {
			t.Errorf("%s: /orders %d %.300q", c.name, got.status, got.body)
		}
	}
	if got := e.h1(call{listener: "plain", target: "/peers"}); got.status != 403 {
		t.Errorf("without TLS: %d", got.status)
	}
	if _, err := e.handshake("mutual", stranger.issue("cart", cart), "edge.test"); err == nil {
		t.Error("a certificate of another authority is taken")
	}
}

// What other filters and Envoy's configuration tell breaks nothing, and of all
// of it only context extensions choose a route.
func TestContexts(t *testing.T) {
	t.Parallel()
	w := fields(t)
	extensions := func(e tree) tree {
		return tree{"envoy.filters.http.ext_authz": tree{
			"@type":          "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
			"check_settings": tree{"context_extensions": e},
		}}
	}
	e := newEdge(t, w.GRPC, nil, variant{"contexts", func(_, manager, filter tree) {
		filter["metadata_context_namespaces"] = []any{"test", "envoy.filters.http.jwt_authn"}
		filter["route_metadata_context_namespaces"] = []any{"envoy-gateway", "sallyport"}
		manager["http_filters"] = append([]any{tree{
			"name": "set_metadata",
			"typed_config": tree{
				"@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
				"metadata": []any{
					tree{"metadata_namespace": "test", "value": tree{"sallyport.route": "chosen", "a": []any{1, nil, tree{"b": true}}}},
					tree{"metadata_namespace": "envoy.filters.http.jwt_authn", "value": tree{"payload": tree{"sub": "root", "roles": []any{"director"}}}},
				},
			},
		}}, manager["http_filters"].([]any)...)
		all, set := routes(manager)
		to := tree{"cluster": "upstream"}
		set(append([]any{
			tree{"match": tree{"prefix": "/chosen"}, "route": to, "typed_per_filter_config": extensions(tree{"sallyport.route": "chosen", "team": "blue"})},
			tree{"match": tree{"prefix": "/unknown"}, "route": to, "typed_per_filter_config": extensions(tree{"sallyport.route": "nowhere"})},
			tree{"match": tree{"prefix": "/empty"}, "route": to, "typed_per_filter_config": extensions(tree{"sallyport.route": ""})},
			tree{"match": tree{"prefix": "/healthz/x"}, "route": to, "typed_per_filter_config": extensions(tree{"sallyport.route": "health"})},
			tree{"match": tree{"prefix": "/"}, "route": to, "metadata": tree{"filter_metadata": tree{
				"envoy-gateway": tree{"resources": []any{tree{"kind": "HTTPRoute", "name": "orders"}}},
				"sallyport":     tree{"route": "chosen", "sallyport.route": "chosen"},
			}}},
		}, all...))
	}})
	bob := [2]string{"authorization", w.token("bob", "clerk")}
	for _, c := range []struct {
		target  string
		headers [][2]string
		status  int
		reason  string
	}{
		{"/orders", [][2]string{bob}, 200, ""},
		{"/orders", nil, 401, "no_credential"}, // whoever jwt_authn saw
		{"/elsewhere", [][2]string{bob, {"sallyport.route", "chosen"}, {"x-sallyport-route", "chosen"}}, 403, "no_route"},
		{"/chosen/by/envoy", [][2]string{{"x-context", "red"}}, 200, ""},
		{"/unknown", [][2]string{bob}, 403, "no_route"},
		{"/empty", [][2]string{bob}, 403, "no_route"},
		{"/healthz/x", nil, 403, "no_route"}, // its route does not have this path
	} {
		got := e.h1(call{listener: "contexts", target: c.target, headers: c.headers})
		if got.status != c.status || !strings.Contains(got.body, c.reason) || (got.upstream != "") != (c.status == 200) {
			t.Errorf("%s: %d %.300q, want %d %s", c.target, got.status, got.body, c.status, c.reason)
		}
		if c.target == "/chosen/by/envoy" && !slices.Equal(got.upstreamLines("x-context"), []string{"blue"}) {
			t.Errorf("%s: %q", c.target, got.upstream)
		}
	}
}

// tunnels lets a listener take CONNECT and WebSockets, over both protocols.
func tunnels(_, manager, _ tree) {
	manager["upgrade_configs"] = []any{tree{"upgrade_type": "websocket"}, tree{"upgrade_type": "CONNECT"}}
	manager["http2_protocol_options"].(tree)["allow_connect"] = true
	all, set := routes(manager)
	set(append([]any{tree{"match": tree{"connect_matcher": tree{}}, "route": tree{"cluster": "upstream"}}}, all...))
}

// What is not a plain request for a path: each has its own route or none.
func TestTunnelsAndUpgrades(t *testing.T) {
	t.Parallel()
	w := fields(t)
	e := newEdge(t, w.GRPC, nil, variant{"tunnels", tunnels}, variant{"generated", func(l, m, f tree) { generated(l, m, f); tunnels(l, m, f) }})
	bob := "Authorization: " + w.token("bob", "clerk") + "\r\n"
	eve := "Authorization: " + w.token("eve") + "\r\n"
	websocket := "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, listener := range []string{"tunnels", "generated"} {
		for _, c := range []struct {
			name, request string
			status        int
			reason        string
		}{
			{"websocket", "GET /socket?x=1 HTTP/1.1\r\nHost: edge.test\r\n" + bob + websocket + "\r\n", 101, ""},
			{"websocket of another", "GET /socket HTTP/1.1\r\nHost: edge.test\r\n" + eve + websocket + "\r\n", 403, "not_permitted"},
			{"websocket of nobody", "GET /socket HTTP/1.1\r\nHost: edge.test\r\n" + websocket + "\r\n", 401, "no_credential"},
			{"websocket that drops an owned header", "GET /socket HTTP/1.1\r\nHost: edge.test\r\n" + bob + strings.Replace(websocket, "Upgrade\r\n", "Upgrade, X-User\r\n", 1) + "\r\n", 400, "malformed_request"},
			{"CONNECT", "CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n" + bob + "\r\n", 200, ""},
			{"CONNECT elsewhere", "CONNECT admin.test:22 HTTP/1.1\r\nHost: db.test:5432\r\n" + bob + "\r\n", 403, "not_permitted"},
			{"CONNECT of another", "CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n" + eve + "\r\n", 403, "not_permitted"},
			{"CONNECT of nobody", "CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n\r\n", 401, "no_credential"},
			{"absolute form", "GET http://EDGE.test:8080/orders/7 HTTP/1.1\r\nHost: other.test\r\n" + bob + "\r\n", 200, ""},
		} {
			method, _, _ := strings.Cut(c.request, " ")
			got := e.bytes(e.listeners[listener], method, c.request)
			if got.status != c.status || !strings.Contains(got.raw, c.reason) {
				t.Errorf("%s, %s: %d %.300q, want %d %s", listener, c.name, got.status, got.raw, c.status, c.reason)
				continue
			}
			if x := got.header.Get("x-head"); x != "" {
				head, err := base64.StdEncoding.DecodeString(x)
				if err != nil {
					t.Fatal(err)
				}
				if n := len(harness.HeaderLines(string(head), "x-user")); n > 0 {
					t.Errorf("%s, %s: %q", listener, c.name, head)
				}
			} else if c.status == 101 || c.name == "CONNECT" {
				t.Errorf("%s, %s: did not come from the upstream: %q", listener, c.name, got.raw)
			}
			if c.name == "absolute form" && (!slices.Equal(got.upstreamLines("x-host"), []string{"edge.test"}) || !slices.Equal(got.upstreamLines("x-path"), []string{"/orders/7"})) {
				t.Errorf("%s, %s: %q", listener, c.name, got.upstream)
			}
		}
		// Extended CONNECT of RFC 8441 reaches Sallyport as the same GET.
		for _, c := range []struct {
			name   string
			token  string
			fields []harness.Field
			want   int
		}{
			{"websocket over HTTP/2", w.token("bob"), []harness.Field{{Name: ":protocol", Value: "websocket"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/socket"}}, 200},
			{"of another", w.token("eve"), []harness.Field{{Name: ":protocol", Value: "websocket"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/socket"}}, 403},
			{"CONNECT over HTTP/2", w.token("bob"), nil, 200},
			{"of another", w.token("eve"), nil, 403},
		} {
			all := append([]harness.Field{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: "db.test:5432"}}, c.fields...)
			got, err := harness.RawHTTP2(t.Context(), e.listeners[listener], append(all, harness.Field{Name: "authorization", Value: c.token}, harness.Field{Name: "x-end", Value: "1"}), "x")
			if got.Status != c.want { // the end of a tunnel is a reset
				t.Errorf("%s, %s: %d %v, want %d", listener, c.name, got.Status, err, c.want)
			}
		}
	}
	for _, line := range []string{"GET /socket HTTP/1.1\r\n", "CONNECT db.test:5432 HTTP/1.1\r\n"} {
		n := 0
		for _, head := range e.upstream.Heads(line) {
			n += len(harness.HeaderLines(head, "x-end"))
		}
		if n != 2 {
			t.Errorf("%q came %d times over HTTP/2, want once from each listener", line, n)
		}
	}
	// envoy.yaml as it stands takes neither.
	for _, request := range []string{
		"GET /socket HTTP/1.1\r\nHost: edge.test\r\n" + bob + websocket + "\r\n", "CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n" + bob + "\r\n",
	} {
		method, _, _ := strings.Cut(request, " ")
		if got := e.bytes(e.listeners["ingress"], method, request); got.status != 403 && got.status != 404 {
			t.Errorf("%s with envoy.yaml: %d", method, got.status)
		}
	}
}

// Requests that few clients make, as Envoy hands them on or does not.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	w := fields(t)
	old := func(_, manager, _ tree) {
		manager["http_protocol_options"] = tree{"accept_http_10": true, "allow_custom_methods": true}
	}
	e := newEdge(t, w.GRPC, nil, variant{"old", old}, variant{"generated", func(l, m, f tree) { generated(l, m, f); old(l, m, f) }},
		variant{"default host", func(l, m, f tree) {
			old(l, m, f)
			m["http_protocol_options"].(tree)["default_host_for_http_10"] = "edge.test"
		}})
	bob := "Authorization: " + w.token("bob", "clerk") + "\r\n"
	for _, c := range []struct {
		listener, request string
		status            int
		reason            string
	}{
		{"old", "GET /orders HTTP/1.0\r\nHost: edge.test\r\n" + bob + "\r\n", 200, ""},
		{"generated", "GET /orders HTTP/1.0\r\nHost: edge.test\r\n" + bob + "\r\n", 200, ""},
		{"old", "GET /orders HTTP/1.0\r\nHost: edge.test\r\n\r\n", 401, "no_credential"},
		{"old", "GET /orders HTTP/1.0\r\n" + bob + "\r\n", 400, ""}, // Envoy does not ask
		{"default host", "GET /orders HTTP/1.0\r\n" + bob + "\r\n", 200, ""},
		{"ingress", "GET /orders HTTP/1.0\r\nHost: edge.test\r\n" + bob + "\r\n", 426, ""},
		{"old", "OPTIONS * HTTP/1.1\r\nHost: edge.test\r\n" + bob + "\r\n", 404, ""},
		{"old", "OPTIONS /orders HTTP/1.1\r\nHost: edge.test\r\n" + bob + "\r\n", 403, "not_permitted"},
		{"old", "get /orders HTTP/1.1\r\nHost: edge.test\r\n" + bob + "\r\n", 403, "not_permitted"},
		{"old", "QUERY /orders HTTP/1.1\r\nHost: edge.test\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n" + bob + "\r\na", 403, "not_permitted"},
		{"old", "GET /orders HTTP/1.1\r\nHost: edge.test\r\nX-HTTP-Method-Override: POST\r\n" + bob + "\r\n", 200, ""},
		{"old", "GET /orders HTTP/1.1\r\nHost: edge.test\r\nAuthorization:\r\n" + bob + "\r\n", 200, ""}, // the empty one vanishes
		{"old", "GET /orders HTTP/1.1\r\nHost: edge.test\r\n" + bob + bob + "\r\n", 400, "malformed_credential"},
		{"generated", "GET /orders HTTP/1.1\r\nHost: edge.test\r\n" + bob + bob + "\r\n", 400, "malformed_credential"},
		{"generated", "GET /orders HTTP/1.1\r\nHost: edge.test\r\nx_user: root\r\n" + bob + "\r\n", 400, "malformed_request"},
		{"generated", "GET /orders HTTP/1.1\r\nHost: edge.test\r\nHost: evil.test\r\n" + bob + "\r\n", 400, ""},
		{"old", "GET /orders HTTP/1.1\r\nHost: edge.test\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", 401, "no_credential"},
	} {
		method, _, _ := strings.Cut(c.request, " ")
		got := e.bytes(e.listeners[c.listener], method, c.request)
		if got.status != c.status || !strings.Contains(got.body, c.reason) || (got.upstream != "") != (c.status == 200) {
			t.Errorf("%s, %.80q: %d %.300q, want %d %s", c.listener, c.request, got.status, got.body, c.status, c.reason)
		}
	}
	// HTTP/2 takes any token as a method, and bytes in a path that are no
	// text: Envoy shows ! for those, in all but the raw header.
	bearer := harness.Field{Name: "authorization", Value: w.token("bob", "clerk")}
	for _, c := range []struct {
		listener, method, path string
		want                   int
	}{
		{"ingress", "GET", "/orders/7", 200},
		{"ingress", "get", "/orders/7", 403},
		{"ingress", "GET", "/orders/a!b", 200},
		{"ingress", "GET", "/orders/a\xffb", 200}, // normalised to %FF, for both
		{"ingress", "GET", "/orders/7?q=a\xffb", 400},
		{"ingress", "GET", "/orders/7?q=\xc3\xa9", 200},
	} {
		got, err := harness.RawHTTP2(t.Context(), e.listeners[c.listener], []harness.Field{
			{Name: ":method", Value: c.method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "edge.test"}, {Name: ":path", Value: c.path}, bearer}, "")
		if err != nil || got.Status != c.want {
			t.Errorf("%s, %s %q: %d %v %.200q, want %d", c.listener, c.method, c.path, got.Status, err, got.Body, c.want)
		}
	}
}

// The same without Envoy's normalisation: the path that the policy saw is not
// the one that the upstream would get, and Sallyport can tell.
func TestLossyPath(t *testing.T) {
	t.Parallel()
	w := fields(t)
	e := newEdge(t, w.GRPC, nil, variant{"raw", func(_, manager, _ tree) {
		for _, key := range []string{"normalize_path", "merge_slashes", "path_with_escaped_slashes_action"} {
			delete(manager, key)
		}
	}})
	for path, want := range map[string]int{
		"/orders/a!b": 200, "/orders/a\xffb": 400, "/orders/a!\xff": 400, "/orders/\xc3\xa9": 400, "/orders/7?q=\xff": 400, "/orders/7?q=!": 200, "/orders/a%FFb": 200,
	} {
		got, err := harness.RawHTTP2(t.Context(), e.listeners["raw"], []harness.Field{
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "edge.test"}, {Name: ":path", Value: path},
			{Name: "authorization", Value: w.token("bob", "clerk")}}, "")
		if err != nil || got.Status != want || want == 400 && !strings.Contains(got.Body, "malformed_request") {
			t.Errorf("%q: %d %v %.200q, want %d", path, got.Status, err, got.Body, want)
		}
	}
	if heads := e.upstream.Heads("/orders/a\xff"); len(heads) > 0 {
		t.Errorf("arrived: %q", heads)
	}
}

// TCP checks, from Envoy's network filter.
func TestStreams(t *testing.T) {
	t.Parallel()
	w := fields(t)
	none := newWorld(t, setup{noEnvoy: true})
	ca := newEdgeCA(t)
	filter := func(cluster string) tree {
		return tree{"name": "envoy.filters.network.ext_authz", "typed_config": tree{
			"@type":                 "type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
			"stat_prefix":           "streams",
			"grpc_service":          tree{"envoy_grpc": tree{"cluster_name": cluster, "authority": "sallyport.internal"}, "timeout": "2s"},
			"transport_api_version": "V3", "include_peer_certificate": true, "include_tls_session": true,
		}}
	}
	stream := func(cluster string) func(_, _, _ tree) {
		return func(listener, _, _ tree) {
			ca.guard(listener, tree{})
			chain := within(listener, "filter_chains", "0").(tree)
			chain["filters"] = []any{filter(cluster), tree{"name": "envoy.filters.network.tcp_proxy", "typed_config": tree{
				"@type":       "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
				"stat_prefix": "streams", "cluster": "upstream",
			}}}
		}
	}
	second := func(bootstrap tree) {
		addHTTP2(none.GRPC)(bootstrap) // as upstream2, which speaks HTTP/2 as authz does
	}
	e := newEdge(t, w.GRPC, second, variant{"streams", stream("authz")}, variant{"unnamed", stream("upstream2")})
	const cart = "spiffe://mesh.test/ns/shop/sa/cart"
	for _, c := range []struct {
		listener string
		client   *tls.Certificate
		passes   bool
	}{
		{"streams", ca.issue("cart", cart), true},
		{"streams", ca.issue("other", "spiffe://mesh.test/ns/shop/sa/other"), false},
		{"streams", nil, false},
		{"unnamed", ca.issue("cart", cart), false}, // no route names TCP
	} {
		name := fmt.Sprint(c.listener, ", certificate ", c.client != nil)
		passed := e.stream(c.listener, c.client)
		if passed != c.passes {
			t.Errorf("%s: passes %v, want %v", name, passed, c.passes)
		}
	}
	metrics := func(w *world, label string) {
		_, body, err := w.Get(t.Context(), "/metrics")
		if err != nil || !strings.Contains(body, label) {
			t.Errorf("no %s in the metrics (%v)", label, err)
		}
	}
	metrics(w, `reason="allowed",route="streams"`)
	metrics(w, `reason="not_permitted",route="streams"`)
	metrics(none, `reason="no_route"`)
}
