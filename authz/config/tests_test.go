package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// The example of the contract, and what else a file of tests may say.
func TestLoadTests(t *testing.T) {
	tests, problems := ParseTests("dir/a.test.yaml", []byte(`subjects:
  ada: {issuer: corp, sub: ada, roles: [manager], scopes: orders, acr: "urn:example:mfa", authTime: 2026-11-22T09:59:00Z, claims: {department: sales, level: 3, tags: [a, 1.5, true, ~, {b: c}]}}
  nobody: anonymous
tests:
  - request: GET https://api.example.com/v1/orders/7
    subject: ada
    with: {headers: {x-region: [eu, us]}, source: {address: 192.0.2.1, principal: "spiffe://a/b"}, context: {k: v}, time: 2026-11-22T10:00:00Z}
    expect: allow
    upstream: {x-user: ada, x-level: 3, x-gone: ~}
  - {request: DELETE https://api.example.com/v1/orders/7, subject: anonymous, expect: deny, reason: no_credential}
  - name: who may do what
    subjects: [ada, nobody]
    requests: [GET /v1/orders, POST /v1/orders]
    host: api.example.com
    allow: {ada: GET /v1/orders}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	ada := tests.Subjects[0]
	for _, tt := range []struct{ what, got, want any }{
		{"file", tests.File, "dir/a.test.yaml"},
		{"anonymous", tests.Subjects[1].Anonymous, true},
		{"one scalar", ada.Scopes, []string{"orders"}},
		{"time", ada.AuthTime, time.Date(2026, 11, 22, 9, 59, 0, 0, time.UTC)},
		{"claims", ada.Claims, map[string]any{
			"department": "sales", "level": int64(3), "tags": []any{"a", 1.5, true, nil, map[string]any{"b": "c"}},
		}},
		{"request", tests.Tests[0].Request, Text{Value: "GET https://api.example.com/v1/orders/7", Line: 5, Key: "tests[0].request"}},
		{"headers", values(tests.Tests[0].With.Headers[0].Words), []string{"eu", "us"}},
		{"source", tests.Tests[0].With.Source, TestSource{Address: "192.0.2.1", Principal: "spiffe://a/b"}},
		{"a number for a header", values(tests.Tests[0].Upstream[1].Words), []string{"3"}},
		{"no header", tests.Tests[0].Upstream[2].Null, true},
		{"reason", tests.Tests[1].Reason.Value, "no_credential"},
		{"matrix", tests.Tests[2].Matrix(), true},
		{"allow", tests.Tests[2].Allow[0].Name + " " + tests.Tests[2].Allow[0].Words[0].Value, "ada GET /v1/orders"},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.what, diff)
		}
	}
}

// Each file of testdata/tests.txtar is one with mistakes; a comment
// "# want KEY: message" stands on the line of each.
func TestMistakesInTests(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "tests.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		t.Run(f.Name, func(t *testing.T) {
			_, problems := ParseTests("t.yaml", f.Data)
			if diff := cmp.Diff(lines(wanted("t.yaml", string(f.Data))), lines(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// A bomb of aliases in free values is refused like one anywhere else, and so
// is an alias within itself.
func TestBombInTests(t *testing.T) {
	var b strings.Builder
	b.WriteString("subjects:\n  a:\n    sub: a\n    claims:\n      x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n")
	for i := range 8 {
		b.WriteString("      x" + string(rune('1'+i)) + ": &x" + string(rune('1'+i)) + " [" + strings.TrimSuffix(strings.Repeat("*x"+string(rune('0'+i))+", ", 10), ", ") + "]\n")
	}
	for _, text := range []string{b.String(), "subjects:\n  a: {sub: a, claims: &c {d: *c}}\n"} {
		_, problems := ParseTests("t.yaml", []byte(text))
		if len(problems) == 0 || !strings.Contains(problems.Error(), "aliases stand for more than 10000 values") && !strings.Contains(problems.Error(), "is not YAML") {
			t.Errorf("got %v", problems)
		}
	}
}

func TestLoadTestsWithoutFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gone.yaml")
	_, problems := LoadTests(path)
	if want := path + ": cannot be read: no such file or directory"; problems.Error() != want {
		t.Errorf("got %s, want %s", problems, want)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("# long\n", maxFile/7+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, problems = LoadTests(path); len(problems) == 0 {
		t.Error("a file beyond the limit is read")
	}
}

func FuzzParseTests(f *testing.F) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "tests.txtar"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tests, problems := ParseTests("t.yaml", data)
		if tests == nil && len(problems) == 0 {
			t.Error("neither tests nor problems")
		}
		if _, again := ParseTests("t.yaml", data); again.Error() != problems.Error() {
			t.Errorf("problems differ:\n%s\n\n%s", problems, again)
		}
	})
}
