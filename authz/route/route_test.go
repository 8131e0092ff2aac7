package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
)

// spec returns a Spec whose route bears its name.
func spec(name, hosts string, match ...string) Spec {
	return Spec{Name: name, Hosts: strings.Fields(hosts), Match: match, Route: &authz.Route{Name: name}}
}

func keeping(s Spec, keep kept) Spec {
	s.KeepEscapedSlash, s.KeepSemicolon = keep&keptSlash != 0, keep&keptSemicolon != 0
	return s
}

func newTable(t testing.TB, g Guard, specs ...Spec) *Table {
	t.Helper()
	table, problems := New(specs, g)
	for _, p := range problems {
		t.Errorf("route %d: %s: %v", p.Route, p.Key, p.Err)
	}
	if t.Failed() {
		t.FailNow()
	}
	return table
}

// get returns a request from "METHOD HOST TARGET".
func get(line string) *authz.Request {
	f := strings.SplitN(line, " ", 3)
	return &authz.Request{Method: f[0], Authority: f[1], Target: f[2]}
}

// outcome is the name of the route, or reason and detail of the refusal.
func outcome(table *Table, r *authz.Request) string {
	route, err := table.Route(r)
	if err != nil {
		return fmt.Sprint(authz.ReasonOf(err), " ", authz.DetailOf(err))
	}
	return route.Name
}

const (
	badPath   = "malformed_request bad_path"
	badHost   = "malformed_request bad_host"
	badHeader = "malformed_request bad_header"
	noMatch   = "no_route nothing_matched"
	unknown   = "no_route unknown_route"
	mismatch  = "no_route route_mismatch"
)

type request struct{ line, want string }

