package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

func echo(t *testing.T, resp *http.Response, body string) harness.Echo {
	t.Helper()
	var e harness.Echo
	if resp.StatusCode != http.StatusOK || json.Unmarshal([]byte(body), &e) != nil {
		t.Fatalf("not allowed: %d %s", resp.StatusCode, body)
	}
	return e
}

// Owned headers reach the upstream as Sallyport says or not at all, whatever a
// client sends; on every route.
func TestOwnedHeadersThroughEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	forged := []string{"X-User", "root", "x-roles", "director", "X-Tenant", "other", "cookie", "a=1",
		"x-envoy-auth-failure-mode-allowed", "true", "x-envoy-auth-partial-body", "true", "x-envoy-retry-on", "5xx", "x-envoy-original-path", "/"}

	resp, body := w.ask("GET", "/orders/7?debug=1&page=2", append(forged, "Authorization", w.token("bob", "clerk"))...)
	e := echo(t, resp, body)
	for name, want := range map[string][]string{
		"x-user": {"bob"}, "x-roles": {"clerk"}, "x-tenant": nil, "cookie": nil, "authorization": nil, // Sallyport's work
		"x-envoy-auth-failure-mode-allowed": nil, "x-envoy-auth-partial-body": nil, "x-envoy-retry-on": nil, "x-envoy-original-path": nil, // Envoy's
	} {
		if got := e.Headers[name]; !slices.Equal(got, want) {
			t.Errorf("%s is %q upstream, want %q", name, got, want)
		}
	}
	if e.Path != "/orders/7?page=2" {
		t.Errorf("path upstream %q", e.Path)
	}
	if id := resp.Header.Get("x-decision"); len(id) != 32 {
		t.Errorf("x-decision %q", id)
	}

	resp, body = w.ask("GET", "/healthz", forged...)
	e = echo(t, resp, body)
	for _, name := range []string{"x-user", "x-roles", "x-tenant"} {
		if got, ok := e.Headers[name]; ok {
			t.Errorf("%s is %q upstream of a route that sets nothing", name, got)
		}
	}
	if e.Headers["cookie"] == nil {
		t.Error("a header that no route owns is gone")
	}
}

// The bootstrap is valid as it stands in the file, and Envoy has nothing to
// warn of: no deprecated field, no limit that is missing.
func TestBootstrapAsItStands(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), envoyBinary(t), "--mode", "validate", "--log-level", "warning", "-c", top+"/envoy/envoy.yaml").CombinedOutput()
	text := strings.TrimSpace(string(out))
	if envoyMinor(t) < 37 { // knows no custom tag that is a format; see harness.StartEnvoy
		if err == nil || !strings.Contains(text, "custom_tags") {
			t.Errorf("%v: %s, want custom_tags to be unknown", err, out)
		}
		return
	}
	if err != nil || !strings.HasSuffix(text, "OK") || strings.Contains(text, "\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// A refusal says what the contract says, to each kind of caller.
func TestRefusalsThroughEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	bob := w.token("bob", "clerk")
	for _, c := range []struct {
		method, path string
		headers      []string
		status       int
		reason       string
		challenge    string
	}{
		{"GET", "/orders", nil, 401, "no_credential", `Bearer realm="sallyport"`},
		{"GET", "/orders", []string{"Authorization", "Bearer a.b.c"}, 401, "invalid_token", `Bearer realm="sallyport", error="invalid_token"`},
		{"GET", "/orders", []string{"Authorization", "Bearer a b"}, 400, "malformed_credential", `Bearer realm="sallyport", error="invalid_request"`},
		{"GET", "/orders", []string{"Authorization", bob, "Authorization", bob}, 400, "malformed_credential", `Bearer realm="sallyport", error="invalid_request"`},
		{"POST", "/orders", []string{"Authorization", bob}, 403, "not_permitted", ""},
		{"HEAD", "/orders", []string{"Authorization", bob}, 403, "", ""},
		{"GET", "/elsewhere", []string{"Authorization", bob}, 403, "no_route", ""},
		{"GET", "/orders;x=1", []string{"Authorization", bob}, 400, "malformed_request", ""},
		{"GET", "/orders%252f7", []string{"Authorization", bob}, 400, "malformed_request", ""},
	} {
		name := fmt.Sprintf("%s %s %.20q", c.method, c.path, c.headers)
		resp, body := w.ask(c.method, c.path, c.headers...)
		if resp.StatusCode != c.status || resp.Header.Get("Www-Authenticate") != c.challenge {
			t.Errorf("%s: %d, challenge %q; want %d, %q", name, resp.StatusCode, resp.Header.Get("Www-Authenticate"), c.status, c.challenge)
		}
		if c.reason == "" {
			continue
		}
		var problem struct {
			Title, Reason, Decision string
			Status                  int
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s %q: %v", name, resp.Header.Get("Content-Type"), body, err)
		}
		if problem.Reason != c.reason || problem.Status != c.status || len(problem.Decision) != 32 || problem.Title != http.StatusText(c.status) {
			t.Errorf("%s: problem %+v, want %s", name, problem, c.reason)
		}
	}

	resp, body := w.ask("GET", "/orders", "Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	if resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || !strings.Contains(body, "no_credential") {
		t.Errorf("browser: %d %s %q", resp.StatusCode, resp.Header.Get("Content-Type"), body)
	}
}

