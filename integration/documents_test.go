package integration

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// The tests that SECURITY.md names are there.
func TestSecurityNamesItsTests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(top + "/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-f", "{{.Name}} {{.Dir}}", top+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		folders[name] = dir
	}
	names := regexp.MustCompile("`([a-z]+)\\.(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(names) < 20 {
		t.Errorf("found %d names only", len(names))
	}
	for _, n := range names {
		dir, ok := folders[n[1]]
		if !ok {
			t.Errorf("%s: no such package", n[0])
			continue
		}
		if exec.Command("sh", "-c", `grep -q "^func `+n[2]+`(" "$1"/*_test.go`, "sh", dir).Run() != nil {
			t.Errorf("%s: no such test", n[0])
		}
	}
}

// Each direct dependency has its line in the README, and nothing else has.
func TestReadmeListsDependencies(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(top + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-C", top, "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all").Output()
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for _, path := range strings.Fields(string(out)) {
		direct[path] = true
	}
	if len(direct) < 10 {
		t.Fatalf("found %d dependencies only", len(direct))
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9./_-]+\\.[a-z]+/[A-Za-z0-9./_-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = true
		if !direct[m[1]] {
			t.Errorf("%s is in the README and not a direct dependency", m[1])
		}
	}
	for path := range direct {
		if !listed[path] {
			t.Errorf("%s has no line in the README", path)
		}
	}
}
