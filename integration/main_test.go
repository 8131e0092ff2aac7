package integration

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/envoy"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// top is the top of the repository.
const top = ".."

// Binaries that TestMain built, with the race detector.
var sallyportBinary, demoBinary string

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sallyport-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out, err := exec.Command("go", "build", "-race", "-o", dir, top+"/cmd/sallyport", top+"/cmd/demo").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	sallyportBinary, demoBinary = filepath.Join(dir, "sallyport"), filepath.Join(dir, "demo")
	return m.Run()
}

// need returns the path of a tool. Where it is missing the test is skipped
// aloud, or fails where SALLYPORT_REQUIRE_TOOLS says that nothing may be
// skipped, as `make test` does.
func need(t *testing.T, path string, err error) string {
	t.Helper()
	if err == nil {
		_, err = os.Stat(path)
	}
	switch {
	case err == nil:
		abs, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		return abs
	case os.Getenv("SALLYPORT_REQUIRE_TOOLS") != "":
		t.Fatalf("a tool is missing: %v", err)
	default:
		t.Skipf("a tool is missing, `make test` installs it: %v", err)
	}
	return ""
}

func envoyBinary(t *testing.T) string {
	t.Helper()
	path, err := harness.FindEnvoy(top)
	return need(t, path, err)
}

const rbacModel = `[request_definition]
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

const rbacRules = `p, role:clerk, /orders, GET
p, role:clerk, /orders/:order, GET
p, role:manager, /orders, POST
g, role:director, role:manager
g, role:manager, role:clerk
`

// A setup says what one test runs.
type setup struct {
	server   string            // more lines of server:, indented by two
	issuer   string            // more members of the issuer, in flow style
	routes   string            // the routes; default: health and orders
	files    map[string]string // more files, or others in place of model and rules
	env      []string          // for sallyport
	otel     string            // Envoy's collector
	replicas []string          // more addresses of sallyports that Envoy may ask
	noEnvoy  bool
	noWait   bool // do not wait until it is ready

	whole  string       // sallyport.yaml, in place of what the others make; ISSUER is the issuer's URL
	binary string       // what runs sallyport; default: itself
	answer http.Handler // the upstream; default: the echo
	ready  func(*world) // before sallyport starts
}

// A world is one issuer, sallyport, upstream and Envoy.
type world struct {
	t      *testing.T
	dir    string
	issuer *authztest.Issuer
	*harness.Sallyport
	envoy *harness.Envoy
}

const defaultRoutes = `
  - {name: health, match: GET /healthz, token: none, allow: true}
  - name: orders
    match: [/orders, "/orders/{order}"]
    policy: api
    onAllow:
      requestHeaders:
        set: {x-user: subject.sub, x-roles: 'subject.roles.join(",")', x-tenant: subject.tenant}
        remove: [cookie, authorization]
      responseHeaders: {set: {x-decision: decision.id}}
      query: {remove: [debug]}
`

func newWorld(t *testing.T, s setup) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.issuer = authztest.NewIssuer(authztest.WithAlgorithms("ES256", "RS256"), authztest.WithAudience("https://api.example.com"))
	if err := w.issuer.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.issuer.Close() })
	return w.start(s)
}

func (w *world) config(s setup) string {
	if s.whole != "" {
		return strings.ReplaceAll(s.whole, "ISSUER", w.issuer.URL())
	}
	if s.routes == "" {
		s.routes = defaultRoutes
	}
	return `server:
  grpc: {listen: "127.0.0.1:0"}
  admin: {listen: "127.0.0.1:0"}
  deadline: 2s
` + s.server + `issuers:
  - {name: corp, issuer: "` + w.issuer.URL() + `", audiences: ["https://api.example.com"]` + s.issuer + `}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:` + s.routes
}

func (w *world) start(s setup) *world {
	t := w.t
	t.Helper()
	w.write("model.conf", rbacModel)
	w.write("policy.csv", rbacRules)
	w.write("sallyport.yaml", w.config(s))
	for name, text := range s.files {
		w.write(name, text)
	}
	if s.ready != nil {
		s.ready(w)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	env := append([]string{"PATH=" + os.Getenv("PATH")}, s.env...)
	if w.Sallyport, err = harness.StartSallyport(ctx, cmp.Or(s.binary, sallyportBinary), w.path("sallyport.yaml"), w.dir, env); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Kill()
		for _, line := range w.Log.Lines() {
			if strings.Contains(line, "DATA RACE") || strings.Contains(line, "panic:") {
				t.Errorf("sallyport said:\n%s", strings.Join(w.Log.Lines(), "\n"))
				break
			}
		}
	})
	if !s.noWait {
		if err := w.AwaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if s.noEnvoy {
		return w
	}
	if s.answer == nil {
		s.answer = http.HandlerFunc(harness.ServeEcho)
	}
	up, err := harness.Serve(s.answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	if s.otel == "" {
		s.otel = "127.0.0.1:9" // discard: nobody listens
	}
	bootstrap, err := envoy.Bootstrap(envoy.Addresses{
		Listener: "127.0.0.1:0", Admin: "127.0.0.1:0",
		Clusters: map[string][]string{"authz": append(s.replicas, w.GRPC), "upstream": {up.Addr}, "otel": {s.otel}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.envoy, err = harness.StartEnvoy(ctx, envoyBinary(t), bootstrap, w.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			stats, _ := w.envoy.Get(context.Background(), "/stats?usedonly&filter=cluster.authz|ext_authz")
			t.Logf("sallyport said:\n%s\nenvoy said:\n%s\nenvoy counted:\n%s", w.Log.Tail(10), w.envoy.Log.Tail(10), stats)
		}
		w.envoy.Kill()
	})
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) token(sub string, roles ...string) string {
	return "Bearer " + w.issuer.Mint(map[string]any{"sub": sub, "roles": roles})
}

// ask sends a request through Envoy. headers are pairs.
func (w *world) ask(method, path string, headers ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.envoy.Listener+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(body)
}

// client follows no redirects and keeps no connection.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       20 * time.Second,
}

// eventually fails the test if ok does not come true within ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// said waits until sallyport logs a line that holds all of these.
func (w *world) said(words ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	line, err := w.Log.Await(ctx, func(line string) bool {
		for _, word := range words {
			if !strings.Contains(line, word) {
				return false
			}
		}
		return true
	})
	if err != nil {
		w.t.Fatalf("sallyport did not say %q: %v", words, err)
	}
	return line
}
