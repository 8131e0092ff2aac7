package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

func TestExplain(t *testing.T) {
	s := load(t, rbac, `p, role:manager, /v1/orders/:order, DELETE
p, role:manager, /v1/orders/:order, GET
p, role:clerk, /v1/orders, GET

g, role:director, role:manager
`)
	ask := func(path, act string, roles ...string) policy.Explanation {
		return s.Explain(&policy.Query{Args: []any{"user:corp/ada", path, act}, Subject: "user:corp/ada", Roles: roles})
	}
	x := ask("/v1/orders/7", "GET", "director")
	if x.Err != nil || x.Rule.Line != 2 || x.Text != "p, role:manager, /v1/orders/:order, GET" || !slices.Equal(x.Roles, []string{"role:director", "role:manager"}) {
		t.Errorf("allow: got %+v", x)
	}
	x = ask("/v1/orders/7", "PUT", "director")
	if authz.DetailOf(x.Err) != authz.NoRuleMatched || len(x.Misses) != 3 || x.Misses[0].Rule.Line != 1 ||
		!slices.Equal(x.Misses[0].Failed, []string{`r.act == p.act: "PUT" is not "DELETE"`}) {
		t.Errorf("method: got %+v", x)
	}
	x = ask("/v1/orders", "GET")
	if len(x.Misses) == 0 || !slices.Equal(x.Misses[0].Failed, []string{`g(r.sub, p.sub): "user:corp/ada" does not have "role:clerk"`}) {
		t.Errorf("role: got %+v", x)
	}
	x = ask("/v1/orders/7/x", "GET", "manager")
	if len(x.Misses) == 0 || !slices.Equal(x.Misses[0].Failed, []string{`keyMatch2(r.obj, p.obj): "/v1/orders/7/x" does not match "/v1/orders/:order"`}) {
		t.Errorf("path: got %+v", x)
	}
}

// TestExplainConditions: of a matcher with several, the nearest counts; what
// no index knows is told with its values.
func TestExplainConditions(t *testing.T) {
	const model = `[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, rule, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = MATCHER
`
	sub := map[string]any{"id": "user:c/ada", "level": 1.0, "tags": []any{"a", "b"}}
	for _, c := range []struct {
		matcher, rule string
		sub           any
		want          []string
	}{
		{"g(r.sub.id, p.sub) && r.act == p.act || r.sub.level > 3 && r.obj == '/x' && r.act == p.act", "true", sub,
			[]string{`g(r.sub.id, p.sub): "user:c/ada" does not have "role:a"`}},
		{"r.act == p.act && (r.sub.level > 3 || p.sub == 'x') && !(r.obj == p.rule)", "/x", sub,
			[]string{`r.sub.level > 3 || p.sub == "x" is false: r.sub.level is 1, p.sub is "role:a"`, `!(r.obj == p.rule) is false: r.obj is "/x", p.rule is "/x"`}},
		{"r.act == p.act && eval(p.rule)", "r.sub.level >= 0 && r.sub.level > 3", sub,
			[]string{"eval(p.rule): r.sub.level > 3 is false: r.sub.level is 1"}},
		{"r.act == p.act && eval(p.rule)", "r.sub.none == 'x'", sub,
			[]string{"eval(p.rule): r.sub.none == \"x\": r.sub: there is no member none"}},
		{"r.act == p.act && p.sub in r.sub.tags", "true", sub,
			[]string{`p.sub in r.sub.tags is false: p.sub is "role:a", r.sub.tags is ["a", "b"]`}},
		{"r.act == p.act && g(r.sub.id, p.sub)", "true", map[string]any{"id": 7.0},
			[]string{"g(r.sub.id, p.sub): r.sub.id is no string"}},
		{"r.act == p.act && r.sub.level == p.sub && r.sub.id == p.rule", "true", map[string]any{"level": 7.0},
			[]string{`r.sub.level == p.sub: 7 is not "role:a"`, "r.sub.id == p.rule: r.sub.id: there is no member id"}},
		{"r.act == p.act ? r.sub.level > 3 && p.sub == 'x' : p.sub == 'y'", "true", sub,
			[]string{`r.act == p.act ? r.sub.level > 3 && p.sub == "x" : p.sub == "y" is false: r.act is "GET", p.act is "GET", r.sub.level is 1, p.sub is "role:a"`}},
		{"r.sub.level > 3 && r.act in ('GET', 'PUT') && r.obj == '/y'", "true", sub, // reads no rules
			[]string{"r.sub.level > 3 is false: r.sub.level is 1", `r.obj == "/y" is false: r.obj is "/x"`}},
	} {
		s := load(t, strings.Replace(model, "MATCHER", c.matcher, 1), `p, role:a, "`+c.rule+`", GET`+"\n")
		x := s.Explain(&policy.Query{Args: []any{c.sub, "/x", "GET"}})
		if authz.DetailOf(x.Err) != authz.NoRuleMatched || len(x.Misses) != 1 || !slices.Equal(x.Misses[0].Failed, c.want) {
			t.Errorf("%s\n got %v %q\nwant %q", c.matcher, x.Err, x.Misses, c.want)
		}
		if reads := strings.Contains(c.matcher, "p."); len(x.Misses) == 1 && reads != (x.Misses[0].Rule.Line == 1) {
			t.Errorf("%s: names rule %v", c.matcher, x.Misses[0].Rule)
		}
	}
}

