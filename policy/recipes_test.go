package policy_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

// A check is one request of a recipe.
type check struct {
	Args    []any
	Subject string
	Roles   []string
	Tenant  string
	Allow   bool
}

func (c check) query() *policy.Query {
	return &policy.Query{Args: c.Args, Subject: c.Subject, Roles: c.Roles, Tenant: c.Tenant}
}

// recipes calls f with each recipe that README.md points to.
func recipes(t *testing.T, f func(t *testing.T, name string, s *policy.Snapshot, checks []check)) {
	t.Helper()
	files, err := filepath.Glob("testdata/recipes/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("recipes: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, fs := loadAll(string(a.Files[0].Data), string(a.Files[1].Data))
			if s == nil || len(fs) > 0 {
				t.Fatalf("findings: %v", fs)
			}
			var checks []check
			if err := json.Unmarshal(a.Files[2].Data, &checks); err != nil {
				t.Fatal(err)
			}
			f(t, filepath.Base(file), s, checks)
		})
	}
}

func TestRecipes(t *testing.T) {
	recipes(t, func(t *testing.T, _ string, s *policy.Snapshot, checks []check) {
		for _, c := range checks {
			_, err := s.Decide(c.query())
			if (err == nil) != c.Allow || err != nil && authz.ReasonOf(err) != authz.NotPermitted {
				t.Errorf("%+v: got %v", c, err)
			}
		}
	})
}

// TestExplainRecipes holds what is said about each check of each recipe.
func TestExplainRecipes(t *testing.T) {
	var got txtar.Archive
	recipes(t, func(_ *testing.T, name string, s *policy.Snapshot, checks []check) {
		var b strings.Builder
		for _, c := range checks {
			x := s.Explain(c.query())
			args, _ := json.Marshal(c.Args)
			fmt.Fprintf(&b, "%s %q\n  allow: %v, roles: %q\n", args, c.Roles, x.Err == nil, x.Roles)
			if x.Rule.Line > 0 {
				fmt.Fprintf(&b, "  by %v: %s\n", x.Rule, x.Text)
			}
			for _, m := range x.Misses {
				where := "the matcher"
				if m.Rule.Line > 0 {
					where = m.Rule.String() + ": " + m.Text
				}
				fmt.Fprintf(&b, "  near %s\n", where)
				for _, f := range m.Failed {
					fmt.Fprintf(&b, "    %s\n", f)
				}
			}
		}
		got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(b.String())})
	})
	golden(t, "testdata/explained.golden", &got)
}
