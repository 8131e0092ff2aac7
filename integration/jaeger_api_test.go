//go:build jaeger

package integration

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// A jaeger is a real Jaeger that keeps traces in memory.
type jaeger struct {
	t    *testing.T
	api  string // URL of its pages and its API
	otlp string // HOST:PORT for spans by OTLP over gRPC
}

// startJaeger runs Jaeger on free ports of 127.0.0.1. It does not say which
// ports it got, so it is told; where another process takes one meanwhile, it
// is told others.
func startJaeger(t *testing.T) *jaeger {
	t.Helper()
	binary := need(t, top+"/.tools/jaeger", nil)
	var said string
	for range 3 {
		// Everything that it listens on: what is not named is on every address.
		at := freePorts(t, "query.http-server", "query.grpc-server", "collector.otlp.grpc", "collector.otlp.http",
			"collector.grpc-server", "collector.http-server", "admin.http")
		args := []string{"--memory.max-traces", "10000", "--log-level", "warn"}
		for name, addr := range at {
			args = append(args, "--"+name+".host-port", addr)
		}
		p, err := harness.Start("jaeger", filepath.Join(t.TempDir(), "jaeger.log"),
			[]string{"OTEL_TRACES_SAMPLER=always_off"}, // of its own work
			binary, args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		j := &jaeger{t: t, api: "http://" + at["query.http-server"], otlp: at["collector.otlp.grpc"]}
		if j.await(p, "http://"+at["admin.http"]) {
			return j
		}
		said = p.Log.Tail(5)
	}
	t.Fatalf("jaeger does not start: %s", said)
	return nil
}

// freePorts returns an address on loopback for each name.
func freePorts(t *testing.T, names ...string) map[string]string {
	t.Helper()
	at := make(map[string]string, len(names))
	for _, name := range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }() // when all are known, so that they differ
		at[name] = ln.Addr().String()
	}
	return at
}

// await waits until Jaeger is ready. It is false where Jaeger ended instead.
func (j *jaeger) await(p *harness.Process, admin string) bool {
	j.t.Helper()
	ready, ended := false, false
	eventually(j.t, "jaeger is ready", func() bool {
		select {
		case <-p.Done():
			ended = true
		default:
			if resp, err := client.Get(admin + "/"); err == nil {
				_ = resp.Body.Close()
				ready = resp.StatusCode == http.StatusOK
			}
		}
		return ready || ended
	})
	return ready
}

// ask gets a page of the API.
func (j *jaeger) ask(path string, query url.Values, data any) {
	j.t.Helper()
	resp, err := client.Get(j.api + path + "?" + query.Encode())
	if err != nil {
		j.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer := struct{ Data any }{data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		j.t.Fatalf("jaeger answers %d to %s: %v", resp.StatusCode, path, err)
	}
}

// search returns the traces in which a span of Sallyport has all of these
// tags, as the search form of Jaeger's pages does.
func (j *jaeger) search(tags map[string]string) (found []jaegerTrace) {
	j.t.Helper()
	text, err := json.Marshal(tags)
	if err != nil {
		j.t.Fatal(err)
	}
	j.ask("/api/traces", url.Values{"service": {"sallyport"}, "tags": {string(text)}, "limit": {"100"}}, &found)
	return found
}

// find waits for the one trace with these tags in which n spans have arrived:
// Envoy and Sallyport send theirs at different times.
func (j *jaeger) find(tags map[string]string, n int) (found jaegerTrace) {
	j.t.Helper()
	var last []jaegerTrace
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if last = j.search(tags); len(last) == 1 && len(last[0].Spans) >= n {
			return last[0]
		}
	}
	j.t.Fatalf("want one trace of %d spans with %v, found %d:\n%v", n, tags, len(last), last)
	return jaegerTrace{}
}

// A jaegerTrace is one of Jaeger's.
type jaegerTrace struct {
	ID        string `json:"traceID"`
	Spans     []jaegerSpan
	Processes map[string]struct{ ServiceName string }
}

type jaegerSpan struct {
	ID         string `json:"spanID"`
	Name       string `json:"operationName"`
	Process    string `json:"processID"`
	References []jaegerReference
	Tags       []struct {
		Key   string
		Value any
	}
}

// A jaegerReference is a parent or a link.
type jaegerReference struct {
	Type  string `json:"refType"` // CHILD_OF; FOLLOWS_FROM is a link
	Trace string `json:"traceID"`
	Span  string `json:"spanID"`
}

// tag returns a tag as text, empty where there is none.
func (s jaegerSpan) tag(key string) string {
	for _, t := range s.Tags {
		if t.Key == key {
			return fmt.Sprint(t.Value)
		}
	}
	return ""
}

// refers returns the first reference of a type.
func (s jaegerSpan) refers(kind string) jaegerReference {
	for _, r := range s.References {
		if r.Type == kind {
			return r
		}
	}
	return jaegerReference{}
}

// String draws the tree, a line for each span: its service, its name and its
// kind.
func (t jaegerTrace) String() string {
	here, children := map[string]bool{}, map[string][]jaegerSpan{}
	for _, s := range t.Spans {
		here[s.ID] = true
	}
	for _, s := range t.Spans {
		parent := s.refers("CHILD_OF").Span
		if !here[parent] { // a root, or a child of the client's span, which is not in Jaeger
			parent = ""
		}
		children[parent] = append(children[parent], s)
	}
	var b strings.Builder
	var draw func(parent, indent string)
	draw = func(parent, indent string) {
		spans := children[parent]
		slices.SortFunc(spans, func(x, y jaegerSpan) int { return cmp.Compare(x.Name, y.Name) })
		for _, s := range spans {
			fmt.Fprintf(&b, "%s%s %s %s\n", indent, t.Processes[s.Process].ServiceName, s.Name, s.tag("span.kind"))
			draw(s.ID, indent+"  ")
		}
	}
	draw("", "")
	return b.String()
}

// check returns Sallyport's server span.
func (t jaegerTrace) check(test *testing.T) jaegerSpan {
	test.Helper()
	for _, s := range t.Spans {
		if s.Name == "envoy.service.auth.v3.Authorization/Check" {
			return s
		}
	}
	test.Fatalf("no check in\n%v", t)
	return jaegerSpan{}
}
