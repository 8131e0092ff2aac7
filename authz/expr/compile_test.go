package expr

import (
	"strings"
	"testing"
)

func TestCompileErrors(t *testing.T) {
	tests := []struct {
		src  string
		use  Use
		want Type
		err  string
	}{
		{"", Enforce, Any, "empty expression"},
		{" \n", Enforce, Any, "empty expression"},
		{"subjet", Enforce, Any, "column 1: undeclared reference to 'subjet' (did you mean subject)"},
		{"true || subjet.id == ''", Enforce, Any, "column 9: undeclared reference to 'subjet' (did you mean subject)"},
		{"Subject.id", Enforce, Any, "column 1: undeclared reference to 'Subject' (did you mean subject)"},
		{"tenant", Enforce, Any, "column 1: undeclared reference to 'tenant' (did you mean subject.tenant)"},
		{"id", Enforce, Any, "column 1: undeclared reference to 'id' (did you mean subject.id or request.id or decision.id)"},
		{"subject.rolse", Enforce, Any, "column 8: undefined field 'rolse' (did you mean roles)"},
		{"subject.?rolse", Enforce, Any, "column 8: undefined field 'rolse' (did you mean roles)"},
		{"request.header", Enforce, Any, "column 8: undefined field 'header' (did you mean headers)"},
		{"has(subject.email)", Enforce, Any, "column 4: undefined field 'email'"},
		{"has(subject.tennant)", Enforce, Any, "column 4: undefined field 'tennant' (did you mean tenant)"},
		{"[subject].map(s, s.rolse)", Enforce, Any, "column 19: undefined field 'rolse'"},
		{"subject.tenat + subjet.x", Enforce, Any, "column 8: undefined field 'tenat' (did you mean tenant); column 17: undeclared reference to 'subjet' (did you mean subject)"},
		{"subject.\nrolse", Enforce, Any, "column 8: undefined field 'rolse' (did you mean roles)"},
		{"true ||\n  subject.rolse", Enforce, Any, "line 2, column 10: undefined field 'rolse' (did you mean roles)"},
		{"'\u00fc' + subjet.id", Enforce, Any, "column 7: undeclared reference to 'subjet' (did you mean subject)"},
		{"decision.id", Enforce, Any, "column 1: undeclared reference to 'decision' (it is not known in enforce)"},
		{"no-store", Answer, String, "column 1: undeclared reference to 'no' (text needs quotes inside the quotes: '\"no-store\"')"},
		{"subject.roles.joi(',')", Answer, String, "column 18: undeclared reference to 'joi' (did you mean join)"},
		{"request.path.lowerAsci()", Answer, String, "column 23: undeclared reference to 'lowerAsci' (did you mean lowerAscii)"},
		{"math.greatest(1, 2)", Answer, Any, "column 1: undeclared reference to 'math'; column 14: undeclared reference to 'greatest'"},
		{"'a' + 1", Enforce, Any, "column 5: found no matching overload for '_+_' applied to '(string, int)'"},
		{"subject.id == 1", Enforce, Any, "column 12: found no matching overload for '_==_' applied to '(string, int)'"},
		{"subject.id.foo", Enforce, Any, "column 11: type 'string' does not support field selection"},
		{"size(subject)", Enforce, Any, "column 5: found no matching overload for 'size' applied to '(subject)'"},
		{"subject.id +", Enforce, Any, "column 13: syntax error: mismatched input '<EOF>'"},
		{"\"a\nb\"", Enforce, Any, "column 1: syntax error: token recognition error at: '\"a '"},
		{"subject{}", Enforce, Any, "column 8: a value of type 'subject' cannot be built"},
		{"subject.roles.join()", Answer, String, `column 19: join needs a separator, for example join(",")`},
		{"true ||\n subject{} == subject", Enforce, Any, "line 2, column 9: a value of type 'subject' cannot be built"},
		{"subject.roles.join('')", Answer, String, `column 19: join needs a separator, for example join(",")`},
		{"subject.id.matches('[')", Enforce, Any, "column 20: invalid matches argument"},
		{"request.time > timestamp('x')", Enforce, Any, "column 26: invalid timestamp argument"},
		{"int('x')", Enforce, Any, "column 1: type conversion error from 'string' to 'int'"},

		{"subject.roles", Answer, String, "column 1: expected type 'string' but found 'list(string)'"},
		{"subject.authTime", Answer, String, "column 1: expected type 'string' but found 'timestamp'"},
		{"subject", Answer, String, "column 1: expected type 'string' but found 'subject'"},
		{"subject.claims", Answer, String, "column 1: expected type 'string' but found 'map(string, dyn)'"},
		{"1", Answer, String, "column 1: expected type 'string' but found 'int'"},
		{"null", Answer, String, "column 1: expected type 'string' but found 'null'"},
		{"b'x'", Answer, String, "column 1: expected type 'string' but found 'bytes'"},
		{"subject.?roles", Answer, String, "column 1: expected type 'string' but found 'list(string)'"},
		{"b'x'", Enforce, Any, "column 1: a value of type 'bytes' cannot be used here"},
		{"type(1)", Enforce, Any, "column 1: a value of type 'type(int)' cannot be used here"},
	}
	e := newEnvT(t)
	for _, tt := range tests {
		_, err := e.Compile(tt.src, tt.use, tt.want)
		if err == nil || err.Error() != tt.err {
			t.Errorf("%q:\n got %v\nwant %s", tt.src, err, tt.err)
		}
	}
}

