package policy_test

import (
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

const rbac = `[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act
`

func TestTokenRoles(t *testing.T) {
	s := load(t, rbac, `# the contract's example
p, role:manager, /v1/orders/:order, GET

g, role:director, role:manager
g, user:corp/ada, role:director
`)
	for _, c := range []struct {
		name  string
		sub   string
		roles []string
		path  string
		want  authz.Detail
		line  int
	}{
		{"by the rules", "user:corp/ada", nil, "/v1/orders/7", "", 2},
		{"role of the token", "user:corp/max", []string{"manager"}, "/v1/orders/7", "", 2},
		{"inherited role of the token", "user:corp/max", []string{"director"}, "/v1/orders/7", "", 2},
		{"no trace of it", "user:corp/max", nil, "/v1/orders/7", authz.NoRuleMatched, 0},
		{"other path", "user:corp/ada", nil, "/v1/orders/7/x", authz.NoRuleMatched, 0},
	} {
		rule, err := s.Decide(&policy.Query{Args: []any{c.sub, c.path, "GET"}, Subject: c.sub, Roles: c.roles})
		if authz.DetailOf(err) != c.want || rule.Line != c.line {
			t.Errorf("%s: got %v, %v", c.name, rule, err)
		}
	}
}
