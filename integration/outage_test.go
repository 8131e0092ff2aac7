package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz/authztest"
)

// An issuer that is down, or hangs, at the start costs only the requests that
// need it, and mends by itself.
func TestIssuerDownAtTheStart(t *testing.T) {
	t.Parallel()
	for _, fault := range []authztest.Kind{authztest.ServerError, authztest.Hang, authztest.HTML, authztest.Huge, authztest.EmptyObject, authztest.Redirect} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, dir: t.TempDir(), issuer: authztest.NewIssuer(authztest.WithAudience("https://api.example.com"))}
			if err := w.issuer.Listen(""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = w.issuer.Close() })
			w.issuer.Break(authztest.Fault{Kind: fault, Location: "http://127.0.0.1:9/elsewhere"})
			w.start(setup{noWait: true, issuer: `, keys: {timeout: 500ms, cooldown: 100ms}`})

			if status, _, err := w.Get(t.Context(), "/readyz"); err != nil || status != http.StatusServiceUnavailable {
				t.Errorf("/readyz %d %v", status, err)
			}
			resp, body := w.ask("GET", "/orders", "Authorization", w.token("bob", "clerk"))
			if resp.StatusCode != 503 || !strings.Contains(body, "issuer_unavailable") || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Www-Authenticate") != "" {
				t.Errorf("with a token: %d %s, %v", resp.StatusCode, body, resp.Header)
			}
			if resp, body := w.ask("GET", "/orders"); resp.StatusCode != 401 {
				t.Errorf("without a token: %d %s", resp.StatusCode, body)
			}
			if resp, body := w.ask("GET", "/healthz"); resp.StatusCode != 200 {
				t.Errorf("where no token is needed: %d %s", resp.StatusCode, body)
			}
			w.issuer.Heal()
			eventually(t, "ready", func() bool {
				status, _, err := w.Get(context.Background(), "/readyz")
				return err == nil && status == http.StatusOK
			})
			if resp, body := w.ask("GET", "/orders", "Authorization", w.token("bob", "clerk")); resp.StatusCode != 200 {
				t.Errorf("after it came back: %d %s", resp.StatusCode, body)
			}
		})
	}
}

// An outage after the start is not seen at all: the last good keys decide, and
// the server stays ready.
func TestIssuerDownLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{issuer: `, keys: {refresh: 100ms, timeout: 200ms}`})
	w.issuer.Break(authztest.Fault{Kind: authztest.ServerError})
	w.said("keys were not refreshed")
	if resp, body := w.ask("GET", "/orders", "Authorization", w.token("bob", "clerk")); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if status, _, err := w.Get(t.Context(), "/readyz"); err != nil || status != http.StatusOK {
		t.Errorf("/readyz %d %v", status, err)
	}
}

// Keys that rotate, and keys that are withdrawn, take effect through Envoy.
func TestRotationAndWithdrawal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{issuer: `, keys: {refresh: 150ms, cooldown: 100ms}`})
	get := func(token string) int {
		resp, _ := w.ask("GET", "/orders", "Authorization", token)
		return resp.StatusCode
	}
	old := w.token("bob", "clerk")
	if got := get(old); got != 200 {
		t.Fatalf("got %d", got)
	}
	before := w.issuer.Key("ES256")
	w.issuer.Rotate("ES256")
	if got := get(w.token("bob", "clerk")); got != 200 {
		t.Errorf("a token of the new key: %d", got)
	}
	if got := get(old); got != 200 {
		t.Errorf("a token of the old key, still in the set: %d", got)
	}
	w.issuer.Withdraw(before)
	eventually(t, "a withdrawn key is not believed", func() bool { return get(old) == 401 })
	if got := get(w.token("bob", "clerk")); got != 200 {
		t.Errorf("a token of the key that stays: %d", got)
	}
}

