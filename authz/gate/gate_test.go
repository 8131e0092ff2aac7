package gate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/gate"
)

const model = `[request_definition]
r = sub, obj, act

[policy_definition]
p = sub, obj, act

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act
`

const rules = `p, role:clerk, /orders, GET
p, role:manager, /orders, POST
g, role:director, role:manager
`

// config is the configuration of these tests; ISSUER stands for the issuer.
const config = `server:
  grpc: {listen: "127.0.0.1:0"}
  admin: {listen: "127.0.0.1:0"}
  deadline: 2s
issuers:
  - {name: corp, issuer: ISSUER, audiences: [api], keys: {cooldown: 100ms}}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {name: health, match: GET /healthz, token: none, allow: true}
  - name: orders
    match: /orders
    policy: api
    onAllow: {requestHeaders: {set: {x-user: subject.sub, x-tenant: subject.tenant}}}
`

// A journal is a log that a test reads while it is written.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// find returns the first line with this msg after from lines.
func (j *journal) find(msg string) map[string]any {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.buf.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == msg {
			return m
		}
	}
	return nil
}

// A server is gate.Serve, running.
type server struct {
	t      *testing.T
	dir    string
	issuer *authztest.Issuer
	log    *journal
	conn   *grpc.ClientConn
	admin  string
	stop   func() error
}

func (s *server) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func newServer(t *testing.T, issuer *authztest.Issuer) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), issuer: issuer, log: &journal{}}
	s.write("model.conf", model)
	s.write("policy.csv", rules)
	s.write("sallyport.yaml", strings.ReplaceAll(config, "ISSUER", issuer.URL()))
	return s
}

func newIssuer(t *testing.T) *authztest.Issuer {
	t.Helper()
	i := authztest.NewIssuer(authztest.WithAudience("api"), authztest.WithAlgorithms("ES256"))
	if err := i.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func (s *server) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	log := slog.New(slog.NewJSONHandler(s.log, nil))
	go func() {
		done <- gate.Serve(ctx, filepath.Join(s.dir, "sallyport.yaml"), io.Discard, log, gate.Version{Version: "test"})
	}()
	var once sync.Once
	var result error
	s.stop = func() error {
		once.Do(func() { cancel(); result = <-done })
		return result
	}
	s.t.Cleanup(func() { _ = s.stop() })

	var line map[string]any
	s.eventually("listening", func() bool { line = s.log.find("listening"); return line != nil })
	conn, err := grpc.NewClient(line["grpc"].(string), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	s.conn, s.admin = conn, line["admin"].(string)
}

func (s *server) eventually(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.log.mu.Lock()
			defer s.log.mu.Unlock()
			s.t.Fatalf("not within 10 s: %s; log:\n%s", what, s.log.buf.String())
		}
	}
}

// ask checks one request and returns "allow" or the reason, and the answer.
func (s *server) ask(method, path, token string) (string, *authv3.CheckResponse) {
	s.t.Helper()
	r := &authv3.AttributeContext_HttpRequest{Method: method, Path: path, Host: "api.example.com", Scheme: "https"}
	if token != "" {
		r.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "authorization", RawValue: []byte("Bearer " + token)}}}
	}
	resp, err := authv3.NewAuthorizationClient(s.conn).Check(s.t.Context(), &authv3.CheckRequest{
		Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: r}},
	}, grpc.WaitForReady(true))
	if err != nil {
		s.t.Fatalf("check: %v", err)
	}
	reason := resp.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
	if (reason == "allowed") != (resp.GetStatus().GetCode() == 0) {
		s.t.Fatalf("reason %q with status %d", reason, resp.GetStatus().GetCode())
	}
	return reason, resp
}