func check(t *testing.T, table *Table, requests []request) {
	t.Helper()
	for _, tt := range requests {
		if got := outcome(table, get(tt.line)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.line, got, tt.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	check(t, newTable(t, Guard{},
		spec("order", "", "GET /v1/orders/{order}"),
		spec("orders", "", "/v1/orders"),
		spec("files", "", "/v1/files/{path...}"),
		spec("tree", "", "/tree/"),
		spec("exact", "", "/exact/{$}"),
		spec("root", "", "/{$}"),
		spec("literal", "", `GET /%61 "x"/café/%7bb%7D`),
	), []request{
		{"GET h /v1/orders/7", "order"},
		{"HEAD h /v1/orders/7", "order"},
		{"POST h /v1/orders/7", noMatch},
		{"get h /v1/orders/7", noMatch},
		{"GET h /v1/orders/7/", noMatch},
		{"GET h /v1/orders/7/x", noMatch},
		{"GET h /v1/orders/", noMatch},
		{"GET h /v1/orders", "orders"},
		{"PURGE h /v1/orders?x=/y", "orders"},
		{"GET h /V1/orders", noMatch},
		{"GET h /v1/files", noMatch},
		{"GET h /v1/files/", "files"},
		{"GET h /v1/files/a/b/", "files"},
		{"GET h /tree", noMatch},
		{"GET h /tree/", "tree"},
		{"GET h /tree/a/b", "tree"},
		{"GET h /exact/", "exact"},
		{"GET h /exact", noMatch},
		{"GET h /exact/x", noMatch},
		{"GET h /", "root"},
		{"GET h /x", noMatch},
		{"GET h /a%20%22x%22/caf%C3%A9/%7Bb%7D", "literal"},
		{`GET h /%61%20"x"/caf%c3%a9/{b}`, "literal"},
	})
}

func TestPrecedence(t *testing.T) {
	check(t, newTable(t, Guard{},
		spec("all", "", "/"),
		spec("get", "", "GET /"),
		spec("orders", "", "GET /orders/"),
		spec("order", "", "GET /orders/{id}"),
		spec("head", "", "HEAD /orders/{id}/items/{item}"),
		spec("new", "", "GET /orders/new"),
		spec("item", "", "GET /orders/{id}/items/{item}"),
	), []request{
		{"POST h /orders/new", "all"},
		{"GET h /x", "get"},
		{"HEAD h /x", "get"},
		{"GET h /orders/a/b", "orders"},
		{"GET h /orders/", "orders"},
		{"GET h /orders", "get"},
		{"GET h /orders/7", "order"},
		{"HEAD h /orders/7", "order"},
		{"HEAD h /orders/7/items/1", "head"},
		{"GET h /orders/new", "new"},
		{"GET h /orders/new/items/1", "item"}, // back from the literal
		{"GET h /orders/new/x", "orders"},
	})
	check(t, newTable(t, Guard{}, spec("get", "", "GET /x"), spec("head", "", "HEAD /x"), spec("any", "", "/x")),
		[]request{{"GET h /x", "get"}, {"HEAD h /x", "head"}, {"POST h /x", "any"}})
}

func TestHosts(t *testing.T) {
	check(t, newTable(t, Guard{},
		spec("exact", "API.example.com", "GET /x"),
		spec("suffix", "*.example.com", "/x"),
		spec("longer", "*.eu.example.com", "/x"),
		spec("dash", "*-eu.example.com", "/x"),
		spec("prefix", "api.*", "/x"),
		spec("longerprefix", "api.eu.*", "/x"),
		spec("any", "", "/x"),
		spec("star", "*", "/star"),
		spec("two", "a.test b.test", "/x"),
		spec("whole", "*hole.test nar-*", "/x"),
		spec("six", "[2001:DB8::1]", "/x"),
	), []request{
		{"GET api.example.com /x", "exact"},
		{"GET API.Example.COM.:8443 /x", "exact"},
		{"POST api.example.com /x", "suffix"}, // the exact host has no such pattern
		{"POST www.example.com /x", "suffix"},
		{"POST www.eu.example.com /x", "longer"},
		{"POST www-eu.example.com /x", "dash"},
		{"GET example.com /x", "any"},
		{"GET .example.com /x", badHost},
		{"GET whole.test /x", "whole"},
		{"GET hole.test /x", "any"}, // the asterisk stands for at least one character
		{"GET nar-x /x", "whole"},
		{"GET nar- /x", "any"},
		{"GET api.test /x", "prefix"},
		{"GET api.eu.test /x", "longerprefix"},
		{"GET api.eu.example.com /x", "longer"}, // suffix before prefix, whatever the lengths
		{"GET api. /x", "any"},
		{"GET other.test /x", "any"},
		{"GET api.example.com /star", "star"},
		{"GET a.test /x", "two"},
		{"GET b.test:1 /x", "two"},
		{"GET [2001:db8::1]:443 /x", "six"},
		{"GET api.example.com /none", noMatch},
		{"GET  /x", noMatch},
		{"GET h,api.example.com /x", badHost},
		{"GET api.example.com:80@admin.example.com /x", badHost},
		{"GET u@api.example.com /x", badHost},
		{"GET api.example.com: /x", badHost},
	})
}

func TestConnectAndOptionsStar(t *testing.T) {
	check(t, newTable(t, Guard{}, spec("all", "", "/"), spec("options", "", "OPTIONS /")), []request{
		{"CONNECT db.test:5432 ", noMatch},
		{"CONNECT db.test:5432 /", noMatch},
		{"OPTIONS h *", noMatch},
		{"OPTIONS h /", "options"},
		{"GET h *", badPath},
		{"GET h ", badPath},
	})
	check(t, newTable(t, Guard{},
		spec("connect", "", "CONNECT"), spec("db", "db.test", "CONNECT"), spec("star", "", "OPTIONS *"), spec("all", "", "/"),
	), []request{
		{"CONNECT x.test:5432 ", "connect"},
		{"CONNECT db.test:5432 ", "db"},
		{"CONNECT  ", noMatch},
		{"CONNECT x.test /a", noMatch},
		{"CONNECT x.test db.test:80", badPath},
		{"OPTIONS h *", "star"},
		{"OPTIONS  *", noMatch},
		{"OPTIONS h /x", "all"},
	})
}

func TestCanonicalFields(t *testing.T) {
	table := newTable(t, Guard{},
		keeping(spec("keep", "", "/keep/{name}/{rest...}"), keptSlash|keptSemicolon),
		spec("plain", "", "/{a}/{b}"),
		spec("trailing", "", "/t/{a}/"),
	)
	for _, tt := range []struct {
		line, path, query, params string
	}{
		{"GET H.Test:80 /%61/b?q=%2f", "/a/b", "q=%2f", "a=a b=b"},
		{"GET H.Test. /x%20y/caf%c3%a9%25", "/x%20y/caf%C3%A9%25", "", "a=x y b=café%"},
		{"GET h.test /keep/a%2fb;v%3b1/c%20d/%65;f%2Fg/", "/keep/a%2Fb;v%3B1/c%20d/e;f%2Fg/", "", "name=a%2Fb;v%3B1 rest=c d/e;f%2Fg/"},
		{"GET h.test /keep/x/", "/keep/x/", "", "name=x rest="},
		{"GET h.test /t/x/y/z", "/t/x/y/z", "", "a=x"},
		{"GET h.test /%25/a+b", "/%25/a+b", "", "a=% b=a+b"},
	} {
		r := get(tt.line)
		r.Params = []authz.Param{{Name: "stale"}}
		if _, err := table.Route(r); err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		var params []string
		for _, p := range r.Params {
			params = append(params, p.Name+"="+p.Value)
		}
		if r.Host != "h.test" || r.Path != tt.path || r.Query != tt.query || strings.Join(params, " ") != tt.params {
			t.Errorf("%s: got %q %q %q %q", tt.line, r.Host, r.Path, r.Query, params)
		}
	}
	r := get("HEAD h /a/b")
	if _, err := table.Route(r); err != nil || r.Method != "HEAD" {
		t.Errorf("method became %s, %v", r.Method, err)
	}
}

func TestKeptCharacters(t *testing.T) {
	check(t, newTable(t, Guard{},
		keeping(spec("slash", "", "/slash/{x...}"), keptSlash),
		keeping(spec("semicolon", "", "/semicolon/{x...}"), keptSemicolon),
		spec("none", "", "/none/{x...}"),
	), []request{
		{"GET h /slash/a%2fb", "slash"},
		{"GET h /slash/a;b", badPath},
		{"GET h /slash/a%3bb", badPath},
		{"GET h /slash/a%2F..%2Fb", badPath},
		{"GET h /slash%2Fa", badPath},
		{"GET h /semicolon/a;b%3bc", "semicolon"},
		{"GET h /semicolon/..;/b", badPath},
		{"GET h /semicolon/a%2Fb", badPath},
		{"GET h /none/a%2Fb", badPath},
		{"GET h /none/a;b", badPath},
		{"GET h /none/a%5Cb", badPath},
		{"GET h /nowhere/a%2Fb", badPath}, // malformed before no_route
		{"GET h /nowhere/a;b", badPath},
		{"GET h /nowhere/a", noMatch},
	})
}

func TestChosenByEnvoy(t *testing.T) {
	table := newTable(t, Guard{},
		spec("orders", "api.test", "GET /orders", "POST /orders/{id}"),
		spec("bare", ""),
		keeping(spec("barekeep", ""), keptSemicolon),
		spec("connect", "", "CONNECT", "OPTIONS *"),
		spec("any", "", "/"),
	)
	for _, tt := range []struct{ line, name, want string }{
		{"GET other.test /orders", "orders", "orders"}, // hosts are not consulted
		{"GET  /orders", "orders", "orders"},
		{"HEAD other.test /orders", "orders", "orders"},
		{"POST other.test /orders/7", "orders", "orders"},
		{"POST other.test /orders", "orders", mismatch},
		{"GET api.test /", "orders", mismatch},
		{"GET api.test /orders", "nobody", unknown},
		{"GET api.test /orders", "", unknown},
		{"GET api.test /anything/at/all", "bare", "bare"},
		{"CONNECT api.test ", "bare", mismatch},
		{"CONNECT api.test /x", "bare", mismatch},
		{"OPTIONS api.test *", "bare", mismatch},
		{"CONNECT api.test ", "connect", "connect"},
		{"OPTIONS api.test *", "connect", "connect"},
		{"GET api.test /a;b", "bare", badPath},
		{"GET api.test /a;b", "barekeep", "barekeep"},
		{"GET api.test /a%2Fb", "barekeep", badPath},
		{"GET api.test /a;b", "nobody", badPath},
		{"GET a,b /orders", "orders", badHost},
		{"GET api.test //", "bare", badPath},
	} {
		r := get(tt.line)
		r.Context = map[string]string{ContextKey: tt.name, "other": "x"}
		if got := outcome(table, r); got != tt.want {
			t.Errorf("%s by %q: got %s, want %s", tt.line, tt.name, got, tt.want)
		}
	}
	r := get("POST h /orders/7")
	r.Context = map[string]string{ContextKey: "orders"}
	if _, err := table.Route(r); err != nil || !slices.Equal(r.Params, []authz.Param{{Name: "id", Value: "7"}}) {
		t.Errorf("got %v, %v", r.Params, err)
	}
	check(t, table, []request{{"GET h /anything", "any"}, {"GET api.test /orders", "orders"}})
}

func TestTCP(t *testing.T) {
	with := newTable(t, Guard{}, spec("tcp", "", "TCP", "/tcp"), spec("bare", ""), spec("all", "", "/"))
	without := newTable(t, Guard{}, spec("all", "", "/", "CONNECT"), spec("bare", ""))
	for _, tt := range []struct {
		table      *Table
		name, want string
	}{
		{with, "", "tcp"},
		{with, "tcp", "tcp"},
		{with, "bare", mismatch},
		{with, "all", mismatch},
		{with, "nobody", unknown},
		{without, "", noMatch},
		{without, "all", mismatch},
	} {
		r := &authz.Request{TCP: true}
		if tt.name != "" {
			r.Context = map[string]string{ContextKey: tt.name}
		}
		if got := outcome(tt.table, r); got != tt.want {
			t.Errorf("by %q: got %s, want %s", tt.name, got, tt.want)
		}
	}
	check(t, with, []request{{"GET h /tcp", "tcp"}, {"TCP h /x", "all"}})
}

func TestMethodIsAToken(t *testing.T) {
	table := newTable(t, Guard{}, spec("all", "", "/"), spec("bare", ""))
	for _, method := range []string{"", "GET POST", "G\x00T", "GÉT", "GET,POST"} {
		r := &authz.Request{Method: method, Authority: "h", Target: "/"}
		if got, want := outcome(table, r), "malformed_request bad_message"; got != want {
			t.Errorf("%q: got %s, want %s", method, got, want)
		}
	}
}

func TestMalformedBeforeNoRoute(t *testing.T) {
	check(t, newTable(t, Guard{}, spec("x", "h", "/x")), []request{
		{"GET a,b /x", badHost},
		{"GET a,b //", badHost},
		{"GET other //", badPath},
		{"GET  //", badPath},
		{"GET other /x", noMatch},
	})
}

// A Table must answer as soon without a match as with one, however many
// routes stand beside it, and without garbage.
func TestAllocations(t *testing.T) {
	table := newTable(t, Guard{Owned: []string{"x-user"}}, spec("plain", "api.test", "/plain"), spec("params", "*.test", "/p/{a}/{b}/{c...}"))
	for _, tt := range []struct {
		line string
		most float64
	}{
		{"GET api.test:443 /plain", 0},
		{"GET api.test /p/a/b/c", 1},
		{"GET api.test /p/the%20first/the%20second/and/the%20rest", 2},
	} {
		r := get(tt.line)
		r.Headers = []authz.Header{{Name: "x-user"}, {Name: "connection", Value: "keep-alive"}, {Name: "x_uses"}, {Name: "accept-encoding"}}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := table.Route(r); err != nil {
				t.Fatal(err)
			}
		}); n > tt.most {
			t.Errorf("%s: %v allocations, want %v at most", tt.line, n, tt.most)
		}
	}
}