// A gRPC caller gets a gRPC status, over HTTP/2.
func TestRefusalOfGRPCCaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+w.envoy.Listener+"/orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Authorization", w.token("bob", "clerk"))
	resp, err := h2.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != "7" || !strings.Contains(resp.Header.Get("Grpc-Message"), "not_permitted") || len(body) > 0 {
		t.Errorf("%d, grpc-status %q, grpc-message %q, body %q", resp.StatusCode, resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message"), body)
	}
}

// What the access log gets of dynamic metadata is the decision.
func TestDynamicMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	resp, _ := w.ask("GET", "/orders", "Authorization", w.token("bob", "clerk"))
	id := resp.Header.Get("x-decision")
	w.ask("POST", "/orders", "Authorization", w.token("bob", "clerk"))
	find := func(match func(map[string]any) bool) {
		t.Helper()
		eventually(t, "access log", func() bool {
			for _, line := range w.envoy.Log.Lines() {
				var m map[string]any
				if json.Unmarshal([]byte(line), &m) == nil && match(m) {
					return true
				}
			}
			return false
		})
	}
	find(func(m map[string]any) bool {
		return m["decision_id"] == id && m["reason"] == "allowed" && m["route"] == "orders" && m["policy"] == "api" && m["revision"] != ""
	})
	find(func(m map[string]any) bool {
		return m["reason"] == "not_permitted" && m["status"] == 403.0 && m["details"] == "ext_authz_denied"
	})
}

// Bytes that no client library sends never pass and never break anything.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	for _, c := range []struct{ request, want string }{
		{"GET /orders HTTP/1.1\r\nHost: a,b\r\n\r\n", "400"},
		{"GET /orders HTTP/1.1\r\nHost: a@b\r\n\r\n", "400"},
		{"GET /orders HTTP/1.1\r\nHost:\r\n\r\n", "403"},
		{"GET /orders HTTP/1.1\r\nHost: a\r\nx_user: root\r\n\r\n", "400"},
		{"GET /healthz HTTP/1.1\r\nHost: a\r\nx.user: root\r\n\r\n", "200"},
		{"GET /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\xfe\r\n\r\n", "400"},
		{"GET /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\r\n\r\n", "401"},
		{"GET /healthz/../orders HTTP/1.1\r\nHost: a\r\n\r\n", "401"},
		{"GET /healthz/%2e%2e/orders HTTP/1.1\r\nHost: a\r\n\r\n", "401"},
		{"GET //orders HTTP/1.1\r\nHost: a\r\n\r\n", "401"},
		{"GET /%6frders HTTP/1.1\r\nHost: a\r\n\r\n", "401"},
		{"GET /healthz%2f..%2forders HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		{"GET /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + strings.Repeat("a", 17<<10) + "\r\n\r\n", "400"},
		{"GET /orders?access_token=abc HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	} {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", w.envoy.Listener)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte(c.request)); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadBytes('\n')
		_ = conn.Close()
		if err != nil || !bytes.HasPrefix(line, []byte("HTTP/1.1 "+c.want)) {
			t.Errorf("%.60q: %q (%v), want %s", c.request, line, err, c.want)
		}
	}
	if resp, _ := w.ask("GET", "/orders", "Authorization", w.token("bob", "clerk")); resp.StatusCode != 200 {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
}
