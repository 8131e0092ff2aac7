package policy_test

import (
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

const abac = `[request_definition]
r = sub, obj, act
[policy_definition]
p = dep, act, eft
[policy_effect]
e = EFFECT
[matchers]
m = r.sub.dep == p.dep && r.act == p.act
`

func effectModel(effect string) string { return strings.Replace(abac, "EFFECT", effect, 1) }

// TestNoRules: stock allows everything under a deny-override with no rules,
// and where the request's strings are as empty as the missing fields.
func TestNoRules(t *testing.T) {
	for _, e := range someEffects {
		s, fs := loadAll(effectModel(e), "# none\n")
		wantFinding(t, fs, policy.Warning, "there are no rules of type p")
		_, err := s.Decide(&policy.Query{Args: []any{map[string]any{"dep": ""}, "", ""}})
		if authz.ReasonOf(err) != authz.NotPermitted || authz.DetailOf(err) != authz.NoRules {
			t.Errorf("%s: got %v", e, err)
		}
	}
}

// TestUnevaluable: a rule that cannot be evaluated does not match if it would
// allow, refuses if it would deny, and the others still count.
func TestUnevaluable(t *testing.T) {
	const model = `[request_definition]
r = sub, act
[policy_definition]
p = rule, act, eft
[policy_effect]
e = EFFECT
[matchers]
m = r.act == p.act && eval(p.rule)
`
	const (
		badAllow = "p, r.sub.none == 'x', GET, allow\n"
		badDeny  = "p, r.sub.none == 'x', GET, deny\n"
		allow    = "p, true, GET, allow\n"
	)
	for _, c := range []struct {
		effect, rules string
		want          authz.Detail
		line          int
	}{
		{someEffects[0], badAllow, authz.NoRuleMatched, 0},
		{someEffects[0], badAllow + allow, "", 2},
		{someEffects[0], badDeny + allow, "", 2}, // this effect never denies
		{someEffects[1], badAllow, "", 0},
		{someEffects[1], allow + badDeny, authz.RuleUnevaluable, 2},
		{someEffects[2], allow + badDeny, authz.RuleUnevaluable, 2},
		{someEffects[2], badAllow + allow, "", 2},
		{someEffects[3], allow + badDeny, "", 1}, // the order never gets to it
		{someEffects[3], badDeny + allow, authz.RuleUnevaluable, 1},
	} {
		s := load(t, strings.Replace(model, "EFFECT", c.effect, 1), c.rules)
		rule, err := s.Decide(&policy.Query{Args: []any{map[string]any{}, "GET"}})
		if authz.DetailOf(err) != c.want || rule.Line != c.line {
			t.Errorf("%s with\n%sgot %v, %v", c.effect, c.rules, rule, err)
		}
		if rule, err = s.Decide(&policy.Query{Args: []any{map[string]any{}, "PUT"}}); authz.DetailOf(err) == authz.RuleUnevaluable {
			t.Errorf("%s with\n%sPUT: got %v, %v", c.effect, c.rules, rule, err)
		}
	}
}

// TestFailOpen holds the ways in which stock Casbin lets pass what it should
// not to a refusal, at load or per request.
func TestFailOpen(t *testing.T) {
	for _, c := range []struct {
		name, model, rules, want string
	}{
		{"eft in capitals", denyModel, "p, role:a, /x, GET, Deny\n", "not allow or deny"},
		{"extra column of g", rbac, "p, role:a, /x, GET\ng, user:c/a, role:a, t1\n", "g takes 2 columns, this rule has 3"},
		{"space in a deny rule", denyModel, "p, user:c/bob , /x, GET, deny\n", "ends with a space"},
		{"comment in a deny rule", denyModel, "p, user:c/bob # him, /x, GET, deny\n", "looks like a comment"},
		{"no column eft", strings.Replace(rbac, "some(where (p.eft == allow))", "!some(where (p.eft == deny))", 1), "p, role:a, /x, GET\n", "every request would be allowed"},
		{"matcher without rules under deny-override", strings.Replace(strings.Replace(denyModel, "some(where (p.eft == allow)) && ", "", 1), "m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act", "m = r.act == 'GET'", 1), "", "allows every request"},
		{"invalid pattern", strings.Replace(rbac, "keyMatch2", "regexMatch", 1), "p, role:a, *, GET\n", "is no pattern"},
		{"malformed line", rbac, "p, role:a, \"/x, GET\n", "malformed CSV"},
		{"leading comma", rbac, ", a, b, c\n", "starts with a comma"},
		{"unknown type", rbac, "p2, a, b, c\n", "unknown rule type"},
		{"NUL", rbac, "p, role:a, /x\x00, GET\n", "NUL"},
		{"long line", rbac, "p, role:a, /" + strings.Repeat("x", 70_000) + ", GET\n", "more than 65535"},
		{"priority that is no number", strings.Replace(rbac, "p = sub", "p = priority, sub", 1), "p, high, role:a, /x, GET\n", "is no integer"},
		{"text after a parenthesis", strings.Replace(rbac, "m = ", "m = (r.act == 'GET') r.sub == p.sub && ", 1), "p, role:a, /x, GET\n", "an operator is missing"},
		{"pattern from the request", strings.Replace(rbac, "keyMatch2(r.obj, p.obj)", "keyMatch(p.obj, r.obj)", 1), "p, role:a, /x, GET\n", "not a value from the request"},
		{"eval of the request", strings.Replace(rbac, "r.act == p.act", "eval(r.act)", 1), "p, role:a, /x, GET\n", "never read as an expression"},
		{"eval in eval", strings.Replace(rbac, "r.act == p.act", "eval(p.act)", 1), "p, role:a, /x, eval(p.act)\n", "eval() inside a rule"},
		{"unknown name behind a short circuit", strings.Replace(rbac, "r.act == p.act", "(r.act == p.act || r.typo == p.act)", 1), "p, role:a, /x, GET\n", "unknown request field r.typo"},
		{"conditional roles", strings.Replace(rbac, "g = _, _", "g = _, _, (_, _)", 1), "p, role:a, /x, GET\n", "conditional roles"},
		{"m3 without m2", rbac + "m3 = r.sub == p.sub\n", "p, role:a, /x, GET\n", "m3 is defined"},
		{"cycle under subjectPriority", strings.Replace(denyModel, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "subjectPriority(p.eft) || deny", 1), "p, role:a, /x, GET, allow\ng, role:a, role:b\ng, role:b, role:a\n", "form a cycle"},
	} {
		s, fs := loadAll(c.model, c.rules)
		if s != nil {
			t.Errorf("%s: loads", c.name)
		}
		wantFinding(t, fs, policy.Error, c.want)
	}
}

// TestNoRulesOfPatterns: stock evaluates a matcher once with empty fields, and
// an empty pattern matches everything.
func TestNoRulesOfPatterns(t *testing.T) {
	model := strings.NewReplacer("g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act", "regexMatch(r.sub, p.sub) && regexMatch(r.obj, p.obj) && regexMatch(r.act, p.act)").Replace(rbac)
	q := &policy.Query{Args: []any{"user:c/eve", "/admin", "DELETE"}}
	if ok, err := stock(t, model, "").Enforce(q.Args...); !ok || err != nil {
		t.Fatalf("stock does not fail open: %v, %v", ok, err)
	}
	if _, err := load(t, model, "").Decide(q); authz.DetailOf(err) != authz.NoRules {
		t.Errorf("got %v", err)
	}
}

// TestJoinedFields: stock takes two rules for one when their fields are alike
// once they are joined by commas, and drops the second.
func TestJoinedFields(t *testing.T) {
	const rules = "p, \"a,b\", /x, GET, allow\np, a, \"b,/x\", GET, allow\np, user:c/eve, \"/y,GET\", x, deny\n"
	model := strings.Replace(denyModel, "keyMatch2(r.obj, p.obj)", "r.obj == p.obj", 1)
	s := load(t, model, rules)
	for _, c := range []struct {
		sub, obj string
		line     int
	}{{"a,b", "/x", 1}, {"a", "b,/x", 2}} {
		rule, err := s.Decide(&policy.Query{Args: []any{c.sub, c.obj, "GET"}})
		if err != nil || rule.Line != c.line {
			t.Errorf("%s: got %v, %v", c.sub, rule, err)
		}
	}
}

// TestBrackets: Casbin rewrites brackets in a matcher that holds "in", inside
// of strings too; that is said.
func TestBrackets(t *testing.T) {
	_, fs := loadAll(strings.Replace(rbac, "r.act == p.act", "r.act in ['GET', 'PUT'] && r.act == p.act", 1), "p, role:a, /x, GET\n")
	wantFinding(t, fs, policy.Warning, "brackets in a matcher")
}

func TestAllFindingsAtOnce(t *testing.T) {
	_, fs := loadAll(rbac, "p, a\nq, b\n\n# fine\np, role:a, /x, GET\ng, a\n")
	var lines []int
	for _, f := range fs {
		lines = append(lines, f.Line)
	}
	if len(lines) != 3 || lines[0] != 1 || lines[1] != 2 || lines[2] != 6 {
		t.Errorf("got %v", fs)
	}
	if got, want := fs[0].String(), "policy.csv:1: p takes 3 columns, this rule has 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestJSONText: a string that looks like an object stays a string.
func TestJSONText(t *testing.T) {
	s := load(t, effectModel(someEffects[0]), "p, sales, GET, allow\n")
	_, err := s.Decide(&policy.Query{Args: []any{`{"dep": "sales"}`, "", "GET"}})
	if authz.DetailOf(err) != authz.NoRuleMatched {
		t.Errorf("got %v", err)
	}
}

// TestSubjectPriorityOfTokenRoles: one's own rules come before a role's, also
// where the role comes from the token.
func TestSubjectPriorityOfTokenRoles(t *testing.T) {
	model := strings.Replace(denyModel, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "subjectPriority(p.eft) || deny", 1)
	s := load(t, model, "p, role:a, /x, GET, deny\np, user:c/ada, /x, GET, allow\n")
	rule, err := s.Decide(&policy.Query{Args: []any{"user:c/ada", "/x", "GET"}, Subject: "user:c/ada", Roles: []string{"a"}})
	if err != nil || rule.Line != 2 {
		t.Errorf("got %v, %v", rule, err)
	}
}

func TestTooManyRoles(t *testing.T) {
	s := load(t, rbac, "p, role:a, /x, GET\n")
	_, err := s.Decide(&policy.Query{Args: []any{"user:c/ada", "/x", "GET"}, Subject: "user:c/ada", Roles: make([]string, 257)})
	if authz.ReasonOf(err) != authz.NotPermitted || authz.DetailOf(err) != authz.TooManyRoles {
		t.Errorf("got %v", err)
	}
}

func TestRevision(t *testing.T) {
	a, b := load(t, rbac, "p, role:a, /x, GET\n"), load(t, rbac, "p, role:a, /x, GET\n# note\n")
	if len(a.Revision()) != 12 || a.Revision() == b.Revision() || a.Revision() != load(t, rbac, "p, role:a, /x, GET\n").Revision() {
		t.Errorf("revisions %q and %q", a.Revision(), b.Revision())
	}
	matched := load(t, rbac, "p, role:a, /x, GET\n", policy.WithMatching("g", policy.Matching{Role: "keyMatch"}))
	if matched.Revision() == a.Revision() {
		t.Error("how names match is no part of the revision")
	}
	several := rbac + "m2 = r.sub == p.sub\n"
	if load(t, several, "p, role:a, /x, GET\n").Revision() != load(t, several, "p, role:a, /x, GET\n", policy.WithSections(policy.Sections{M: "m2"})).Revision() {
		t.Error("two sections of one model have two revisions")
	}
}
