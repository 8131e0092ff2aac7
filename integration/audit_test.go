package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"github.com/sallyport-authz/sallyport/authz/authztest"
)

// undecodable is a CheckRequest with a string that is not UTF-8.
var undecodable = []byte{0x0a, 0x06, 0x22, 0x04, 0x12, 0x02, 0x0a, 0xff}

// A path out is how one decision can end.
type pathOut struct {
	name, method, path string
	headers            []string
	status             int
	reason, detail     string
	route, rule        string
}

// Every decision through Envoy has exactly one record, whichever way it ends;
// the answer, Envoy's access log and the record name the same decision, and
// explain tells its story.
func TestOneRecordPerRequest(t *testing.T) {
	t.Parallel()
	down := authztest.NewIssuer(authztest.WithAudience("https://api.example.com"))
	if err := down.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = down.Close() })
	down.Break(authztest.Fault{Kind: authztest.ServerError})

	big := strings.Repeat("a", 7000)
	w := newTrial(t, trial{config: `
server:` + quick + `
issuers:
  - {name: corp, issuer: "ISSUER", audiences: ["https://api.example.com"]}
  - {name: down, issuer: "` + down.URL() + `", audiences: ["https://api.example.com"], required: false, keys: {timeout: 300ms}}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {name: health, match: GET /healthz, token: none, allow: true, onAllow: {responseHeaders: {set: {x-decision: decision.id}}}}
  - {name: orders, match: [/orders, "/orders/{order}"], policy: api, issuers: [corp], onAllow: {responseHeaders: {set: {x-decision: decision.id}}}}
  - {name: partner, match: /partner, policy: api, issuers: [down]}
  - {name: scoped, match: /scoped, policy: api, issuers: [corp], scopes: [orders]}
  - {name: careful, match: /careful, policy: api, issuers: [corp], stepUp: {acr: ["urn:example:mfa"]}}
  - {name: tiers, match: /tiers, policy: api, issuers: [corp], enforce: {act: subject.claims.tier}}
  - name: swollen
    match: /swollen
    token: none
    allow: true
    onAllow: {requestHeaders: {set: {` + swollen(10) + `}}}
audit: {file: audit.jsonl, mode: required}
telemetry: {subject: id}
`})
	bob := w.token("bob", "clerk")
	expired := "Bearer " + w.issuer.Mint(map[string]any{"sub": "bob", "exp": 1000000000, "iat": 999999000})
	of := func(iss *authztest.Issuer) string { return "Bearer " + iss.Mint(map[string]any{"sub": "bob"}) }
	cases := []pathOut{
		{"allow", "GET", "/orders/7?page=2", []string{"Authorization", bob}, 200, "allowed", "", "orders", "policy.csv:2"},
		{"allow without a token", "GET", "/healthz", nil, 200, "allowed", "", "health", ""},
		{"two readings of a path", "GET", "/orders;a=1", []string{"Authorization", bob}, 400, "malformed_request", "bad_path", "", ""},
		{"no route", "GET", "/elsewhere", []string{"Authorization", bob}, 403, "no_route", "nothing_matched", "", ""},
		{"two tokens", "GET", "/orders", []string{"Authorization", bob, "Authorization", bob}, 400, "malformed_credential", "two_credentials", "orders", ""},
		{"a token in the query", "GET", "/orders?access_token=a", nil, 400, "malformed_credential", "query_credential", "orders", ""},
		{"no token", "GET", "/orders", nil, 401, "no_credential", "", "orders", ""},
		{"an expired token", "GET", "/orders", []string{"Authorization", expired}, 401, "invalid_token", "expired", "orders", ""},
		{"an issuer whose keys never came", "GET", "/partner", []string{"Authorization", of(down)}, 503, "issuer_unavailable", "keys_missing", "partner", ""},
		{"no scope", "GET", "/scoped", []string{"Authorization", bob}, 403, "insufficient_scope", "missing_scope", "scoped", ""},
		{"no step up", "GET", "/careful", []string{"Authorization", bob}, 401, "step_up_required", "weak_authentication", "careful", ""},
		{"no such claim", "GET", "/tiers", []string{"Authorization", bob}, 403, "attribute_missing", "missing_attribute", "tiers", ""},
		{"no rule", "POST", "/orders", []string{"Authorization", bob}, 403, "not_permitted", "no_rule_matched", "orders", ""},
		{"an answer that Envoy would not take", "GET", "/swollen", []string{"X-Big", big}, 503, "internal", "undeliverable", "swollen", ""},
	}
	ids := make([]string, len(cases))
	for i, c := range cases {
		resp, body := w.ask(c.method, c.path, c.headers...)
		ids[i] = decisionOf(resp, body)
		if resp.StatusCode != c.status || c.status != 200 && !strings.Contains(body, `"`+c.reason+`"`) || len(ids[i]) != 32 {
			t.Errorf("%s: %d %.300s, decision %q; want %d %s", c.name, resp.StatusCode, body, ids[i], c.status, c.reason)
		}
		// The record is there before the answer is.
		recorded, _ := facts(t, w.path("audit.jsonl"))
		if len(recorded) != i+1 {
			t.Fatalf("%s: %d records after %d answers", c.name, len(recorded), i+1)
		}
	}

	// What Envoy does not send is recorded too.
	conn := w.direct()
	var resp authv3.CheckResponse
	if err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, rawMessage(undecodable), &resp, grpc.ForceCodec(rawCodec{})); err != nil {
		t.Fatal(err)
	}
	cases = append(cases, pathOut{name: "a message that does not decode", reason: "malformed_request", detail: "bad_message"})
	ids = append(ids, resp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue())
	tcp := w.check(conn, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Source: &authv3.AttributeContext_Peer{}}})
	cases = append(cases, pathOut{name: "a TCP check", reason: "no_route", detail: "nothing_matched"})
	ids = append(ids, tcp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue())

	decisions, _ := facts(t, w.path("audit.jsonl"))
	if len(decisions) != len(cases) {
		t.Errorf("%d records of %d requests", len(decisions), len(cases))
	}
	records := byID(t, decisions)
	// Dynamic metadata names the decision on every answer.
	logged := make(map[string]int)
	eventually(t, "access log", func() bool {
		clear(logged)
		for _, line := range w.envoy.Log.Lines() {
			var m struct {
				ID string `json:"decision_id"`
			}
			if json.Unmarshal([]byte(line), &m) == nil && m.ID != "" {
				logged[m.ID]++
			}
		}
		return len(logged) >= len(cases)-2 // two did not come through Envoy
	})
	for i, c := range cases {
		rec, ok := records[ids[i]]
		if !ok {
			t.Errorf("%s: decision %q has no record", c.name, ids[i])
			continue
		}
		verdict, exit := "deny", 1
		if c.reason == "allowed" {
			verdict, exit = "allow", 0
		}
		if rec.GetDecision() != verdict || rec.GetReason() != c.reason || rec.GetDetail() != c.detail || rec.GetRoute() != c.route || rec.GetRule() != c.rule {
			t.Errorf("%s: recorded as %s; want %s %s %s %s %s", c.name, rec.line, verdict, c.reason, c.detail, c.route, c.rule)
		}
		if c.status != 0 && logged[ids[i]] != 1 {
			t.Errorf("%s: the access log names decision %s %d times", c.name, ids[i], logged[ids[i]])
		}
		code, stdout, stderr := w.sallyport("explain", "-c", "sallyport.yaml", "--decision", ids[i], "--audit", "audit.jsonl", "-o", "json")
		var told struct{ Decision, Reason, Detail, Route, Policy, Revision, Rule string }
		if err := json.Unmarshal([]byte(stdout), &told); err != nil || code != exit {
			t.Errorf("%s: explain exits with %d: %s%s", c.name, code, stdout, stderr)
			continue
		}
		if told.Decision != verdict || told.Reason != c.reason || told.Detail != c.detail || told.Route != c.route || told.Rule != c.rule ||
			told.Policy != rec.GetPolicy() || told.Revision != rec.GetRevision() {
			t.Errorf("%s: explained as %+v, recorded as %s", c.name, told, rec.line)
		}
	}
	if code, stdout, stderr := w.sallyport("explain", "-c", "sallyport.yaml", "--decision", ids[0], "--audit", "audit.jsonl"); code != 0 ||
		!strings.Contains(stdout, "policy.csv:2: p, role:clerk, /orders/:order, GET") || !strings.Contains(stdout, "user:corp/bob") {
		t.Errorf("explain in words exits with %d: %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := w.sallyport("explain", "-c", "sallyport.yaml", "--decision", strings.Repeat("0", 32), "--audit", "audit.jsonl"); code != 2 || stdout != "" || !strings.Contains(stderr, "no record of this decision") {
		t.Errorf("a decision that nobody made: explain exits with %d: %s%s", code, stdout, stderr)
	}
}