func FuzzRoute(f *testing.F) {
	f.Add("GET", "api.test:80", "/orders/7?x", "x-user", "v", "")
	f.Add("OPTIONS", "h", "*", "origin", "null", "keep")
	f.Add("CONNECT", "h:1", "", "connection", "x-user", "")
	f.Add("HEAD", "x.test", "/keep/a%2Fb;c/%7e", "x_user", "", "keep")
	f.Add("POST", "api.x", "/t/", "", "", "bare")
	table := newTable(f, Guard{Owned: []string{"x-user"}},
		spec("order", "api.test", "GET /orders/{id}"),
		keeping(spec("keep", "*.test api.*", "/keep/{a}/{b...}", "/keep/"), keptSlash|keptSemicolon),
		spec("tree", "", "/t/", "OPTIONS *", "CONNECT"),
		spec("bare", ""),
	)
	f.Fuzz(func(t *testing.T, method, authority, target, name, value, chosen string) {
		r := &authz.Request{Method: method, Authority: authority, Target: target, Headers: []authz.Header{{Name: name, Value: value}}}
		if chosen != "" {
			r.Context = map[string]string{ContextKey: chosen}
		}
		got := outcome(table, r)
		if again := outcome(table, r); again != got {
			t.Fatalf("got %s, then %s", got, again)
		}
		if strings.Contains(got, " ") {
			if reason := strings.Fields(got)[0]; reason != string(authz.MalformedRequest) && reason != string(authz.NoRoute) {
				t.Fatalf("got %s", got)
			}
			return
		}
		// What was read reads the same.
		r2 := &authz.Request{Method: method, Authority: r.Host, Target: r.Path, Headers: r.Headers, Context: r.Context}
		if got2 := outcome(table, r2); got2 != got || r2.Host != r.Host || r2.Path != r.Path || !slices.Equal(r2.Params, r.Params) {
			t.Fatalf("%+v goes to %s, and read again %+v to %s", r, got, r2, got2)
		}
		if got == "keep" || strings.Contains(target, "?") {
			return
		}
		if strings.ContainsAny(r.Path, ";") || strings.Contains(r.Path, "%2F") || strings.Contains(r.Path, "%3B") {
			t.Fatalf("route %s got the path %s", got, r.Path)
		}
	})
}