// TestExamples compiles what the documentation shows, where it shows it.
func TestExamples(t *testing.T) {
	e := newEnvT(t)
	for _, src := range []string{"subject.id", "request.path", "request.method", "subject.tenant", "subject", "request", `{"owner": request.params.account}`} {
		compile(t, e, src, Enforce, Any)
	}
	for _, src := range []string{
		"subject.sub", `subject.roles.join(",")`, "decision.id", "subject.claims.tier", `"no-store"`, `"sorry"`,
		`"https://login.example.com/?back=" + request.path`, `subject.?tenant.orValue("none")`,
	} {
		compile(t, e, src, Answer, String)
	}
}

func TestNestingIsBounded(t *testing.T) {
	e := newEnvT(t)
	loop := func(n int) string { return strings.Repeat("[1].map(x, ", n) + "1" + strings.Repeat(")", n) }
	compile(t, e, loop(nestingLimit), Enforce, Any)
	if _, err := e.Compile(loop(nestingLimit+1), Enforce, Any); err == nil || !strings.Contains(err.Error(), "nesting") {
		t.Errorf("got %v", err)
	}
	if _, err := e.Compile(strings.Repeat("(", 10_000)+"1"+strings.Repeat(")", 10_000), Enforce, Any); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestVariables(t *testing.T) {
	want := strings.Fields(`subject.id subject.kind subject.issuer subject.sub subject.client subject.roles subject.scopes subject.tenant
		subject.acr subject.amr subject.authTime subject.claims
		request.method request.host request.path request.query request.params request.headers request.scheme request.id request.time
		source.address source.principal route.name
		decision.id decision.reason decision.policy decision.revision decision.rule context`)
	e := newEnvT(t)
	vs := Variables()
	if len(vs) != len(want) {
		t.Fatalf("got %d variables, want %d", len(vs), len(want))
	}
	for i, v := range vs {
		if v.Name != want[i] || v.Type == "" || v.Doc == "" {
			t.Errorf("got %+v, want %s", v, want[i])
		}
		for _, use := range []Use{Enforce, Answer} {
			if _, err := e.Compile(v.Name, use, Any); (err == nil) != (use == Answer || v.Enforce) {
				t.Errorf("%s, use %d: %v", v.Name, use, err)
			}
		}
	}
}

// FuzzCompile: no source and no request makes anything panic, and nothing
// hostile gets into a header.
func FuzzCompile(f *testing.F) {
	for _, src := range []string{
		"subject.id", `subject.roles.join(",")`, "subject.?tenant.orValue('x')", "dyn(subject)[request.query.a[0]]", "{'a': subject, 'b': [request]}",
		"request.headers.map(h, h + request.headers[h][0]).join('-')", "subject.claims.x.y.z", "has(subject.claims.a)", "'%s'.format([subject.claims])",
		"(true ? subject : dyn(1)).id", "[subject, dyn(1)][1].id", "request.time.getHours('Europe/Paris')", "type(subject)", "subject{}", "optional.of(subject).?tenant",
		"\"", "a.b.c", "1/0", "request.path.matches(request.id)", "request.path.replace('', request.id)", "`x`", ".subject.id", "subject.claims.all(k, k == 'a')",
	} {
		f.Add(src, "id\x00\r\n", "a=%ff&b=+", "x\xff")
	}
	e := newEnvT(f)
	f.Fuzz(func(t *testing.T, src, id, query, header string) {
		r, sub := full()
		sub.Sub, r.ID, r.Query, r.Headers[5].Value = id, id, query, header
		sub.Claims["a"], sub.Roles[0] = header, id
		for _, use := range []Use{Enforce, Answer} {
			for _, want := range []Type{Any, String} {
				p, err := e.Compile(src, use, want)
				if err != nil {
					if s := err.Error(); s == "" || strings.ContainsAny(s, "\r\n") {
						t.Errorf("message %q", s)
					}
					continue
				}
				s := NewScope(r, sub, "r", nil)
				if v, err := p.Value(s); (v == nil) != (err != nil) {
					t.Errorf("value %v, %v", v, err)
				}
				p.Metadata(s)
				p.Text(s)
				if h, ok := p.Header(s); ok && (len(h) > maxValue || strings.ContainsAny(h, "\x00\r\n\t\x7f") || strings.ToValidUTF8(h, "") != h) {
					t.Errorf("header %q", h)
				}
				if q, ok := p.Query(s); ok && strings.ContainsAny(q, "&=#%+ ;") {
					t.Errorf("query %q", q)
				}
			}
		}
	})
}