func (s *server) get(path string) (int, string) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.admin + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (s *server) health() healthpb.HealthCheckResponse_ServingStatus {
	s.t.Helper()
	resp, err := healthpb.NewHealthClient(s.conn).Check(s.t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.GetStatus()
}

func (s *server) token(sub string, roles ...string) string {
	return s.issuer.Mint(map[string]any{"sub": sub, "roles": roles})
}

func (s *server) awaitReady() {
	s.t.Helper()
	s.eventually("ready", func() bool { code, _ := s.get("/readyz"); return code == http.StatusOK })
}

func TestServeDecides(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.start()
	s.awaitReady()
	_, scrape := s.get("/metrics")
	for _, want := range []string{
		`authz_decisions_total{decision="allow",reason="allowed",route="orders"} 0`,
		`authz_token_validations_total{issuer="corp",result="ok"} 0`,
		`authz_jwks_refresh_total{issuer="corp",result="unreachable"} 0`,
		`authz_jwks_age_seconds{issuer="corp"} `,
		`authz_policy_age_seconds{policy="api"} `,
	} {
		if !strings.Contains(scrape, want) {
			t.Errorf("%s is not in the scrape from the start", want)
		}
	}
	for _, c := range []struct{ method, path, token, want string }{
		{"GET", "/healthz", "", "allowed"},
		{"GET", "/orders", "", "no_credential"},
		{"GET", "/orders", "x.y.z", "invalid_token"},
		{"GET", "/orders", s.token("eve"), "not_permitted"},
		{"GET", "/orders", s.token("bob", "clerk"), "allowed"},
		{"POST", "/orders", s.token("bob", "clerk"), "not_permitted"},
		{"POST", "/orders", s.token("ada", "director"), "allowed"},
		{"GET", "/elsewhere", "", "no_route"},
		{"GET", "/orders//7", "", "malformed_request"},
	} {
		if got, _ := s.ask(c.method, c.path, c.token); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.method, c.path, got, c.want)
		}
	}
	_, resp := s.ask("GET", "/orders", s.token("bob", "clerk"))
	ok := resp.GetOkResponse()
	if len(ok.GetHeaders()) != 1 || ok.GetHeaders()[0].GetHeader().GetValue() != "bob" {
		t.Errorf("headers %v", ok.GetHeaders())
	}
	if got := ok.GetHeadersToRemove(); len(got) != 1 || got[0] != "x-tenant" {
		t.Errorf("a header whose value is missing must be removed, got %v", got)
	}
	if code, body := s.get("/metrics"); code != 200 || !strings.Contains(body, `authz_decisions_total{decision="deny",reason="no_credential",route="orders"} 1`) {
		t.Errorf("/metrics %d lacks the refusal:\n%s", code, body)
	}
	if code, body := s.get("/version"); code != 200 || !strings.Contains(body, `"version":"test"`) {
		t.Errorf("/version %d %s", code, body)
	}
	if got := s.health(); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %v", got)
	}
	if err := s.stop(); err != nil {
		t.Errorf("drain: %v", err)
	}
}

// An issuer that is down at the start makes the server not ready, costs only
// the requests that need it, and recovers by itself.
func TestIssuerDownAtTheStart(t *testing.T) {
	issuer := newIssuer(t)
	issuer.BreakDiscovery(authztest.Fault{Kind: authztest.ServerError})
	s := newServer(t, issuer)
	s.start()
	if code, _ := s.get("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz %d before the keys came", code)
	}
	if code, _ := s.get("/livez"); code != http.StatusOK {
		t.Errorf("/livez %d", code)
	}
	if got := s.health(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health %v", got)
	}
	if got, _ := s.ask("GET", "/orders", s.token("bob", "clerk")); got != "issuer_unavailable" {
		t.Errorf("got %s", got)
	}
	if got, _ := s.ask("GET", "/healthz", ""); got != "allowed" {
		t.Errorf("got %s where no token is needed", got)
	}
	issuer.Heal()
	s.awaitReady()
	if got, _ := s.ask("GET", "/orders", s.token("bob", "clerk")); got != "allowed" {
		t.Errorf("got %s after the issuer came back", got)
	}
}

func TestReload(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.start()
	s.awaitReady()
	bob := s.token("bob", "clerk")
	post := func() string { got, _ := s.ask("POST", "/orders", bob); return got }
	if got := post(); got != "not_permitted" {
		t.Fatalf("got %s", got)
	}
	fetches := s.issuer.Fetches()

	s.write("policy.csv", rules+"p, role:clerk, /orders, POST\n")
	s.eventually("a changed policy decides", func() bool { return post() == "allowed" })

	s.write("policy.csv", rules+"p, role:clerk, /orders\n")
	s.eventually("a broken policy is refused", func() bool {
		line := s.log.find("reload refused, the last good generation stays")
		return line != nil && strings.Contains(fmt.Sprint(line["problem"]), "policy.csv:4: ")
	})
	if got := post(); got != "allowed" {
		t.Errorf("got %s, want the last good generation", got)
	}

	s.write("policy.csv", rules)
	s.eventually("a mended policy decides", func() bool { return post() == "not_permitted" })

	s.write("sallyport.yaml", strings.NewReplacer("ISSUER", s.issuer.URL(), "match: /orders", "match: /purchases", "deadline: 2s", "deadline: 3s").Replace(config))
	s.eventually("a changed configuration decides", func() bool { return post() == "no_route" })
	s.eventually("a change of server is reported", func() bool {
		line := s.log.find("a change takes effect after a restart only")
		return line != nil && line["section"] == "server"
	})
	if got := s.issuer.Fetches(); got != fetches {
		t.Errorf("keys of an issuer that did not change were fetched again: %d, then %d", fetches, got)
	}
	if _, body := s.get("/metrics"); !strings.Contains(body, `authz_policy_reloads_total{result="rejected"} 1`) {
		t.Error("the refused reload is not counted")
	}
}

