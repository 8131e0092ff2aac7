package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Where a Jaeger on this machine is, unless somebody says otherwise.
const (
	usualCollector = "127.0.0.1:4317" // OTLP over gRPC
	usualJaeger    = "http://127.0.0.1:16686"
)

// traces says where spans go and where to look at them.
type traces struct {
	collector string   // where Envoy sends spans, IP:PORT
	env       []string // for Sallyport, beside what the demo was started with
	endpoint  string   // where Sallyport sends its own, empty for nowhere
	jaeger    string   // URL of its pages, empty where none answers
}

// findTraces follows the OTEL_* environment as Sallyport does. Where that says
// nothing, a Jaeger that is there is used.
func findTraces(ctx context.Context, jaeger, collector string) traces {
	endpoint := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	t := traces{collector: collector, endpoint: endpoint}
	if endpoint != "" {
		t.collector = grpcCollector(endpoint, cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")), collector)
	}
	if !answers(ctx, jaeger) {
		return t
	}
	t.jaeger = strings.TrimSuffix(jaeger, "/")
	asked := endpoint + os.Getenv("OTEL_TRACES_EXPORTER") + os.Getenv("OTEL_SDK_DISABLED")
	if asked == "" && listens(ctx, collector) {
		t.endpoint = "http://" + collector
		t.env = []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=" + t.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
			"OTEL_METRICS_EXPORTER=none", // Jaeger takes none
		}
	}
	return t
}

// grpcCollector returns where Envoy, which speaks OTLP over gRPC, finds the
// collector that Sallyport was told of. One that takes HTTP usually takes gRPC
// at the usual port. Envoy's cluster takes addresses and no names.
func grpcCollector(endpoint, protocol, usual string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return usual
	}
	host, port := u.Hostname(), u.Port()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if protocol != "grpc" || port == "" {
		_, port, _ = net.SplitHostPort(usual) // a constant, or a test's
	}
	if net.ParseIP(host) == nil {
		return usual
	}
	return net.JoinHostPort(host, port)
}

// answers reports whether a Jaeger is there.
func answers(ctx context.Context, jaeger string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(jaeger, "/")+"/api/services", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode == http.StatusOK
}

// listens reports whether anything takes connections there.
func listens(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// say tells where to look.
func (t traces) say(w io.Writer) {
	if t.endpoint == "" {
		fmt.Fprint(w, `Traces:                          nowhere yet. A Jaeger on this machine is found when the demo starts; another
                                 collector has to be named: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317
                                 and OTEL_EXPORTER_OTLP_PROTOCOL=grpc
`)
		return
	}
	fmt.Fprintf(w, "Traces:                          to OTEL_EXPORTER_OTLP_ENDPOINT=%s, Envoy's to %s\n", t.endpoint, t.collector)
	if t.jaeger != "" {
		tags := url.Values{"service": {"sallyport"}, "tags": {`{"authz.reason":"not_permitted"}`}}
		fmt.Fprintf(w, "Refusals in Jaeger:              %s/search?%s\n", t.jaeger, tags.Encode())
	}
}
