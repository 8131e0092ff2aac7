package integration

import (
	"slices"
	"strings"
	"testing"
)

// A filter as Istio or Envoy Gateway generate it: header lines are joined,
// odd bytes replaced, no mutation is checked. What could be read in two ways
// because of that is refused, and nothing of the client's gets past.
func TestGeneratedFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true, server: `  trustedHops: 1
credentials:
  - {header: authorization, scheme: Bearer}
  - {cookie: session}
`, routes: `
  - name: orders
    match: [/orders]
    policy: api
    onAllow:
      requestHeaders:
        set: {x-user: subject.sub, x-address: source.address, x-seen: 'request.headers["x-a"].join("|")'}
        append: {x-list: '"ours"'}
`})
	names := func(list ...string) tree {
		patterns := []any{}
		for _, name := range list {
			patterns = append(patterns, tree{"exact": name})
		}
		return tree{"patterns": patterns}
	}
	e := newEdge(t, w.GRPC, nil, variant{"generated", generated},
		variant{"some headers", func(l, m, f tree) { generated(l, m, f); f["allowed_headers"] = names("authorization") }},
		variant{"no credential", func(l, m, f tree) { generated(l, m, f); f["disallowed_headers"] = names("authorization", "cookie") }})
	token := strings.TrimPrefix(w.token("bob", "clerk"), "Bearer ")
	other := strings.TrimPrefix(w.token("eve"), "Bearer ")
	bearer := "Bearer " + token
	for _, c := range []struct {
		name, listener string
		headers        [][2]string
		status         int
		reason         string
		upstream       map[string][]string
	}{
		{"one token", "generated", [][2]string{{"authorization", bearer}}, 200, "", map[string][]string{"x-user": {"bob"}}},
		{"two lines", "generated", [][2]string{{"authorization", bearer}, {"authorization", bearer}}, 400, "malformed_credential", nil},
		{"two lines, one of another scheme", "generated", [][2]string{{"authorization", "Basic YTpi"}, {"authorization", bearer}}, 400, "malformed_credential", nil},
		{"two in one line", "generated", [][2]string{{"authorization", bearer + ", Bearer " + other}}, 400, "malformed_credential", nil},
		{"an empty line beside it", "generated", [][2]string{{"authorization", ""}, {"authorization", bearer}}, 200, "", map[string][]string{"x-user": {"bob"}}},
		{"bytes that are no text", "generated", [][2]string{{"authorization", bearer[:20] + "\xff" + bearer[20:]}}, 400, "malformed_credential", nil},
		{"the replacement itself", "generated", [][2]string{{"authorization", bearer[:20] + "!" + bearer[20:]}}, 400, "malformed_credential", nil},
		{"a cookie", "generated", [][2]string{{"cookie", "a=1; session=" + token}}, 200, "", map[string][]string{"x-user": {"bob"}}},
		{"two lines of cookies", "generated", [][2]string{{"cookie", "a=1"}, {"cookie", "session=" + token}}, 200, "", map[string][]string{"x-user": {"bob"}}},
		{"two cookies in two lines", "generated", [][2]string{{"cookie", "session=" + other}, {"cookie", "session=" + token}}, 400, "malformed_credential", nil},
		{"a cookie and a header", "generated", [][2]string{{"cookie", "session=" + other}, {"authorization", bearer}}, 400, "malformed_credential", nil},

		{"owned headers in two lines", "generated", [][2]string{{"authorization", bearer}, {"x-user", "root"}, {"X-USER", "eve"}}, 200, "", map[string][]string{"x-user": {"bob"}}},
		{"an owned header with an underscore", "generated", [][2]string{{"authorization", bearer}, {"x_user", "root"}}, 400, "malformed_request", nil},
		{"an owned header, hop by hop", "generated", [][2]string{{"authorization", bearer}, {"connection", "x-user"}}, 200, "", map[string][]string{"x-user": {"bob"}, "connection": nil}},
		{"another header in two lines", "generated", [][2]string{{"authorization", bearer}, {"x-a", "1"}, {"x-a", "2,3"}}, 200, "", map[string][]string{"x-seen": {"1,2,3"}, "x-a": {"1", "2,3"}}},
		{"an append", "generated", [][2]string{{"authorization", bearer}, {"x-list", "theirs"}}, 200, "", map[string][]string{"x-list": {"theirs,ours"}}},
		{"forwarded addresses in two lines", "generated", [][2]string{{"authorization", bearer}, {"x-forwarded-for", "192.0.2.1"}, {"x-forwarded-for", "192.0.2.2,192.0.2.3"}}, 200, "", map[string][]string{"x-address": {"192.0.2.2"}}},

		// What the filter does not show, Sallyport cannot take for absent.
		{"headers kept from the check", "some headers", [][2]string{{"authorization", bearer}, {"x-user", "root"}, {"x-list", "theirs"}, {"x-a", "1"}}, 200, "", map[string][]string{"x-user": {"bob"}, "x-list": {"ours"}, "x-seen": nil, "x-a": {"1"}}},
		{"the credential kept from the check", "no credential", [][2]string{{"authorization", bearer}, {"cookie", "session=" + token}}, 401, "no_credential", nil},
	} {
		for protocol, ask := range map[string]func(call) *reply{"HTTP/1.1": e.h1, "HTTP/2": e.h2} {
			if protocol == "HTTP/2" && (strings.Contains(c.name, "hop by hop") || strings.Contains(c.name, "two lines of cookies")) {
				continue // HTTP/2 has no connection header, and crumbs of cookies that are one
			}
			got := ask(call{listener: c.listener, target: "/orders", headers: c.headers})
			if got.status != c.status || !strings.Contains(got.body, c.reason) || (got.upstream != "") != (c.status == 200) {
				t.Errorf("%s over %s: %d %.200q, want %d %s", c.name, protocol, got.status, got.body, c.status, c.reason)
			}
			for name, want := range c.upstream {
				if values := got.upstreamLines(name); !slices.Equal(values, want) {
					t.Errorf("%s over %s: %s is %q upstream, want %q", c.name, protocol, name, values, want)
				}
			}
		}
	}
}
