package authz_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sallyport-authz/sallyport"

// An importer is one package with what it imports, tests aside.
type importer struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// adapters may not import each other: only package gate joins them.
var adapters = []string{"token", "extauthz", "telemetry", "admin", "config", "audit"}

// sole importers: a library stands behind one package, so that it can be
// replaced there.
var sole = map[string][]string{
	"github.com/coreos/go-oidc/":                  {"authz/token"},
	"github.com/casbin/":                          {"policy"},
	"cel.dev/cel-go/":                             {"authz/expr"},
	"github.com/envoyproxy/":                      {"authz/extauthz"},
	"go.opentelemetry.io/otel/sdk":                {"authz/telemetry"},
	"go.opentelemetry.io/otel/exporters":          {"authz/telemetry"},
	"github.com/prometheus/":                      {"authz/telemetry"},
	"github.com/spf13/cobra":                      {"cmd/sallyport"},
	"github.com/fsnotify/":                        {"authz/gate"},
	"github.com/invopop/jsonschema":               {"authz/config"},
	module + "/authz/authztest":                   {"cmd/demo", "integration"},
	"google.golang.org/grpc/credentials/insecure": {"integration", "cmd/demo"},
}

// forbidden returns why from may not import to, or nothing.
func forbidden(from, to string) string {
	from = strings.TrimPrefix(strings.TrimPrefix(from, module), "/")
	within := func(pkg string, roots ...string) bool {
		return slices.ContainsFunc(roots, func(r string) bool { return pkg == r || strings.HasPrefix(pkg, r+"/") })
	}
	for library, owners := range sole {
		if strings.HasPrefix(to+"/", strings.TrimSuffix(library, "/")+"/") || strings.HasPrefix(to, library) {
			if !within(from, owners...) {
				return fmt.Sprintf("only %s imports %s", strings.Join(owners, ", "), library)
			}
		}
	}
	own, ok := strings.CutPrefix(to, module+"/")
	if from == "authz" {
		if ok || strings.Contains(to, ".") && !strings.HasPrefix(to, "go.opentelemetry.io/otel") {
			return "the vocabulary rests on the standard library and the OpenTelemetry API alone"
		}
	}
	if !ok || within(from, "integration", "cmd/demo") {
		return ""
	}
	switch {
	case within(from, "cmd/sallyport"):
		if !within(own, "authz/gate", "authz/config") {
			return "commands decide nothing and assemble nothing: ask package gate"
		}
	case within(from, "authz/gate"):
	case within(own, "authz/gate"):
		return "only commands import gate"
	case within(from, "authz/route", "authz/expr"):
		if own != "authz" {
			return "route and expr know the vocabulary only"
		}
	case within(from, "policy"):
		if own != "authz" && !within(own, "policy") {
			return "a policy knows the vocabulary only"
		}
	}
	for _, a := range adapters {
		if !within(from, "authz/"+a) {
			continue
		}
		for _, b := range append(slices.Clone(adapters), "") {
			root := "authz/" + b
			if b == "" {
				root = "policy"
			}
			if a != b && within(own, root) {
				return "adapters do not import each other: only gate joins them"
			}
		}
	}
	return ""
}

// Imports point one way: cmd, gate, adapters, route and expr, authz.
func TestImportEdges(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,Standard", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p importer
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.ImportPath != module && !strings.HasPrefix(p.ImportPath, module+"/") {
			continue
		}
		seen++
		for _, to := range p.Imports {
			if why := forbidden(p.ImportPath, to); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, why)
			}
		}
	}
	if seen < 10 {
		t.Errorf("looked at %d packages only", seen)
	}
}

// The rules refuse what they are for.
func TestForbiddenEdges(t *testing.T) {
	for _, e := range [][2]string{
		{"authz", "google.golang.org/grpc"},
		{"authz", module + "/policy"},
		{"authz/token", module + "/policy"},
		{"authz/extauthz", module + "/authz/telemetry"},
		{"authz/gate", "github.com/casbin/casbin/v2"},
		{"authz/config", "cel.dev/cel-go/cel"},
		{"authz/gate", "github.com/coreos/go-oidc/v3/oidc"},
		{"authz/route", module + "/authz/expr"},
		{"policy", module + "/authz/route"},
		{"cmd/sallyport", module + "/policy"},
		{"authz/gate", module + "/authz/authztest"},
		{"authz/token", module + "/authz/gate"},
		{"authz/gate", "go.opentelemetry.io/otel/sdk/trace"},
	} {
		if forbidden(module+"/"+e[0], e[1]) == "" {
			t.Errorf("%s may import %s", e[0], e[1])
		}
	}
}

// go-jose before 4.1.5 overflows the stack on a nested header
// (CVE-2026-116586), and we leave Ed25519 points of small order to 4.1.8; grpc
// before 1.82.1 resets its streams at a client's will (GHSA-hrxh-6v49-42gf).
func TestResolvedVersions(t *testing.T) {
	for mod, least := range map[string]string{
		"github.com/go-jose/go-jose/v4": "v4.1.8",
		"google.golang.org/grpc":        "v1.82.1",
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", mod).Output()
		if err != nil {
			t.Fatalf("go list -m %s: %v", mod, err)
		}
		if got := strings.TrimSpace(string(out)); older(got, least) {
			t.Errorf("%s is %s, want at least %s", mod, got, least)
		}
	}
	if !older("v4.1.4", "v4.1.8") || older("v4.10.0", "v4.9.9") || older("v4.1.5", "v4.1.5") {
		t.Error("versions are compared wrongly")
	}
}

func older(a, b string) bool {
	number := func(v string) (n [3]int) {
		for i, part := range strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3) {
			n[i], _ = strconv.Atoi(part)
		}
		return n
	}
	x, y := number(a), number(b)
	return slices.Compare(x[:], y[:]) < 0
}
