package extauthz_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

func hdr(name, value string) authz.Header { return authz.Header{Name: name, Value: value} }

func TestAllowGolden(t *testing.T) {
	w := &world{
		subject: &authz.Subject{ID: "user:corp/ada", Kind: authz.User},
		allow: authz.Answer{
			Set:         []authz.Header{hdr("x-user", "ada"), hdr("x-roles", "clerk,manager")},
			Append:      []authz.Header{hdr("via", "sallyport"), hdr("x-new", "1"), hdr("x-new", "2")},
			Remove:      []string{"cookie", "x-tenant"},
			QuerySet:    []authz.Param{{Name: "tier", Value: "gold"}},
			QueryRemove: []string{"debug", "absent"},
			Response:    []authz.Header{hdr("x-decision", "7"), hdr("set-cookie", "a=1"), hdr("set-cookie", "b=2")},
			Metadata:    map[string]any{"tier": "gold", "roles": []any{"clerk", "manager"}},
		},
	}
	r := extauthz.Read(get("via: 1.1 edge", "x-user: eve"), 0)
	golden(t, "allow", steady(t, w.render(t, r)))
}

// Every header of an allow carries both fields that say what to do with it,
// because Envoy's versions read one or the other.
func TestAllowHeaders(t *testing.T) {
	type entry struct {
		h      authz.Header
		append bool
	}
	cases := []struct {
		name   string
		client []string
		answer authz.Answer
		want   []entry
		remove []string
	}{
		{name: "set replaces", client: []string{"x-user: eve"}, answer: authz.Answer{Set: []authz.Header{hdr("x-user", "ada")}}, want: []entry{{hdr("x-user", "ada"), false}}},
		{name: "empty values are kept", answer: authz.Answer{Set: []authz.Header{hdr("x-user", "")}}, want: []entry{{hdr("x-user", ""), false}}},
		{name: "sorted", answer: authz.Answer{Set: []authz.Header{hdr("x-b", "1"), hdr("x-a", "2")}}, want: []entry{{hdr("x-a", "2"), false}, {hdr("x-b", "1"), false}}},
		{name: "append to the client's", client: []string{"via: 1.1 edge"}, answer: authz.Answer{Append: []authz.Header{hdr("via", "x")}}, want: []entry{{hdr("via", "x"), true}}},
		{name: "append to nothing is a set", answer: authz.Answer{Append: []authz.Header{hdr("via", "x")}}, want: []entry{{hdr("via", "x"), false}}},
		{name: "two appends to nothing", answer: authz.Answer{Append: []authz.Header{hdr("via", "x"), hdr("via", "y")}}, want: []entry{{hdr("via", "x"), false}, {hdr("via", "y"), true}}},
		{name: "append to our own", client: []string{"x-user: eve"}, answer: authz.Answer{Set: []authz.Header{hdr("x-user", "ada")}, Append: []authz.Header{hdr("x-user", "max")}}, want: []entry{{hdr("x-user", "ada"), false}, {hdr("x-user", "max"), true}}},
		{name: "appended and removed: without the client's", client: []string{"via: eve"}, answer: authz.Answer{Append: []authz.Header{hdr("via", "x")}, Remove: []string{"via"}}, want: []entry{{hdr("via", "x"), false}}},
		{name: "never removed when set", answer: authz.Answer{Set: []authz.Header{hdr("x-user", "ada")}, Remove: []string{"x-user", "X-User", "cookie"}}, want: []entry{{hdr("x-user", "ada"), false}}, remove: []string{"cookie"}},
		{name: "removed once, sorted", answer: authz.Answer{Remove: []string{"x-b", "x-a", "x-b"}}, remove: []string{"x-a", "x-b"}},
		{name: "names become lower case", answer: authz.Answer{Set: []authz.Header{hdr("X-User", "ada")}}, want: []entry{{hdr("x-user", "ada"), false}}},
		{name: "authorization and cookie may be set", answer: authz.Answer{Set: []authz.Header{hdr("authorization", "Basic eA=="), hdr("cookie", "a=1")}}, want: []entry{{hdr("authorization", "Basic eA=="), false}, {hdr("cookie", "a=1"), false}}},
		{name: "8 KiB value", answer: authz.Answer{Set: []authz.Header{hdr("x-user", strings.Repeat("a", 8<<10))}}, want: []entry{{hdr("x-user", strings.Repeat("a", 8<<10)), false}}},
		{name: "non-ASCII text", answer: authz.Answer{Set: []authz.Header{hdr("x-user", "Zoë, \"x\"")}}, want: []entry{{hdr("x-user", "Zoë, \"x\""), false}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ok := (&world{allow: c.answer}).render(t, extauthz.Read(get(c.client...), 0)).GetOkResponse()
			var got []entry
			for _, h := range ok.GetHeaders() {
				if h.GetAppend() == nil {
					t.Errorf("%s: append is unset", h.GetHeader().GetKey())
				}
				want := corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
				if h.GetAppend().GetValue() {
					want = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
				}
				if h.GetAppendAction() != want {
					t.Errorf("%s: append %v with %v", h.GetHeader().GetKey(), h.GetAppend().GetValue(), h.GetAppendAction())
				}
				if h.GetHeader().GetRawValue() != nil {
					t.Errorf("%s: raw_value, which Envoy reads as empty", h.GetHeader().GetKey())
				}
				got = append(got, entry{hdr(h.GetHeader().GetKey(), h.GetHeader().GetValue()), h.GetAppend().GetValue()})
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if !slices.Equal(ok.GetHeadersToRemove(), c.remove) {
				t.Errorf("removes %v, want %v", ok.GetHeadersToRemove(), c.remove)
			}
		})
	}
}

var badValues = map[string]string{
	"CR": "a\rb", "LF": "a\nb", "CRLF": "a\r\nx-inj: 1", "NUL": "a\x00b", "TAB": "a\tb", "0x01": "\x01", "DEL": "a\x7f",
	"space before": " ada", "space after": "ada ", "space alone": " ",
	"C1 control": "a\u0085b", "not UTF-8": "a\xffb", "8 KiB and one": strings.Repeat("a", 8<<10+1),
}

// A value that cannot be sent is left out, and the client's own copy removed:
// it must not stand in for ours.
func TestInvalidValues(t *testing.T) {
	for name, v := range badValues {
		t.Run(name, func(t *testing.T) {
			w := &world{
				allow:  authz.Answer{Set: []authz.Header{hdr("x-user", v), hdr("x-ok", "1")}, Append: []authz.Header{hdr("via", v)}, Response: []authz.Header{hdr("x-r", v)}},
				denied: authz.Answer{Response: []authz.Header{hdr("x-r", v)}, Redirect: v},
			}
			r := extauthz.Read(get("x-user: eve", "via: edge", "accept: text/html"), 0)
			ok := w.render(t, r).GetOkResponse()
			if len(ok.GetHeaders()) != 1 || ok.GetHeaders()[0].GetHeader().GetKey() != "x-ok" || !slices.Equal(ok.GetHeadersToRemove(), []string{"x-user"}) || len(ok.GetResponseHeadersToAdd()) != 0 {
				t.Errorf("got %v", ok)
			}
			w.deny = authz.Refuse(authz.NoCredential, "", nil)
			w.challenge = v
			d := w.render(t, r).GetDeniedResponse()
			if d.GetStatus().GetCode() != 401 || values(d.GetHeaders(), "x-r") != nil || values(d.GetHeaders(), "location") != nil {
				t.Errorf("got %v", d)
			}
			if got := values(d.GetHeaders(), "www-authenticate"); !slices.Equal(got, []string{"Bearer"}) {
				t.Errorf("challenge %q", got)
			}
		})
	}
}

// Names that steer Envoy or the connection are neither set nor removed, on
// any answer: Envoy applies them, or answers 500.
func TestForbiddenNames(t *testing.T) {
	names := []string{
		"", ":path", ":method", ":authority", ":status", "host", "Host", "content-length", "transfer-encoding", "connection",
		"x-envoy-upstream-alt-stat-name", "X-Envoy-Original-Path", "x y", "x:y", "x\r\ny", "x\x00", "é", "x\xff", "(x)", strings.Repeat("x", 257),
	}
	for _, name := range names {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			w := &world{
				allow:  authz.Answer{Set: []authz.Header{hdr(name, "v")}, Append: []authz.Header{hdr(name, "v")}, Remove: []string{name}, Response: []authz.Header{hdr(name, "v")}},
				denied: authz.Answer{Response: []authz.Header{hdr(name, "v")}},
			}
			ok := w.render(t, &authz.Request{}).GetOkResponse()
			if len(ok.GetHeaders())+len(ok.GetHeadersToRemove())+len(ok.GetResponseHeadersToAdd()) > 0 {
				t.Errorf("allow: %v", ok)
			}
			w.deny = authz.Refuse(authz.NotPermitted, "", nil)
			for _, h := range w.render(t, &authz.Request{}).GetDeniedResponse().GetHeaders() {
				if k := h.GetHeader().GetKey(); k != "content-type" && k != "cache-control" {
					t.Errorf("denial: %v", h)
				}
			}
		})
	}
}

