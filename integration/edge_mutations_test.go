package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// What Envoy does with the mutations of an allow. Sallyport's answers rest on
// each of these; where the next Envoy differs, this says in what.
func TestWhatEnvoyDoesToRequests(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	e := newEdge(t, s.addr, nil, variant{"generated", generated})
	const addIfAbsent, overwriteIfExists = corev3.HeaderValueOption_ADD_IF_ABSENT, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS
	headers := func(hs ...*corev3.HeaderValueOption) *authv3.OkHttpResponse {
		return &authv3.OkHttpResponse{Headers: hs}
	}
	removing := func(ok *authv3.OkHttpResponse, names ...string) *authv3.OkHttpResponse {
		ok.HeadersToRemove = names
		return ok
	}
	raw := entry("x-t", "", replace)
	raw.Header.RawValue = []byte("raw")
	for _, c := range []struct {
		name   string
		answer *authv3.OkHttpResponse
		client []string // x-t lines
		want   []string
	}{
		{"set", headers(entry("x-t", "s", replace)), nil, []string{"s"}},
		{"set over one", headers(entry("x-t", "s", replace)), []string{"c"}, []string{"s"}},
		{"set over two", headers(entry("x-t", "s", replace)), []string{"c", "d"}, []string{"s"}},
		{"unset means set", headers(entry("x-t", "s", unset)), []string{"c", "d"}, []string{"s"}},
		{"an action is not read", headers(entry("x-t", "s", replace, addIfAbsent)), []string{"c"}, []string{"s"}},
		{"nor is another", headers(entry("x-t", "s", replace, overwriteIfExists)), nil, []string{"s"}},
		{"append to nothing does nothing", headers(entry("x-t", "s", extend)), nil, nil},
		{"append to one", headers(entry("x-t", "s", extend)), []string{"c"}, []string{"c,s"}},
		{"append to two", headers(entry("x-t", "s", extend)), []string{"c", "d"}, []string{"c,s", "d"}},
		{"set, then append, in any order", headers(entry("x-t", "b", extend), entry("x-t", "a", replace)), []string{"c"}, []string{"a,b"}},
		{"set twice: the last", headers(entry("x-t", "a", replace), entry("x-t", "b", replace)), nil, []string{"b"}},
		{"an empty value", headers(entry("x-t", "", replace)), []string{"c"}, []string{""}},
		{"a raw value is not read", headers(raw), []string{"c"}, []string{""}},
		{"a capital letter", headers(entry("X-T", "s", replace)), []string{"c"}, []string{"s"}},
		{"an underscore is another name", headers(entry("x_t", "s", replace)), []string{"c"}, []string{"c"}},
		{"removal wins", removing(headers(entry("x-t", "s", replace)), "x-t"), []string{"c"}, nil},
		{"removal of all", removing(headers(), "X-T"), []string{"c", "d"}, nil},
	} {
		s.on("x "+c.name, always(allowed(c.answer)))
		ask := call{target: "/x", headers: [][2]string{{"x-case", "x " + c.name}}}
		for _, v := range c.client {
			ask.headers = append(ask.headers, [2]string{"x-t", v})
		}
		for _, listener := range []string{"ingress", "generated"} {
			ask.listener = listener
			for protocol, send := range e.protocols() {
				if got := send(ask); !slices.Equal(got.upstreamLines("x-t"), c.want) || got.upstream == "" {
					t.Errorf("%s, %s, %s: %q upstream, want %q", c.name, listener, protocol, got.upstreamLines("x-t"), c.want)
				}
			}
		}
	}

	params := func(set []string, remove ...string) *authv3.OkHttpResponse {
		ok := &authv3.OkHttpResponse{QueryParametersToRemove: remove}
		for _, p := range set {
			key, value, _ := strings.Cut(p, "=")
			ok.QueryParametersToSet = append(ok.QueryParametersToSet, &corev3.QueryParameter{Key: key, Value: value})
		}
		return ok
	}
	for _, c := range []struct {
		name   string
		answer *authv3.OkHttpResponse
		target string
		want   string // with envoy.yaml; empty: 500
		loose  string // where nothing is validated; empty: the same
	}{
		{"nothing to do", params(nil), "/p?b&a=1&b", "/p?b&a=1&b", ""},
		{"any change sorts and rewrites all", params([]string{"z=s"}), "/p?b=3&a=%2f%20+x;y&c&d=", "/p?a=%2f%20+x;y&b=3&c=&d=&z=s", ""},
		{"a removal of nothing too", params(nil, "none"), "/p?b&a", "/p?a=&b=", ""},
		{"set collapses all of a name", params([]string{"a=s"}), "/p?a=1&b=2&a=3", "/p?a=s&b=2", ""},
		{"others keep their copies", params([]string{"z=s"}), "/p?a=1&a=2", "/p?a=1&a=2&z=s", ""},
		{"removal knows one spelling", params(nil, "debug"), "/p?debug=1&de%62ug=2", "/p?de%62ug=2", ""},
		{"a value in every letter allowed", params([]string{"a=zA09*-._"}), "/p", "/p?a=zA09*-._", ""},
		{"an escaped value is none", params([]string{"a=x%20y"}), "/p", "", "/p?a=x%20y"},
		{"nor is syntax", params([]string{"a=x&admin=1"}), "/p", "", "/p?a=x&admin=1"},
	} {
		s.on("q "+c.name, always(allowed(c.answer)))
		for _, listener := range []string{"ingress", "generated"} {
			want := c.want
			if listener == "generated" && c.loose != "" {
				want = c.loose
			}
			got := e.h1(call{listener: listener, target: c.target, headers: [][2]string{{"x-case", "q " + c.name}}})
			if got.target() != want || want == "" && got.status != 500 {
				t.Errorf("%s, %s: %d, %q upstream, want %q", c.name, listener, got.status, got.target(), want)
			}
		}
	}

	// Values that are no header: stopped, by one error or another.
	for name, h := range map[string]*corev3.HeaderValueOption{
		"line break": entry("x-t", "a\r\nx-forged: 1", replace), "NUL": entry("x-t", "a\x00", replace), "name": entry("x t", "a", replace),
	} {
		s.on("bad "+name, always(allowed(headers(h))))
		for listener, want := range map[string]int{"ingress": 500, "generated": 503} {
			if got := e.h1(call{listener: listener, headers: [][2]string{{"x-case", "bad " + name}}}); got.status != want || got.upstream != "" {
				t.Errorf("%s, %s: %d %q, want %d", name, listener, got.status, got.upstream, want)
			}
		}
	}
	// Headers that steer Envoy are stopped by envoy.yaml's rules alone.
	for name, h := range map[string]*authv3.OkHttpResponse{
		":path": headers(entry(":path", "/admin", replace)), "host": headers(entry("host", "admin.test", replace)), "x-envoy-original-path": headers(entry("x-envoy-original-path", "/admin", replace)),
	} {
		s.on("steer "+name, always(allowed(h)))
		if got := e.h1(call{headers: [][2]string{{"x-case", "steer " + name}}}); got.status != 500 || got.upstream != "" {
			t.Errorf("%s: %d %q, want 500", name, got.status, got.upstream)
		}
		got := e.h1(call{listener: "generated", headers: [][2]string{{"x-case", "steer " + name}}})
		if got.status != 200 || !strings.Contains(got.upstream, "admin") {
			t.Errorf("%s without rules: %d %q", name, got.status, got.upstream)
		}
	}
	s.on("remove host", always(allowed(removing(headers(), "host"))))
	if got := e.h1(call{headers: [][2]string{{"x-case", "remove host"}}}); got.status != 500 {
		t.Errorf("a removal of host: %d, want 500", got.status)
	}
	// 60 KiB and a hundred headers, with what the client sent.
	var hundred []*corev3.HeaderValueOption
	for i := range 100 {
		hundred = append(hundred, entry(fmt.Sprint("x-", i), "1", replace))
	}
	for name, ok := range map[string]*authv3.OkHttpResponse{
		"100 headers more": headers(hundred...), "60 KiB more": headers(entry("x-t", strings.Repeat("a", 60<<10), replace)),
	} {
		s.on(name, always(allowed(ok)))
		if got := e.h1(call{listener: "generated", headers: [][2]string{{"x-case", name}}}); got.status != 500 || got.upstream != "" {
			t.Errorf("%s: %d, want 500", name, got.status)
		}
	}
}

