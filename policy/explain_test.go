package policy_test

import (
	"slices"
	"testing"

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
