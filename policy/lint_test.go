package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

// TestLint: each warning where it belongs, and none beside it. The model is
// denyModel unless it says otherwise.
func TestLint(t *testing.T) {
	effect := func(e string) string {
		return strings.Replace(denyModel, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", e, 1)
	}
	priority := strings.Replace(effect("priority(p.eft) || deny"), "p = sub", "p = priority, sub", 1)
	for _, c := range []struct {
		name, model, rules string
		want               []string // of the warnings
	}{
		{"nothing", "", "p, role:a, /x, GET, allow\np, role:b, /x, GET, deny\ng, user:c/a, role:a\n", nil},
		{"idle role", "", "p, role:a, /x, GET, allow\ng, u:1, role:a\ng, u:1, role:b\ng, role:b, role:c\ng, u:2, role:c\n",
			[]string{`policy.csv:3: no rule is for "role:b", or for a role that it has`, `policy.csv:4: no rule is for "role:c", or for a role that it has`}},
		{"role with an heir", "", "p, role:a, /x, GET, allow\ng, u:1, role:c\ng, role:c, role:b\ng, role:b, role:a\n", nil},
		{"role of the matcher", strings.Replace(denyModel, "g(r.sub, p.sub)", "(g(r.sub, p.sub) || g(r.sub, 'role:root'))", 1), "p, role:a, /x, GET, allow\ng, u:1, role:root\n", nil},
		{"role of an eval", strings.Replace(strings.Replace(denyModel, "p = sub", "p = rule, sub", 1), "r.act ==", "eval(p.rule) && r.act ==", 1), `p, "g(r.sub, 'role:root')", role:a, /x, GET, allow` + "\ng, u:1, role:root\n", nil},
		{"field of an eval", strings.Replace(strings.Replace(denyModel, "p = sub", "p = rule, dom, sub", 1), "r.act ==", "eval(p.rule) && r.act ==", 1), "p, p.dom == 'x', x, role:a, /x, GET, allow\n", nil},
		{"later rule of the same", priority, "p, 1, role:a, /x, GET, allow\np, 2, role:a, /x, GET, deny\np, 2, role:b, /x, GET, deny\n",
			[]string{"policy.csv:2: the rule never decides: the one in line 1 matches whatever it matches, and decides before it"}},
		{"order of priorities", priority, "p, 2, role:a, /x, GET, allow\np, 1, role:a, /x, GET, deny\n",
			[]string{"policy.csv:1: the rule never decides: the one in line 2 matches whatever it matches, and decides before it"}},
		{"denied and allowed", "", "p, role:a, /x, GET, allow\np, role:a, /x, GET, deny\n",
			[]string{"policy.csv:1: the rule never decides: the one in line 2 matches whatever it matches, and decides before it"}},
		{"deny override", effect("!some(where (p.eft == deny))"), "p, role:a, /x, GET, allow\np, role:a, /x, GET, deny\n", nil},
		{"one column is not read", strings.Replace(effect("some(where (p.eft == allow))"), " && r.act == p.act", "", 1), "p, role:a, /x, GET, allow\np, role:a, /x, PUT, allow\n",
			[]string{"model.conf:4: no condition reads p.act: a rule matches whatever stands there", "policy.csv:2: the rule never decides: the one in line 1 matches whatever it matches, and decides before it"}},
		{"ignored deny", effect("some(where (p.eft == allow))"), "p, role:b, /x, GET, deny\np, role:a, /x, GET, allow\n",
			[]string{"policy.csv:1: the rule denies, and the effect e looks at rules that allow alone"}},
		{"uncalled g2", strings.Replace(denyModel, "g = _, _", "g = _, _\ng2 = _, _", 1), "p, role:a, /x, GET, allow\ng2, /x, /y\n",
			[]string{"policy.csv:2: no condition calls g2: its links (1) do nothing"}},
		{"other sections", strings.Replace(denyModel, "p = sub", "p2 = sub, obj\np = sub", 1) + "m2 = r.sub == p2.sub && r.obj == p2.obj\n", "p, role:a, /x, GET, allow\np2, a, b\n", nil},
		{"roles of other sections", strings.Replace(strings.Replace(denyModel, "g = _, _", "g = _, _\ng2 = _, _", 1), "p = sub", "p2 = sub, obj\np = sub", 1) + "m2 = g(r.sub, p2.sub) && g2(r.obj, p2.obj)\n",
			"p, role:a, /x, GET, allow\np2, role:b, b\ng, u:1, role:b\ng2, /x, b\n", nil},
		{"broken other sections", denyModel + "m2 = r.sub == p2.sub\nm3 = regexMatch(r.sub, '*')\nm4 = r.sub == \n", "p, role:a, /x, GET, allow\n",
			[]string{`model.conf:11: m2, which is not in use: unknown name "p2_sub" (fields are r.NAME and p.NAME, text stands in quotes)`,
				`model.conf:12: m3, which is not in use: pattern "*" of regexMatch: error parsing regexp: missing argument to repetition operator: ` + "`*`",
				"model.conf:13: m4, which is not in use: unexpected end of expression"}},
		{"scan behind a condition", strings.Replace(effect("some(where (p.eft == allow))"), "m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act", "m = r.act == 'GET' && regexMatch(r.obj, p.obj) && p.sub != r.sub && p.act != r.act", 1), "p, role:a, ^(/x)$, GET, allow\n",
			[]string{"model.conf:10: the cost of a decision grows with the number of rules: no condition compares a value of the request with a field by ==, g or a path operator"}},
		{"bypass", strings.Replace(denyModel, "m = ", "m = r.sub == 'root' || ", 1), "p, role:a, /x, GET, allow\n",
			[]string{"model.conf:10: m mixes && and || without parentheses", "model.conf:10: m: an alternative of || reads no field of p"}},
		{"escaped dot", "", `p, role:a, /v1\.0/x, GET, allow` + "\n", nil},
	} {
		model := c.model
		if model == "" {
			model = denyModel
		}
		s, fs := loadAll(model, c.rules)
		var got []string
		for _, f := range fs {
			got = append(got, f.String())
			if f.Severity != policy.Warning || f.Stock == "" || f.Fix == "" {
				t.Errorf("%s: %v is %s, stock Casbin: %q, instead: %q", c.name, f, f.Severity, f.Stock, f.Fix)
			}
		}
		if s == nil || strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: loads: %v\ngot\n%s\nwant\n%s", c.name, s != nil, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// TestLintAlike: rules that only a regular expression tells apart cost time,
// and those of a million paths do not.
func TestLintAlike(t *testing.T) {
	var alike, apart strings.Builder
	for i := range 1200 {
		fmt.Fprintf(&alike, "p, role:a, /(x|y)%d, GET\n", i)
		fmt.Fprintf(&apart, "p, role:a, /z/:id/y%d, GET\n", i)
	}
	_, fs := loadAll(strings.Replace(rbac, "keyMatch2", "regexMatch", 1), alike.String())
	wantFinding(t, fs, policy.Warning, "this rule and 1199 others are alike for the index")
	if _, fs = loadAll(rbac, apart.String()); len(fs) > 0 {
		t.Errorf("got %v", fs)
	}
}

// TestLintCovered: rules that match less than one that decides before them.
func TestLintCovered(t *testing.T) {
	star := strings.Replace(denyModel, "r.act == p.act", "(r.act == p.act || p.act == '*')", 1)
	priority := strings.Replace(strings.Replace(star, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny", 1), "p = sub", "p = priority, sub", 1)
	for _, c := range []struct {
		name, model, rules string
		line, by           int // 0: none
	}{
		{"wider path", priority, "p, 1, role:a, /x/*, GET, allow\np, 2, role:a, /x/:id, GET, deny\n", 2, 1},
		{"wider method", priority, "p, 1, role:a, /x, *, allow\np, 2, role:a, /x, GET, deny\n", 2, 1},
		{"inherited role", priority, "p, 1, role:a, /x, GET, deny\np, 2, role:b, /x, GET, allow\ng, role:b, role:a\n", 2, 1},
		{"inherited the other way", priority, "p, 1, role:b, /x, GET, deny\np, 2, role:a, /x, GET, allow\ng, role:b, role:a\n", 0, 0},
		{"narrower first", priority, "p, 1, role:a, /x/:id, GET, allow\np, 2, role:a, /x/*, GET, deny\n", 0, 0},
		{"narrower method first", priority, "p, 1, role:a, /x, GET, allow\np, 2, role:a, /x, *, deny\n", 0, 0},
		{"parameter against rest", priority, "p, 1, role:a, /x/:id, GET, allow\np, 2, role:a, /x/*, GET, allow\n", 0, 0},
		{"two parameters against rest", priority, "p, 1, role:a, /x/:a/:b, GET, allow\np, 2, role:a, /x/*, GET, allow\n", 0, 0},
		{"denied whatever the order", star, "p, role:a, /x/:id, GET, allow\np, role:a, /x/*, *, deny\n", 1, 2},
		{"a rule that denies less", star, "p, role:a, /x/*, GET, allow\np, role:a, /x/:id, *, deny\n", 0, 0},
		{"regular expression", priority, "p, 1, role:a, /x/(a|b), GET, allow\np, 2, role:a, /x/a, GET, deny\n", 2, 1},
	} {
		s, fs := loadAll(c.model, c.rules)
		if s == nil {
			t.Fatalf("%s: %v", c.name, fs)
		}
		line, by := 0, 0
		for _, f := range fs {
			if _, err := fmt.Sscanf(f.Message, "the rule never decides: the one in line %d", &by); err == nil {
				line = f.Line
			}
		}
		if line != c.line || by != c.by {
			t.Errorf("%s: line %d is shadowed by %d, want %d by %d", c.name, line, by, c.line, c.by)
		}
	}
}

// TestLintShadowedNeverDecides: in random worlds, a rule that is said never to
// decide does not, and nothing changes without it.
func TestLintShadowedNeverDecides(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	found, asked := 0, 0
	for range 4000 {
		model, rules, sh := world(t, rng)
		s, fs := loadAll(model, rules)
		if s == nil {
			continue
		}
		for _, f := range fs {
			if !strings.HasPrefix(f.Message, "the rule never decides") {
				continue
			}
			found++
			lines := strings.SplitAfter(rules, "\n")
			lines[f.Line-1] = "\n"
			without, _ := loadAll(model, strings.Join(lines, ""))
			for range 40 {
				q := &policy.Query{Subject: pick(rng, subjects), Tenant: pick(rng, domains)}
				if rng.IntN(2) == 0 {
					q.Roles = []string{fmt.Sprintf("r%d", 1+rng.IntN(5))}
				}
				for f := range strings.SplitSeq(sh.request, ", ") {
					q.Args = append(q.Args, pick(rng, map[string][]string{"sub": {q.Subject}, "dom": domains, "obj": paths, "act": acts}[f]))
				}
				if slices.ContainsFunc(q.Args, func(v any) bool { return strings.Contains(v.(string), "\n") }) {
					continue // what .* does not match; no path has one
				}
				rule, err := s.Decide(q)
				again, errAgain := without.Decide(q)
				if rule.Line == f.Line || again != rule || authz.DetailOf(err) != authz.DetailOf(errAgain) {
					t.Fatalf("%v\nwith it %v, %v, without it %v, %v\n%#v\n%s\n%s", f, rule, err, again, errAgain, q, model, rules)
				}
				asked++
			}
		}
	}
	if found < 500 || asked < 20_000 {
		t.Errorf("only %d rules were found, %d requests", found, asked)
	}
}
