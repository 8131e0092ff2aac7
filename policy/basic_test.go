package policy_test

import (
	"strings"
	"sync"
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

// TestConcurrent asks one snapshot from many goroutines: the roles of one
// request are never those of another.
func TestConcurrent(t *testing.T) {
	s := load(t, rbac, "p, role:a, /x, GET\np, role:b, /y, GET\ng, role:boss, role:a\n")
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 500 {
				q := &policy.Query{Args: []any{"user:corp/ada", "/x", "GET"}, Subject: "user:corp/ada"}
				want := authz.NoRuleMatched
				switch n % 4 {
				case 0:
					q.Roles, want = []string{"a"}, ""
				case 1:
					q.Roles = []string{"b"}
				case 2:
					q.Roles, want = []string{"b", "boss"}, ""
				}
				if _, err := s.Decide(q); authz.DetailOf(err) != want {
					t.Errorf("roles %q: got %v", q.Roles, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestWindowsLines: files with CR LF load, and lines are counted as they stand.
func TestWindowsLines(t *testing.T) {
	crlf := strings.NewReplacer("\n", "\r\n")
	s := load(t, crlf.Replace(rbac), crlf.Replace("# head\n\np, role:a, /x, GET\n"))
	rule, err := s.Decide(&policy.Query{Args: []any{"user:corp/ada", "/x", "GET"}, Subject: "user:corp/ada", Roles: []string{"a"}})
	if err != nil || rule.String() != "policy.csv:3" {
		t.Errorf("got %v, %v", rule, err)
	}
}

// TestNamespaces: only role:NAME is a role of a token, and only for the
// subject itself.
func TestNamespaces(t *testing.T) {
	s := load(t, rbac, "p, role:a, /x, GET\np, a, /y, GET\n")
	for _, c := range []struct {
		sub, path string
		want      authz.Detail
	}{
		{"user:corp/ada", "/x", ""},
		{"user:corp/ada", "/y", authz.NoRuleMatched},
		{"user:corp/eve", "/x", authz.NoRuleMatched},
	} {
		_, err := s.Decide(&policy.Query{Args: []any{c.sub, c.path, "GET"}, Subject: "user:corp/ada", Roles: []string{"a"}})
		if authz.DetailOf(err) != c.want {
			t.Errorf("%s %s: got %v", c.sub, c.path, err)
		}
	}
}