// swollen are headers that take a large one of the request n times.
func swollen(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`x-copy-%d: 'request.headers["x-big"][0]'`, i))
	}
	return strings.Join(all, ", ")
}

// Refusals that the server makes by itself, because it has no time or no room,
// have their records too.
func TestRecordsUnderPressure(t *testing.T) {
	t.Parallel()
	var rules strings.Builder // an allow that takes longer than the deadline
	for n := range 15000 {
		fmt.Fprintf(&rules, "p, role:clerk, ^/n%d/.*$, GET\n", n)
	}
	rules.WriteString("p, role:clerk, ^/slow$, GET\n")
	w := newTrial(t, trial{
		config: `
server:
  grpc: {listen: "127.0.0.1:0", maxInFlight: 1}
  admin: {listen: "127.0.0.1:0"}
  deadline: 1ms
issuers:
  - {issuer: "ISSUER", name: corp, audiences: ["https://api.example.com"]}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {name: health, match: GET /healthz, token: none, allow: true, onAllow: {responseHeaders: {set: {x-decision: decision.id}}}}
  - {name: slow, match: /slow, policy: api, onAllow: {responseHeaders: {set: {x-decision: decision.id}}}}
audit: {file: audit.jsonl}
`,
		files: map[string]string{
			"model.conf": strings.ReplaceAll(rbacModel, "keyMatch2", "regexMatch"),
			"policy.csv": rules.String(),
		},
	})
	bob := w.token("bob", "clerk")
	var mu sync.Mutex
	reasons, ids := map[string]int{}, map[string]string{}
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for n := range 8 {
				path := "/slow"
				if n%4 == 3 {
					path = "/healthz"
				}
				status, reason, id := problemOf(t, "http://"+w.envoy.Listener+path, bob)
				mu.Lock()
				reasons[reason]++
				ids[id] = reason
				mu.Unlock()
				if id == "" {
					t.Errorf("an answer without a decision: %d %s", status, reason)
				}
			}
		})
	}
	callers.Wait()
	if reasons["overloaded"] == 0 || reasons["deadline"] == 0 {
		t.Errorf("got %v, want some overloaded and some deadline", reasons)
	}
	// A check that takes longer than Envoy waits for one try is asked again,
	// and what nobody waited for any more is recorded as well.
	stats, err := w.envoy.Get(t.Context(), "/stats?filter=cluster.authz.upstream_rq_retry$")
	if err != nil {
		t.Fatal(err)
	}
	var retries int
	if _, err := fmt.Sscanf(stats, "cluster.authz.upstream_rq_retry: %d", &retries); err != nil {
		t.Fatalf("%q: %v", stats, err)
	}
	if err := w.Stop(20 * time.Second); err != nil { // so that all records are written
		t.Fatal(err)
	}
	decisions, _ := facts(t, w.path("audit.jsonl"))
	if len(ids) != 16*8 || len(decisions) < 16*8 || len(decisions) > 16*8+retries {
		t.Errorf("%d records and %d decisions of %d requests and %d retries", len(decisions), len(ids), 16*8, retries)
	}
	records := byID(t, decisions)
	for id, reason := range ids {
		if rec := records[id]; rec.DecisionRecord == nil || rec.GetReason() != reason {
			t.Errorf("decision %s was answered with %s and recorded as %s", id, reason, rec.line)
		}
	}
}

// problemOf asks and returns status, reason and decision of the answer. It may
// be called from any goroutine.
func problemOf(t *testing.T, url, authorization string) (status int, reason, id string) {
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Error(err)
		return 0, "", ""
	}
	req.Header.Set("Authorization", authorization)
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0, "", ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	var problem struct{ Reason string }
	if json.Unmarshal(body, &problem) == nil && resp.StatusCode != 200 {
		reason = problem.Reason
	} else {
		reason = "allowed"
	}
	return resp.StatusCode, reason, decisionOf(resp, string(body))
}
