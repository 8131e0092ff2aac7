package integration

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// forged is a record and a log line that nobody made.
const forged = `{"time":"2026-11-22T10:00:00.000000000Z","decision_id":"f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0","decision":"allow","msg":"forged"}`

// hostile are values that end lines, move cursors, end strings or are no text.
var hostile = map[string]string{
	"line feed":            "a\n" + forged + "\nb",
	"carriage return":      "a\r\n" + forged + "\r\nb",
	"escape":               "a\x1b[2K\x1b[1A\x1b]0;title\x07b",
	"line separator":       "a\u2028" + forged + "\u2029b",
	"next line":            "a\u0085" + forged + "\u0085b",
	"bidirectional":        "a\u202e\u2066b",
	"null":                 "a\x00b",
	"delete":               "a\x7f\u009bb",
	"quote":                `a","decision":"allow","x":"b`,
	"backslash":            `a\",\u000a` + `\`,
	"not UTF-8":            "a\xff\xfe\xc0\xaf\xed\xa0\x80b",
	"beyond the plane":     "a\U0001f600b",
	"replacement":          "a\ufffdb",
	"long":                 strings.Repeat("\x1b\u2028", 3000),
	"percent":              "a%0a%0d%1b%00%e2%80%a8b",
	"looks like an escape": `a\u0000\n\x1bb`,
}

// Nothing in a request can end a line of the audit log or of the log, begin
// another, or reach a terminal as anything but printable ASCII; not even where
// the configuration asks for values as they came.
func TestLogInjection(t *testing.T) {
	t.Parallel()
	w := newTrial(t, trial{config: `
server:` + quick + `
issuers:
  - {name: corp, issuer: "ISSUER", audiences: ["https://api.example.com"], claims: {tenant: tid}}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {name: orders, match: [/orders, "/orders/{order}"], policy: api}
  - {name: open, match: "/open/{rest...}", token: optional, allow: true, paths: {escapedSlash: keep, semicolon: keep}}
  - {name: swollen, match: /swollen, token: none, allow: true, onAllow: {requestHeaders: {set: {` + swollen(10) + `}}}}
audit:
  file: audit.jsonl
  mode: required
  fields: {headers: request.headers, query: request.query, params: request.params, claims: subject.claims, roles: subject.roles, id: request.id, context: context, scheme: request.scheme}
telemetry: {subject: id}
`})
	conn := w.direct()
	asked := 0 // and answered: each has its record
	ask := func(m *authv3.CheckRequest) {
		t.Helper()
		asked++
		raw, err := proto.Marshal(m)
		if err != nil { // a string that is not UTF-8 makes it no CheckRequest
			raw = undecodable
		}
		var resp authv3.CheckResponse
		if err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, rawMessage(raw), &resp, grpc.ForceCodec(rawCodec{})); err != nil {
			t.Error(err)
		}
	}
	message := func(edit func(a *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest), headers ...[2]string) *authv3.CheckRequest {
		m := (&planting{method: "GET", target: "/open/a", host: "api.example.com", headers: headers}).message()
		if edit != nil {
			edit(m.Attributes, m.Attributes.Request.Http)
		}
		return m
	}
	token := func(claims map[string]any, opts ...authztest.MintOption) [2]string {
		return [2]string{"authorization", "Bearer " + w.issuer.Mint(claims, opts...)}
	}

	var names []string
	for name := range hostile {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		v := hostile[name]
		for _, edit := range []func(a *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest){
			func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) { h.Path = "/open/" + v },
			func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) {
				h.Path = "/open/a?" + v + "=" + v
			},
			func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) { h.Path = v },
			func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) { h.Host = v },
			func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) { h.Method = v },
			func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) { h.Scheme = v },
			func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) { h.Protocol = v },
			func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) { h.Id = v },
			func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) { h.Body = v },
			func(a *authv3.AttributeContext, _ *authv3.AttributeContext_HttpRequest) { a.Source.Principal = v },
			func(a *authv3.AttributeContext, _ *authv3.AttributeContext_HttpRequest) {
				a.Source.Address = address("fe80::1%" + v)
			},
			func(a *authv3.AttributeContext, _ *authv3.AttributeContext_HttpRequest) {
				a.ContextExtensions = map[string]string{"k": v, v: "k"}
			},
			func(a *authv3.AttributeContext, _ *authv3.AttributeContext_HttpRequest) {
				a.ContextExtensions = map[string]string{"sallyport.route": v}
			},
		} {
			ask(message(edit))
		}
		for _, header := range []string{"user-agent", "x-request-id", "traceparent", "cookie", "authorization", "connection", "x-forwarded-for"} {
			ask(message(nil, [2]string{header, v}))
		}
		ask(message(nil, [2]string{"authorization", "Bearer " + v}))
		ask(message(func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) {
			h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: v, RawValue: []byte(v)})
		}))
		ask(message(func(_ *authv3.AttributeContext, h *authv3.AttributeContext_HttpRequest) { h.Path = "/swollen" },
			[2]string{"x-big", strings.Repeat("a", 7000)}, [2]string{"x-other", v}))
		for _, claim := range []string{"sub", "jti", "client_id", "tid", "iss", "aud", "scope", "note"} {
			ask(message(nil, token(map[string]any{claim: v})))
		}
		ask(message(nil, token(map[string]any{"roles": []string{v}, v: map[string]any{v: v}})))
		ask(message(nil, token(nil, authztest.RawClaims(`{"iss":"`+w.issuer.URL()+`","sub":"`+v+`"}`))))
		ask(message(nil, token(nil, authztest.Header("kid", v))))
		ask(message(nil, token(nil, authztest.Header("typ", v))))
	}

	// And as bytes on the wire to Envoy, which refuses most of them itself.
	for _, name := range names {
		v := hostile[name]
		if len(v) > 1000 {
			continue
		}
		for _, request := range []string{
			"GET /open/" + v + " HTTP/1.1\r\nhost: a\r\n\r\n",
			"GET /open/a?" + v + " HTTP/1.1\r\nhost: a\r\n\r\n",
			"GET /open/a HTTP/1.1\r\nhost: " + v + "\r\n\r\n",
			v + " /open/a HTTP/1.1\r\nhost: a\r\n\r\n",
			"GET /open/a HTTP/1.1\r\nhost: a\r\nuser-agent: " + v + "\r\n\r\n",
			"GET /open/a HTTP/1.1\r\nhost: a\r\nx-request-id: " + v + "\r\ntraceparent: " + v + "\r\n\r\n",
			"GET /open/a HTTP/1.1\r\nhost: a\r\nauthorization: Bearer " + v + "\r\n\r\n",
			"GET /open/a HTTP/1.1\r\nhost: a\r\n" + v + ": 1\r\n\r\n",
		} {
			if _, err := harness.RawHTTP1(t.Context(), w.envoy.Listener, []byte(request), 1); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	resp, body := w.ask("GET", "/open/last")
	if resp.StatusCode != 200 {
		t.Errorf("afterwards: %d %s", resp.StatusCode, body)
	}

	// facts holds the form of each line.
	decisions, _ := facts(t, w.path("audit.jsonl"))
	records := byID(t, decisions)
	if _, there := records["f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0"]; there {
		t.Error("a record that nobody made")
	}
	through := int(w.counted("authz_decisions_total")) - asked
	if through < len(names) || len(decisions) != asked+through {
		t.Errorf("%d records of %d messages and %d requests through Envoy", len(decisions), asked, through)
	}
	// Some hostile values did get where they were asked for, or this test
	// would hold nothing.
	for _, want := range []string{`\u001b[2K`, `\u2028{`, `\u000a{`, `\ud83d\ude00`, `\ufffd`, `\",\"decision\"`, `\u202e`, `...[cut]`} {
		if !slices.ContainsFunc(decisions, func(f fact) bool { return strings.Contains(f.line, want) }) {
			t.Errorf("no record holds %s", want)
		}
	}
	known := map[string]bool{"allow": true, "deny": true}
	for _, f := range decisions {
		if !known[f.GetDecision()] || f.GetTime() == nil || f.GetReason() == "" {
			t.Errorf("record %s", f.line)
		}
		for name, v := range f.GetFields().GetFields() {
			if _, broken := v.GetKind().(*structpb.Value_NullValue); broken {
				t.Errorf("field %s is null in %s", name, f.line)
			}
		}
	}

	if err := w.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
	log, err := os.ReadFile(w.Log.Path())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		var entry struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Msg == "" || entry.Msg == "forged" {
			t.Errorf("a log line that is none, %v: %q", err, line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\n' || r == '\u2028' || r == '\u2029' }); i >= 0 {
			t.Errorf("byte %d of a log line is a control character: %q", i, line)
		}
	}
	w.said("a decision failed") // so that the log had a chance
}