// What Envoy does with headers for the caller of an allowed request, and with
// the parts of answers that refuse or fail.
func TestWhatEnvoyDoesToResponses(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	e := newEdge(t, s.addr, nil, variant{"generated", generated}, variant{"named", func(_, manager, _ tree) {
		within(manager, "access_log", "0", "typed_config", "log_format", "json_format").(tree)["all"] = "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)% %REQ(X-CASE)%"
	}})
	const (
		overwrite       = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
		addIfAbsent     = corev3.HeaderValueOption_ADD_IF_ABSENT
		overwriteExists = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS
	)
	for _, c := range []struct {
		name  string
		entry *corev3.HeaderValueOption
		want  [3]string // where the upstream sent none, one and two
	}{
		{"unset appends", entry("x-t", "s", unset), [3]string{"[s]", "[u s]", "[u v s]"}},
		{"unset, add if absent", entry("x-t", "s", unset, addIfAbsent), [3]string{"[s]", "[u]", "[u v]"}},
		{"unset, overwrite", entry("x-t", "s", unset, overwrite), [3]string{"[s]", "[s]", "[s]"}},
		{"unset, overwrite if exists", entry("x-t", "s", unset, overwriteExists), [3]string{"[]", "[s]", "[s]"}},
		{"replace", entry("x-t", "s", replace), [3]string{"[s]", "[s]", "[s]"}},
		{"replace and overwrite", entry("x-t", "s", replace, overwrite), [3]string{"[s]", "[s]", "[s]"}},
		{"extend", entry("x-t", "s", extend), [3]string{"[s]", "[u s]", "[u v s]"}},
	} {
		s.on("r "+c.name, always(allowed(&authv3.OkHttpResponse{ResponseHeadersToAdd: []*corev3.HeaderValueOption{c.entry}})))
		for n, lines := range [][]string{nil, {"x-t: u"}, {"x-t: u", "x-t: v"}} {
			ask := call{headers: [][2]string{{"x-case", "r " + c.name}}}
			for _, line := range lines {
				ask.headers = append(ask.headers, [2]string{"x-answer", line})
			}
			for protocol, send := range map[string]func(call) *reply{"HTTP/1.1": e.h1, "HTTP/2": e.h2} {
				if got := fmt.Sprint(send(ask).header.Values("x-t")); got != c.want[n] {
					t.Errorf("%s over %d of the upstream's, %s: %s, want %s", c.name, n, protocol, got, c.want[n])
				}
			}
		}
	}
	// Not validated where nobody asks for it: then it is written as it is.
	split := &authv3.OkHttpResponse{ResponseHeadersToAdd: []*corev3.HeaderValueOption{entry("x-t", "a\r\nx-injected: 1", replace)}}
	s.on("split", always(allowed(split)))
	if got := e.h1(call{listener: "generated", headers: [][2]string{{"x-case", "split"}}}); got.header.Get("x-injected") != "1" {
		t.Errorf("without validation: %q", got.raw)
	}
	if got := e.h1(call{headers: [][2]string{{"x-case", "split"}}}); got.status != 500 || got.header.Get("x-injected") != "" {
		t.Errorf("with validation: %q", got.raw)
	}

	// A failure keeps appended headers, where a denial loses them; with a bad
	// one it loses everything.
	failed := func(h *corev3.HeaderValueOption) *authv3.CheckResponse {
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 14}, HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: 418}, Headers: []*corev3.HeaderValueOption{h}, Body: "why",
		}}}
	}
	s.on("failed", always(failed(entry("x-t", "s", extend))))
	if got := e.h1(call{headers: [][2]string{{"x-case", "failed"}}}); !knowsErrors(t) {
		if got.status != 403 {
			t.Errorf("a failure: %d", got.status)
		}
	} else if got.status != 418 || got.header.Get("x-t") != "s" || got.body != "why" {
		t.Errorf("a failure: %d %v %q", got.status, got.header, got.body)
	}
	s.on("failed badly", always(failed(entry("x-t", "a\r\nb", unset))))
	if got := e.h1(call{headers: [][2]string{{"x-case", "failed badly"}}}); knowsErrors(t) && got.status != 503 || got.body != "" {
		t.Errorf("a failure with a bad header: %d %v %q", got.status, got.header, got.body)
	}

	// Metadata: on each answer, and the old field of an allow wins over the
	// new one, so that only one of them may be used.
	fields := func(value string) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{"k": structpb.NewStringValue(value)}}
	}
	allow := allowed(nil)
	allow.DynamicMetadata = fields("new")
	deny := refused(403, "")
	deny.DynamicMetadata = fields("new")
	fail := failed(entry("x-t", "s", unset))
	fail.DynamicMetadata = fields("new")
	twice := allowed(&authv3.OkHttpResponse{DynamicMetadata: fields("old")}) //nolint:staticcheck // SA1019: the deprecated field is what this is about
	twice.DynamicMetadata = fields("new")
	for name, c := range map[string]struct {
		resp *authv3.CheckResponse
		want string
	}{"allow": {allow, "new"}, "denial": {deny, "new"}, "failure": {fail, "new"}, "both fields": {twice, "old"}, "none": {allowed(nil), ""}} {
		name = "metadata " + name
		s.on(name, always(c.resp))
		e.h1(call{listener: "named", headers: [][2]string{{"x-case", name}}})
		line := e.logged(func(m tree) bool { text, _ := m["all"].(string); return strings.HasSuffix(text, " "+name) })["all"].(string)
		if c.want == "" && !strings.HasPrefix(line, "- ") || c.want != "" && !strings.Contains(line, `"k":"`+c.want+`"`) {
			t.Errorf("%s: %s, want %q", name, line, c.want)
		}
	}
}

