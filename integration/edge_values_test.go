package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

const valueRoutes = `
  - name: values
    match: /values
    allow: true
    onAllow:
      requestHeaders:
        set: {x-set: subject.claims.v, x-list: 'subject.claims.list.join(",")', x-twice: subject.claims.v + subject.claims.v}
        append: {x-add: subject.claims.v}
        remove: [authorization]
      responseHeaders: {set: {x-back: subject.claims.v}}
      query: {set: {v: subject.claims.v}}
      metadata: {v: subject.claims.v}
  - name: words
    match: /words
    policy: api
    onDeny:
      responseHeaders: {set: {x-back: subject.claims.v}}
      body: subject.claims.v
  - name: callers
    match: /callers
    token: none
    allow: true
    onAllow:
      requestHeaders: {set: {x-set: 'request.query.v[0]'}}
      responseHeaders: {set: {x-back: 'request.headers["x-in"][0]'}}
      query: {set: {v: 'request.query.v[0]'}}
  - name: signin
    match: /signin
    policy: api
    onDeny: {redirect: '"/login?" + request.query.back[0]'}
  - name: many
    match: /many
    allow: true
    onAllow: {requestHeaders: {set: {x-1: subject.claims.v, x-2: subject.claims.v, x-3: subject.claims.v, x-4: subject.claims.v, x-5: subject.claims.v}}}
`

// toHTTP2 sends a listener's requests to an upstream of HTTP/2.
func toHTTP2(_, manager, _ tree) {
	within(manager, "route_config", "virtual_hosts", "0", "routes", "0", "route").(tree)["cluster"] = "upstream2"
}

// addHTTP2 adds that upstream to the clusters.
func addHTTP2(addr string) func(tree) {
	return func(bootstrap tree) {
		host, port, _ := net.SplitHostPort(addr)
		resources := bootstrap["static_resources"].(tree)
		resources["clusters"] = append(resources["clusters"].([]any), tree{
			"name": "upstream2", "type": "STATIC", "connect_timeout": "1s",
			"load_assignment": tree{"cluster_name": "upstream2", "endpoints": []any{tree{"lb_endpoints": []any{tree{"endpoint": tree{
				"address": tree{"socket_address": tree{"address": host, "port_value": port}}}}}}}},
			"typed_extension_protocol_options": tree{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": tree{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": tree{"http2_protocol_options": tree{}},
			}},
		})
	}
}

