package policy_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-authz/sallyport/policy"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Error(err)
	}
}

// age makes a file older than what may still be written to.
func age(t *testing.T, path string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Error(err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	f := policy.Files{Model: filepath.Join(dir, "model.conf"), Rules: filepath.Join(dir, "policy.csv")}
	write(t, f.Model, rbac)
	write(t, f.Rules, "p, role:a, /x, GET\n")
	var source policy.Source = f
	got, err := source.Read()
	if err != nil || *got != (policy.Text{ModelFile: f.Model, Model: rbac, RulesFile: f.Rules, Rules: "p, role:a, /x, GET\n"}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if s, fs := policy.Compile(got); s == nil {
		t.Errorf("findings: %v", fs)
	}
	f.Rules = ""
	got, err = f.Read()
	if err != nil || got.Model != rbac || got.RulesFile != "" || got.Rules != "" {
		t.Fatalf("without rules: got %+v, %v", got, err)
	}
	s, findings := policy.Compile(got)
	if s == nil || len(findings) != 1 || findings[0].File != f.Model || !strings.Contains(findings[0].Message, "there are no rules of type p") {
		t.Errorf("without rules: findings %v", findings)
	}
}

func TestTextID(t *testing.T) {
	texts := []policy.Text{
		{}, {ModelFile: "a", Model: "b"}, {ModelFile: "ab"}, {Model: "ab"},
		{ModelFile: "a", Model: "b", RulesFile: "c"}, {ModelFile: "a", Model: "b", RulesFile: "c", Rules: "d"}, {ModelFile: "a", Model: "b", RulesFile: "cd"},
	}
	for i := range texts {
		for j := range texts {
			if other := texts[j]; (texts[i].ID() == other.ID()) != (i == j) {
				t.Errorf("IDs of %+v and %+v", texts[i], other)
			}
		}
	}
}

// TestFilesErrors: each names the file as it was given, and the cause.
func TestFilesErrors(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write(t, path("model"), rbac)
	write(t, path("large"), strings.Repeat("#", 1<<20+1))
	if err := os.Mkdir(path("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", path("link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ model, rules, bad, want string }{
		{"none", "model", "none", "no such file or directory"},
		{"model", "none", "none", "no such file or directory"},
		{"model", "link", "link", "no such file or directory"},
		{"folder", "", "folder", "is a folder"},
		{"model", "folder", "folder", "is a folder"},
		{"model", "pipe", "pipe", "is no regular file"},
		{"large", "", "large", "has more than 1048576 bytes"},
	} {
		f := policy.Files{Model: path(c.model)}
		if c.rules != "" {
			f.Rules = path(c.rules)
		}
		got, err := f.Read()
		pe, ok := errors.AsType[*fs.PathError](err)
		if !ok || got != nil || pe.Path != path(c.bad) || pe.Err.Error() != c.want {
			t.Errorf("%s and %s: got %v, %v", c.model, c.rules, got, err)
		}
	}
}

// TestFilesSwap swaps folders as Kubernetes does, as fast as it can: no
// reading mixes two of them.
func TestFilesSwap(t *testing.T) {
	dir := t.TempDir()
	swap := func(i int) {
		set, next := fmt.Sprintf("..%d", i), filepath.Join(dir, "..next")
		if err := os.Mkdir(filepath.Join(dir, set), 0o700); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"model", "rules"} {
			path := filepath.Join(dir, set, name)
			write(t, path, fmt.Sprint(i))
			age(t, path)
		}
		if err := errors.Join(os.Symlink(set, next), os.Rename(next, filepath.Join(dir, "..data"))); err != nil {
			t.Error(err)
		}
	}
	swap(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				swap(i)
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
	f := policy.Files{Model: filepath.Join(dir, "..data", "model"), Rules: filepath.Join(dir, "..data", "rules")}
	taken := map[string]bool{}
	for range 800 {
		got, err := f.Read()
		switch {
		case err != nil && strings.HasSuffix(err.Error(), "keeps changing while it is read"):
		case err != nil:
			t.Fatal(err)
		case got.Model != got.Rules:
			t.Fatalf("a model of %s with rules of %s", got.Model, got.Rules)
		default:
			taken[got.Model] = true
		}
	}
	if len(taken) < 20 {
		t.Errorf("%d different sets were read: nothing was swapped", len(taken))
	}
}

// TestFilesBeingWritten: a set is read when whoever writes it is done, and not
// at all if that never happens.
func TestFilesBeingWritten(t *testing.T) {
	for _, c := range []struct {
		name   string
		pieces int
		want   string
	}{
		{"soon done", 3, strings.Repeat("piece\n", 4)},
		{"never done", 1000, ""},
	} {
		dir := t.TempDir()
		f := policy.Files{Model: filepath.Join(dir, "model"), Rules: filepath.Join(dir, "rules")}
		write(t, f.Model, "model")
		age(t, f.Model)
		write(t, f.Rules, "piece\n")
		synctest.Test(t, func(t *testing.T) {
			done := make(chan struct{})
			go func() {
				text := "piece\n"
				for range c.pieces {
					select {
					case <-done:
						return
					case <-time.After(40 * time.Millisecond):
						text += "piece\n"
						write(t, f.Rules, text)
					}
				}
			}()
			got, err := f.Read()
			close(done)
			switch {
			case c.want == "":
				pe, ok := errors.AsType[*fs.PathError](err)
				if !ok || pe.Path != f.Rules || pe.Err.Error() != "keeps changing while it is read" {
					t.Errorf("%s: got %v, %v", c.name, got, err)
				}
			case err != nil || got.Rules != c.want:
				t.Errorf("%s: got %+v, %v", c.name, got, err)
			}
		})
	}
}
