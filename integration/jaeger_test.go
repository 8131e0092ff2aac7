//go:build jaeger

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// A refusal is found by its reason, and its trace tells who asked whom.
func TestJaegerFindsRefusals(t *testing.T) {
	t.Parallel()
	j := startJaeger(t)
	// An issuer that never answers, and that nothing waits for.
	const gone = "http://127.0.0.1:9"
	w := newWorld(t, setup{env: traced(j.otlp), otel: j.otlp, routes: defaultRoutes + "audit: {file: audit.jsonl}\n", issuer: `}
  - {name: gone, issuer: "` + gone + `", audiences: ["https://api.example.com"], required: false`})
	bob := w.token("bob", "clerk")
	const client, clientSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

	const call = `envoy ingress server
  envoy async envoy.service.auth.v3.Authorization.Check egress client
    sallyport envoy.service.auth.v3.Authorization/Check server
`
	const authenticate, evaluate = "      sallyport authz.authenticate internal\n", "      sallyport authz.evaluate internal\n"
	for _, c := range []struct {
		reason, detail string
		status         int
		method, path   string
		headers        []string
		tree           string
	}{
		{"not_permitted", "no_rule_matched", 403, "POST", "/orders?secret=1",
			[]string{"Authorization", bob, "traceparent", "00-" + client + "-" + clientSpan + "-01"}, call + authenticate + evaluate},
		{"no_credential", "", 401, "GET", "/orders", nil, call + authenticate},
		{"invalid_token", "bad_signature", 401, "GET", "/orders",
			[]string{"Authorization", bob[:len(bob)-8] + "AAAAAAAA"}, call + authenticate},
		{"no_route", "", 403, "GET", "/elsewhere", nil, call},
		{"malformed_credential", "", 400, "GET", "/orders",
			[]string{"Authorization", bob, "Authorization", bob}, call + authenticate},
		{"issuer_unavailable", "", 503, "GET", "/orders",
			[]string{"Authorization", "Bearer " + w.issuer.Mint(map[string]any{"iss": gone})}, call + authenticate},
	} {
		resp, body := w.ask(c.method, c.path, c.headers...)
		var problem struct{ Reason, Decision string }
		if err := json.Unmarshal([]byte(body), &problem); err != nil || resp.StatusCode != c.status || problem.Reason != c.reason {
			t.Errorf("%d %s, want %d %s", resp.StatusCode, body, c.status, c.reason)
			continue
		}
		found := j.find(map[string]string{"authz.reason": c.reason}, strings.Count(c.tree, "\n"))
		if got := found.String(); got != c.tree {
			t.Errorf("%s: got the tree\n%swant\n%s", c.reason, got, c.tree)
		}
		check := found.check(t)
		want := map[string]string{"authz.decision": "deny", "authz.decision.id": problem.Decision, "error": "", "otel.status_code": "", "error.type": ""}
		if c.detail != "" {
			want["authz.detail"] = c.detail
		}
		if c.status == http.StatusServiceUnavailable { // no decision could be made: that is an error
			want["error"], want["otel.status_code"], want["error.type"] = "true", "ERROR", c.reason
		}
		for key, value := range want {
			if got := check.tag(key); got != value {
				t.Errorf("%s: %s is %q, want %q", c.reason, key, got, value)
			}
		}
		w.explains(problem.Decision, check, found.ID)
		// Who has the answer has the id, and finds the same trace.
		if byID := j.find(map[string]string{"authz.decision.id": problem.Decision}, 1); byID.ID != found.ID {
			t.Errorf("%s: the decision's id finds trace %s, its reason %s", c.reason, byID.ID, found.ID)
		}
		if found.ID == client { // Envoy tells the URL, but for its query
			for _, s := range found.Spans {
				if got := s.tag("http.url"); s.Name == "ingress" && got != "http://"+w.envoy.Listener+"/orders" {
					t.Errorf("%s: http.url is %q", c.reason, got)
				}
			}
		}
		if link, sent := check.refers("FOLLOWS_FROM"), slices.Contains(c.headers, "traceparent"); sent != (link == jaegerReference{"FOLLOWS_FROM", client, clientSpan}) {
			t.Errorf("%s: linked to %v", c.reason, link)
		} else if sent && found.ID != client {
			t.Errorf("%s: trace %s is not the client's", c.reason, found.ID)
		}
		for _, s := range found.Spans {
			for _, tag := range s.Tags {
				if text := fmt.Sprint(tag.Value); strings.Contains(text, "secret=1") || strings.Contains(text, bob[len("Bearer "):]) {
					t.Errorf("%s: span %s tells in %s what is not its to tell: %s", c.reason, s.Name, tag.Key, text)
				}
			}
		}
	}
	if failures := j.search(map[string]string{"error": "true", "authz.decision": "deny"}); len(failures) != 1 {
		t.Errorf("error=true finds %d refusals, want the one 503", len(failures))
	}
}

