package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// A tally is what callers were answered while something was done to the
// servers. Every caller knows the one true answer to its request.
type tally struct {
	allowed, denied         atomic.Int64 // as the policy says
	keyless                 atomic.Int64 // 503 issuer_unavailable: the process has no keys yet
	wronglyAllowed, refused atomic.Int64
	mu                      sync.Mutex
	first                   string // what the first wrong answer was
}

func (c *tally) wrong(n *atomic.Int64, format string, args ...any) {
	n.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == "" {
		c.first = fmt.Sprintf(format, args...)
	}
}

// load asks through an edge until stop, four callers at once, each some
// hundred times a second: two that may and two that may not.
func load(e *edge, may, mayNot string) (current *atomic.Pointer[tally], stop func()) {
	current = new(atomic.Pointer[tally])
	current.Store(new(tally))
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	callers := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	ctx := e.t.Context()
	done := make(chan struct{})
	var workers sync.WaitGroup
	for i := range 4 {
		token, want := may, http.StatusOK
		if i%2 == 1 {
			token, want = mayNot, http.StatusForbidden
		}
		workers.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-done:
					return
				case <-pace.C:
				}
				count := current.Load()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.listeners["ingress"]+"/orders", nil)
				if err != nil {
					e.t.Error(err)
					return
				}
				req.Header.Set("Authorization", token)
				resp, err := callers.Do(req)
				if err != nil {
					count.wrong(&count.refused, "%v", err)
					continue
				}
				body := make([]byte, 512)
				n, _ := resp.Body.Read(body)
				_ = resp.Body.Close()
				switch {
				case resp.StatusCode != want && resp.StatusCode == http.StatusOK:
					count.wrong(&count.wronglyAllowed, "allowed: %s", body[:n])
				case resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(body[:n]), "issuer_unavailable"):
					count.keyless.Add(1)
				case resp.StatusCode != want || want == http.StatusForbidden && !strings.Contains(string(body[:n]), "not_permitted"):
					count.wrong(&count.refused, "%d %s", resp.StatusCode, body[:n])
				case want == http.StatusOK:
					count.allowed.Add(1)
				default:
					count.denied.Add(1)
				}
			}
		})
	}
	return current, sync.OnceFunc(func() {
		close(done)
		workers.Wait()
		transport.CloseIdleConnections()
	})
}

// A replica is one of several Sallyports with the same duties, at an address
// that it keeps.
type replica struct {
	*world
	port string // listen as the configuration has it
}

func newReplica(t *testing.T, issuer *authztest.Issuer, ca *edgeCA) *replica {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), issuer: issuer}
	r := &replica{world: w, port: "127.0.0.1:0"}
	cert, key := ca.files("sallyport", "sallyport.internal")
	w.start(setup{noEnvoy: true, files: map[string]string{
		"server.crt": cert, "server.key": key, "ca.crt": ca.pem, "sallyport.yaml": r.text("1"),
	}})
	r.port = w.GRPC
	w.write("sallyport.yaml", r.text("1"))
	return r
}

// text is the configuration, with a header that tells versions apart.
func (r *replica) text(version string) string {
	routes := strings.Replace(defaultRoutes, "{x-decision: decision.id}", `{x-decision: decision.id, x-version: '"`+version+`"'}`, 1)
	return strings.Replace(r.config(setup{routes: routes}), `grpc: {listen: "127.0.0.1:0"}`,
		`grpc: {listen: "`+r.port+`", tls: {certificate: server.crt, key: server.key, clientCA: ca.crt, clientNames: ["envoy.test"]}}`, 1)
}

