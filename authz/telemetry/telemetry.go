// Package telemetry holds the OpenTelemetry SDK and every instrument.
//
// [Start] reads the standard OTEL_* environment and nothing else. Traces and
// metrics are pushed by OTLP only where an endpoint or an exporter is named
// there; a Prometheus scrape is always there to be served. A collector that is
// missing, slow or wrong costs no decision anything: spans wait in a bounded
// queue and are dropped when it is full.
//
// A [Recorder] turns each decision into span attributes and counters. Labels
// come from closed sets: reasons, and the names in the configuration. No
// token, query string or header value is ever recorded. A decision whose span
// is kept is an exemplar of its counter and its bucket, in scrapes that ask for
// OpenMetrics. A new span attribute is a line in span.go, a new instrument one
// in metrics.go, with its place in envoy/grafana.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// scope names the instrumentation in exported spans and metrics.
const scope = "github.com/sallyport-authz/sallyport"

// Telemetry is the SDK of one process. It is safe for concurrent use.
type Telemetry struct {
	tracers     trace.TracerProvider
	propagators propagation.TextMapPropagator
	registry    *prometheus.Registry
	meters      *sdkmetric.MeterProvider
	stop        []func(context.Context) error

	*instruments
}

// Start reads the environment and builds the SDK. Nothing is dialled before
// there is something to send. Errors name the variable that is wrong.
func Start(ctx context.Context, version string, log *slog.Logger) (*Telemetry, error) {
	t := &Telemetry{
		tracers:     noop.NewTracerProvider(),
		propagators: propagation.NewCompositeTextMapPropagator(),
		registry:    prometheus.NewRegistry(),
	}
	otel.SetErrorHandler(quiet(log))
	disabled := strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true")

	res, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "sallyport"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("telemetry: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if !disabled {
		if t.propagators, err = autoprop.TextMapPropagator(propagatorNames()...); err != nil {
			return nil, fmt.Errorf("telemetry: OTEL_PROPAGATORS: %w", err)
		}
		if err := t.startTraces(ctx, res, log); err != nil {
			return nil, err
		}
	}
	if err := t.startMetrics(ctx, res, disabled); err != nil {
		return nil, err
	}
	return t, nil
}

func propagatorNames() []string {
	env := os.Getenv("OTEL_PROPAGATORS")
	if env == "" {
		env = "tracecontext,baggage"
	}
	var names []string
	for name := range strings.SplitSeq(env, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// exporter says which exporter the environment asks for: "otlp", "console",
// "none" or, where it asks for nothing, "none" as well.
func exporter(signal string) (string, error) {
	variable := "OTEL_" + signal + "_EXPORTER"
	switch name := os.Getenv(variable); name {
	case "otlp", "console", "none":
		return name, nil
	case "":
	default:
		return "", fmt.Errorf("telemetry: %s: unknown exporter %q (otlp, console or none)", variable, name)
	}
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != "" {
		return "otlp", nil
	}
	return "none", nil
}

// protocol returns the OTLP transport; http/protobuf is the default of the
// OpenTelemetry specification.
func protocol(signal string) (string, error) {
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		switch p := os.Getenv(variable); p {
		case "":
		case "grpc", "http/protobuf":
			return p, nil
		default:
			return "", fmt.Errorf("telemetry: %s: unknown protocol %q (grpc or http/protobuf)", variable, p)
		}
	}
	return "http/protobuf", nil
}

func (t *Telemetry) startTraces(ctx context.Context, res *resource.Resource, log *slog.Logger) error {
	name, err := exporter("TRACES")
	if err != nil || name == "none" {
		return err
	}
	var exp sdktrace.SpanExporter
	var proto string
	switch name {
	case "console":
		exp, err = stdouttrace.New(stdouttrace.WithWriter(os.Stderr)) // stdout is for data
	default:
		if proto, err = protocol("TRACES"); err != nil {
			return err
		}
		if proto == "grpc" {
			exp, err = otlptracegrpc.New(ctx)
		} else {
			exp, err = otlptracehttp.New(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("telemetry: traces: %w", err)
	}
	// The sampler, the queue and its limits come from OTEL_TRACES_SAMPLER and
	// OTEL_BSP_*; by default the parent decides, and spans without one are kept.
	p := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(exp))
	t.tracers = p
	t.stop = append(t.stop, p.Shutdown)
	log.Info("traces are exported", "exporter", name, "protocol", proto)
	return nil
}

func (t *Telemetry) startMetrics(ctx context.Context, res *resource.Resource, disabled bool) error {
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	prom, err := otelprom.New(otelprom.WithRegisterer(t.registry), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo(),
		// Explicit, because the default hangs on a global of another module.
		otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		return fmt.Errorf("telemetry: metrics: %w", err)
	}
	opts := []sdkmetric.Option{
		sdkmetric.WithResource(res), sdkmetric.WithReader(prom),
		// No limit: labels are names from the configuration and closed sets.
		// The SDK's 2000 a counter is less than a large configuration has,
		// and what is over it would lose its labels.
		sdkmetric.WithCardinalityLimit(0),
	}
	name, err := exporter("METRICS")
	if err != nil {
		return err
	}
	if name == "otlp" && !disabled {
		push, err := metricExporter(ctx)
		if err != nil {
			return err
		}
		opts = append(opts, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(push)))
	}
	t.meters = sdkmetric.NewMeterProvider(opts...)
	t.stop = append(t.stop, t.meters.Shutdown)
	t.instruments, err = newInstruments(t.meters.Meter(scope))
	return err
}

func metricExporter(ctx context.Context) (sdkmetric.Exporter, error) {
	proto, err := protocol("METRICS")
	if err != nil {
		return nil, err
	}
	var exp sdkmetric.Exporter
	if proto == "grpc" {
		exp, err = otlpmetricgrpc.New(ctx)
	} else {
		exp, err = otlpmetrichttp.New(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("telemetry: metrics: %w", err)
	}
	return exp, nil
}

// TracerProvider returns where spans go; a no-op where the environment asks
// for none.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracers }

// Tracer returns the tracer of Sallyport's own spans.
func (t *Telemetry) Tracer() trace.Tracer { return t.tracers.Tracer(scope) }

// Propagators returns how trace context is read from gRPC metadata: W3C by
// default, B3 and others by OTEL_PROPAGATORS.
func (t *Telemetry) Propagators() propagation.TextMapPropagator { return t.propagators }

// Metrics serves the Prometheus scrape.
func (t *Telemetry) Metrics() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, Timeout: 10 * time.Second})
}

// Shutdown sends what is queued and stops, within ctx.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var errs []error
	for _, stop := range t.stop {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}
