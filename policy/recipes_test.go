package policy_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

// TestRecipes runs the recipes that README.md points to.
func TestRecipes(t *testing.T) {
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
			var checks []struct {
				Args    []any
				Subject string
				Roles   []string
				Tenant  string
				Allow   bool
			}
			if err := json.Unmarshal(a.Files[2].Data, &checks); err != nil {
				t.Fatal(err)
			}
			for _, c := range checks {
				_, err := s.Decide(&policy.Query{Args: c.Args, Subject: c.Subject, Roles: c.Roles, Tenant: c.Tenant})
				if (err == nil) != c.Allow || err != nil && authz.ReasonOf(err) != authz.NotPermitted {
					t.Errorf("%+v: got %v", c, err)
				}
			}
		})
	}
}