// TestExplainDeny: what a rule denied is explained by that rule, and what it
// could not be evaluated for by the error.
func TestExplainDeny(t *testing.T) {
	model := strings.Replace(denyModel, "r.act == p.act", "(r.act == p.act || regexMatch(r.act, p.act))", 1)
	s := load(t, model, "p, role:a, /*, GET, allow\np, role:b, /x, GET, deny\n")
	x := s.Explain(&policy.Query{Args: []any{"u", "/x", "GET"}, Subject: "u", Roles: []string{"a", "b"}})
	if authz.DetailOf(x.Err) != authz.DeniedByRule || x.Rule.Line != 2 || x.Text != "p, role:b, /x, GET, deny" || len(x.Misses) != 0 || !slices.Equal(x.Roles, []string{"role:a", "role:b"}) {
		t.Errorf("got %+v", x)
	}
	x = s.Explain(&policy.Query{Args: []any{"u", 7.0, "GET"}, Subject: "u", Roles: []string{"a", "b"}})
	if authz.DetailOf(x.Err) != authz.RuleUnevaluable || x.Rule.Line != 2 || x.Text != "p, role:b, /x, GET, deny" {
		t.Errorf("got %+v", x)
	}
}

// TestExplainManyRules: the near miss stands beyond what is looked at one by
// one, and the index finds it, in time.
func TestExplainManyRules(t *testing.T) {
	const n = 230_000
	w := workloads[0] // ten rules a role
	s := load(t, w.model, w.rules(n))
	role := fmt.Sprintf("role:r%d", n/10-1)
	for _, c := range []struct{ sub, path, act, want string }{
		{role, "/v1/things9/7", "PUT", `r.act == p.act: "PUT" is not "POST"`},
		{role, "/v1/things9/7/8", "POST", `keyMatch2(r.obj, p.obj): "/v1/things9/7/8" does not match "/v1/things9/:id"`},
	} {
		start := time.Now()
		x := s.Explain(&policy.Query{Args: []any{c.sub, c.path, c.act}})
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		if !x.Cut || !slices.ContainsFunc(x.Misses, func(m policy.Miss) bool {
			return m.Rule.Line == n && slices.Equal(m.Failed, []string{c.want})
		}) {
			t.Errorf("%s %s %s: got %+v", c.sub, c.act, c.path, x)
		}
	}
}