// What a client can send through an Envoy that normalises nothing, as seen
// with Envoy 1.40, and what becomes of it on a route that keeps nothing.
func TestTargetsThroughEnvoy(t *testing.T) {
	table := newTable(t, Guard{}, spec("all", "", "/"))
	for _, tt := range []struct{ target, want string }{
		{"/a;x=1/b;y", badPath}, {"/a%3bx", badPath}, {"/a%3fx", "/a%3Fx"}, {"/a%23f", "/a%23f"}, {"/a%20b", "/a%20b"},
		{"/a%0d%0ab", badPath}, {"/a%zz", badPath}, {"/a%", badPath}, {"/a%c3%a9", "/a%C3%A9"},
		{"/a?b?c", "/a"}, {"/a??b", "/a"}, {"/a?", "/a"}, {"/a/...", "/a/..."},
		{"/..;/admin", badPath}, {"/a/..;/admin", badPath}, {"/a;/../b", badPath},
		{"//a//b", badPath}, {"/a//", badPath},
		{"/a/./b", badPath}, {"/a/../b", badPath}, {"/a/..", badPath}, {"/a/.", badPath}, {"/..", badPath}, {"/a//../b", badPath},
		{"/a%2fb", badPath}, {"/a%2Fb", badPath}, {"/a%5cb", badPath}, {"/a/..%2fb", badPath}, {"/a/%2e%2e%2fb", badPath},
		{`/a\b`, badPath}, {`/\a`, badPath},
		{"/a/%2e%2e/b", badPath}, {"/%2e%2e", badPath}, {"/a%2e%2e/b", "/a../b"},
		{"/%61dmin", "/admin"}, {"/a%7e", "/a~"},
		{"/a%252fb", badPath}, {"/a/%252e%252e/b", badPath}, {"/a%00b", badPath},
		{`/a"b`, "/a%22b"}, {"/a<b>", "/a%3Cb%3E"}, {"/a|b", "/a%7Cb"}, {"/a^b{c}", "/a%5Eb%7Bc%7D"},
		{"/a?x=/../y", "/a"}, {"/a?x=//", "/a"}, {"/a?x=%2f..", "/a"},
		{"/a#frag", badPath}, {"/a?x#frag", badPath}, {"/a b", "/a%20b"}, {"?x", badPath}, {"a/b", badPath}, {"*", badPath}, {"", badPath},
		{"http://x/y", badPath}, {"/caf\xc3\xa9", badPath}, {"/a\xffb", badPath},
	} {
		r := get("GET h " + tt.target)
		got := outcome(table, r)
		if got == "all" {
			got = r.Path
		}
		if got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.target, got, tt.want)
		}
	}
}
