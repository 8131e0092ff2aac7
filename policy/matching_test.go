package policy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/casbin/casbin/v2/util"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

const patternModel = `[request_definition]
r = sub, dom, obj
[policy_definition]
p = sub, obj
[role_definition]
g = _, _, _
g2 = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.dom) && g2(r.obj, p.obj)
`

// TestMatchingAgainstStock: names and domains that are patterns, with every
// effect, and with roles of the token as links.
func TestMatchingAgainstStock(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	names := []string{"user:a", "user:b", "user:*", "role:r1", "role:r2", "role:*", "*", "role:r"}
	things := []string{"/a/1", "/a/:id", "/b/:id", "/b/2", "group", "all", "/:x/1"}
	doms := []string{"d1", "d2", "d*", "*", "e1"}
	compared, allowed, byToken := 0, 0, 0
	for round := range 400 {
		model := strings.Replace(strings.Replace(patternModel, "some(where (p.eft == allow))", someEffects[round%4], 1), "p = sub, obj", "p = sub, obj, eft", 1)
		var b strings.Builder
		for range 1 + rng.IntN(5) {
			fmt.Fprintf(&b, "p, %s, %s, %s\n", pick(rng, names), pick(rng, things), pick(rng, []string{"allow", "allow", "deny"}))
		}
		for range rng.IntN(6) {
			fmt.Fprintf(&b, "g, %s, %s, %s\n", pick(rng, names), pick(rng, names), pick(rng, doms))
		}
		for range rng.IntN(5) {
			fmt.Fprintf(&b, "g2, %s, %s\n", pick(rng, things), pick(rng, things))
		}
		rules := b.String()
		s := load(t, model, rules,
			policy.WithMatching("g", policy.Matching{Role: "keyMatch", Domain: "keyMatch"}),
			policy.WithMatching("g2", policy.Matching{Role: "keyMatch2"}))
		q, links := &policy.Query{}, rules
		if round%2 == 0 {
			q.Subject, q.Tenant, q.Roles = pick(rng, []string{"user:a", "user:z"}), pick(rng, []string{"d1", "d2", "e1"}), []string{pick(rng, []string{"r1", "r2", "new"})}
			links += fmt.Sprintf("g, %s, role:%s, %s\n", q.Subject, q.Roles[0], q.Tenant)
		}
		e := stock(t, model, links)
		e.AddNamedMatchingFunc("g", "keyMatch", util.KeyMatch)
		e.AddNamedDomainMatchingFunc("g", "keyMatch", util.KeyMatch)
		e.AddNamedMatchingFunc("g2", "keyMatch2", util.KeyMatch2)
		for range 25 {
			sub := pick(rng, []string{"user:a", "user:b", "user:z", "role:r1"})
			if q.Roles != nil { // for others the link would not be there
				sub = q.Subject
			}
			q.Args = []any{sub, pick(rng, []string{"d1", "d2", "e1", "f"}), pick(rng, []string{"/a/1", "/a/2", "/b/2", "/c", "group"})}
			if !same(t, e, s, q, model, links) {
				continue
			}
			compared++
			if _, err := s.Decide(q); err == nil {
				allowed++
				without := *q
				without.Roles = nil
				if _, err := s.Decide(&without); err != nil {
					byToken++
				}
			}
		}
	}
	if compared < 9000 || allowed < 1500 || byToken < 70 {
		t.Errorf("only %d compared, %d allowed, %d by roles of the token", compared, allowed, byToken)
	}
}