// A ConfigMap is replaced by swapping a link to a folder; the files themselves
// see no event.
func TestReloadFollowsConfigMaps(t *testing.T) {
	s := newServer(t, newIssuer(t))
	version := func(n, text string) {
		dir := filepath.Join(s.dir, n)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "policy.csv"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(n, filepath.Join(s.dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(s.dir, "..tmp"), filepath.Join(s.dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", rules)
	if err := os.Remove(filepath.Join(s.dir, "policy.csv")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..data/policy.csv", filepath.Join(s.dir, "policy.csv")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.awaitReady()
	bob := s.token("bob", "clerk")
	post := func() string { got, _ := s.ask("POST", "/orders", bob); return got }
	for n, want := range []string{"allowed", "not_permitted", "allowed"} {
		text := rules
		if want == "allowed" {
			text += "p, role:clerk, /orders, POST\n"
		}
		start := time.Now()
		version(fmt.Sprintf("..%d", n+2), text)
		s.eventually("swap decides", func() bool { return post() == want })
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("swap %d took %v, the contract says 2 s", n, d)
		}
	}
}

// A checked-out revision is replaced by swapping a link to its folder; neither
// the files nor their folder see an event.
func TestReloadFollowsLinkedFolders(t *testing.T) {
	s := newServer(t, newIssuer(t))
	revision := func(n, text string) {
		dir := filepath.Join(s.dir, "revisions", n)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "policy.csv"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(dir, filepath.Join(s.dir, "next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(s.dir, "next"), filepath.Join(s.dir, "current")); err != nil {
			t.Fatal(err)
		}
	}
	revision("a", rules)
	s.write("sallyport.yaml", strings.NewReplacer("ISSUER", s.issuer.URL(), "rules: policy.csv", "rules: current/policy.csv").Replace(config))
	s.start()
	s.awaitReady()
	bob := s.token("bob", "clerk")
	post := func() string { got, _ := s.ask("POST", "/orders", bob); return got }
	start := time.Now()
	revision("b", rules+"p, role:clerk, /orders, POST\n")
	s.eventually("swap decides", func() bool { return post() == "allowed" })
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v, the contract says 2 s", d)
	}
}

// Everything that is wrong is listed at once, where it stands.
func TestCheckListsEverything(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	write("model.conf", model)
	write("policy.csv", "p, role:clerk, /orders\n")
	path := write("sallyport.yaml", `issuers:
  - {issuer: "https://id.example.com", audience: [api]}
policies:
  api: {model: model.conf, rules: policy.csv}
  gone: {model: nowhere.conf, rules: policy.csv}
routes:
  - {match: "GET /a//b", policy: api}
  - {match: /x, policy: api, enforce: {sub: subject.rolse, who: subject.id}}
  - {match: /y, policy: apo}
  - {match: /z, allow: true, onAllow: {requestHeaders: {set: {x-user: 7}}}}
`)
	_, err := gate.Check(path)
	if err == nil {
		t.Fatal("no problems")
	}
	got := strings.ReplaceAll(err.Error(), dir+"/", "")
	for _, want := range []string{
		"policy.csv:1: p takes 3 columns",
		"sallyport.yaml:2: issuers[0].audience: unknown key (did you mean audiences)",
		"sallyport.yaml:5: policies.gone.model: nowhere.conf: no such file",
		"sallyport.yaml:7: routes[0].match",
		"sallyport.yaml:8: routes[1].enforce.sub: ",
		"sallyport.yaml:9: routes[2].policy: there is no policy \"apo\" (did you mean api)",
		"sallyport.yaml:10: routes[3].onAllow.requestHeaders.set.x-user: ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	again := func() string { _, err := gate.Check(path); return err.Error() }
	if first, second := again(), again(); first != second {
		t.Errorf("problems differ from one run to the next:\n%s\n\n%s", first, second)
	}
}

func problems(t *testing.T, path string) string {
	t.Helper()
	_, err := gate.Check(path)
	if err == nil {
		t.Fatal("no problems")
	}
	return err.Error()
}

// quiet logs nothing.
var quiet = slog.New(slog.DiscardHandler)