// Headers of one connection can be taken away, and never given: HTTP/2 ends
// what carries one.
func TestConnectionHeaders(t *testing.T) {
	for _, name := range []string{"keep-alive", "proxy-connection", "TE", "upgrade"} {
		h := []authz.Header{hdr(name, "v"), hdr("x-ok", "1")}
		w := &world{allow: authz.Answer{Set: h, Append: h, Response: h}, denied: authz.Answer{Response: h}}
		ok := w.render(t, &authz.Request{}).GetOkResponse()
		lower := strings.ToLower(name)
		if values(ok.GetHeaders(), lower) != nil || values(ok.GetResponseHeadersToAdd(), lower) != nil || values(ok.GetHeaders(), "x-ok") == nil {
			t.Errorf("%s: allow %v", name, ok)
		}
		if !slices.Equal(ok.GetHeadersToRemove(), []string{lower}) {
			t.Errorf("%s: removes %q, want it: it could not be set", name, ok.GetHeadersToRemove())
		}
		w.deny = authz.Refuse(authz.NotPermitted, "", nil)
		if d := w.render(t, &authz.Request{}).GetDeniedResponse(); values(d.GetHeaders(), lower) != nil || values(d.GetHeaders(), "x-ok") == nil {
			t.Errorf("%s: denial %v", name, d)
		}
		w = &world{allow: authz.Answer{Remove: []string{name}}}
		if ok := w.render(t, &authz.Request{}).GetOkResponse(); !slices.Equal(ok.GetHeadersToRemove(), []string{lower}) {
			t.Errorf("%s: removes %q", name, ok.GetHeadersToRemove())
		}
	}
}

