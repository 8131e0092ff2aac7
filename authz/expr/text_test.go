package expr

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-authz/sallyport/authz"
)

// TestText asks each of the texts that leave in an answer for hostile values.
func TestText(t *testing.T) {
	const none = "(missing)"
	tests := []struct{ name, value, header, query, text string }{
		{"plain", "ada", "ada", "ada", "ada"},
		{"query characters", "Az09*-._", "Az09*-._", "Az09*-._", "Az09*-._"},
		{"space", "a b", "a b", none, "a b"},
		{"space before", " ada", none, none, " ada"},
		{"space after", "ada ", none, none, "ada "},
		{"ampersand", "a&admin=1", "a&admin=1", none, "a&admin=1"},
		{"escape", "a%26", "a%26", none, "a%26"},
		{"plus", "a+b", "a+b", none, "a+b"},
		{"not ASCII", "\u00fc", "\u00fc", none, "\u00fc"},
		{"CR LF", "a\r\nx-admin: 1", none, none, "a\r\nx-admin: 1"},
		{"LF", "a\nb", none, none, "a\nb"},
		{"NUL", "a\x00b", none, none, "a\x00b"},
		{"tab", "a\tb", none, none, "a\tb"},
		{"DEL", "a\x7fb", none, none, "a\x7fb"},
		{"C1", "a\u0085b", none, none, "a\u0085b"},
		{"invalid UTF-8", "a\xffb", none, none, none},
		{"surrogate", "a\xed\xa0\x80b", none, none, none},
		{"8 KiB", strings.Repeat("x", 8192), strings.Repeat("x", 8192), strings.Repeat("x", 8192), strings.Repeat("x", 8192)},
		{"a byte more", strings.Repeat("x", 8193), none, none, none},
		{"9 KiB", strings.Repeat("x", 9<<10), none, none, none},
	}
	e := newEnvT(t)
	for _, tt := range tests {
		s := NewScope(&authz.Request{}, &authz.Subject{Sub: tt.value, Claims: map[string]any{"sub": tt.value}}, "r", nil)
		for _, src := range []string{"subject.sub", "subject.claims.sub", "subject.?sub", `subject.sub + ""`} {
			p := compile(t, e, src, Answer, String)
			for _, as := range []struct {
				name string
				get  func(*Scope) (string, bool)
				want string
			}{{"header", p.Header, tt.header}, {"query", p.Query, tt.query}, {"text", p.Text, tt.text}} {
				got, ok := as.get(s)
				if !ok && got == "" { // a caller that ignores false gets nothing
					got = none
				}
				if got != as.want {
					t.Errorf("%s of %s, %s: got %.40q, want %.40q", as.name, src, tt.name, got, as.want)
				}
			}
		}
	}

	// Empty is known; a member that is missing or no string is not.
	s := NewScope(&authz.Request{}, &authz.Subject{Claims: map[string]any{"n": int64(1), "l": []any{"a"}, "null": nil, "b": true}}, "r", nil)
	for src, want := range map[string]string{
		`""`: "", `subject.roles.join(",")`: "", "subject.sub": none, "subject.claims.x": none, "subject.claims.n": none,
		"subject.claims.l": none, `subject.claims["null"]`: none, "subject.claims.b": none, "string(subject.claims.n)": "1",
		"subject.?sub": none, "dyn(subject)": none,
	} {
		p := compile(t, e, src, Answer, String)
		for _, get := range []func(*Scope) (string, bool){p.Header, p.Query, p.Text} {
			got, ok := get(s)
			if !ok && got == "" {
				got = none
			}
			if got != want {
				t.Errorf("%s: got %q, want %q", src, got, want)
			}
		}
	}
}

func TestMetadata(t *testing.T) {
	e := newEnvT(t)
	r, sub := full()
	s := NewScope(r, sub, "orders", nil)
	for _, tt := range []struct {
		src  string
		want any
		ok   bool
	}{
		{"subject.claims.department", "sales", true},
		{"subject.claims.level", 3.0, true},
		{"subject.claims.none", nil, true},
		{"subject.claims.mixed", []any{"a", 1.0, nil}, true},
		{"subject.claims.address", map[string]any{"country": "NL", "none": nil}, true},
		{"subject.claims.nothing", nil, false},
		{"subject.roles", []any{"manager", "clerk"}, true},
		{"subject.authTime", "2026-11-22T11:00:00.5Z", true},
		{`duration("90s")`, "90s", true},
		{"null", nil, true},
		{"1.0 / 0.0", nil, false},
		{"-1.0 / 0.0", nil, false},
		{"0.0 / 0.0", nil, false},
		{"{'a': 0.0 / 0.0, 'b': 1}", map[string]any{"b": 1.0}, true},
		{"9007199254740993", nil, false},
		{"{1: 2}", nil, false},
		{"dyn(b'x')", nil, false},
		{"'\\x41'", "A", true},
	} {
		got, ok := compile(t, e, tt.src, Answer, Any).Metadata(s)
		if ok != tt.ok || !cmp.Equal(tt.want, got) {
			t.Errorf("%s: got %v, %v, want %v, %v", tt.src, got, ok, tt.want, tt.ok)
		}
	}

	// JSON and protobuf take valid UTF-8 only.
	s = NewScope(r, &authz.Subject{Sub: "a\xff", Claims: map[string]any{"a\xff": "x", "b": "\xff", "c": "ok"}}, "r", nil)
	if got, ok := compile(t, e, "subject.sub", Answer, Any).Metadata(s); ok {
		t.Errorf("invalid UTF-8 got out: %q", got)
	}
	if got, _ := compile(t, e, "subject.claims", Answer, Any).Metadata(s); !cmp.Equal(got, any(map[string]any{"c": "ok"})) {
		t.Errorf("invalid UTF-8 got out: %q", got)
	}
}

