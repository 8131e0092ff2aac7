package envoy_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write compose/envoy.yaml")

// The bootstrap of the compose file is envoy.yaml with other addresses, names
// in place of numbers, and no other difference.
func TestComposeBootstrap(t *testing.T) {
	file, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := string(file)
	for _, r := range []struct {
		from, to string
		times    int
	}{
		{"address: 127.0.0.1, port_value: 10000", "address: 0.0.0.0, port_value: 10000", 1},
		{"address: 127.0.0.1, port_value: 9191", "address: sallyport, port_value: 9191", 1},
		{"address: 127.0.0.1, port_value: 8080", "address: upstream, port_value: 8080", 1},
		{"address: 127.0.0.1, port_value: 4317", "address: jaeger, port_value: 4317", 1},
		{"type: STATIC\n", "type: STRICT_DNS\n", 3},
	} {
		if got := strings.Count(want, r.from); got != r.times {
			t.Errorf("%q is in envoy.yaml %d times, want %d", r.from, got, r.times)
		}
		want = strings.ReplaceAll(want, r.from, r.to)
	}
	want = "# Made of ../envoy.yaml by `go test ./envoy -update`: edit that one. Addresses are\n" +
		"# those of compose.yaml, nothing else differs.\n#\n" + want
	if *update {
		if err := os.WriteFile("compose/envoy.yaml", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("compose/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(got), "\n")); d != "" {
		t.Errorf("go test ./envoy -update writes it again (-want +got):\n%s", d)
	}
}
