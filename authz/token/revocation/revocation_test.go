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
	if list.Len() != 4 {
		t.Errorf("list has %d entries, want 4", list.Len())
	}
	for name, tt := range map[string]struct {
		sub  authz.Subject
		want bool
	}{
		"nobody named":            {authz.Subject{ID: "user:corp/bob", Issuer: "corp", TokenID: "t2", SessionID: "s2", IssuedAt: noon}, false},
		"token":                   {authz.Subject{ID: "user:corp/bob", Issuer: "corp", TokenID: "t1", IssuedAt: noon.Add(time.Hour)}, true},
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

func TestProblemsAreAllListed(t *testing.T) {
	text := strings.Join([]string{
		"- {jti: t1}",
		"- {jti: t1, session: s1, issuer: corp}",
		"- {subject: ada}",
		"- {subject: user:nowhere/ada}",
		"- {subject: user:corp/ada, befor: 2026-01-01T00:00:00Z}",
		"- {subject: user:corp/ada, before: yesterday}",
		"- {subject: user:corp/ada, issuer: corp}",
		"- user:corp/ada",
		"- {jti: [a], issuer: corp}",
		"- {jti: a, jti: b, issuer: corp}",
	}, "\n")
	list, problems := revocation.Parse([]byte(text), []string{"corp"})
	if list != nil {
		t.Error("a broken file gave a list")
	}
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprintf("%d: %s", p.Line, p.Message))
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"1: jti and session need an issuer", "2: must have one of", "3: subject \"ada\" is not", "4: issuer \"nowhere\" is not configured",
		"5: befor: unknown key", "6: before: \"yesterday\" is not a time", "7: jti and session need", "8: must be a map", "9: jti: must be text", "10: jti: is there twice",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no problem %q in\n%s", want, all)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked.yaml")
	if _, problems := revocation.Load(path, nil); len(problems) != 1 || !strings.Contains(problems[0].Message, "revoked.yaml") {
		t.Errorf("missing file: %v", problems)
	}
	for text, ok := range map[string]bool{"": true, "[]": true, "# nothing yet\n": true, "{}": false, "[]\n---\n[]\n": false, "- [": false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		list, problems := revocation.Load(path, nil)
		if (list != nil) != ok || (problems == nil) != ok {
			t.Errorf("%q: got %v, %v", text, list, problems)
		}
	}
}
