package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// A Jaeger is used where it is there and nobody says otherwise.
func TestFindTraces(t *testing.T) {
	jaeger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/services" {
			http.NotFound(w, r)
		}
	}))
	defer jaeger.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	here, nowhere := ln.Addr().String(), "127.0.0.1:9"
	_, port, _ := net.SplitHostPort(here)
	for _, c := range []struct {
		name              string
		env               map[string]string
		jaeger, collector string
		want              traces
	}{
		{"nothing is there", nil, "http://" + nowhere, nowhere, traces{collector: nowhere}},
		{"found", nil, jaeger.URL + "/", here, traces{
			collector: here, endpoint: "http://" + here, jaeger: jaeger.URL,
			env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + here, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_METRICS_EXPORTER=none"},
		}},
		{"pages and no collector", nil, jaeger.URL, nowhere, traces{collector: nowhere, jaeger: jaeger.URL}},
		{"no Jaeger's pages", nil, jaeger.URL + "/elsewhere", here, traces{collector: here}},
		{"switched off", map[string]string{"OTEL_TRACES_EXPORTER": "none"}, jaeger.URL, here, traces{collector: here, jaeger: jaeger.URL}},
		{"told by gRPC", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:5317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
			jaeger.URL, here, traces{collector: "127.0.0.1:5317", endpoint: "http://localhost:5317", jaeger: jaeger.URL}},
		{"told by HTTP", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.7:4318"},
			jaeger.URL, here, traces{collector: "192.0.2.7:" + port, endpoint: "http://192.0.2.7:4318", jaeger: jaeger.URL}},
		{"told for traces", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://192.0.2.8:1", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.7:4318"}, "http://" + nowhere, here, traces{collector: "192.0.2.8:1", endpoint: "http://192.0.2.8:1"}},
		{"a name", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
			"http://" + nowhere, here, traces{collector: here, endpoint: "http://collector.example:4317"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, v := range []string{
				"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL",
				"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED",
			} {
				t.Setenv(v, c.env[v])
			}
			got := findTraces(context.Background(), c.jaeger, c.collector)
			if got.collector != c.want.collector || got.endpoint != c.want.endpoint || got.jaeger != c.want.jaeger || !slices.Equal(got.env, c.want.env) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			var said strings.Builder
			got.say(&said)
			if link := strings.Contains(said.String(), "/search?service=sallyport&tags="); link != (got.endpoint != "" && got.jaeger != "") {
				t.Errorf("said %q", said.String())
			}
			if !strings.Contains(said.String(), "OTEL_EXPORTER_OTLP_ENDPOINT") {
				t.Errorf("said %q", said.String())
			}
		})
	}
}
