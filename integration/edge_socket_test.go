package integration

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// Beside Envoy on one machine: a Unix socket, for the group alone, which a
// process that was killed leaves behind and the next one takes over.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true})
	if err := w.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sallyport") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := dir + "/authz.sock"
	w.write("sallyport.yaml", strings.Replace(w.config(setup{}), `"127.0.0.1:0"`, "unix://"+socket, 1))
	start := func() *harness.Sallyport {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		p, err := harness.StartSallyport(ctx, sallyportBinary, w.path("sallyport.yaml"), w.dir, []string{"PATH=" + os.Getenv("PATH")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		if err := p.AwaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := start()
	if info, err := os.Stat(socket); p.GRPC != "unix://"+socket || err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("listening on %s, mode %v, %v", p.GRPC, info.Mode(), err)
	}
	e := newEdge(t, "127.0.0.1:9", func(bootstrap tree) {
		endpoint := within(bootstrap, "static_resources", "clusters", "0", "load_assignment", "endpoints", "0", "lb_endpoints", "0", "endpoint").(tree)
		endpoint["address"] = tree{"pipe": tree{"path": socket}}
	})
	ask := func() {
		t.Helper()
		for protocol, send := range map[string]func(call) *reply{"HTTP/1.1": e.h1, "HTTP/2": e.h2} {
			got := send(call{target: "/orders", headers: [][2]string{{"authorization", w.token("bob", "clerk")}}})
			if got.status != 200 || got.upstream == "" {
				t.Errorf("%s: %d %s", protocol, got.status, got.body)
			}
			if got := send(call{target: "/orders"}); got.status != 401 {
				t.Errorf("%s: %d %s", protocol, got.status, got.body)
			}
		}
	}
	ask()
	p.Kill()
	if _, err := os.Stat(socket); err != nil {
		t.Fatalf("no socket is left behind: %v", err)
	}
	p = start()
	eventually(t, "Envoy asks the new process", func() bool {
		return e.h1(call{target: "/healthz"}).status == 200
	})
	ask()
	if err := p.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
}
