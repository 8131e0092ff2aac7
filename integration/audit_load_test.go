package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// Files are rotated under load, by rename and SIGHUP, and in all of them
// together every request that was answered has exactly one record.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	w := newTrial(t, trial{config: `
server:` + quick + `
issuers:
  - {name: corp, issuer: "ISSUER", audiences: ["https://api.example.com"]}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {name: orders, match: /orders, policy: api, onAllow: {responseHeaders: {set: {x-decision: decision.id}}}}
audit: {file: audit.jsonl, mode: required}
`})
	bob := w.token("bob", "clerk")
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	callers := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	var mu sync.Mutex
	answered := map[string]bool{}
	var count atomic.Int64
	done := make(chan struct{})
	var workers sync.WaitGroup
	stop := sync.OnceFunc(func() { close(done); workers.Wait() })
	defer stop()
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
				req, err := http.NewRequestWithContext(t.Context(), method, "http://"+w.envoy.Listener+"/orders", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", bob)
				resp, err := callers.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				id := decisionOf(resp, string(body))
				if err != nil || resp.StatusCode != want || id == "" {
					t.Errorf("%s: %d %s, %v", method, resp.StatusCode, body, err)
					return
				}
				mu.Lock()
				answered[id] = true
				mu.Unlock()
				count.Add(1)
			}
		})
	}
	current, files := w.path("audit.jsonl"), []string{w.path("audit.jsonl")}
	for n := range 5 {
		since := count.Load()
		eventually(t, "load", func() bool { return count.Load() > since+50 })
		old := fmt.Sprintf("%s.%d", current, n)
		if err := os.Rename(current, old); err != nil {
			t.Fatal(err)
		}
		files = append(files, old)
		if err := w.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a new file", func() bool {
			_, err := os.Stat(current)
			return !errors.Is(err, fs.ErrNotExist)
		})
	}
	since := count.Load()
	eventually(t, "load", func() bool { return count.Load() > since+50 })
	stop()

	decisions, _ := facts(t, files...)
	records := byID(t, decisions)
	var missing []string
	for id := range answered {
		if _, ok := records[id]; !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d of %d answers have no record, %s among them", len(missing), len(answered), missing[0])
	}
	// Envoy may have asked twice, on a machine that stalls.
	if stats, err := w.envoy.Get(t.Context(), "/stats?filter=cluster.authz.upstream_rq_retry$"); err != nil {
		t.Error(err)
	} else if strings.TrimSpace(stats) == "cluster.authz.upstream_rq_retry: 0" && len(records) != len(answered) {
		t.Errorf("%d records of %d answers", len(records), len(answered))
	}
	t.Logf("%d answers in %d files", len(answered), len(files))
}

// A flood of refusals meets an audit log that nobody reads: answers keep
// flowing, the queue stays as short as it was configured, and every decision
// is either recorded or counted as lost.
func TestFloodOfRefusals(t *testing.T) {
	t.Parallel()
	const flood, through = 5000, 200 // through Envoy in the middle of it
	var reader *os.File
	w := newTrial(t, trial{
		config: `
server:` + quick + `
issuers:
  - {name: corp, issuer: "ISSUER", audiences: ["https://api.example.com"], keys: {refresh: 1h}}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {name: orders, match: /orders, policy: api, onAllow: {responseHeaders: {set: {x-decision: decision.id}}}}
audit: {file: audit.pipe, queue: 100}
`,
		ready: func(w *world) {
			if err := syscall.Mkfifo(w.path("audit.pipe"), 0o600); err != nil {
				t.Fatal(err)
			}
			var err error // both ways, so that opening it does not wait
			if reader, err = os.OpenFile(w.path("audit.pipe"), os.O_RDWR, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = reader.Close() })
		},
	})
	conn := w.direct()
	ask := authv3.NewAuthorizationClient(conn)
	m := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Host: "api.example.com", Path: "/orders"},
	}}}
	var left atomic.Int64
	left.Store(flood)
	var callers sync.WaitGroup
	start := time.Now()
	for range 64 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				resp, err := ask.Check(ctx, m)
				cancel()
				if reason := resp.GetDynamicMetadata().GetFields()["reason"].GetStringValue(); err != nil || reason != "no_credential" {
					t.Errorf("%q %v", reason, err)
					return
				}
			}
		})
	}
	for range through {
		if resp, body := w.ask("GET", "/orders"); resp.StatusCode != 401 || !strings.Contains(body, `"no_credential"`) {
			t.Errorf("through Envoy: %d %s", resp.StatusCode, body)
		}
	}
	callers.Wait()
	took := time.Since(start)
	dropped := int(w.counted("authz_audit_dropped_total"))
	decided := int(w.counted("authz_decisions_total"))
	t.Logf("%d decisions in %v, %d dropped", decided, took, dropped)
	// The pipe holds 64 KiB, which is a hundred records, one write is under
	// way, and the queue holds a hundred.
	if decided < flood+through || dropped < decided-500 {
		t.Errorf("%d decisions, %d dropped; want %d and nearly all", decided, dropped, flood+through)
	}
	w.said("audit records are lost", "queue is full")

	// Whoever reads again finds what was not counted as lost, whole, and the
	// records of what comes now.
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(reader); in.Scan(); {
			select {
			case lines <- in.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()
	var text strings.Builder
	found := 0
	read := func() {
		select {
		case line := <-lines:
			text.WriteString(line + "\n")
			if strings.Contains(line, `"decision_id"`) {
				found++
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%d records and %d dropped of %d decisions, and no more come", found, dropped, decided)
		}
	}
	for found < decided-dropped {
		read()
	}
	resp, body := w.ask("GET", "/orders", "Authorization", w.token("bob", "clerk"))
	id := decisionOf(resp, body)
	if resp.StatusCode != 200 {
		t.Errorf("after the flood: %d %s", resp.StatusCode, body)
	}
	for !strings.Contains(text.String(), id) {
		read()
	}
	decided = int(w.counted("authz_decisions_total")) // Envoy may have asked twice
	for found < decided-dropped {
		read()
	}
	w.write("read.jsonl", text.String())
	decisions, _ := facts(t, w.path("read.jsonl"))
	byID(t, decisions)
	if again := int(w.counted("authz_audit_dropped_total")); len(decisions)+again != decided {
		t.Errorf("%d records and %d dropped of %d decisions", len(decisions), again, decided)
	}
}