// again starts the process that has ended, and waits until it is ready.
func (r *replica) again() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	p, err := harness.StartSallyport(ctx, sallyportBinary, r.path("sallyport.yaml"), r.dir, []string{"PATH=" + os.Getenv("PATH")})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.Kill)
	r.Sallyport = p
	if err := p.AwaitReady(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// hostOf returns what Envoy says of a replica under a name.
func (e *edge) hostOf(r *replica, name string) string {
	e.t.Helper()
	text, err := e.envoy.Get(e.t.Context(), "/clusters")
	if err != nil {
		e.t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "authz::"+r.GRPC+"::"+name+"::"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// shares waits until Envoy knows that a replica is healthy and sends it its
// share again.
func (e *edge) shares(r *replica) {
	e.t.Helper()
	eventually(e.t, "Envoy finds "+r.GRPC+" healthy", func() bool { return e.hostOf(r, "health_flags") == "healthy" })
	served := func() int {
		n, _ := strconv.Atoi(e.hostOf(r, "rq_success"))
		return n
	}
	before := served()
	eventually(e.t, "Envoy asks "+r.GRPC+" again", func() bool { return served() > before+10 })
}

// Everything that an operator does to a running Sallyport, under load, over
// mutual TLS, with two replicas: nobody is wrongly allowed, and nobody wrongly
// refused, by a process that is killed either, because Envoy asks the other.
func TestOperationsUnderLoad(t *testing.T) {
	t.Parallel()
	ca := newEdgeCA(t)
	issuer := authztest.NewIssuer(authztest.WithAlgorithms("ES256"), authztest.WithAudience("https://api.example.com"))
	if err := issuer.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = issuer.Close() })
	a, b := newReplica(t, issuer, ca), newReplica(t, issuer, ca)
	cert, key := ca.files("envoy", "envoy.test")
	e := newEdge(t, a.GRPC, func(bootstrap tree) {
		cluster := within(bootstrap, "static_resources", "clusters", "0").(tree)
		host, port, _ := strings.Cut(b.GRPC, ":")
		group := within(cluster, "load_assignment", "endpoints", "0").(tree)
		group["lb_endpoints"] = append(group["lb_endpoints"].([]any), tree{"endpoint": tree{"address": tree{"socket_address": tree{"address": host, "port_value": port}}}})
		// For the test to be short. By default Envoy's workers learn up to
		// a second late which replica is healthy: whoever stops the second
		// one within that second after the first came back stops both.
		within(cluster, "health_checks", "0").(tree)["interval"] = "1s"
		cluster["common_lb_config"] = tree{"update_merge_window": "0s"}
		cluster["transport_socket"] = tree{"name": "envoy.transport_sockets.tls", "typed_config": tree{
			"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
			"common_tls_context": tree{
				// The calls themselves say so without it, the health
				// checks do not, and then grpc-go takes no handshake.
				"alpn_protocols":   []any{"h2"},
				"tls_certificates": []any{tree{"certificate_chain": tree{"inline_string": cert}, "private_key": tree{"inline_string": key}}},
				"validation_context": tree{
					"trusted_ca":                    tree{"inline_string": ca.pem},
					"match_typed_subject_alt_names": []any{tree{"san_type": "DNS", "matcher": tree{"exact": "sallyport.internal"}}},
				},
			},
		}}
	})
	w := a.world
	current, stop := load(e, w.token("bob", "clerk"), w.token("eve", "guest"))
	defer stop()

	keyless := int64(0) // how many of that a phase may have
	phase := func(name string, do func()) {
		t.Helper()
		count := new(tally)
		current.Store(count)
		start := time.Now()
		eventually(t, "load", func() bool { return count.allowed.Load() > 50 && count.denied.Load() > 50 })
		do()
		since := count.allowed.Load()
		eventually(t, "load after it", func() bool { return count.allowed.Load() > since+50 })
		t.Logf("%-34s %5d allowed, %5d denied, %d wrongly allowed, %d wrongly refused, %d by a process without keys, in %v",
			name, count.allowed.Load(), count.denied.Load(), count.wronglyAllowed.Load(), count.refused.Load(), count.keyless.Load(), time.Since(start).Round(time.Millisecond))
		if count.wronglyAllowed.Load() > 0 || count.refused.Load() > 0 || count.keyless.Load() > keyless {
			t.Errorf("%s: the first wrong answer: %s", name, count.first)
			for _, line := range e.envoy.Log.Lines() {
				if strings.Contains(line, `"status":503`) {
					t.Logf("envoy said: %s", line)
					break
				}
			}
		}
	}
	both := func(do func(r *replica)) {
		for _, r := range []*replica{a, b} {
			do(r)
		}
	}
	phase("nothing", func() {})
	phase("policies reloaded, ten times", func() {
		for i := range 10 {
			both(func(r *replica) {
				r.write("policy.csv", fmt.Sprintf("%sp, role:new%d, /orders, GET\n", rbacRules, i))
				_ = r.Signal(syscall.SIGHUP)
			})
			time.Sleep(50 * time.Millisecond) // between two changes, not for them
		}
	})
	phase("a policy that does not load", func() {
		both(func(r *replica) {
			r.write("policy.csv", "p, role:clerk\n")
			_ = r.Signal(syscall.SIGHUP)
			r.said("reload refused")
			r.write("policy.csv", rbacRules)
		})
	})
	phase("configuration reloaded", func() {
		both(func(r *replica) { r.write("sallyport.yaml", r.text("2")) })
		bob := [][2]string{{"authorization", w.token("bob", "clerk")}}
		eventually(t, "the new version at both", func() bool {
			for range 4 { // in turn
				if got := e.h1(call{target: "/orders", headers: bob}); got.header.Get("x-version") != "2" {
					return false
				}
			}
			return true
		})
	})
	phase("keys of the issuer rotated", func() {
		issuer.Rotate("ES256")
		if got := e.h1(call{target: "/orders", headers: [][2]string{{"authorization", w.token("bob", "clerk")}}}); got.status != 200 {
			t.Errorf("a token of the new key: %d %s", got.status, got.body)
		}
	})
	phase("certificates reloaded", func() {
		both(func(r *replica) {
			before := ca.serial(r)
			cert, key := ca.files("sallyport", "sallyport.internal")
			r.write("server.crt", cert)
			r.write("server.key", key)
			eventually(t, "the new certificate", func() bool { return ca.serial(r) != before })
		})
	})
	phase("one drained and started again", func() {
		if err := a.Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
		a.again()
		e.shares(a)
	})
	phase("the other drained and started again", func() {
		if err := b.Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
		b.again()
		e.shares(b)
	})
	// Envoy does not know yet that the process is another one, and asks it
	// before it has fetched the issuer's keys: a refusal that says so is an
	// answer, which nobody asks a second server about.
	keyless = 1000
	phase("one killed and started again", func() {
		a.Kill()
		a.again()
		e.shares(a)
	})
	keyless = 0
	phase("one stopped for good", func() {
		if err := b.Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
	})
	stop()
}

// serial returns the serial number of the certificate that a replica shows to
// a new connection.
func (a *edgeCA) serial(r *replica) string {
	a.t.Helper()
	config := &tls.Config{ServerName: "sallyport.internal", RootCAs: a.pool(), Certificates: []tls.Certificate{*a.issue("envoy", "envoy.test")}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	conn, err := (&tls.Dialer{Config: config}).DialContext(a.t.Context(), "tcp", r.GRPC)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}
