package integration

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// A sink is a trace collector in this process.
type sink struct {
	collector.UnimplementedTraceServiceServer
	addr string
	wait time.Duration // before each answer

	mu    sync.Mutex
	spans map[string][]*tracev1.Span // by service
}

func newSink(t *testing.T, wait time.Duration) *sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{addr: ln.Addr().String(), wait: wait, spans: map[string][]*tracev1.Span{}}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	go func() { _ = server.Serve(ln) }() // until Stop
	t.Cleanup(server.Stop)
	return s
}

func (s *sink) Export(ctx context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	select {
	case <-time.After(s.wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range r.GetResourceSpans() {
		service := attr(rs.GetResource().GetAttributes(), "service.name")
		for _, ss := range rs.GetScopeSpans() {
			s.spans[service] = append(s.spans[service], ss.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func attr(attrs []*commonv1.KeyValue, key string) string {
	for _, a := range attrs {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// find waits for a span of a service.
func (s *sink) find(t *testing.T, service string, match func(*tracev1.Span) bool) *tracev1.Span {
	t.Helper()
	var found *tracev1.Span
	eventually(t, "span of "+service, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, span := range s.spans[service] {
			if match(span) {
				found = span
				return true
			}
		}
		return false
	})
	return found
}

func traced(addr string) []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + addr, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_METRICS_EXPORTER=none",
	}
}

// One server span a check: a child of the span that Envoy made for the call,
// linked to the client's own, with the decision on it.
func TestTrace(t *testing.T) {
	t.Parallel()
	s := newSink(t, 0)
	w := newWorld(t, setup{env: traced(s.addr), otel: s.addr})
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	resp, _ := w.ask("POST", "/orders?secret=1", "Authorization", w.token("bob", "clerk"), "traceparent", "00-"+trace+"-"+parent+"-01")
	if resp.StatusCode != 403 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	check := s.find(t, "sallyport", func(sp *tracev1.Span) bool { return attr(sp.GetAttributes(), "authz.reason") == "not_permitted" })
	if check.GetName() != "envoy.service.auth.v3.Authorization/Check" || check.GetKind() != tracev1.Span_SPAN_KIND_SERVER {
		t.Errorf("span %q of kind %v", check.GetName(), check.GetKind())
	}
	if got := hex.EncodeToString(check.GetTraceId()); got != trace {
		t.Errorf("trace %s, want %s", got, trace)
	}
	egress := s.find(t, "envoy", func(sp *tracev1.Span) bool { return string(sp.GetSpanId()) == string(check.GetParentSpanId()) })
	if got := egress.GetKind(); got != tracev1.Span_SPAN_KIND_CLIENT {
		t.Errorf("the parent is Envoy's span of kind %v, want its call", got)
	}
	if len(check.GetLinks()) != 1 || hex.EncodeToString(check.GetLinks()[0].GetSpanId()) != parent {
		t.Errorf("links %v, want the client's span", check.GetLinks())
	}
	for key, want := range map[string]string{
		"authz.decision": "deny", "authz.detail": "no_rule_matched", "authz.route": "orders", "authz.policy": "api",
		"authz.token.cache": "miss", "http.request.method": "POST", "url.path": "/orders", "client.address": "127.0.0.1",
	} {
		if got := attr(check.GetAttributes(), key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if id := attr(check.GetAttributes(), "authz.decision.id"); len(id) != 32 {
		t.Errorf("authz.decision.id %q", id)
	}
	if got := attr(check.GetAttributes(), "user.hash"); got == "" {
		t.Error("no user.hash")
	}
	if check.GetStatus().GetCode() != tracev1.Status_STATUS_CODE_UNSET {
		t.Errorf("a denial has status %v", check.GetStatus())
	}
	for _, name := range []string{"authz.authenticate", "authz.evaluate"} {
		child := s.find(t, "sallyport", func(sp *tracev1.Span) bool {
			return sp.GetName() == name && string(sp.GetTraceId()) == string(check.GetTraceId())
		})
		if string(child.GetParentSpanId()) != string(check.GetSpanId()) {
			t.Errorf("%s is not a child of the check", name)
		}
	}

	resp, _ = w.ask("GET", "/orders", "Authorization", w.token("bob", "clerk"))
	allow := s.find(t, "sallyport", func(sp *tracev1.Span) bool {
		return attr(sp.GetAttributes(), "authz.decision.id") == resp.Header.Get("x-decision")
	})
	if got := attr(allow.GetAttributes(), "authz.policy.rule"); got != "policy.csv:1" {
		t.Errorf("rule %q", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spans["sallyport"] {
		if sp.GetName() == "grpc.health.v1.Health/Check" {
			t.Error("a health check is traced")
		}
	}
}

// A collector that is missing, slow or hangs costs no decision anything.
func TestCollectorCostsNothing(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]string{"missing": "127.0.0.1:9", "slow": newSink(t, time.Second).addr, "hanging": newSink(t, time.Hour).addr} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{env: append(traced(addr), "OTEL_BSP_MAX_QUEUE_SIZE=8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=4"), otel: addr})
			bob := w.token("bob", "clerk")
			start := time.Now()
			for range 100 { // far more than the queue holds
				if resp, body := w.ask("GET", "/orders", "Authorization", bob); resp.StatusCode != 200 {
					t.Fatalf("%d %s", resp.StatusCode, body)
				}
			}
			// Each request would take the exporter's ten seconds if one waited.
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("100 requests took %v", d)
			}
			if err := w.Stop(10 * time.Second); err != nil {
				t.Errorf("the drain waits for the collector: %v", err)
			}
		})
	}
}
