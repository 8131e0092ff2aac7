package integration

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// compose is the folder of the compose file.
const compose = top + "/envoy/compose/"

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

type composeFile struct {
	Services map[string]struct {
		Image   string
		Build   struct{ Context, Dockerfile string }
		Command []string
		Network string `yaml:"network_mode"`
		Ports   []string
		Volumes []string
	}
}

// What the compose file names is there: each mounted file, each image with its
// version, each address between the parts. Nothing is published beyond this
// machine.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	var c composeFile
	if err := yaml.Unmarshal([]byte(readFile(t, compose+"compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"envoy", "sallyport", "dex", "upstream", "jaeger", "prometheus", "grafana"} {
		if _, ok := c.Services[name]; !ok {
			t.Errorf("no service %s", name)
		}
	}
	version, published := regexp.MustCompile(`:v?[0-9]+\.[0-9]+\.[0-9]+$`), regexp.MustCompile(`^127\.0\.0\.1:[0-9]+:[0-9]+$`)
	names := map[string]bool{}
	mounted := map[string]string{} // where it is in its container
	for name, s := range c.Services {
		if s.Network == "" { // else it is found under another's name
			names[name] = true
		}
		if s.Build.Context == "" && !version.MatchString(s.Image) {
			t.Errorf("%s: image %q is not pinned", name, s.Image)
		}
		if s.Build.Context != "" {
			if _, err := os.Stat(filepath.Join(compose, s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, p := range s.Ports {
			if !published.MatchString(p) {
				t.Errorf("%s: port %q is published beyond this machine", name, p)
			}
		}
		for _, v := range s.Volumes {
			parts := strings.Split(v, ":")
			if len(parts) != 3 || parts[2] != "ro" {
				t.Errorf("%s: volume %q is not FROM:TO:ro", name, v)
				continue
			}
			if _, err := os.Stat(compose + parts[0]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			mounted[name+" "+parts[1]] = parts[0]
		}
		// A file that a command names is a mounted one, or in a mounted folder.
		for _, arg := range s.Command {
			file := regexp.MustCompile(`/etc/\S+\.yaml$`).FindString(arg)
			if file == "" {
				continue
			}
			from, ok := mounted[name+" "+file]
			if !ok {
				from, ok = mounted[name+" "+filepath.Dir(file)]
				from = filepath.Join(from, filepath.Base(file))
			}
			if _, err := os.Stat(compose + from); !ok || err != nil {
				t.Errorf("%s: %s is not mounted: %v", name, file, err)
			}
		}
	}
	// Images have the versions that the tests run; promtool's module has its
	// own way to write Prometheus' version.
	promtool := regexp.MustCompile(`prometheus/prometheus v0\.3(\d\d)\.(\d+)`).FindStringSubmatch(readFile(t, top+"/integration/tools/promtool/go.mod"))
	if promtool == nil {
		t.Fatal("promtool's go.mod names no Prometheus")
	}
	for name, want := range map[string]string{
		"envoy":      "envoyproxy/envoy:v" + strings.TrimPrefix(filepath.Base(filepath.Dir(harness.EnvoyPath)), "envoy-"),
		"prometheus": "prom/prometheus:v3." + promtool[1] + "." + promtool[2],
	} {
		if got := c.Services[name].Image; got != want {
			t.Errorf("%s: image %s, the tests run %s", name, got, want)
		}
	}
	// NAME:PORT and http://NAME:PORT, wherever one part is told of another.
	address := regexp.MustCompile(`(?:http://|")([a-z]+):[0-9]{4,5}|address: ([a-z]+), port_value`)
	found := 0
	for _, file := range []string{"compose.yaml", "envoy.yaml", "prometheus.yaml", "grafana/datasources.yaml"} {
		for _, m := range address.FindAllStringSubmatch(readFile(t, compose+file), -1) {
			found++
			if name := m[1] + m[2]; !names[name] && name != "localhost" {
				t.Errorf("%s: nobody is called %s", file, name)
			}
		}
	}
	if found < 6 {
		t.Errorf("found %d addresses only", found)
	}
}

// Grafana gets its data sources and its dashboard, and the points in it lead
// to a data source that is there.
func TestComposeGrafana(t *testing.T) {
	t.Parallel()
	var sources struct {
		Datasources []struct {
			UID  string
			Data struct {
				Exemplars []struct {
					Name string
					UID  string `yaml:"datasourceUid"`
				} `yaml:"exemplarTraceIdDestinations"`
			} `yaml:"jsonData"`
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, compose+"grafana/datasources.yaml")), &sources); err != nil {
		t.Fatal(err)
	}
	uids, led := map[string]bool{}, 0
	for _, s := range sources.Datasources {
		uids[s.UID] = true
	}
	for _, s := range sources.Datasources {
		for _, e := range s.Data.Exemplars {
			led++
			if e.Name != "trace_id" || !uids[e.UID] {
				t.Errorf("%s leads by %q to %q", s.UID, e.Name, e.UID)
			}
		}
	}
	if led != 1 {
		t.Errorf("exemplars lead to %d places", led)
	}
	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	if err := yaml.Unmarshal([]byte(readFile(t, compose+"grafana/dashboards.yaml")), &providers); err != nil || len(providers.Providers) != 1 {
		t.Fatalf("%d providers, %v", len(providers.Providers), err)
	}
	if path := providers.Providers[0].Options.Path; !strings.Contains(readFile(t, compose+"compose.yaml"), "../grafana:"+path+":ro") {
		t.Errorf("%s is not where the dashboards are mounted", path)
	}
}

// The image is built with the Go that go.mod wants, from images that cannot
// change, and runs as nobody in particular.
func TestComposeDockerfile(t *testing.T) {
	t.Parallel()
	text := readFile(t, compose+"Dockerfile")
	from := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(text, -1)
	if len(from) != 2 || !strings.Contains(from[1][1], "@sha256:") {
		t.Fatalf("images %q", from)
	}
	wants := regexp.MustCompile(`(?m)^go ([0-9]+\.[0-9]+)`).FindStringSubmatch(readFile(t, top+"/go.mod"))
	if wants == nil || !strings.HasPrefix(from[0][1], "golang:"+wants[1]+".") {
		t.Errorf("built by %s, go.mod wants %v", from[0][1], wants)
	}
	for _, line := range []string{"CGO_ENABLED=0", "USER 65532:65532"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s", line)
		}
	}
}

// The files of every part that is here run together as the README beside the
// compose file shows it: dex gives tokens, Envoy asks Sallyport, and the
// upstream gets the names. Addresses are this machine's, nothing else differs.
func TestComposeRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put := func(name string, pairs ...string) string {
		t.Helper()
		text := readFile(t, compose+name)
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(text, pairs[i]) {
				t.Errorf("%s does not hold %q", name, pairs[i])
			}
		}
		path := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(path, []byte(strings.NewReplacer(pairs...).Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if out, err := exec.CommandContext(ctx, sallyportBinary, "check", "--strict", "-c", compose+"sallyport/sallyport.yaml").CombinedOutput(); err != nil {
		t.Errorf("sallyport check: %v: %s", err, out)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dexAddr := ln.Addr().String()
	_ = ln.Close() // dex takes no listener, so the port is free for a moment
	_, port, _ := net.SplitHostPort(dexAddr)
	dex, err := harness.Start("dex", filepath.Join(dir, "dex.log"), os.Environ(), need(t, top+"/.tools/dex", nil), "serve",
		put("dex.yaml", "0.0.0.0:5556", dexAddr, "localhost:5556", "localhost:"+port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dex.Kill)
	put("sallyport/model.conf")
	put("sallyport/policy.csv")
	config := put("sallyport/sallyport.yaml", "0.0.0.0:9191", "127.0.0.1:0", "0.0.0.0:9192", "127.0.0.1:0", "localhost:5556", "localhost:"+port)
	s, err := harness.StartSallyport(ctx, sallyportBinary, config, dir, []string{"PATH=" + os.Getenv("PATH")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	if err := s.AwaitReady(ctx); err != nil { // dex is up
		t.Fatal(err)
	}
	up, err := harness.Serve(http.HandlerFunc(harness.ServeEcho))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	cluster := func(addr string) string {
		host, port, _ := net.SplitHostPort(addr)
		return "address: " + host + ", port_value: " + port
	}
	bootstrap := put("envoy.yaml",
		"address: 0.0.0.0, port_value: 10000", "address: 127.0.0.1, port_value: 0",
		"address: 127.0.0.1, port_value: 9901", "address: 127.0.0.1, port_value: 0",
		"address: sallyport, port_value: 9191", cluster(s.GRPC),
		"address: upstream, port_value: 8080", cluster(up.Addr),
		"address: jaeger, port_value: 4317", "address: 127.0.0.1, port_value: 9")
	e, err := harness.StartEnvoy(ctx, envoyBinary(t), []byte(readFile(t, bootstrap)), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)

	w := &world{t: t, dir: dir, Sallyport: s, envoy: e}
	for _, c := range []struct {
		user string
		want map[string]int
	}{
		{"", map[string]int{"GET /healthz": 200, "GET /orders": 401}},
		{"eve", map[string]int{"GET /orders": 403}},
		{"bob", map[string]int{"GET /orders": 200, "POST /orders": 403, "DELETE /orders/7": 403}},
		{"max", map[string]int{"GET /orders/7": 200, "POST /orders": 200, "DELETE /orders/7": 403}},
		{"ada", map[string]int{"POST /orders": 200, "DELETE /orders/7": 200}},
	} {
		var headers []string
		if c.user != "" {
			headers = []string{"Authorization", "Bearer " + composeToken(t, dexAddr, c.user), "x-user", "root"}
		}
		for request, want := range c.want {
			method, path, _ := strings.Cut(request, " ")
			resp, body := w.ask(method, path, headers...)
			if resp.StatusCode != want {
				t.Errorf("%s as %q: %d %s, want %d", request, c.user, resp.StatusCode, body, want)
				continue
			}
			if want != 200 || c.user == "" {
				continue
			}
			if got := echo(t, resp, body).Headers["x-user"]; !slices.Equal(got, []string{c.user}) {
				t.Errorf("%s as %s: x-user is %q", request, c.user, got)
			}
		}
	}
}

// composeToken gets a token by the command of the README beside the compose
// file, from a dex at this address.
func composeToken(t *testing.T, dex, user string) string {
	t.Helper()
	command := regexp.MustCompile(`(?m)^    (BOB=\$\(curl .*)$`).FindStringSubmatch(readFile(t, compose+"README.md"))
	if command == nil {
		t.Fatal("the README has no command for a token")
	}
	script := strings.NewReplacer("127.0.0.1:5556", dex, "bob@", user+"@").Replace(command[1])
	token := shell(t, script+"\nprintf %s \"$BOB\"")
	if strings.Count(token, ".") != 2 {
		t.Fatalf("%s got no token: %s", script, token)
	}
	return token
}
