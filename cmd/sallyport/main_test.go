package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const good = `server:
  grpc: {listen: "GRPC"}
  admin: {listen: "127.0.0.1:0"}
routes:
  - {match: GET /healthz, token: none, allow: true}
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sallyport.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func execute(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, talk bytes.Buffer
	status = run(ctx, args, &out, &talk)
	return status, out.String(), talk.String()
}

// Exit statuses and streams are those of the contract: data on stdout, talk on
// stderr.
func TestCommands(t *testing.T) {
	ok := write(t, strings.ReplaceAll(good, "GRPC", "127.0.0.1:0"))
	bad := write(t, "routs: []\n")
	for _, c := range []struct {
		args           string
		status         int
		stdout, stderr string // each must contain this; empty: must be empty
	}{
		{"check -c " + ok, 0, ": ok (0 issuers, 0 policies, 1 routes)", ""},
		{"check -c " + ok + " --strict", 0, ": ok", ""},
		{"check -c " + bad, 2, "", bad + ":1: routs: unknown key (did you mean routes)"},
		{"check -c " + bad + ".gone", 2, "", "no such file"},
		{"serve -c " + bad, 2, "", bad + ":1: routs: unknown key (did you mean routes)"},
		{"check", 2, "", "check needs a configuration: -c FILE"},
		{"serve", 2, "", "serve needs a configuration: -c FILE"},
		{"config print", 2, "", "config print needs a configuration: -c FILE"},
		{"config print -c " + ok, 0, "maxInFlight: 4096", ""},
		{"config schema", 0, `"$schema"`, ""},
		{"version", 0, "sallyport ", ""},
		{"completion bash", 0, "bash completion", ""},
		{"completion bush", 2, "", `unknown command "bush"`},
		{"serv", 2, "", `unknown command "serv"`},
		{"check --frobnicate", 2, "", "unknown flag: --frobnicate"},
		{"check extra", 2, "", `unknown command "extra"`},
		{"serve -c " + ok + " --log-format xml", 2, "", `--log-format "xml" is not text or json`},
		{"serve -c " + ok + " --log-level loud", 2, "", `--log-level "loud" is not debug, info, warn or error`},
	} {
		status, stdout, stderr := execute(t.Context(), strings.Fields(c.args)...)
		if status != c.status {
			t.Errorf("%s: exit status %d, want %d; stderr %s", c.args, status, c.status, stderr)
		}
		for stream, got := range map[string][2]string{"stdout": {stdout, c.stdout}, "stderr": {stderr, c.stderr}} {
			if got[1] == "" && got[0] != "" || !strings.Contains(got[0], got[1]) {
				t.Errorf("%s: %s is %.300q, want %q in it", c.args, stream, got[0], got[1])
			}
		}
	}
}

func TestEveryHelpShowsAnExample(t *testing.T) {
	for _, args := range []string{"", "serve", "check", "test", "explain", "config", "config schema", "config print", "version", "completion", "completion bash"} {
		status, stdout, _ := execute(t.Context(), append(strings.Fields(args), "--help")...)
		if status != 0 || !strings.Contains(stdout, "Examples:\n  sallyport") {
			t.Errorf("sallyport %s --help: status %d, no example in\n%s", args, status, stdout)
		}
	}
}

func TestServeTakenPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	addr := ln.Addr().String()
	status, stdout, stderr := execute(t.Context(), "serve", "-c", write(t, strings.ReplaceAll(good, "GRPC", addr)))
	if status != exitRuntime || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, addr) || !strings.Contains(stderr, "address already in use") {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}

func TestServeDrains(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	status, stdout, stderr := execute(ctx, "serve", "--log-format", "json", "-c", write(t, strings.ReplaceAll(good, "GRPC", "127.0.0.1:0")))
	// Data is the audit log: what the server came up with.
	if status != exitOK || !strings.HasPrefix(stdout, `{"time":`) || !strings.Contains(stdout, `"event":"configuration"`) || strings.Count(stdout, "\n") != 1 {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	var first struct{ Msg, GRPC, Admin string }
	line, _, _ := strings.Cut(stderr, "\n")
	if err := json.Unmarshal([]byte(line), &first); err != nil || first.Msg != "listening" || first.GRPC == "" || first.Admin == "" {
		t.Errorf("first line %q: %v", line, err)
	}
}