// serveHTTP2 serves HTTP/2 without TLS until the test ends.
func serveHTTP2(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }() // until Close
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// Claims of every awkward kind, in every place where a route may put them. Each
// arrives as it is, or not at all, and never as something else: nothing is
// forged, no request breaks, and a client's copy never stands in.
func TestAwkwardClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true, routes: valueRoutes})
	e := newEdge(t, w.GRPC, addHTTP2(serveHTTP2(t, http.HandlerFunc(harness.ServeEcho))),
		variant{"named", asItStands}, variant{"generated", generated}, variant{"http2", toHTTP2})

	for _, c := range []struct {
		name    string
		value   any
		carried bool // in headers
		query   bool // and in the query
	}{
		{"plain", "ada", true, true},
		{"all that a query may hold", "aZ09*-._", true, true},
		{"empty", "", true, true},
		{"space inside", "Ada Lovelace", true, false},
		{"commas", "a,b,,c", true, false},
		{"quotes", `"a\"b'`, true, false},
		{"percent", "100%, %0d%0a, %zz", true, false},
		{"query syntax", "a&admin=1#x?=+", true, false},
		{"header syntax", "a: b; c=d", true, false},
		{"not ASCII", "Zoë Иван 王", true, false},
		{"emoji", "😀\u200d👩", true, false},
		{"line and paragraph separator", "a\u2028b\u2029", true, false},
		{"8 KiB", strings.Repeat("a", 8<<10), true, false}, // with its name it is more

		{"line break and a header", "a\r\nx-forged: 1", false, false},
		{"line feed", "a\nx-forged: 1", false, false},
		{"carriage return", "a\rx-forged: 1", false, false},
		{"end of the head", "a\r\n\r\nGET /forged HTTP/1.1\r\nhost: a\r\n\r\n", false, false},
		{"NUL", "a\x00b", false, false},
		{"escape", "\x1b[31m", false, false},
		{"delete", "a\x7f", false, false},
		{"C1 control", "a\u0085b", false, false},
		{"tab", "a\tb", false, false},
		{"8 KiB and one", strings.Repeat("a", 8<<10+1), false, false},
		// RFC 9110 section 5.5: whitespace around a value is not part of
		// it, so that the upstream would take " ada" for ada.
		{"space before", " ada", false, false},
		{"space after", "ada ", false, false},
		{"space alone", " ", false, false},
		{"a number", 7, false, false},
		{"a list", []string{"a"}, false, false},
		{"null", nil, false, false},
	} {
		text, _ := c.value.(string)
		claims := map[string]any{"sub": "bob", "v": c.value, "list": []any{"x", c.value}}
		if len(text) > 4<<10 {
			delete(claims, "list") // a token may have 16 KiB
		}
		token := "Bearer " + w.issuer.Mint(claims)
		headers := [][2]string{{"authorization", token}, {"x-case", c.name}, {"x-set", "forged"}, {"x-list", "forged"}, {"x-add", "own"}}
		target, add, list := "/values", "own", []string(nil)
		if c.query {
			target += "?v=" + text
		}
		var set []string
		if c.carried {
			set = []string{text}
			if text != "" {
				add += "," + text
			}
			if list = []string{"x," + text}; strings.Contains(text, ",") || claims["list"] == nil {
				list = nil // the separator is in it
			}
		}
		if c.query && text == "" {
			target = "/values?v="
		}
		for _, listener := range []string{"named", "generated"} {
			for protocol, ask := range map[string]func(call) *reply{"HTTP/1.1": e.h1, "HTTP/2": e.h2} {
				name := fmt.Sprintf("%s, %s, %s", c.name, listener, protocol)
				got := ask(call{listener: listener, target: "/values?v=forged&v=again", headers: headers})
				if got.status != 200 || got.upstream == "" {
					t.Errorf("%s: %d %.200q", name, got.status, got.body)
					continue
				}
				if values := got.upstreamLines("x-set"); !slices.Equal(values, set) {
					t.Errorf("%s: x-set is %.80q upstream, want %.80q", name, values, set)
				}
				if values := got.upstreamLines("x-list"); !slices.Equal(values, list) {
					t.Errorf("%s: x-list is %.80q upstream, want %.80q", name, values, list)
				}
				if values := got.upstreamLines("x-add"); !slices.Equal(values, []string{add}) {
					t.Errorf("%s: x-add is %.80q upstream, want %.80q", name, values, add)
				}
				if values := got.header.Values("x-back"); !slices.Equal(values, set) && fmt.Sprint(values) != fmt.Sprint(set) {
					t.Errorf("%s: x-back is %.80q, want %.80q", name, values, set)
				}
				if got.target() != target {
					t.Errorf("%s: the upstream is asked for %.80s, want %.80s", name, got.target(), target)
				}
				if strings.Contains(got.upstream, "\nx-forged") || got.header.Get("x-forged") != "" || strings.Contains(got.raw[:min(len(got.raw), strings.Index(got.raw+"\r\n\r\n", "\r\n\r\n"))], "x-forged") {
					t.Errorf("%s: a header was forged: %q", name, got.upstream)
				}

				got = ask(call{listener: listener, method: "POST", target: "/words", headers: headers})
				if got.status != 403 || got.header.Get("x-forged") != "" || got.upstream != "" {
					t.Errorf("%s, denied: %d %v", name, got.status, got.header)
				}
				if values := got.header.Values("x-back"); fmt.Sprint(values) != fmt.Sprint(set) {
					t.Errorf("%s, denied: x-back is %.80q, want %.80q", name, values, set)
				}
			}
			// A gRPC caller gets no body, whatever the route says.
			if got := e.grpc(call{listener: listener, target: "/words", headers: headers}); got.header.Get("grpc-status") != "7" || !strings.Contains(got.header.Get("grpc-message"), "not_permitted") || got.body != "" {
				t.Errorf("%s, %s, gRPC: %v %q", c.name, listener, got.header, got.body)
			}
		}
		// HTTP/2 has rules of its own for what a field may hold.
		got := e.h1(call{listener: "http2", target: "/values", headers: headers})
		var echo harness.Echo
		if err := json.Unmarshal([]byte(got.body), &echo); err != nil || got.status != 200 || !slices.Equal(echo.Headers["x-set"], set) {
			t.Errorf("%s, upstream of HTTP/2: %d %.80q, want %.80q (%v)", c.name, got.status, echo.Headers["x-set"], set, err)
		}
	}
}

