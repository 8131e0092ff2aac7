package integration

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
)

// What shadow mode lets through Envoy is what would have been refused, without
// the headers that only Sallyport may set, and everything but the answer says
// that it was refused. What has two readings passes nowhere.
func TestShadowThroughEnvoy(t *testing.T) {
	t.Parallel()
	s := newSink(t, 0)
	w := newTrial(t, trial{
		config: `
server:` + quick + `
issuers:
  - {name: corp, issuer: "ISSUER", audiences: ["https://api.example.com"]}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - name: orders
    match: [/orders, "/orders/{order}"]
    policy: api
    mode: shadow
    onAllow: {requestHeaders: {set: {x-user: subject.sub, x-roles: 'subject.roles.join(",")'}}, responseHeaders: {set: {x-decision: decision.id}}}
    onDeny: {responseHeaders: {set: {x-denied: decision.id}}}
  - {name: strict, match: /strict, policy: api, onAllow: {requestHeaders: {set: {x-tenant: subject.tenant}}}}
audit: {file: audit.jsonl, mode: required}
`,
		env: traced(s.addr), otel: s.addr,
	})
	bob := w.token("bob", "clerk")
	forged := []string{"X-User", "root", "x-roles", "director", "X-Tenant", "other"}
	expired := "Bearer " + w.issuer.Mint(map[string]any{"exp": 1000000000, "iat": 999999000})

	passed := []struct {
		name, method, path string
		headers            []string
		reason, detail     string
	}{
		{"no rule", "POST", "/orders", []string{"Authorization", bob}, "not_permitted", "no_rule_matched"},
		{"no token", "GET", "/orders", nil, "no_credential", ""},
		{"an expired token", "GET", "/orders/7", []string{"Authorization", expired}, "invalid_token", "expired"},
	}
	for i, c := range passed {
		resp, body := w.ask(c.method, c.path, append(c.headers, forged...)...)
		e := echo(t, resp, body)
		for _, name := range []string{"x-user", "x-roles", "x-tenant"} {
			if got, ok := e.Headers[name]; ok {
				t.Errorf("%s: the upstream gets the client's own %s: %q", c.name, name, got)
			}
		}
		for _, name := range []string{"Www-Authenticate", "X-Denied", "X-Decision"} {
			if got := resp.Header.Get(name); got != "" {
				t.Errorf("%s: the caller gets %s: %q", c.name, name, got)
			}
		}
		decisions, _ := facts(t, w.path("audit.jsonl"))
		if len(decisions) != i+1 {
			t.Fatalf("%s: %d records after %d requests", c.name, len(decisions), i+1)
		}
		rec := decisions[i]
		if rec.GetDecision() != "deny" || rec.GetReason() != c.reason || rec.GetDetail() != c.detail || !rec.GetShadow() || rec.GetRoute() != "orders" {
			t.Errorf("%s: recorded as %s", c.name, rec.line)
		}
		span := s.find(t, "sallyport", func(sp *tracev1.Span) bool {
			return attr(sp.GetAttributes(), "authz.decision.id") == rec.GetDecisionId()
		})
		if attr(span.GetAttributes(), "authz.decision") != "deny" || attr(span.GetAttributes(), "authz.reason") != c.reason || !flag(span, "authz.shadow") {
			t.Errorf("%s: span %v", c.name, span.GetAttributes())
		}
		// The record leads to the trace, and both to the same subject.
		hash := attr(span.GetAttributes(), "user.hash")
		if rec.GetTraceId() != hex.EncodeToString(span.GetTraceId()) || strings.TrimPrefix(rec.GetSubject(), "hash:") != hash || (hash != "") != (c.reason == "not_permitted") {
			t.Errorf("%s: user.hash %q of trace %x, recorded as %s", c.name, hash, span.GetTraceId(), rec.line)
		}
		if got := w.counted("authz_decisions_total", `decision="deny"`, `reason="`+c.reason+`"`, `route="orders"`); got != 1 {
			t.Errorf("%s: counted %v times as a refusal", c.name, got)
		}
		if code, stdout, stderr := w.sallyport("explain", "-c", "sallyport.yaml", "--decision", rec.GetDecisionId(), "--audit", "audit.jsonl", "-o", "json"); code != 1 {
			t.Errorf("%s: explain exits with %d: %s%s", c.name, code, stdout, stderr)
		}
	}

	// What is allowed is so in shadow mode as anywhere.
	resp, body := w.ask("GET", "/orders/7", append(forged, "Authorization", bob)...)
	if e := echo(t, resp, body); len(e.Headers["x-user"]) != 1 || e.Headers["x-user"][0] != "bob" || e.Headers["x-tenant"] != nil {
		t.Errorf("an allow: %v", e.Headers)
	}
	allow := s.find(t, "sallyport", func(sp *tracev1.Span) bool {
		return attr(sp.GetAttributes(), "authz.decision.id") == resp.Header.Get("x-decision")
	})
	if flag(allow, "authz.shadow") {
		t.Errorf("an allow is marked as shadow: %v", allow.GetAttributes())
	}

	for _, c := range []struct {
		name, method, path string
		headers            []string
		status             int
		reason             string
	}{
		{"two tokens", "GET", "/orders", []string{"Authorization", bob, "Authorization", bob}, http.StatusBadRequest, "malformed_credential"},
		{"a token in the query", "GET", "/orders?access_token=a", nil, http.StatusBadRequest, "malformed_credential"},
		{"two readings of the path", "GET", "/orders;x=1", []string{"Authorization", bob}, http.StatusBadRequest, "malformed_request"},
		{"no route", "GET", "/elsewhere", []string{"Authorization", bob}, http.StatusForbidden, "no_route"},
		{"a route that is not in shadow mode", "GET", "/strict", []string{"Authorization", bob}, http.StatusForbidden, "not_permitted"},
	} {
		resp, body := w.ask(c.method, c.path, c.headers...)
		id := decisionOf(resp, body)
		decisions, _ := facts(t, w.path("audit.jsonl"))
		rec := byID(t, decisions)[id]
		if resp.StatusCode != c.status || rec.DecisionRecord == nil || rec.GetReason() != c.reason || rec.GetShadow() {
			t.Errorf("%s: %d %s, recorded as %s; want %d %s and no shadow", c.name, resp.StatusCode, body, rec.line, c.status, c.reason)
		}
	}
}

// flag returns a boolean attribute.
func flag(span *tracev1.Span, key string) bool {
	for _, a := range span.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetBoolValue()
		}
	}
	return false
}
