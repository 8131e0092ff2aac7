package policy_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/sallyport-authz/sallyport/policy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// mistakes are the likeliest ones; each is a model, or rules for the model
// rbac where the model is empty. testdata/mistakes.golden holds what is said.
var mistakes = []struct{ name, model, rules string }{
	{"capital eft", denyModel, "p, role:a, /x, GET, Deny"},
	{"missing column", "", "p, role:a, /x"},
	{"extra column of g", "", "p, role:a, /x, GET\ng, user:c/a, role:a, tenant1"},
	{"space before a comma", "", "p, role:a , /x, GET"},
	{"space in a rule that denies", denyModel, "p, role:a , /x, GET, deny"},
	{"comment after a rule", "", "p, role:a, /x, GET # readers"},
	{"bare quote", "", `p, role:a, /x"y, GET`},
	{"unknown type", "", "policy, role:a, /x, GET"},
	{"leading comma", "", ", role:a, /x, GET"},
	{"duplicate", "", "p, role:a, /x, GET\np, role:a, /x, GET"},
	{"no rules", "", "# nothing yet\n"},
	{"bare role name", "", "p, admin, /x, GET"},
	{"broken pattern", strings.ReplaceAll(rbac, "keyMatch2", "regexMatch"), "p, role:a, *, GET"},
	{"unanchored regular expression", strings.ReplaceAll(rbac, "keyMatch2", "regexMatch"), "p, role:a, /x, GET"},
	{"parameter of another operator", "", "p, role:a, /x/{id}, GET"},
	{"text after the star", strings.ReplaceAll(rbac, "keyMatch2", "keyMatch"), "p, role:a, /a/*/b, GET"},
	{"pattern and value swapped", strings.ReplaceAll(rbac, "r.obj, p.obj", "p.obj, r.obj"), "p, role:a, /x, GET"},
	{"single equals sign", strings.ReplaceAll(rbac, "r.act ==", "r.act ="), "p, role:a, /x, GET"},
	{"unknown function", strings.ReplaceAll(rbac, "keyMatch2", "keymatch2"), "p, role:a, /x, GET"},
	{"unknown field", strings.ReplaceAll(rbac, "r.act", "r.action"), "p, role:a, /x, GET"},
	{"effect without spaces", strings.ReplaceAll(rbac, "p.eft == allow", "p.eft==allow"), "p, role:a, /x, GET"},
	{"unknown section", strings.ReplaceAll(rbac, "[matchers]", "[matcher]"), "p, role:a, /x, GET"},
	{"effect without column", strings.ReplaceAll(rbac, "some(where (p.eft == allow))", "!some(where (p.eft == deny))"), "p, role:a, /x, GET"},
	{"mixed operators", strings.ReplaceAll(rbac, "&& r.act == p.act", "&& r.act == p.act || r.sub == 'root'"), "p, role:a, /x, GET"},
	{"value as expression", strings.ReplaceAll(rbac, "r.act == p.act", "eval(r.act)"), "p, role:a, /x, GET"},
	{"star domain", domainModel, "p, role:a, d1, /x, GET\ng, user:c/a, role:a, *"},
	{"cycle", "", "p, role:a, /x, GET\ng, role:a, role:b\ng, role:b, role:a"},
	{"scan", strings.ReplaceAll(rbac, "g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act", "regexMatch(r.obj, p.obj) || g(r.sub, p.sub)"), "p, role:a, ^(/x)$, GET"},
	{"byte order mark", "", "\xef\xbb\xbfp, role:a, /x, GET"},
	{"string with comment", strings.ReplaceAll(rbac, "r.act == p.act", "r.act == '#'"), "p, role:a, /x, GET"},
	{"no operator", strings.ReplaceAll(rbac, "m = g(r.sub, p.sub) &&", "m = (g(r.sub, p.sub))"), "p, role:a, /x, GET"},
	{"role without rules", "", "p, role:a, /x, GET\ng, user:c/a, role:a\ng, user:c/a, role:b"},
	{"bare role in a link", "", "p, admin, /x, GET\ng, user:c/a, admin"},
	{"field that is not compared", strings.ReplaceAll(rbac, " && r.act == p.act", ""), "p, role:a, /x, GET"},
	{"deny under an effect that allows", strings.ReplaceAll(denyModel, " && !some(where (p.eft == deny))", ""), "p, role:a, /x, GET, allow\np, user:c/eve, /x, GET, deny"},
	{"allow and deny alike", denyModel, "p, role:a, /x, GET, allow\np, role:a, /x, GET, deny"},
	{"roles that are not asked", strings.ReplaceAll(rbac, "g(r.sub, p.sub)", "r.sub == p.sub"), "p, role:a, /x, GET\ng, user:c/a, role:a"},
	{"broken matcher that is not in use", rbac + "m2 = r.sub == p.name\n", "p, role:a, /x, GET"},
	{"dot in a pattern", "", "p, role:a, /v1.0/x, GET"},
	{"colon in a pattern", "", "p, role:a, /users:batch, GET"},
	{"date", strings.ReplaceAll(rbac, "r.act == p.act", "r.act == '2026-01-01'"), "p, role:a, /x, GET"},
}

const denyModel = `[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act
`

func TestMistakes(t *testing.T) {
	var got txtar.Archive
	for _, m := range mistakes {
		model := m.model
		if model == "" {
			model = rbac
		}
		s, fs := loadAll(model, m.rules)
		if len(fs) == 0 {
			t.Errorf("%s: nothing is said", m.name)
		}
		var b strings.Builder
		for _, f := range fs {
			fmt.Fprintf(&b, "%s (%s)\n  stock Casbin: %s\n  instead: %s\n", f, f.Severity, f.Stock, f.Fix)
		}
		if policy.HasErrors(fs) != (s == nil) {
			t.Errorf("%s: snapshot %v with %v", m.name, s != nil, fs)
		}
		got.Files = append(got.Files, txtar.File{Name: m.name, Data: []byte(b.String())})
	}
	golden(t, "testdata/mistakes.golden", &got)
}

// golden compares an archive with a file.
func golden(t *testing.T, file string, got *txtar.Archive) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, txtar.Format(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(txtar.Format(got)) {
		t.Errorf("the messages changed (go test -update rewrites %s):\n%s", file, txtar.Format(got))
	}
}
