package policy_test

import (
	"slices"
	"strings"
	"testing"
)

// TestRules: every rule of the chosen definition once, where it stands, in a
// form that reads back as the same rule.
func TestRules(t *testing.T) {
	model := strings.Replace(denyModel, "p = sub", "p2 = sub, obj\np = priority, sub", 1)
	model = strings.Replace(model, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny", 1)
	rules := `# comment
p, 20, role:b, /x, GET, allow
p2, role:b, /x

p, 10, "role:""a"",b", " /x ", , deny
g, role:a, role:b
p, 10,   role:c,	/y, GET, allow
`
	s := load(t, model, rules)
	var got []string
	for rule, text := range s.Rules() {
		got = append(got, rule.String()+" "+text)
	}
	want := []string{
		`policy.csv:5 p, 10, "role:""a"",b", " /x ", , deny`,
		`policy.csv:7 p, 10, role:c, /y, GET, allow`,
		`policy.csv:2 p, 20, role:b, /x, GET, allow`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for range s.Rules() {
		break // stopping early is fine
	}
	again := ""
	for _, text := range s.Rules() {
		again += text + "\n"
	}
	i := 0
	for _, text := range load(t, model, again).Rules() {
		if _, before, _ := strings.Cut(want[i], " "); text != before {
			t.Errorf("read back as %s, was %s", text, before)
		}
		i++
	}
	for rule := range load(t, rbac, "").Rules() {
		t.Errorf("a policy without rules has %v", rule)
	}
}
