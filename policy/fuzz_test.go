package policy_test

import (
	"strings"
	"testing"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

// FuzzModel: no model panics, and one that loads refuses while it has no
// rules to allow by.
func FuzzModel(f *testing.F) {
	for _, m := range []string{rbac, denyModel, domainModel, abacModel, patternModel} {
		f.Add(m)
	}
	f.Add("[matchers]\nm = (r.a &&\\\n)")
	f.Add(strings.Replace(rbac, "r.act == p.act", "r.act in (r.obj, 'x') ? p.act : !p.act", 1))
	f.Fuzz(func(t *testing.T, m string) {
		s, fs := loadAll(m, "")
		if (s == nil) != policy.HasErrors(fs) {
			t.Fatalf("snapshot %v with %v", s != nil, fs)
		}
		if s == nil {
			return
		}
		args := make([]any, len(s.Fields()))
		for i := range args {
			args[i] = "x"
		}
		_, err := s.Decide(&policy.Query{Args: args})
		if strings.Contains(m, "p.") || err == nil {
			return // a matcher of constants may allow
		}
		if authz.ReasonOf(err) != authz.NotPermitted {
			t.Fatalf("refused for %v", err)
		}
	})
}

// FuzzRules: no rules panic, and what loads here loads in stock Casbin too.
func FuzzRules(f *testing.F) {
	f.Add("p, role:a, /x, GET, allow\ng, user:c/a, role:a\n")
	f.Add("p, \"a,b\", /x/:id, GET, deny\r\n# note\r\n")
	f.Add("p, \"a\"\"b\", {, GET, deny")
	f.Add(", a")
	f.Fuzz(func(t *testing.T, rules string) {
		s, fs := loadAll(denyModel, rules)
		if (s == nil) != policy.HasErrors(fs) {
			t.Fatalf("snapshot %v with %v", s != nil, fs)
		}
		if s == nil {
			return
		}
		m, err := model.NewModelFromString(denyModel)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := casbin.NewEnforcer(m, text(rules)); err != nil {
			t.Fatalf("stock refuses: %v", err)
		}
	})
}

// FuzzDecide compares one decision with stock Casbin.
func FuzzDecide(f *testing.F) {
	f.Add("p, role:a, /x/:id, GET, allow\ng, u, role:a\n", "u", "/x/7", "GET")
	f.Add("p, u, /a|/b, GET, deny\np, u, /*, GET, allow\n", "u", "/zz/b", "GET")
	f.Fuzz(func(t *testing.T, rules, sub, obj, act string) {
		s, _ := loadAll(denyModel, rules)
		if s == nil || strings.Count(rules, "\n") > 50 {
			return
		}
		if _, err := s.Decide(&policy.Query{Args: []any{sub, obj, act}}); authz.DetailOf(err) == authz.NoRules {
			return // stock evaluates the matcher with empty fields
		}
		if strings.Contains(rules, `"`) {
			return // stock takes rules for equal whose fields are when joined
		}
		same(t, stock(t, denyModel, rules), s, &policy.Query{Args: []any{sub, obj, act}}, denyModel, rules)
	})
}
