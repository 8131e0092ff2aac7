//go:build linux

package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// A runner is a server whose processor time is measured.
type runner struct {
	name string
	*harness.Sallyport
	ask authv3.AuthorizationClient
}

// spent is the processor time of the process so far, of all its threads. The
// kernel counts it in nanoseconds there, and in hundredths of a second in stat.
func (r *runner) spent(b *testing.B) time.Duration {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", r.PID()))
	if err != nil || len(files) == 0 {
		b.Fatalf("no schedstat of process %d: %v", r.PID(), err)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err) // the runtime ends no thread of ours
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// run asks n times, by 32 callers, and returns the processor time and the wait
// of one check. As behind Envoy each call has a parent span, and Envoy chose
// one in a hundred to be sampled.
func (r *runner) run(b *testing.B, n int64, m *authv3.CheckRequest) (cpu, wait time.Duration) {
	b.Helper()
	const callers = 32
	parents := [2]context.Context{}
	for flag := range parents {
		parents[flag] = metadata.AppendToOutgoingContext(b.Context(), "traceparent", fmt.Sprintf("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-%02d", flag))
	}
	var next, waited atomic.Int64
	var work sync.WaitGroup
	before := r.spent(b)
	for range callers {
		work.Go(func() {
			for {
				i := next.Add(1)
				if i > n {
					return
				}
				ctx := parents[0]
				if i%100 == 0 {
					ctx = parents[1]
				}
				start := time.Now()
				resp, err := r.ask.Check(ctx, m)
				if err != nil || resp.GetStatus().GetCode() != 0 {
					b.Errorf("%s: %v %v", r.name, resp, err)
					return
				}
				waited.Add(int64(time.Since(start)))
			}
		})
	}
	work.Wait()
	return (r.spent(b) - before) / time.Duration(n), time.Duration(waited.Load() / n)
}

// BenchmarkEvidence compares what a check costs the whole server, in processor
// time: without records and traces, with records (async) and one trace in a
// hundred, and with records that are required. The three take turns, so that
// what else the machine does meets all of them; ratios are medians of turns.
//
// The target is a ratio of 1.1 for async. Records that are required cost half
// as much again as a check without, in processor time, and the wait for the
// disk.
func BenchmarkEvidence(b *testing.B) {
	const turns, checks = 25, 1200
	dir := b.TempDir()
	binary := filepath.Join(dir, "sallyport")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, top+"/cmd/sallyport").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out) // TestMain's has the race detector in it
	}
	issuer := authztest.NewIssuer(authztest.WithAlgorithms("ES256"), authztest.WithAudience("https://api.example.com"))
	if err := issuer.Listen(""); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = issuer.Close() }()
	spans := &sink{spans: map[string][]*tracev1.Span{}}
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, spans)
	go func() { _ = server.Serve(listener) }() // until Stop
	defer server.Stop()

	var runners []*runner
	for _, v := range []struct {
		name, audit string
		env         []string
	}{
		{"off", `{file: none}`, nil},
		{"async", `{file: audit.jsonl}`, traced(listener.Addr().String())},
		{"required", `{file: audit.jsonl, mode: required}`, traced(listener.Addr().String())},
	} {
		runners = append(runners, startRunner(b, binary, filepath.Join(dir, v.name), v.name, `
server:`+quick+`
issuers:
  - {name: corp, issuer: "`+issuer.URL()+`", audiences: ["https://api.example.com"]}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - name: orders
    match: [/orders, "/orders/{order}"]
    policy: api
    onAllow: {requestHeaders: {set: {x-user: subject.sub, x-roles: 'subject.roles.join(",")'}, remove: [cookie]}, responseHeaders: {set: {x-decision: decision.id}}}
audit: `+v.audit+"\n", v.env))
	}
	m := browser("Bearer " + issuer.Mint(map[string]any{"sub": "bob", "roles": []string{"clerk"}}))
	for _, r := range runners {
		r.run(b, checks, m) // fills caches
	}

	for b.Loop() {
		cpu, waits, ratio := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
		for turn := range turns {
			var off float64
			this := map[string]float64{}
			for i := range runners {
				r := runners[(turn+i)%len(runners)]
				spent, wait := r.run(b, checks, m)
				this[r.name] = float64(spent)
				cpu[r.name] = append(cpu[r.name], float64(spent)/1e3)
				waits[r.name] = append(waits[r.name], float64(wait)/1e6)
			}
			off = this["off"]
			for name, spent := range this {
				ratio[name] = append(ratio[name], spent/off)
			}
		}
		for _, r := range runners {
			b.ReportMetric(median(cpu[r.name]), r.name+"-cpu-µs/check")
			b.ReportMetric(median(waits[r.name]), r.name+"-wait-ms/check")
		}
		b.ReportMetric(median(ratio["async"]), "async/off")
		b.ReportMetric(median(ratio["required"]), "required/off")
	}
	b.ReportMetric(0, "ns/op") // says nothing here
	for _, r := range runners[1:] {
		text, err := os.ReadFile(filepath.Join(dir, r.name, "audit.jsonl"))
		if n := bytes.Count(text, []byte(`"decision_id"`)); err != nil || n < turns*checks {
			b.Errorf("%s: %d records, %v", r.name, n, err)
		}
	}
	spans.mu.Lock()
	defer spans.mu.Unlock()
	if n := len(spans.spans["sallyport"]); n == 0 {
		b.Error("no span arrived")
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func startRunner(b *testing.B, binary, dir, name, config string, env []string) *runner {
	b.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	for file, text := range map[string]string{"model.conf": rbacModel, "policy.csv": rbacRules, "sallyport.yaml": config} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	s, err := harness.StartSallyport(ctx, binary, filepath.Join(dir, "sallyport.yaml"), dir, append([]string{"PATH=" + os.Getenv("PATH")}, env...))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Kill)
	if err := s.AwaitReady(ctx); err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &runner{name, s, authv3.NewAuthorizationClient(conn)}
}

// browser is what Envoy asks on behalf of a browser.
func browser(authorization string) *authv3.CheckRequest {
	p := &planting{method: "GET", target: "/orders/7?page=2", host: "api.example.com"}
	for _, line := range strings.Split(strings.TrimSpace(`
sec-ch-ua: "Chromium";v="141", "Not?A_Brand";v="8"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Linux"
user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36
accept: application/json, text/plain, */*
sec-fetch-site: same-origin
sec-fetch-mode: cors
sec-fetch-dest: empty
accept-encoding: gzip, deflate, br, zstd
accept-language: en-GB,en;q=0.9
cookie: theme=dark
referer: https://api.example.com/
x-forwarded-for: 192.0.2.7
x-forwarded-proto: https
x-request-id: 7b6c4f0e-1f0a-4c6b-9d9e-2b1f4f6a7c11
authorization: `+authorization), "\n") {
		name, value, _ := strings.Cut(line, ": ")
		p.headers = append(p.headers, [2]string{name, value})
	}
	return p.message()
}