// explains asks sallyport explain about a recorded decision, which has to tell
// the same story as its span.
func (w *world) explains(id string, check jaegerSpan, traceID string) {
	w.t.Helper()
	type story struct{ Decision, Reason, Detail, Route, Policy, Revision string }
	var told struct {
		story
		Record struct {
			Trace string `json:"trace_id"`
		}
	}
	var out []byte
	eventually(w.t, "a record of decision "+id, func() bool { // it is written in the background
		cmd := exec.CommandContext(w.t.Context(), sallyportBinary, "explain", "-c", w.path("sallyport.yaml"), "--decision", id, "--audit", w.path("audit.jsonl"), "-o", "json")
		out, _ = cmd.Output()                   // the exit status tells
		return cmd.ProcessState.ExitCode() == 1 // a denial
	})
	if err := json.Unmarshal(out, &told); err != nil {
		w.t.Errorf("explain: %v: %s", err, out)
	}
	if want := (story{check.tag("authz.decision"), check.tag("authz.reason"), check.tag("authz.detail"), check.tag("authz.route"), check.tag("authz.policy"), check.tag("authz.policy.revision")}); told.story != want {
		w.t.Errorf("explain tells %+v, Jaeger %+v", told.story, want)
	}
	if told.Record.Trace != traceID {
		w.t.Errorf("explain names trace %q, want %s", told.Record.Trace, traceID)
	}
}

// An allow is there too, with the rule that said yes and the call to the
// upstream. Envoy's health checks leave no span, and a client that does not
// want to be traced is not.
func TestJaegerShowsAllows(t *testing.T) {
	t.Parallel()
	j := startJaeger(t)
	w := newWorld(t, setup{env: traced(j.otlp), otel: j.otlp})
	bob := w.token("bob", "clerk")
	const quiet = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, headers := range [][]string{{"traceparent", "00-" + quiet + "-00f067aa0ba902b7-00"}, nil} {
		if resp, body := w.ask("GET", "/orders/7", append(headers, "Authorization", bob)...); resp.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	// One allow is found: the first left no trace.
	found := j.find(map[string]string{"authz.decision": "allow"}, 6)
	const want = `envoy ingress server
  envoy async envoy.service.auth.v3.Authorization.Check egress client
    sallyport envoy.service.auth.v3.Authorization/Check server
      sallyport authz.authenticate internal
      sallyport authz.evaluate internal
  envoy router upstream egress client
`
	if got := found.String(); got != want || found.ID == quiet {
		t.Errorf("got the tree\n%swant\n%s", got, want)
	}
	check := found.check(t)
	for key, want := range map[string]string{"authz.policy": "api", "authz.policy.rule": "policy.csv:2", "authz.token.cache": "hit", "authz.detail": ""} {
		if got := check.tag(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if got := check.tag("authz.policy.revision"); len(got) != 12 {
		t.Errorf("revision %q", got)
	}
	// A token of a new key waits for the key, and its trace says so.
	w.issuer.Rotate("ES256")
	resp, body := w.ask("GET", "/orders", "Authorization", w.token("bob", "clerk"))
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	waited := j.find(map[string]string{"authz.decision.id": resp.Header.Get("x-decision")}, 7)
	if got, want := waited.String(), strings.Replace(want, "authz.authenticate internal\n", "authz.authenticate internal\n        sallyport authz.jwks.fetch client\n", 1); got != want {
		t.Errorf("got the tree\n%swant\n%s", got, want)
	}
	health, err := w.envoy.Get(t.Context(), "/stats?filter=cluster.authz.health_check.success")
	if err != nil || strings.HasSuffix(strings.TrimSpace(health), " 0") {
		t.Errorf("Envoy checked no health: %q %v", health, err)
	}
	var names []string
	j.ask("/api/services/sallyport/operations", nil, &names)
	slices.Sort(names)
	if want := []string{"authz.authenticate", "authz.evaluate", "authz.jwks.fetch", "envoy.service.auth.v3.Authorization/Check"}; !slices.Equal(names, want) {
		t.Errorf("Jaeger knows spans %q of Sallyport, want %q", names, want)
	}
}

// The demo sends its traces where it is told, and the link that it prints
// leads to its refusals.
func TestJaegerDemo(t *testing.T) {
	t.Parallel()
	j := startJaeger(t)
	p := demo(t, append(traced(j.otlp), "ENVOY="+envoyBinary(t), "TMPDIR="+t.TempDir()), "--port", "0", "--jaeger", j.api)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	line, err := p.Log.Await(ctx, func(line string) bool { return strings.HasPrefix(line, "Refusals in Jaeger:") })
	if err != nil {
		t.Fatal(err)
	}
	link, err := url.Parse(strings.TrimSpace(strings.TrimPrefix(line, "Refusals in Jaeger:")))
	if err != nil || "http://"+link.Host != j.api || link.Path != "/search" {
		t.Fatalf("the demo leads to %v, %v", link, err)
	}
	// The pages ask the API for what their address says.
	var found []jaegerTrace
	eventually(t, "refusals with the spans of Envoy and Sallyport", func() bool {
		found = nil
		j.ask("/api/traces", link.Query(), &found)
		for _, tr := range found {
			if s := tr.String(); !strings.HasPrefix(s, "envoy ingress server\n") || !strings.Contains(s, "sallyport authz.evaluate") {
				return false
			}
		}
		return len(found) > 0
	})
	if err := p.Stop(20 * time.Second); err != nil {
		t.Errorf("stop: %v", err)
	}
}
