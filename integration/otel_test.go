package integration

import (
	"context"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// An Envoy that writes B3 into the metadata of its call, as the Zipkin tracer
// does, is the parent where OTEL_PROPAGATORS says so; where it does not, its
// word is not understood and a new trace begins.
func TestB3(t *testing.T) {
	t.Parallel()
	const trace, parent = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"
	multi := metadata.Pairs("x-b3-traceid", trace, "x-b3-spanid", parent, "x-b3-sampled", "1")
	single := metadata.Pairs("b3", trace+"-"+parent+"-1")
	for _, c := range []struct {
		name, propagators string
		sent              metadata.MD
		child             bool
	}{
		{"multi", "b3multi", multi, true},
		{"single", "b3", single, true},
		{"beside W3C", "tracecontext,baggage,b3multi", multi, true},
		{"not asked for", "", multi, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t, 0)
			env := traced(s.addr)
			if c.propagators != "" {
				env = append(env, "OTEL_PROPAGATORS="+c.propagators)
			}
			w := newWorld(t, setup{noEnvoy: true, env: env})
			conn, err := grpc.NewClient(w.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			ctx := metadata.NewOutgoingContext(t.Context(), c.sent)
			if _, err := authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{}); err != nil {
				t.Fatal(err)
			}
			check := s.find(t, "sallyport", func(sp *tracev1.Span) bool { return attr(sp.GetAttributes(), "authz.reason") == "no_route" })
			gotTrace, gotParent := hex.EncodeToString(check.GetTraceId()), hex.EncodeToString(check.GetParentSpanId())
			if child := gotTrace == trace && gotParent == parent; child != c.child {
				t.Errorf("trace %s, parent %q; child of Envoy's is %v, want %v", gotTrace, gotParent, child, c.child)
			}
		})
	}
}

// A metricSink is a collector of metrics in this process.
type metricSink struct {
	collector.UnimplementedMetricsServiceServer

	mu   sync.Mutex
	last map[string]*metricsv1.Metric // by name
}

func (s *metricSink) Export(_ context.Context, r *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rm := range r.GetResourceMetrics() {
		for _, sm := range rm.GetScopeMetrics() {
			for _, m := range sm.GetMetrics() {
				s.last[m.GetName()] = m
			}
		}
	}
	return &collector.ExportMetricsServiceResponse{}, nil
}

// find waits for a metric that matches.
func (s *metricSink) find(t *testing.T, name string, match func(*metricsv1.Metric) bool) {
	t.Helper()
	eventually(t, "metric "+name, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.last[name] != nil && match(s.last[name])
	})
}

// The instruments of the scrape are pushed by OTLP too where the environment
// says so, under their OpenTelemetry names.
func TestMetricsByOTLP(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &metricSink{last: map[string]*metricsv1.Metric{}}
	server := grpc.NewServer()
	collector.RegisterMetricsServiceServer(server, s)
	go func() { _ = server.Serve(ln) }() // until Stop
	t.Cleanup(server.Stop)
	w := newWorld(t, setup{env: []string{
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://" + ln.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_METRIC_EXPORT_INTERVAL=100",
	}})
	if resp, body := w.ask("POST", "/orders", "Authorization", w.token("bob", "clerk")); resp.StatusCode != 403 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	s.find(t, "authz.decisions", func(m *metricsv1.Metric) bool {
		return slices.ContainsFunc(m.GetSum().GetDataPoints(), func(p *metricsv1.NumberDataPoint) bool {
			a := p.GetAttributes()
			return p.GetAsInt() == 1 && attr(a, "decision") == "deny" && attr(a, "reason") == "not_permitted" && attr(a, "route") == "orders"
		})
	})
	s.find(t, "authz.decision.duration", func(m *metricsv1.Metric) bool {
		return m.GetUnit() == "s" && slices.ContainsFunc(m.GetHistogram().GetDataPoints(), func(p *metricsv1.HistogramDataPoint) bool {
			return p.GetCount() == 1 && p.GetSum() > 0 && p.GetSum() < 10 && attr(p.GetAttributes(), "decision") == "deny"
		})
	})
	s.find(t, "authz.jwks.age", func(m *metricsv1.Metric) bool {
		return m.GetUnit() == "s" && len(m.GetGauge().GetDataPoints()) == 1
	})
	for _, name := range []string{
		"authz.token.validations", "authz.jwks.refresh", "authz.policy.reloads", "authz.policy.age",
		"authz.cache.requests", "authz.audit.dropped",
	} {
		s.find(t, name, func(*metricsv1.Metric) bool { return true })
	}
}

// Whatever answers in a collector's place, decisions are made as ever, and
// one warning tells.
func TestWrongCollector(t *testing.T) {
	t.Parallel()
	wrong, err := harness.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not a collector", http.StatusTeapot)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wrong.Close() })
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{env: append(traced(wrong.Addr), "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol, "OTEL_EXPORTER_OTLP_TIMEOUT=500"), otel: wrong.Addr})
			bob := w.token("bob", "clerk")
			for range 20 {
				if resp, body := w.ask("GET", "/orders", "Authorization", bob); resp.StatusCode != 200 {
					t.Fatalf("%d %s", resp.StatusCode, body)
				}
			}
			w.said("telemetry cannot be exported")
			if err := w.Stop(10 * time.Second); err != nil {
				t.Errorf("the drain waits for the collector: %v", err)
			}
		})
	}
}