func TestJoin(t *testing.T) {
	tests := []struct {
		sep      string
		elements []string
		want     string
		why      string
	}{
		{",", nil, "", ""},
		{",", []string{"a"}, "a", ""},
		{",", []string{"a", "b"}, "a,b", ""},
		{",", []string{"a", "", "b"}, "a,,b", ""},
		{",", []string{"a,admin"}, "", ambiguous},
		{",", []string{"a", "clerk,admin"}, "", ambiguous},
		{",", []string{","}, "", ambiguous},
		{",", []string{"a", " admin"}, "", ambiguous}, // readers of lists drop the space
		{",", []string{"admin ", "a"}, "", ambiguous},
		{",", []string{"a b", "c"}, "a b,c", ""},
		{" ", []string{"a b"}, "", ambiguous},
		{", ", []string{"a,b", "c"}, "a,b, c", ""},
		{", ", []string{"a, b", "c"}, "", ambiguous},
		{"--", []string{"a-", "b"}, "", ambiguous}, // a---b reads as a, -b
		{"--", []string{"-a", "b"}, "-a--b", ""},
		{"", nil, "", ""},
		{"", []string{"adm", "in"}, "", ambiguous},
		{"", []string{"a"}, "", ambiguous},
		{",", []string{strings.Repeat("x", maxText)}, "", tooLong},
		{",", []string{strings.Repeat("x", maxText/2), strings.Repeat("x", maxText/2)}, "", tooLong},
		{strings.Repeat(",", maxText), []string{"a", "b"}, "", tooLong},
	}
	e := newEnvT(t)
	for _, tt := range tests {
		s := NewScope(&authz.Request{}, &authz.Subject{Roles: tt.elements, Tenant: tt.sep + "!"}, "r", nil)
		for _, src := range []string{`subject.roles.join(subject.tenant.split("!")[0])`, `dyn(subject).roles.join(dyn(subject).tenant.replace("!", ""))`} {
			got, err := compile(t, e, src, Answer, String).Value(s)
			expectText(t, src, got, err, tt.want, tt.why)
		}
	}
}

func TestReplace(t *testing.T) {
	long := strings.Repeat("a", maxText)
	e := newEnvT(t)
	for _, tt := range []struct{ src, want, why string }{
		{`"abcb".replace("b", "x")`, "axcx", ""},
		{`"abcb".replace("b", "x", 1)`, "axcb", ""},
		{`"abcb".replace("b", "x", 0)`, "abcb", ""},
		{`"abcb".replace("b", "x", -1)`, "axcx", ""},
		{`"abcb".replace("b", "")`, "ac", ""},
		{`"ab".replace("", "-")`, "-a-b-", ""},
		{`subject.sub.replace("a", "")`, "", ""},
		{`subject.sub.replace("a", "b")`, strings.Repeat("b", maxText), ""},
		{`subject.sub.replace("a", "bb")`, "", tooLong},
		{`subject.sub.replace("a", "bb", 1)`, "", tooLong},
		{`subject.sub.replace("a", subject.sub)`, "", tooLong}, // 4 GiB
		{`subject.sub.replace("", subject.sub)`, "", tooLong},
		{`"a".replace(dyn(1), "b")`, "", wrongType},
	} {
		s := NewScope(&authz.Request{}, &authz.Subject{Sub: long}, "r", nil)
		got, err := compile(t, e, tt.src, Answer, String).Value(s)
		expectText(t, tt.src, got, err, tt.want, tt.why)
	}
}

func expectText(t *testing.T, src string, got any, err error, want, why string) {
	t.Helper()
	if why == "" {
		if err != nil || got != want {
			t.Errorf("%s: got %.40q, %v, want %.40q", src, got, err, want)
		}
		return
	}
	if m, ok := errors.AsType[*Missing](err); !ok || m.Why != why {
		t.Errorf("%s: got %.40q, %v, want %s", src, got, err, why)
	}
}
