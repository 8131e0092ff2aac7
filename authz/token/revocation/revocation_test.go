package revocation_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token/revocation"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const file = `
- {jti: t1, issuer: corp}
- {jti: t3, issuer: corp, before: 2026-11-22T12:00:00Z}
- {session: s1, issuer: corp, before: 2026-11-22T12:00:00Z}
- {subject: "user:corp/ada", before: 2026-11-22T12:00:00Z}
- {subject: "user:corp/ada", before: 2026-11-22T11:00:00Z}   # says less than the line above
- {subject: "client:corp/batch"}
- {subject: "client:corp/batch", before: 2026-11-22T11:00:00Z}
`

func TestRevoked(t *testing.T) {
	list, problems := revocation.Parse([]byte(file), []string{"corp", "partner"})
	if problems != nil {
		t.Fatal(problems)
	}
	if list.Len() != 5 {
		t.Errorf("list has %d entries, want 5", list.Len())
	}
	for name, tt := range map[string]struct {
		sub  authz.Subject
		want bool
	}{
		"nobody named":            {authz.Subject{ID: "user:corp/bob", Issuer: "corp", TokenID: "t2", SessionID: "s2", IssuedAt: noon}, false},
		"token":                   {authz.Subject{ID: "user:corp/bob", Issuer: "corp", TokenID: "t1", IssuedAt: noon.Add(time.Hour)}, true},
		"token at the time":       {authz.Subject{ID: "user:corp/bob", Issuer: "corp", TokenID: "t3", IssuedAt: noon}, true},
		"token after it":          {authz.Subject{ID: "user:corp/bob", Issuer: "corp", TokenID: "t3", IssuedAt: noon.Add(time.Second)}, false},
		"token of another issuer": {authz.Subject{ID: "user:partner/bob", Issuer: "partner", TokenID: "t1", IssuedAt: noon}, false},
		"session at the time":     {authz.Subject{ID: "user:corp/bob", Issuer: "corp", SessionID: "s1", IssuedAt: noon}, true},
		"session after it":        {authz.Subject{ID: "user:corp/bob", Issuer: "corp", SessionID: "s1", IssuedAt: noon.Add(time.Second)}, false},
		"session elsewhere":       {authz.Subject{ID: "user:partner/bob", Issuer: "partner", SessionID: "s1", IssuedAt: noon}, false},
		"subject before":          {authz.Subject{ID: "user:corp/ada", Issuer: "corp", IssuedAt: noon.Add(-time.Hour)}, true},
		"subject at the time":     {authz.Subject{ID: "user:corp/ada", Issuer: "corp", IssuedAt: noon}, true},
		"subject after":           {authz.Subject{ID: "user:corp/ada", Issuer: "corp", IssuedAt: noon.Add(time.Second)}, false},
		"subject without iat":     {authz.Subject{ID: "user:corp/ada", Issuer: "corp"}, true},
		"client, always":          {authz.Subject{ID: "client:corp/batch", Issuer: "corp", IssuedAt: noon.AddDate(1, 0, 0)}, true},
		"user of that name":       {authz.Subject{ID: "user:corp/batch", Issuer: "corp", IssuedAt: noon}, false},
	} {
		if got, err := list.Revoked(t.Context(), &tt.sub); got != tt.want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, tt.want)
		}
	}
}

func TestLiveListIsReplaced(t *testing.T) {
	var live revocation.Live
	sub := &authz.Subject{ID: "user:corp/ada", Issuer: "corp"}
	if got, _ := live.Revoked(t.Context(), sub); got {
		t.Error("the zero value revokes")
	}
	list, err := revocation.New([]revocation.Entry{{Subject: "user:corp/ada"}})
	if err != nil {
		t.Fatal(err)
	}
	live.Store(list)
	if got, _ := live.Revoked(t.Context(), sub); !got {
		t.Error("a stored list does not revoke")
	}
}

// Of two entries for one thing the one that revokes more counts, in any order.
func TestTheWiderEntryCounts(t *testing.T) {
	one := func(before time.Time) revocation.Entry {
		return revocation.Entry{Subject: "user:corp/ada", Before: before}
	}
	always, early, late := one(time.Time{}), one(noon), one(noon.Add(time.Hour))
	for name, tt := range map[string]struct {
		entries []revocation.Entry
		iat     time.Time
		want    bool
	}{
		"early, late":    {[]revocation.Entry{early, late}, noon.Add(time.Hour), true},
		"late, early":    {[]revocation.Entry{late, early}, noon.Add(time.Hour), true},
		"not later":      {[]revocation.Entry{early, late}, noon.Add(2 * time.Hour), false},
		"early, always":  {[]revocation.Entry{early, always}, noon.Add(2 * time.Hour), true},
		"always, early":  {[]revocation.Entry{always, early}, noon.Add(2 * time.Hour), true},
		"early, early":   {[]revocation.Entry{early, early}, noon.Add(time.Second), false},
		"always, always": {[]revocation.Entry{always, always}, noon, true},
	} {
		list, err := revocation.New(tt.entries)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := list.Revoked(t.Context(), &authz.Subject{ID: "user:corp/ada", Issuer: "corp", IssuedAt: tt.iat}); got != tt.want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, tt.want)
		}
	}
}

func TestNewNamesTheEntry(t *testing.T) {
	list, err := revocation.New([]revocation.Entry{{Subject: "user:corp/ada"}, {Issuer: "corp"}})
	if list != nil || err == nil || !strings.Contains(err.Error(), "revocation 2: must have one of") {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestProblemsAreAllListed(t *testing.T) {
	lines := []struct{ text, problem string }{
		{"- {jti: t1}", "jti and session need an issuer"},
		{"- {jti: t1, session: s1, issuer: corp}", "must have one of"},
		{"- {subject: ada}", `subject "ada" is not`},
		{"- {subject: corp/ada}", `subject "corp/ada" is not`},
		{"- {subject: role:corp/ada}", `subject "role:corp/ada" is not`},
		{"- {subject: user:corp/}", `subject "user:corp/" is not`},
		{"- {subject: user:corp}", `subject "user:corp" is not`},
		{"- {subject: user:nowhere/ada}", `issuer "nowhere" is not configured`},
		{"- {subject: user:corp/ada, befor: 2026-01-01T00:00:00Z}", "befor: unknown key"},
		{"- {subject: user:corp/ada, before: yesterday}", `before: "yesterday" is not a time`},
		{"- {subject: user:corp/ada, before: 1970-01-01T00:00:00Z}", "before: is not after 1970"},
		{"- {subject: user:corp/ada, issuer: corp}", "jti and session need"},
		{"- user:corp/ada", "must be a map"},
		{"- {jti: [a], session: s1, issuer: corp}", "jti: must be text"},
		{`- {jti: "", session: s1, issuer: corp}`, "jti: must be text"},
		{"- {jti: null, issuer: corp}", "jti: must be text"},
		{"- {jti: a, jti: b, issuer: corp}", "jti: is there twice"},
		{"- {session: &s s1, issuer: corp}", ""},
		{"- {session: *s, issuer: corp}", "session: must be text"},
	}
	var text strings.Builder
	var want []string
	for n, l := range lines {
		text.WriteString(l.text + "\n")
		if l.problem != "" {
			want = append(want, fmt.Sprintf("%d: %s", n+1, l.problem))
		}
	}
	list, problems := revocation.Parse([]byte(text.String()), []string{"corp"})
	if list != nil {
		t.Error("a broken file gave a list")
	}
	for n, p := range problems {
		if got := fmt.Sprintf("%d: %s", p.Line, p.Message); n >= len(want) || !strings.HasPrefix(got, want[n]) {
			t.Errorf("problem %d is %q", n+1, got)
		}
	}
	if len(problems) != len(want) {
		t.Errorf("%d problems, want %d:\n%s", len(problems), len(want), strings.Join(want, "\n"))
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked.yaml")
	problem := func(what, path, want string) {
		t.Helper()
		list, problems := revocation.Load(path, []string{"corp"})
		if list != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, want) {
			t.Errorf("%s: got %v, %v, want %q", what, list, problems, want)
		}
	}
	problem("a missing file", path, "revoked.yaml")
	problem("a folder", filepath.Dir(path), "is a directory")
	for text, want := range map[string]string{ // empty: a list that revokes nothing
		"": "", "[]": "", "# nothing yet\n": "", "~": "", "null\n": "",
		"{}": "must be a list", "nothing": "must be a list", "!!null [{subject: ada}]": `subject "ada" is not`,
		"[]\n---\n[]\n": "must be one YAML document", "[]\n---\n- [": "must be one YAML document", "- [": "yaml: line",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if want != "" {
			problem(text, path, want)
			continue
		}
		if list, problems := revocation.Load(path, nil); list == nil || list.Len() != 0 || problems != nil {
			t.Errorf("%q: got %v, %v", text, list, problems)
		}
	}
	for size, want := range map[int64]string{16 << 20: "yaml: control characters", 16<<20 + 1: "file is larger than 16 MiB"} {
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		problem("zeros", path, want)
	}
}