// An allow that Envoy would turn into a 500, or that lacks a part, is no
// allow.
func TestAllowTooLarge(t *testing.T) {
	answer := authz.Answer{}
	for i := range 5 {
		answer.Set = append(answer.Set, hdr(fmt.Sprint("x-", i), strings.Repeat("a", 8<<10)))
	}
	r := &authz.Request{}
	d := (&world{allow: answer}).decide(t, r)
	resp, err := extauthz.Render(r, d)
	if err == nil || resp != nil || !strings.Contains(err.Error(), "40975 bytes") {
		t.Errorf("got %v, %v", resp, err)
	}
	// A refusal drops what is too large, and stands.
	w := &world{deny: authz.Refuse(authz.NotPermitted, "", nil), denied: authz.Answer{Response: answer.Set}}
	if got := w.render(t, r).GetDeniedResponse(); got.GetStatus().GetCode() != 403 || len(got.GetHeaders()) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestAllowResponseHeaders(t *testing.T) {
	w := &world{allow: authz.Answer{Response: []authz.Header{hdr("x-b", "1"), hdr("set-cookie", "b=2"), hdr("set-cookie", "a=1"), hdr("x-a", "2")}}}
	got := w.render(t, &authz.Request{}).GetOkResponse().GetResponseHeadersToAdd()
	want := []*corev3.HeaderValueOption{
		{Header: &corev3.HeaderValue{Key: "set-cookie", Value: "b=2"}, Append: yes, AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD},
		{Header: &corev3.HeaderValue{Key: "set-cookie", Value: "a=1"}, Append: yes, AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD},
		{Header: &corev3.HeaderValue{Key: "x-a", Value: "2"}, Append: no, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD},
		{Header: &corev3.HeaderValue{Key: "x-b", Value: "1"}, Append: no, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD},
	}
	if !slices.EqualFunc(got, want, func(a, b *corev3.HeaderValueOption) bool { return proto.Equal(a, b) }) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestQuery(t *testing.T) {
	cases := []struct {
		name, target string
		answer       authz.Answer
		set          []string
		remove       []string
	}{
		{"nothing", "/?debug=1", authz.Answer{}, nil, nil},
		{"set", "/", authz.Answer{QuerySet: []authz.Param{{Name: "b", Value: "1"}, {Name: "a", Value: "A-z_0.9*"}}}, []string{"a=A-z_0.9*", "b=1"}, nil},
		{"set what is there", "/?a=2&a=3", authz.Answer{QuerySet: []authz.Param{{Name: "a", Value: "1"}}}, []string{"a=1"}, nil},
		{"set what is there, written otherwise", "/?%61=2&a=3", authz.Answer{QuerySet: []authz.Param{{Name: "a", Value: "1"}}}, []string{"a=1"}, []string{"%61"}},
		{"remove", "/?x=1&debug=1&debug", authz.Answer{QueryRemove: []string{"debug"}}, nil, []string{"debug"}},
		{"remove what is not there leaves the query alone", "/?x=1&c", authz.Answer{QueryRemove: []string{"debug"}}, nil, nil},
		{"remove what is written otherwise", "/?de%62ug=1&%64ebug=2", authz.Answer{QueryRemove: []string{"debug"}}, nil, []string{"%64ebug", "de%62ug"}},
		{"remove a name with a space", "/?a+b=1&a%20b=2", authz.Answer{QueryRemove: []string{"a b"}}, nil, []string{"a%20b", "a+b"}},
		{"a broken escape is itself", "/?%zz=1", authz.Answer{QueryRemove: []string{"%zz"}}, nil, []string{"%zz"}},
		{"names are case-sensitive", "/?Debug=1", authz.Answer{QueryRemove: []string{"debug"}}, nil, nil},
		{"set wins over remove", "/?a=1", authz.Answer{QuerySet: []authz.Param{{Name: "a", Value: "1"}}, QueryRemove: []string{"a"}}, []string{"a=1"}, nil},
		{"a value that Envoy would refuse is removed", "/?a=1", authz.Answer{QuerySet: []authz.Param{{Name: "a", Value: "x%20y"}}}, nil, []string{"a"}},
		{"a value too long is removed", "/?a=1", authz.Answer{QuerySet: []authz.Param{{Name: "a", Value: strings.Repeat("a", 8<<10)}}}, nil, []string{"a"}},
		{"a name that Envoy would refuse", "/?a/b=1", authz.Answer{QuerySet: []authz.Param{{Name: "a/b", Value: "1"}}}, nil, []string{"a/b"}},
		{"an empty name", "/?=1&", authz.Answer{QuerySet: []authz.Param{{Name: "", Value: "1"}}}, nil, []string{""}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ok := (&world{allow: c.answer}).render(t, &authz.Request{Target: c.target}).GetOkResponse()
			var set []string
			for _, p := range ok.GetQueryParametersToSet() {
				set = append(set, p.GetKey()+"="+p.GetValue())
			}
			if !slices.Equal(set, c.set) || !slices.Equal(ok.GetQueryParametersToRemove(), c.remove) {
				t.Errorf("set %q, remove %q; want %q, %q", set, ok.GetQueryParametersToRemove(), c.set, c.remove)
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	six := []string{"decision_id", "policy", "reason", "revision", "route", "subject"}
	fields := func(t *testing.T, w *world, r *authz.Request) map[string]any {
		return w.render(t, r).GetDynamicMetadata().AsMap()
	}
	t.Run("allow", func(t *testing.T) {
		w := &world{subject: &authz.Subject{ID: "user:corp/ada"}}
		m := fields(t, w, &authz.Request{})
		if len(m["decision_id"].(string)) != 32 {
			t.Errorf("decision id %q", m["decision_id"])
		}
		delete(m, "decision_id")
		want := map[string]any{"policy": "api", "reason": "allowed", "revision": "r1", "route": "orders", "subject": "user:corp/ada"}
		if !maps.Equal(m, want) {
			t.Errorf("got %v, want %v", m, want)
		}
	})
	t.Run("denial without a route", func(t *testing.T) {
		m := fields(t, &world{noRoute: true}, &authz.Request{})
		delete(m, "decision_id")
		want := map[string]any{"policy": "", "reason": "no_route", "revision": "", "route": "", "subject": ""}
		if !maps.Equal(m, want) {
			t.Errorf("got %v, want %v", m, want)
		}
	})
	t.Run("an entry cannot pass for one of the six", func(t *testing.T) {
		extra := map[string]any{}
		for _, name := range six {
			extra[name] = "forged"
		}
		for name, v := range fields(t, &world{allow: authz.Answer{Metadata: extra}}, &authz.Request{}) {
			if v == "forged" {
				t.Errorf("%s is forged", name)
			}
		}
	})
	t.Run("subjects of awkward bytes", func(t *testing.T) {
		if got := fields(t, &world{subject: &authz.Subject{ID: "user:corp/a\xffb"}}, &authz.Request{})["subject"]; got != "user:corp/a\uFFFDb" {
			t.Errorf("subject %q", got)
		}
		if got := fields(t, &world{subject: &authz.Subject{ID: strings.Repeat("a", 9000)}}, &authz.Request{})["subject"]; got != "" {
			t.Errorf("a long subject was cut into another: %.40q", got)
		}
	})
	deep := any("x")
	for range 20 {
		deep = []any{deep}
	}
	wide := make([]any, 100_000)
	values := map[string]struct {
		in   any
		want any // nil: left out
	}{
		"string":            {"gold", "gold"},
		"bool":              {true, true},
		"int64":             {int64(7), 7.0},
		"int64 beyond 2^53": {int64(1<<53 + 1), "9007199254740993"},
		"float":             {1.5, 1.5},
		"list":              {[]any{"a", "b"}, []any{"a", "b"}},
		"nested":            {map[string]any{"a": []any{int64(1), nil, map[string]any{}}}, map[string]any{"a": []any{1.0, nil, map[string]any{}}}},
		"not UTF-8":         {"a\xff", nil},
		"not UTF-8 inside":  {[]any{"a\xff"}, nil},
		"not UTF-8 name":    {map[string]any{"\xff": "a"}, nil},
		"NaN":               {nan(), nil},
		"deep":              {deep, nil},
		"wide":              {wide, nil},
		"large":             {strings.Repeat("a", 40<<10), nil},
		"unknown type":      {struct{}{}, nil},
	}
	for name, c := range values {
		t.Run(name, func(t *testing.T) {
			got, there := fields(t, &world{allow: authz.Answer{Metadata: map[string]any{"x": c.in}}}, &authz.Request{})["x"]
			if there != (c.want != nil) || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", c.want) {
				t.Errorf("got %#v, want %#v", got, c.want)
			}
		})
	}
	t.Run("together bounded", func(t *testing.T) {
		extra := map[string]any{"\xff": "name"}
		for i := range 10 {
			extra[fmt.Sprint("x", i)] = strings.Repeat("a", 10<<10)
		}
		if got := len(fields(t, &world{allow: authz.Answer{Metadata: extra}}, &authz.Request{})); got != 6+3 {
			t.Errorf("%d entries, want three of 10 KiB and the six", got)
		}
	})
}

// Two renderings of one decision are the same bytes.
func TestRenderIsDeterministic(t *testing.T) {
	w := &world{allow: authz.Answer{
		Set: []authz.Header{hdr("x-b", "1"), hdr("x-a", "1")}, Remove: []string{"x-d", "x-c"},
		Metadata: map[string]any{"a": "1", "b": "2"}, Response: []authz.Header{hdr("y", "1"), hdr("x", "1")},
	}}
	r := &authz.Request{}
	d := w.decide(t, r)
	var first []byte
	for range 20 {
		resp, err := extauthz.Render(r, d)
		if err != nil {
			t.Fatal(err)
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(resp)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if string(b) != string(first) {
			t.Fatal("two renderings differ")
		}
	}
}

// The zero decision, which nobody made, is a refusal.
func TestZeroDecision(t *testing.T) {
	resp, err := extauthz.Render(&authz.Request{}, &authz.Decision{})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, resp, false)
	if resp.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("got %v", resp)
	}
}

var errBoom = errors.New("boom")