// What Envoy puts into a check.
func TestWhatEnvoyAsks(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	body := func(l, _, f tree) {
		l["per_connection_buffer_limit_bytes"] = 16 << 20
		f["with_request_body"] = tree{"max_request_bytes": 8 << 20, "allow_partial_message": true, "pack_as_bytes": true}
	}
	e := newEdge(t, s.addr, nil, variant{"generated", generated},
		variant{"body", body}, variant{"body, open", func(l, m, f tree) { failsOpen(l, m, f); body(l, m, f) }},
		variant{"small buffer", func(_, _, f tree) {
			f["with_request_body"] = tree{"max_request_bytes": 1 << 20, "allow_partial_message": true}
		}})
	for _, c := range []struct {
		name        string
		client      [][2]string
		header      string
		raw, merged []string
	}{
		{"two credentials", [][2]string{{"authorization", "Bearer a"}, {"authorization", "Bearer b"}}, "authorization", []string{"Bearer a,Bearer b"}, []string{"Bearer a,Bearer b"}},
		{"an empty credential and another", [][2]string{{"authorization", ""}, {"authorization", "Bearer b"}}, "authorization", []string{"Bearer b"}, []string{"Bearer b"}},
		{"two lines of cookies", [][2]string{{"cookie", "a=1"}, {"cookie", "b=2"}}, "cookie", []string{"a=1", "b=2"}, []string{"a=1,b=2"}},
		{"two lines of another", [][2]string{{"x-t", "1"}, {"x-t", "2"}}, "x-t", []string{"1", "2"}, []string{"1,2"}},
		{"bytes that are no text", [][2]string{{"x-t", "a\xff\xfe"}}, "x-t", []string{"a\xff\xfe"}, []string{"a!!"}},
		{"a bare carriage return", [][2]string{{"x-t", "a\rX-User: root"}}, "x-t", []string{"aX-User: root"}, []string{"aX-User: root"}},
		{"a folded line", [][2]string{{"x-t", "a\r\n b"}}, "x-t", []string{"a b"}, []string{"a b"}},
		{"Envoy's own header", [][2]string{{"x-envoy-auth-partial-body", "true"}}, "x-envoy-auth-partial-body", nil, nil},
		{"the service of a client", [][2]string{{"x-envoy-downstream-service-cluster", "root"}}, "x-envoy-downstream-service-cluster", nil, []string{"root"}},
		{"a hop-by-hop header", [][2]string{{"keep-alive", "1"}}, "keep-alive", nil, nil},
	} {
		for listener, want := range map[string][]string{"ingress": c.raw, "generated": c.merged} {
			name := c.name + " " + listener
			e.h1(call{listener: listener, headers: append([][2]string{{"x-case", name}}, c.client...)})
			m := s.check(name)
			if got := headerOf(m, c.header); m == nil || !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
			if http := m.GetAttributes().GetRequest().GetHttp(); (len(http.GetHeaders()) > 0) == (listener == "ingress") || (len(http.GetHeaderMap().GetHeaders()) > 0) == (listener == "generated") {
				t.Errorf("%s: both or neither of map and list", name)
			}
		}
	}
	// Envoy drops the parameters of dot segments since 1.39 (CVE-2026-73511).
	root, public := "/admin", "/admin"
	if envoyMinor(t) < 39 {
		root, public = "/..;/admin", "/public/..;/admin"
	}
	for _, c := range []struct {
		host, target string
		path         string // empty: nobody is asked
		loose        string // where nothing normalises
	}{
		{"Edge.test:8080", "/a/b?x=1#", "", ""},
		{"Edge.test.:8080", "/a/b?x=1", "/a/b?x=1", "/a/b?x=1"},
		{"u@h", "/a", "/a", "/a"},
		{"api.test:80@admin.test", "/a", "/a", "/a"},
		{"h,evil", "/a", "/a", "/a"},
		{"h/x", "/a", "", ""},
		{"h", "/..;/admin", root, "/..;/admin"},
		{"h", "/public/..;/admin", public, "/public/..;/admin"},
		{"h", "/%2e%2e;/admin", "/..;/admin", "/%2e%2e;/admin"},
		{"h", "/a/..%3b/b", "/a/..%3b/b", "/a/..%3b/b"},
		{"h", "/a%252fb", "/a%252fb", "/a%252fb"},
		{"h", "/public//../admin", "/public/admin", "/public//../admin"},
		{"h", "/a%2fb", "", "/a%2fb"},
		{"h", "/a%00b", "", "/a%00b"},
		{"h", "/%61dmin", "/admin", "/%61dmin"},
		{"h", "//a//b", "/a/b", "//a//b"},
		{"h", `/a\b`, "/a/b", `/a\b`},
		{"h", "/a\xffb", "", ""},
	} {
		for listener, want := range map[string]string{"ingress": c.path, "generated": c.loose} {
			name := listener + c.host + c.target
			got := e.h1(call{listener: listener, host: c.host, target: c.target, headers: [][2]string{{"x-case", name}}})
			m := s.check(name)
			http := m.GetAttributes().GetRequest().GetHttp()
			if (m == nil) != (want == "") || m != nil && (http.GetPath() != want || http.GetHost() != c.host || got.target() != want || http.GetQuery() != "" || http.GetFragment() != "") {
				t.Errorf("%s: %d, asked for %q of %q, %q upstream; want %q", name, got.status, http.GetPath(), http.GetHost(), got.target(), want)
			}
		}
	}
	// A body that makes the message longer than the server takes is an error,
	// which opens a filter that fails open; one that Envoy itself does not
	// buffer is refused without a check.
	large := strings.Repeat("x", 5<<20) // grpc-go takes 4 MiB unless told otherwise
	for listener, want := range map[string]int{"body": 503, "body, open": 200, "small buffer": 413} {
		got := e.h1(call{listener: listener, method: "POST", target: "/large", headers: [][2]string{{"x-case", "large " + listener}}, body: large})
		if got.status != want || s.check("large "+listener) != nil {
			t.Errorf("a body of 5 MiB, %s: %d, want %d", listener, got.status, want)
		}
	}
}