// What a caller wrote itself, decoded by an expression, breaks nothing either.
func TestAwkwardRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true, routes: valueRoutes})
	e := newEdge(t, w.GRPC, nil, variant{"generated", generated})
	for _, c := range []struct {
		query   string
		set     []string
		target  string
		carried bool
	}{
		{"v=a%0d%0ax-forged:%201", nil, "/callers", false},
		{"v=a%0ax-forged:%201&b=1", nil, "/callers?b=1", false},
		{"v=%00", nil, "/callers", false},
		{"v=%ff", []string{"\uFFFD"}, "/callers", true},
		{"v=%20a", nil, "/callers", false},
		{"v=a%20b", []string{"a b"}, "/callers", true},
		{"v=%C3%A9", []string{"é"}, "/callers", true},
		{"v=a%26admin%3d1", []string{"a&admin=1"}, "/callers", true},
		{"v=abc", []string{"abc"}, "/callers?v=abc", true},
		{"v=%61bc&v=x", []string{"abc"}, "/callers?v=abc", true},
		{"%76=abc&v=x", []string{"abc"}, "/callers?v=abc", true},
	} {
		for _, listener := range []string{"ingress", "generated"} {
			got := e.h1(call{listener: listener, target: "/callers?" + c.query, headers: [][2]string{{"x-set", "forged"}, {"x-in", "a\xff\xfeb"}}})
			if got.status != 200 || !slices.Equal(got.upstreamLines("x-set"), c.set) || got.target() != c.target || strings.Contains(got.upstream, "\nx-forged") {
				t.Errorf("%s, %s: %d, x-set %q, target %s; want %q, %s", c.query, listener, got.status, got.upstreamLines("x-set"), got.target(), c.set, c.target)
			}
			want := "a\uFFFD\uFFFDb"
			if listener == "generated" {
				want = "a!!b" // Envoy's own replacement
			}
			if back := got.header.Get("x-back"); back != want {
				t.Errorf("%s, %s: x-back %q, want %q", c.query, listener, back, want)
			}
		}
	}
	for back, location := range map[string]string{"a=b%26": "/login?a=b&", "a%0d%0ax-forged:%201": "", "%20": "", "%C3%A9": ""} {
		got := e.h1(call{listener: "generated", target: "/signin?back=" + back, headers: [][2]string{{"accept", "text/html"}}})
		want := 401
		if location != "" {
			want = 302
		}
		if got.status != want || got.header.Get("location") != location || strings.Contains(got.raw, "\nx-forged") {
			t.Errorf("redirect with %s: %d %q", back, got.status, got.raw)
		}
	}
}

// How much an answer may carry. What Envoy itself would not pass on is refused
// by Sallyport, and said so, as far as it can know; Envoy's limit counts what
// the client sent too, and then the request ends there: with an error, never
// upstream.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true, routes: valueRoutes})
	e := newEdge(t, w.GRPC, nil, variant{"generated", generated})
	token := func(size int) string {
		return "Bearer " + w.issuer.Mint(map[string]any{"v": strings.Repeat("v", size)})
	}
	for _, listener := range []string{"ingress", "generated"} {
		for _, c := range []struct {
			name   string
			size   int
			client int // bytes of a header of the client's own
			status int
			says   string
		}{
			{"five of 6 KiB", 6 << 10, 0, 200, ""},
			{"five of 7 KiB are over 32 KiB", 7 << 10, 0, 503, `"reason":"internal"`},
			{"with the client's own over 60 KiB", 6 << 10, 30 << 10, 500, ""},
			{"a value too long to be one", 9 << 10, 0, 200, ""},
			{"a token too long to be one", 60 << 10 * 3 / 4, 0, 400, `"reason":"malformed_credential"`},
		} {
			headers := [][2]string{{"authorization", token(c.size)}, {"x-1", "forged"}}
			if c.client > 0 {
				headers = append(headers, [2]string{"x-own", strings.Repeat("c", c.client)})
			}
			if c.status == 400 {
				headers[0][1] = headers[0][1][:50<<10]
			}
			got := e.h1(call{listener: listener, target: "/many", headers: headers})
			if got.status != c.status || !strings.Contains(got.body, c.says) || (got.upstream != "") != (c.status == 200) {
				t.Errorf("%s, %s: %d %.200q, want %d", c.name, listener, got.status, got.body, c.status)
				continue
			}
			if got.status == 200 {
				if n := len(got.upstreamLines("x-1")); n != min(1, max(0, 8<<10-c.size)) {
					t.Errorf("%s, %s: %d lines of x-1 upstream", c.name, listener, n)
				}
			}
		}
	}
	if heads := e.upstream.Heads("x-1: forged"); len(heads) > 0 {
		t.Errorf("a client's copy arrived: %.200q", heads)
	}
}

// Very many roles: each header that names them all is left out where that is
// too long, and never names some of them.
func TestVeryManyRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true})
	e := newEdge(t, w.GRPC, nil)
	for _, n := range []int{1, 100, 1000} {
		roles := make([]string, n)
		for i := range roles {
			roles[i] = fmt.Sprint("clerk", i)
		}
		roles[0] = "clerk"
		got := e.h1(call{target: "/orders", headers: [][2]string{{"authorization", w.token("bob", roles...)}, {"x-roles", "forged"}}})
		var want []string
		if all := strings.Join(roles, ","); len(all) <= 8<<10 {
			want = []string{all}
		}
		status := 200
		if n > 256 { // as many as a policy looks at
			status, want = 403, nil
		}
		if got.status != status || !slices.Equal(got.upstreamLines("x-roles"), want) {
			t.Errorf("%d roles: %d, x-roles %.80q", n, got.status, got.upstreamLines("x-roles"))
		}
	}
	got := e.h1(call{target: "/orders", headers: [][2]string{{"authorization", w.token("bob", "clerk", "a,director")}}})
	if got.status != 200 || got.upstreamLines("x-roles") != nil {
		t.Errorf("a role with a comma: %d, x-roles %q", got.status, got.upstreamLines("x-roles"))
	}
}
