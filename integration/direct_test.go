package integration

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Messages that Envoy does not send are refused with their reason, and break
// nothing.
func TestOddMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true})
	conn, err := grpc.NewClient(w.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ask := authv3.NewAuthorizationClient(conn)
	http := func(h *authv3.AttributeContext_HttpRequest) *authv3.CheckRequest {
		return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: h}}}
	}
	for _, c := range []struct {
		name    string
		message *authv3.CheckRequest
		reason  string
		code    int32
	}{
		{"empty", &authv3.CheckRequest{}, "no_route", 7},
		{"tcp", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Source: &authv3.AttributeContext_Peer{}}}, "no_route", 7},
		{"request without http", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}}, "no_route", 7},
		{"empty http", http(&authv3.AttributeContext_HttpRequest{}), "malformed_request", 3},
		{"no leading slash", http(&authv3.AttributeContext_HttpRequest{Method: "GET", Host: "a", Path: "orders"}), "malformed_request", 3},
		{"connect", http(&authv3.AttributeContext_HttpRequest{Method: "CONNECT", Host: "a:443"}), "no_route", 7},
		{"no host", http(&authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/orders"}), "no_route", 7},
		{"merged headers", http(&authv3.AttributeContext_HttpRequest{Method: "GET", Host: "a", Path: "/orders",
			Headers: map[string]string{"authorization": "Bearer a,Bearer b"}}), "malformed_credential", 3},
		{"lossy header", http(&authv3.AttributeContext_HttpRequest{Method: "GET", Host: "a", Path: "/orders",
			Headers: map[string]string{"authorization": "Bearer !!"}}), "malformed_credential", 3},
	} {
		resp, err := ask.Check(t.Context(), c.message)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		reason := resp.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
		if resp.GetStatus().GetCode() == 0 || resp.GetDeniedResponse() == nil {
			t.Errorf("%s: not refused: %v", c.name, resp)
		}
		if reason != c.reason || resp.GetStatus().GetCode() != c.code {
			t.Errorf("%s: %s (%d), want %s (%d)", c.name, reason, resp.GetStatus().GetCode(), c.reason, c.code)
		}
	}
	// A string that is not UTF-8 does not decode as a CheckRequest.
	raw := []byte{0x0a, 0x06, 0x22, 0x04, 0x12, 0x02, 0x0a, 0xff}
	var resp authv3.CheckResponse
	if err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, rawMessage(raw), &resp, grpc.ForceCodec(rawCodec{})); err != nil {
		t.Errorf("undecodable message: %v", err)
	} else if resp.GetStatus().GetCode() != 3 {
		t.Errorf("undecodable message: %v", &resp)
	}
}

// Bytes that are no gRPC, and messages that are too long, cost their own
// connection or call and nothing else.
func TestGarbageOnThePort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true})
	for name, bytes := range map[string]string{
		"HTTP/1.1":        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"TLS":             "\x16\x03\x01\x00\xf0\x01\x00\x00\xec\x03\x03" + strings.Repeat("\x07", 240),
		"zeroes":          strings.Repeat("\x00", 1<<16),
		"preface, noise":  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 1<<12),
		"preface, bad id": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x01\x01\x05\x00\x00\x00\x02\x82",
	} {
		conn, err := net.DialTimeout("tcp", w.GRPC, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
		_, _ = conn.Write([]byte(bytes)) // it may have hung up on us
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
		_ = conn.Close()
	}
	conn, err := grpc.NewClient(w.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var resp authv3.CheckResponse
	err = conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, rawMessage(make([]byte, 8<<20+1)), &resp, grpc.ForceCodec(rawCodec{}))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message over 8 MiB: %v, want ResourceExhausted", err)
	}
	answer, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), &authv3.CheckRequest{})
	if reason := answer.GetDynamicMetadata().GetFields()["reason"].GetStringValue(); err != nil || reason != "no_route" {
		t.Errorf("afterwards: %q %v", reason, err)
	}
}

type rawMessage []byte

// rawCodec sends bytes as they are and decodes answers as usual.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) {
	return v.(rawMessage), nil
}
func (rawCodec) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }

// What does not load at the start exits with 2 and every problem; a taken port
// exits with 3.
func TestStartRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true})
	run := func(files map[string]string) (int, string, string) {
		t.Helper()
		dir := t.TempDir()
		all := map[string]string{"model.conf": rbacModel, "policy.csv": rbacRules, "sallyport.yaml": w.config(setup{})}
		for name, text := range files {
			all[name] = text
		}
		for name, text := range all {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, sallyportBinary, "serve", "-c", "sallyport.yaml")
		cmd.Dir = dir
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run() // the exit status tells
		return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	}
	taken := strings.Replace(w.config(setup{}), `grpc: {listen: "127.0.0.1:0"}`, `grpc: {listen: "`+w.GRPC+`"}`, 1)
	for _, c := range []struct {
		name, file, text string
		code             int
		says             string
	}{
		{"malformed line", "policy.csv", "# rules\n\np, role:clerk\n", 2, "policy.csv:3: p takes 3 columns"},
		{"eft in capitals", "policy.csv", "p, role:clerk, /orders, GET, Deny\n", 2, "policy.csv:1: "},
		{"model that does not parse", "model.conf", "nonsense", 2, "model.conf:1: "},
		{"unknown effect", "model.conf", strings.ReplaceAll(rbacModel, "p.eft == allow", "p.eft == alow"), 2, "model.conf:"},
		{"unknown field", "model.conf", strings.ReplaceAll(rbacModel, "r.act", "r.action"), 2, "model.conf:"},
		{"key that is not built yet", "sallyport.yaml", w.config(setup{}) + "baselines: {}\n", 2, "sallyport.yaml:20: baselines: unknown key"},
		{"missing file", "sallyport.yaml", strings.ReplaceAll(w.config(setup{}), "model.conf", "modle.conf"), 2, "policies.api.model: "},
		{"taken port", "sallyport.yaml", taken, 3, "address already in use"},
	} {
		code, stdout, stderr := run(map[string]string{c.file: c.text})
		audited := c.code == 3 // a configuration that loads is recorded
		if code != c.code || !strings.Contains(stderr, c.says) || (stdout != "") != audited {
			t.Errorf("%s: exit status %d, want %d; stderr %q, want %q in it; stdout %q", c.name, code, c.code, stderr, c.says, stdout)
		}
	}
}