func TestTenantRoles(t *testing.T) {
	s := load(t, patternModel, "p, role:admin, doc\ng, role:boss, role:admin, *\ng, role:boss, role:admin, t1\n",
		policy.WithMatching("g", policy.Matching{Domain: "keyMatch"}))
	for _, c := range []struct {
		tenant, asked string
		roles         []string
		want          authz.Detail
	}{
		{"t1", "t1", []string{"admin"}, ""},
		{"t1", "t1", []string{"boss"}, ""},
		{"t1", "t2", []string{"admin"}, authz.NoRuleMatched},
		{"t1", "t2", []string{"boss"}, authz.NoRuleMatched},
		{"", "t1", []string{"admin"}, authz.NoRuleMatched},
		{"", "", []string{"admin"}, authz.NoRuleMatched},
		{"*", "t2", []string{"admin"}, authz.NoRuleMatched},
		{"t3", "t3", []string{"boss"}, ""},
	} {
		_, err := s.Decide(&policy.Query{Args: []any{"user:corp/a", c.asked, "doc"}, Subject: "user:corp/a", Roles: c.roles, Tenant: c.tenant})
		if authz.DetailOf(err) != c.want {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

// TestTokenRoleOfPattern: a rule for a pattern of roles is for the roles of the
// token too, whether or not any rule names them.
func TestTokenRoleOfPattern(t *testing.T) {
	s := load(t, denyModel, "p, role:*, /x, GET, allow\np, role:banned-*, /x, GET, deny\np, role:staff, /y, GET, allow\ng, role:emp-*, role:staff\n",
		policy.WithMatching("g", policy.Matching{Role: "keyMatch"}))
	for _, c := range []struct {
		role, path string
		want       authz.Detail
	}{
		{"any", "/x", ""},
		{"banned-1", "/x", authz.DeniedByRule},
		{"emp-7", "/y", ""},
		{"any", "/y", authz.NoRuleMatched},
		{"*", "/y", authz.NoRuleMatched}, // a name, never a pattern
	} {
		_, err := s.Decide(&policy.Query{Args: []any{"user:c/a", c.path, "GET"}, Subject: "user:c/a", Roles: []string{c.role}})
		if authz.DetailOf(err) != c.want {
			t.Errorf("%s %s: got %v", c.role, c.path, err)
		}
	}
}

func TestMatchingRefusesRequestPatterns(t *testing.T) {
	_, fs := loadAll(strings.Replace(patternModel, "g2(r.obj, p.obj)", "g2(p.obj, r.obj)", 1), "p, a, b\n",
		policy.WithMatching("g2", policy.Matching{Role: "keyMatch2"}))
	wantFinding(t, fs, policy.Error, "is a pattern of keyMatch2")
	_, fs = loadAll(patternModel, "p, a, b\n", policy.WithMatching("g2", policy.Matching{Role: "keymatch2"}))
	wantFinding(t, fs, policy.Error, `"keymatch2" is no operator`)
	_, fs = loadAll(patternModel, "p, a, b\n", policy.WithMatching("g2", policy.Matching{Domain: "keyMatch"}))
	wantFinding(t, fs, policy.Error, "g2 has no domains")
}

// wantFinding fails unless there is a finding of this severity with this text.
func wantFinding(t *testing.T, fs []policy.Finding, sev policy.Severity, text string) {
	t.Helper()
	for _, f := range fs {
		if f.Severity == sev && strings.Contains(f.Message, text) {
			return
		}
	}
	t.Errorf("no %v with %q in %v", sev, text, fs)
}

// TestDepth: the tenth link counts and the eleventh does not, as in stock.
func TestDepth(t *testing.T) {
	rules := "p, role:n0, /x, GET\n"
	for i := range 12 {
		rules += fmt.Sprintf("g, role:n%d, role:n%d\n", i+1, i)
	}
	s, e := load(t, rbac, rules), stock(t, rbac, rules)
	for i := range 13 {
		name := fmt.Sprintf("role:n%d", i)
		if !same(t, e, s, &policy.Query{Args: []any{name, "/x", "GET"}}, rbac, rules) {
			t.Fatal("stock fails")
		}
		_, err := s.Decide(&policy.Query{Args: []any{name, "/x", "GET"}})
		if (err == nil) != (i <= 10) {
			t.Errorf("%d links: got %v", i, err)
		}
	}
}
