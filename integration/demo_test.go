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
	"syscall"
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

// startDemo runs the demo until it has said everything, with its files below
// temp. It returns what it said and where Envoy listens.
func startDemo(t *testing.T, temp string) (p *harness.Process, said []string, addr string) {
	t.Helper()
	p = demo(t, []string{"ENVOY=" + envoyBinary(t), "TMPDIR=" + temp}, "--port", "0")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.Log.Await(ctx, func(line string) bool { return strings.HasPrefix(line, "Ctrl-C stops everything") }); err != nil {
		t.Fatal(err)
	}
	said = p.Log.Lines()
	match := regexp.MustCompile(`Envoy listens on (127\.0\.0\.1:\d+)`).FindStringSubmatch(strings.Join(said, "\n"))
	if match == nil {
		t.Fatalf("the demo does not say where Envoy listens:\n%s", strings.Join(said, "\n"))
	}
	return p, said, match[1]
}

// processes returns the command lines that name temp, this test's folder.
func processes(t *testing.T, temp string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Fatalf("no processes to look through: %v", err)
	}
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(line), temp) { // it may just have ended
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// The contract's table.
var (
	users = []string{"anonymous", "eve", "bob", "max", "ada"}
	cells = []struct {
		method, path string
		want         []int
	}{
		{"GET", "/healthz", []int{200, 200, 200, 200, 200}},
		{"GET", "/orders", []int{401, 403, 200, 200, 200}},
		{"GET", "/orders/7", []int{401, 403, 200, 200, 200}},
		{"POST", "/orders", []int{401, 403, 403, 200, 200}},
		{"DELETE", "/orders/7", []int{401, 403, 403, 403, 200}},
		{"GET", "/accounts/bob", []int{401, 403, 200, 403, 200}},
	}
)

// The demo shows every cell of its table through Envoy, prints commands that
// do what it says, and goes without a trace.
func TestDemo(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	p, said, addr := startDemo(t, temp)
	if n := len(processes(t, temp)); n < 2 {
		t.Errorf("%d processes name %s, want sallyport and envoy at least", n, temp)
	}
	walk(t, "http://"+addr)
	text := strings.Join(said, "\n")
	for _, row := range cells {
		line := regexp.QuoteMeta(row.method+" "+row.path) + " "
		for _, want := range row.want {
			line += fmt.Sprintf(" +%d", want)
		}
		if !regexp.MustCompile(`(?m)^  ` + line + `$`).MatchString(text) {
			t.Errorf("the demo's table has no row %q:\n%s", line, text)
		}
	}
	if !strings.Contains(text, "OTEL_EXPORTER_OTLP_ENDPOINT") {
		t.Error("the demo does not say where traces go")
	}
	if !strings.Contains(text, "decision  deny: not_permitted (no_rule_matched)") || !strings.Contains(text, "nearest   accounts.csv:1: p, role:director, GET") {
		t.Errorf("the demo does not explain a refusal:\n%s", text)
	}
	copyAndPaste(t, said)

	if err := p.Stop(20 * time.Second); err != nil {
		t.Errorf("stop: %v", err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if left := processes(t, temp); len(left) > 0 {
		t.Errorf("processes left behind: %q", left)
	}
	if _, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		t.Error("Envoy still listens")
	}
}

// walk asks for every cell of the table.
func walk(t *testing.T, base string) {
	t.Helper()
	ask := func(method, path, token string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for i, user := range users {
		token := ""
		if user != "anonymous" {
			_, token = ask("GET", "/demo/token?user="+user, "")
		}
		for _, row := range cells {
			if got, body := ask(row.method, row.path, token); got != row.want[i] {
				t.Errorf("%s %s as %s: %d %s, want %d", row.method, row.path, user, got, body, row.want[i])
			}
		}
	}
}

// copyAndPaste gives every command that the demo printed to a shell, and wants
// the status that the demo printed below it.
func copyAndPaste(t *testing.T, said []string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		need(t, "curl", err)
	}
	var tokens, commands []string
	ran := map[string]bool{}
	for _, line := range said {
		line, indented := strings.CutPrefix(line, "  ")
		switch {
		case !indented:
		case strings.Contains(line, "=$(curl "):
			tokens = append(tokens, line)
		case strings.HasPrefix(line, "curl "), strings.HasPrefix(line, "echo "):
			commands = append(commands, line)
		case strings.HasPrefix(line, "-> "):
			want, _, _ := strings.Cut(strings.TrimPrefix(line, "-> "), " ")
			want = strings.TrimSuffix(want, ",")
			last := len(commands) - 1
			for _, c := range commands[:last] {
				shell(t, c)
			}
			script := strings.Join(append(tokens, commands[last]+` -o /dev/null -w '%{http_code}'`), "\n")
			eventually(t, fmt.Sprintf("%s answers %s", commands[last], want), func() bool { return shell(t, script) == want })
			ran[want] = true
			commands = nil
		}
	}
	if len(tokens) != 4 || !ran["200"] || !ran["401"] || !ran["403"] {
		t.Errorf("ran commands for %v with %d tokens, want 200, 401 and 403, and four", ran, len(tokens))
	}
}

func shell(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-ec", script).Output()
	if err != nil {
		t.Fatalf("sh: %v\n%s", err, script)
	}
	return string(out)
}

// A demo that is killed takes its processes with it.
func TestDemoKilled(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	p, _, _ := startDemo(t, temp)
	p.Kill()
	eventually(t, "no process is left", func() bool { return len(processes(t, temp)) == 0 })
}

// A demo that is interrupted while it starts leaves nothing behind either.
func TestDemoInterruptedEarly(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	p := demo(t, []string{"ENVOY=" + envoyBinary(t), "TMPDIR=" + temp}, "--port", "0")
	eventually(t, "a folder", func() bool {
		entries, err := os.ReadDir(temp)
		return err == nil && len(entries) > 0
	})
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := p.ExitCode(); code != 0 {
		t.Errorf("exit status %d: %s", code, p.Log.Tail(5))
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if left := processes(t, temp); len(left) > 0 {
		t.Errorf("processes left behind: %q", left)
	}
}

// The demo's world is an example to start from, so it loads as it stands.
func TestDemoWorldLoads(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), sallyportBinary, "check", "--strict", "-c", top+"/cmd/demo/world/sallyport.yaml").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
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