// Forged tokens cause no more fetches than the cooldown allows.
func TestForgeriesCauseNoFetches(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{issuer: `, keys: {cooldown: 1h, refresh: 1h}`})
	before := w.issuer.Fetches()
	forged := w.token("bob", "clerk")
	forged = forged[:len(forged)-8] + "AAAAAAAA"
	for range 20 {
		if resp, _ := w.ask("GET", "/orders", "Authorization", forged); resp.StatusCode != 401 {
			t.Fatalf("a forged token: %d", resp.StatusCode)
		}
	}
	for n := range 20 {
		unknown := "Bearer " + w.issuer.Mint(map[string]any{"sub": "bob"}, authztest.Header("kid", fmt.Sprint("unknown", n)))
		if resp, _ := w.ask("GET", "/orders", "Authorization", unknown); resp.StatusCode != 401 {
			t.Fatalf("a token with an unknown key: %d", resp.StatusCode)
		}
	}
	if got := w.issuer.Fetches() - before; got > 1 {
		t.Errorf("%d fetches, at most one in a cooldown", got)
	}
}

// A traffic is what eight callers at once were answered.
type traffic struct {
	mayFail  atomic.Bool  // nobody may be there to ask: 503 is a true answer too
	gone     atomic.Bool  // nobody is there: an allow would be wrong
	answered atomic.Int64 // as the policy says
	refused  atomic.Int64 // 503
}

// hammer asks, over connections that stay, until stop. Any answer but the true
// one fails the test, and so does a connection that breaks.
func hammer(w *world) (tr *traffic, stop func()) {
	t, bob := w.t, w.token("bob", "clerk")
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	callers := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	tr = &traffic{}
	var workers sync.WaitGroup
	done := make(chan struct{})
	for n := range 8 {
		method, want := "GET", 200
		if n%2 == 1 {
			method, want = "POST", 403
		}
		workers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				over := tr.gone.Load() // before the request was made
				req, err := http.NewRequestWithContext(t.Context(), method, "http://"+w.envoy.Listener+"/orders", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", bob)
				resp, err := callers.Do(req)
				if err != nil {
					t.Errorf("reset: %v", err)
					return
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				switch {
				case resp.StatusCode == 503 && tr.mayFail.Load():
					tr.refused.Add(1)
				case resp.StatusCode == want && (!over || want != 200):
					tr.answered.Add(1)
				default:
					t.Errorf("%s: %d %s", method, resp.StatusCode, body)
					return
				}
			}
		})
	}
	return tr, sync.OnceFunc(func() {
		close(done)
		workers.Wait()
		transport.CloseIdleConnections()
	})
}

// SIGTERM under load: every check in flight gets its true answer, the process
// exits with 0, and once it is gone nothing passes.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	tr, stop := hammer(w)
	defer stop()
	eventually(t, "load", func() bool { return tr.answered.Load() > 200 })
	tr.mayFail.Store(true)
	if err := w.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := w.ExitCode(); code != 0 {
		t.Errorf("exit status %d: %s", code, w.Log.Tail(5))
	}
	tr.gone.Store(true)
	eventually(t, "refusals", func() bool { return tr.refused.Load() > 0 })
	stop()
}

// With two replicas behind Envoy, one that goes away costs nobody anything:
// not one request is refused for it.
func TestReplicaDrainsUnderLoad(t *testing.T) {
	t.Parallel()
	first := newWorld(t, setup{noEnvoy: true})
	w := &world{t: t, dir: t.TempDir(), issuer: first.issuer}
	w.start(setup{replicas: []string{first.GRPC}})
	tr, stop := hammer(w)
	defer stop()
	eventually(t, "load", func() bool { return tr.answered.Load() > 200 })
	if err := first.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := first.ExitCode(); code != 0 {
		t.Errorf("exit status %d: %s", code, first.Log.Tail(5))
	}
	since := tr.answered.Load()
	eventually(t, "load after it", func() bool { return tr.answered.Load() > since+200 })
	stop()
}
