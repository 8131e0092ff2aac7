package expr

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-authz/sallyport/authz"
)

type lists = map[string]any

func TestQueryMap(t *testing.T) {
	tests := []struct {
		query string
		want  lists
	}{
		{"", lists{}},
		{"a=1", lists{"a": []any{"1"}}},
		{"a=1&b=2&a=3", lists{"a": []any{"1", "3"}, "b": []any{"2"}}},
		{"a", lists{"a": []any{""}}},
		{"a=", lists{"a": []any{""}}},
		{"=1", lists{"": []any{"1"}}},
		{"&&a=1&", lists{"a": []any{"1"}}},
		{"a=b=c", lists{"a": []any{"b=c"}}},
		{"a=1;b=2", lists{"a": []any{"1;b=2"}}},
		{"a=x+y&b+c=1", lists{"a": []any{"x y"}, "b c": []any{"1"}}},
		{"a=%2B%26%3d", lists{"a": []any{"+&="}}},
		{"%61=1&a=2", lists{"a": []any{"1", "2"}}},
		{"a=%", lists{"a": []any{"%"}}},
		{"a=%4", lists{"a": []any{"%4"}}},
		{"a=%zz%41%4", lists{"a": []any{"%zzA%4"}}},
		{"a=%%41", lists{"a": []any{"%A"}}},
		{"a=%2541", lists{"a": []any{"%41"}}},
		{"a=%C3%BC", lists{"a": []any{"\u00fc"}}},
		{"a=%ff", lists{"a": []any{"\ufffd"}}},
		{"a=\xff\xfe", lists{"a": []any{"\ufffd\ufffd"}}},
		{"a=%00%0d%0a", lists{"a": []any{"\x00\r\n"}}},
		{"a?=1?", lists{"a?": []any{"1?"}}},
	}
	e := newEnvT(t)
	for _, p := range []*Program{compile(t, e, "request.query", Enforce, Any), compile(t, e, "dyn(request).query", Enforce, Any)} {
		for _, tt := range tests {
			got, err := p.Value(NewScope(&authz.Request{Query: tt.query}, nil, "", nil))
			if err != nil || !cmp.Equal(any(tt.want), got) {
				t.Errorf("%q: got %q, %v, want %q", tt.query, got, err, tt.want)
			}
		}
	}
}

func TestLongQueryIsMissing(t *testing.T) {
	e := newEnvT(t)
	p := compile(t, e, "request.query.a[0]", Enforce, Any)
	query := strings.Repeat("&b", maxQueryPairs-1)
	if got, err := p.Value(NewScope(&authz.Request{Query: "a=1" + query}, nil, "", nil)); err != nil || got != "1" {
		t.Errorf("%d pairs: got %v, %v", maxQueryPairs, got, err)
	}
	s := NewScope(&authz.Request{Query: "a=1&c" + query}, nil, "", nil)
	for range 2 { // also where it is asked again
		got, err := p.Value(s)
		if m, ok := errors.AsType[*Missing](err); !ok || m.What != "request.query" || m.Why != unknown {
			t.Errorf("one pair more: got %v, %v, want request.query missing", got, err)
		}
	}
	whole, err := compile(t, e, "request", Enforce, Any).Value(s)
	if m, _ := whole.(map[string]any); err != nil || m["query"] != nil {
		t.Errorf("whole request: got %v, %v, want no query", whole, err)
	}
}

