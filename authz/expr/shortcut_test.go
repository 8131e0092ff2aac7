package expr

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport-authz/sallyport/authz"
)

// TestShortcut runs every program that skips the interpreter both ways.
func TestShortcut(t *testing.T) {
	e := newEnvT(t)
	r, sub := full()
	d := decide(t, r, sub, authz.Rule{File: "policy.csv", Line: 3}, nil)
	scopes := map[string]func() *Scope{
		"full":      func() *Scope { return NewScope(r, sub, "orders", d) },
		"nobody":    func() *Scope { return NewScope(&authz.Request{}, nil, "", nil) },
		"anonymous": func() *Scope { return NewScope(&authz.Request{Path: "/"}, authz.Nobody, "r", nil) },
		"hostile": func() *Scope {
			return NewScope(&authz.Request{Path: "\xff", ID: "\r\n", Query: "%ff&&"}, &authz.Subject{Sub: "a\xff", Tenant: "\x00", Claims: map[string]any{"a": nil}}, "r", d)
		},
	}
	srcs := []string{"subject", "request", "source", "route", "decision", `"text"`, `""`, `"a\r\n"`}
	for _, v := range Variables() {
		if v.Name != "context" {
			srcs = append(srcs, v.Name)
		}
	}
	for _, src := range srcs {
		quick := compile(t, e, src, Answer, Any)
		if quick.object < 0 && quick.constant == nil {
			t.Errorf("%s takes no shortcut", src)
		}
		slow := *quick
		slow.object, slow.member, slow.constant = -1, nil, nil
		for name, scope := range scopes {
			if d := cmp.Diff(results(&slow, scope()), results(quick, scope()), cmpopts.EquateErrors(), cmp.AllowUnexported(result{})); d != "" {
				t.Errorf("%s, %s: interpreter and shortcut differ:\n%s", src, name, d)
			}
		}
	}
	for _, src := range []string{"has(subject.id)", "subject.claims.id", "dyn(subject).id", `"a" + "b"`, "[subject.id]", "context"} {
		if p := compile(t, e, src, Answer, Any); p.object >= 0 || p.constant != nil {
			t.Errorf("%s takes a shortcut", src)
		}
	}
}

type result struct {
	value, metadata         any
	header, query, text     string
	isMeta, isHead, isQuery bool
	isText                  bool
	missing                 string
}

func results(p *Program, s *Scope) (r result) {
	var err error
	if r.value, err = p.Value(s); err != nil {
		r.missing = err.Error()
	}
	r.metadata, r.isMeta = p.Metadata(s)
	r.header, r.isHead = p.Header(s)
	r.query, r.isQuery = p.Query(s)
	r.text, r.isText = p.Text(s)
	return r
}

func BenchmarkProgram(b *testing.B) {
	e := newEnvT(b)
	r, sub := full()
	for _, src := range []string{"subject.sub", `subject.roles.join(",")`, "subject", "request", `{"owner": request.params.account}`, "subject.claims.department", `request.headers["x-region"][0]`} {
		p := compile(b, e, src, Enforce, Any)
		b.Run(src, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Value(NewScope(r, sub, "orders", nil)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCostLimit is how long the dearest evaluation takes.
func BenchmarkCostLimit(b *testing.B) {
	e := newEnvT(b)
	r, sub := full()
	for range 200 {
		sub.Roles = append(sub.Roles, "role")
	}
	for _, src := range []string{
		"subject.roles.map(x, subject.roles.map(y, x + y))", "subject.roles.all(x, subject.roles.all(y, x == x))",
		"subject.roles.all(x, subject.roles.all(y, x.matches('^[a-z]+$')))",
	} {
		p := compile(b, e, src, Enforce, Any)
		b.Run(src, func(b *testing.B) {
			for b.Loop() {
				if _, err := p.Value(NewScope(r, sub, "orders", nil)); err == nil {
					b.Fatal("did not cost too much")
				}
			}
		})
	}
}
