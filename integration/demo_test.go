package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// demo runs the demo from the top of a repository, where Envoy is found.
func demo(t *testing.T, env []string, args ...string) *harness.Process {
	t.Helper()
	args = append([]string{"--sallyport", sallyportBinary}, args...)
	env = append(os.Environ(), env...)
	p, err := harness.Start("demo", filepath.Join(t.TempDir(), "demo.log"), env, demoBinary, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// The demo shows every cell of its table through Envoy, and goes without a
// trace.
func TestDemo(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	p := demo(t, []string{"ENVOY=" + envoyBinary(t), "TMPDIR=" + temp}, "--port", "0")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.Log.Await(ctx, func(line string) bool { return strings.HasPrefix(line, "Ctrl-C stops everything") }); err != nil {
		t.Fatal(err)
	}
	said := strings.Join(p.Log.Lines(), "\n")
	match := regexp.MustCompile(`Envoy listens on (127\.0\.0\.1:\d+)`).FindStringSubmatch(said)
	if match == nil {
		t.Fatalf("the demo does not say where Envoy listens:\n%s", said)
	}
	base := "http://" + match[1]

	status := func(method, path, user string) int {
		t.Helper()
		req, _ := http.NewRequestWithContext(ctx, method, base+path, nil)
		if user != "anonymous" {
			resp, err := client.Get(base + "/demo/token?user=" + user)
			if err != nil {
				t.Fatal(err)
			}
			token, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			req.Header.Set("Authorization", "Bearer "+string(token))
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	users := []string{"anonymous", "eve", "bob", "max", "ada"}
	for _, row := range []struct {
		method, path string
		want         []int
	}{
		{"GET", "/healthz", []int{200, 200, 200, 200, 200}},
		{"GET", "/orders", []int{401, 403, 200, 200, 200}},
		{"GET", "/orders/7", []int{401, 403, 200, 200, 200}},
		{"POST", "/orders", []int{401, 403, 403, 200, 200}},
		{"DELETE", "/orders/7", []int{401, 403, 403, 403, 200}},
		{"GET", "/accounts/bob", []int{401, 403, 200, 403, 200}},
	} {
		for i, user := range users {
			if got := status(row.method, row.path, user); got != row.want[i] {
				t.Errorf("%s %s as %s: %d, want %d", row.method, row.path, user, got, row.want[i])
			}
		}
	}
	for _, want := range []string{"-> 200", "-> 401", "-> 403", "policy.csv", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		if !strings.Contains(said, want) {
			t.Errorf("the demo does not say %q", want)
		}
	}

	if err := p.Stop(20 * time.Second); err != nil {
		t.Errorf("stop: %v", err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if out, _ := exec.Command("pgrep", "-f", temp).Output(); len(out) > 0 {
		t.Errorf("processes left behind: %s", out)
	}
	if _, err := net.DialTimeout("tcp", match[1], time.Second); err == nil {
		t.Error("Envoy still listens")
	}
}

// What keeps the demo from running is said in one sentence.
func TestDemoRefusals(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	taken := fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
	real := "ENVOY=" + envoyBinary(t)
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"taken port", []string{real}, []string{"--port", taken}, "demo: port " + taken + " of 127.0.0.1 cannot be had"},
		{"no envoy", []string{"ENVOY=/nonexistent/envoy"}, nil, "demo: no Envoy at /nonexistent/envoy"},
		{"no folder", []string{real, "TMPDIR=/nonexistent"}, []string{"--port", "0"}, "demo: no folder for the demo's files"},
		{"no binary", []string{real}, []string{"--port", "0", "--sallyport", "/nonexistent/sallyport"}, "demo: no sallyport at /nonexistent/sallyport"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := demo(t, c.env, c.args...)
			code := p.ExitCode()
			lines := p.Log.Lines()
			if code != 1 || len(lines) != 1 || !strings.HasPrefix(lines[0], c.want) {
				t.Errorf("exit status %d, said %q; want 1 and %q", code, lines, c.want)
			}
		})
	}
}