func TestHeaderMap(t *testing.T) {
	e := newEnvT(t)
	p := compile(t, e, "request.headers", Enforce, Any)
	for _, tt := range []struct {
		name    string
		headers []authz.Header
		want    lists
	}{
		{"none", nil, lists{}},
		{"commas are not split", []authz.Header{{Name: "accept", Value: "a, b"}, {Name: "accept", Value: "c"}}, lists{"accept": []any{"a, b", "c"}}},
		{"empty", []authz.Header{{Name: "x"}}, lists{"x": []any{""}}},
		{"pseudo-headers", []authz.Header{{Name: ":authority", Value: "a"}, {Name: ":", Value: "b"}}, lists{}},
		{"credentials", []authz.Header{
			{Name: "authorization", Value: "s"}, {Name: "cookie", Value: "s"}, {Name: "proxy-authorization", Value: "s"},
			{Name: "x-api-key", Value: "s"}, {Name: "Authorization", Value: "s"}, {Name: "X-Api-Key", Value: "s"},
		}, lists{}},
		{"not UTF-8", []authz.Header{{Name: "x", Value: "a\xffb\xc3"}}, lists{"x": []any{"a\ufffdb\ufffd"}}},
	} {
		got, err := p.Value(NewScope(&authz.Request{Headers: tt.headers}, nil, "", nil))
		if err != nil || !cmp.Equal(any(tt.want), got) {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// TestClean holds for every text that a client can choose.
func TestClean(t *testing.T) {
	e := newEnvT(t)
	const bad, want = "a\xff", "a\ufffd"
	s := NewScope(&authz.Request{
		Method: bad, Scheme: bad, ID: bad, Host: bad, Path: bad, Params: []authz.Param{{Name: "p", Value: bad}}, Source: authz.Source{Principal: bad},
	}, nil, "", nil)
	for _, src := range []string{"request.method", "request.scheme", "request.id", "request.host", "request.path", "request.params.p", "source.principal"} {
		if got, err := compile(t, e, src, Enforce, Any).Value(s); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", src, got, err, want)
		}
	}
}

func TestSourceAddress(t *testing.T) {
	e := newEnvT(t)
	p := compile(t, e, "source.address", Enforce, Any)
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8::1": "2001:db8::1", "fe80::1%eth0": "fe80::1",
	} {
		r := &authz.Request{Source: authz.Source{Address: netip.MustParseAddr(in)}}
		if got, err := p.Value(NewScope(r, nil, "", nil)); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %s", in, got, err, want)
		}
	}
}

// TestCost has a row for each way to spend time or memory that a client could
// choose the size of.
func TestCost(t *testing.T) {
	e := newEnvT(t)
	var query strings.Builder
	for i := range maxQueryPairs - 1 {
		fmt.Fprintf(&query, "a=%d&", i)
	}
	big := strings.Repeat("x", 60_000)
	r := &authz.Request{Time: noon, Query: query.String(), Headers: []authz.Header{{Name: "x", Value: big}}}
	sub := &authz.Subject{ID: "user:corp/ada", Claims: map[string]any{"big": big}}
	for _, tt := range []struct{ src, why string }{
		{"request.query.a.map(x, request.query.a.map(y, x + y))", tooCostly},
		{"request.query.a.all(x, request.query.a.all(y, x == x))", tooCostly},
		{"request.query.a.exists(x, request.headers.x[0].contains(x + '!'))", tooCostly},
		{"[1,2,3,4,5,6,7,8,9].all(x, request.headers.x[0].matches('^(x|y)*$'))", tooCostly},
		{"request.query.a.exists(x, '%s%s'.format([request.headers.x[0], x]) == '')", tooCostly},
		{"request.query.a.all(x, request.query.a.all(y, request.time.getHours('Europe/Paris') >= 0))", tooCostly},
		{"request.query.a.map(x, dyn(request))", tooLong},
		{"request.query.a.map(x, request.headers.x[0])", tooLong},
		{"request.headers.x[0].matches(request.headers.x[0])", incomplete}, // the pattern is too large
	} {
		got, err := compile(t, e, tt.src, Enforce, Any).Value(NewScope(r, sub, "", nil))
		if m, ok := errors.AsType[*Missing](err); !ok || m.Why != tt.why {
			t.Errorf("%s: got %.40v, %v, want it %q", tt.src, got, err, tt.why)
		}
	}
	// What is ordinary stays far below.
	for _, src := range []string{"request.query.a.exists(x, x == '998')", "request.query.a.map(x, int(x)).filter(x, x > 500).size() == 498", "request.headers.x[0].size() == 60000"} {
		if got, err := compile(t, e, src, Enforce, Any).Value(NewScope(r, sub, "", nil)); err != nil || got != true {
			t.Errorf("%s: got %v, %v", src, got, err)
		}
	}
}

func TestDepth(t *testing.T) {
	e := newEnvT(t)
	p := compile(t, e, "subject.claims", Enforce, Any)
	nested := any("x")
	for range maxDepth + 10 {
		nested = map[string]any{"a": nested}
	}
	got, err := p.Value(NewScope(&authz.Request{}, &authz.Subject{Claims: map[string]any{"deep": nested, "flat": "y"}}, "", nil))
	m, _ := got.(map[string]any)
	depth := 0
	for v := m["deep"]; v != nil; depth++ {
		v = v.(map[string]any)["a"]
	}
	if err != nil || m["flat"] != "y" || depth != maxDepth {
		t.Errorf("got %d levels, %v, %v, want %d", depth, m["flat"], err, maxDepth)
	}
}
