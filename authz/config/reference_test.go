package config_test

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-authz/sallyport/authz/config"
)

var update = flag.Bool("update", false, "write README.md again")

const head = `# Configuration

Every key, with its default. Made from the comments in ` + "`keys.go`" + ` by ` + "`go test ./authz/config -run Reference -update`" + `.
` + "`sallyport config schema`" + ` prints the same as a JSON Schema, ` + "`sallyport config print -c FILE`" + ` what a file comes to.

`

// The documentation of keys is what their types say.
func TestReference(t *testing.T) {
	want := head + config.Reference()
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("README.md is out of date, run the test with -update (-want +got):\n%s", d)
	}
}
