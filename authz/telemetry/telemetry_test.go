package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sallyport-authz/sallyport/authz"
)

var quietLog = slog.New(slog.DiscardHandler)

// clear takes the OTEL_* variables that matter out of the test's environment.
func clear(t *testing.T) {
	t.Helper()
	for _, v := range []string{
		"OTEL_SDK_DISABLED", "OTEL_PROPAGATORS", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER",
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
		"OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME",
	} {
		t.Setenv(v, "")
	}
}

// OTLP starts only when an endpoint or an exporter says so.
func TestExporter(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{nil, "none"},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, "otlp"},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318"}, "otlp"},
		{map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318"}, "none"},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"},
		{map[string]string{"OTEL_TRACES_EXPORTER": "console"}, "console"},
		{map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, "none"},
	} {
		clear(t)
		for k, v := range c.env {
			t.Setenv(k, v)
		}
		if got, err := exporter("TRACES"); got != c.want || err != nil {
			t.Errorf("%v: got %q, %v; want %q", c.env, got, err, c.want)
		}
	}
}

// A variable that is wrong is named; nothing is ignored.
func TestStartNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"OTEL_TRACES_EXPORTER", "jaeger", `OTEL_TRACES_EXPORTER: unknown exporter "jaeger"`},
		{"OTEL_METRICS_EXPORTER", "prom", `OTEL_METRICS_EXPORTER: unknown exporter "prom"`},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "thrift", `OTEL_EXPORTER_OTLP_PROTOCOL: unknown protocol "thrift"`},
		{"OTEL_PROPAGATORS", "carrier-pigeon", "OTEL_PROPAGATORS"},
	} {
		clear(t)
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
		t.Setenv(c.name, c.value)
		tel, err := Start(t.Context(), "test", quietLog)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: got %v, want %q in it", c.name, c.value, err, c.want)
		}
		if tel != nil {
			_ = tel.Shutdown(t.Context())
		}
	}
}

// recorded runs one decision through a Recorder whose spans a test can read.
func recorded(t *testing.T, mode SubjectMode, route *authz.Route, routeErr error, req *authz.Request) (tracetest.SpanStub, string, authz.Decision) {
	t.Helper()
	clear(t)
	tel, err := Start(t.Context(), "test", quietLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	spans := tracetest.NewInMemoryExporter()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	p, err := authz.New(router{route, routeErr}, tel.Recorder(quietLog, mode, []byte("0123456789abcdef")))
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := tp.Tracer("").Start(t.Context(), "check")
	d := p.Decide(ctx, req)
	span.End()

	rec := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	scrape, _ := io.ReadAll(rec.Body)
	return spans.GetSpans()[0], string(scrape), d
}

type router struct {
	route *authz.Route
	err   error
}

func (r router) Route(req *authz.Request) (*authz.Route, error) {
	req.Path = "/orders/7"
	return r.route, r.err
}

type ada struct{}

func (ada) Authenticate(context.Context, *authz.Request) (*authz.Subject, authz.CacheOutcome, error) {
	return &authz.Subject{ID: "user:corp/ada", Kind: authz.User}, authz.CacheHit, nil
}

func (ada) Authorize(context.Context, *authz.Request, *authz.Subject) (authz.Rule, error) {
	return authz.Rule{File: "policy.csv", Line: 3}, nil
}

var orders = &authz.Route{Name: "orders", Policy: "api", Revision: "abc", Authenticator: ada{}, Authorizer: ada{}}

func TestRecordAllow(t *testing.T) {
	req := &authz.Request{
		Method: "GET", Target: "/orders/7?secret=1", Source: authz.Source{Address: netip.MustParseAddr("192.0.2.7")},
		Headers: []authz.Header{{Name: "traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
	}
	span, scrape, d := recorded(t, SubjectHash, orders, nil, req)
	got := map[attribute.Key]string{}
	for _, a := range span.Attributes {
		got[a.Key] = a.Value.AsString()
	}
	for k, want := range map[attribute.Key]string{
		"authz.decision": "allow", "authz.reason": "allowed", "authz.decision.id": d.ID(), "authz.route": "orders",
		"authz.policy": "api", "authz.policy.revision": "abc", "authz.policy.rule": "policy.csv:3", "authz.token.cache": "hit",
		"http.request.method": "GET", "url.path": "/orders/7", "client.address": "192.0.2.7",
	} {
		if got[k] != want {
			t.Errorf("%s is %q, want %q", k, got[k], want)
		}
	}
	if h := got["user.hash"]; len(h) != 32 || strings.Contains(h, "ada") {
		t.Errorf("user.hash %q", h)
	}
	if _, ok := got["authz.detail"]; ok {
		t.Error("an allow has a detail")
	}
	if span.Status.Code != codes.Unset {
		t.Errorf("status %v", span.Status)
	}
	if len(span.Links) != 1 || span.Links[0].SpanContext.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("links %v", span.Links)
	}
	for _, want := range []string{
		`authz_decisions_total{decision="allow",reason="allowed",route="orders"} 1`,
		`authz_cache_requests_total{result="hit"} 1`,
		`authz_cache_requests_total{result="off"} 0`,
		`authz_policy_reloads_total{result="rejected"} 0`,
		`authz_decision_duration_seconds_count{decision="allow"} 1`,
	} {
		if !strings.Contains(scrape, want) {
			t.Errorf("%s is not in the scrape", want)
		}
	}
}

// A denial is a decision, not an error; a failure to decide is an error.
func TestRecordStatus(t *testing.T) {
	for _, c := range []struct {
		reason authz.Reason
		want   codes.Code
	}{
		{authz.NotPermitted, codes.Unset}, {authz.NoRoute, codes.Unset}, {authz.InvalidToken, codes.Unset},
		{authz.IssuerUnavailable, codes.Error}, {authz.Internal, codes.Error}, {authz.Deadline, codes.Error},
	} {
		span, _, _ := recorded(t, SubjectNone, nil, authz.Refuse(c.reason, authz.UnknownRoute, nil), &authz.Request{Method: "BREW"})
		if span.Status.Code != c.want {
			t.Errorf("%s: status %v, want %v", c.reason, span.Status.Code, c.want)
		}
		attrs := attribute.NewSet(span.Attributes...)
		if v, ok := attrs.Value("error.type"); ok != (c.want == codes.Error) || ok && v.AsString() != string(c.reason) {
			t.Errorf("%s: error.type %q", c.reason, v.AsString())
		}
		if v, _ := attrs.Value("authz.detail"); v.AsString() != string(authz.UnknownRoute) {
			t.Errorf("%s: detail %q", c.reason, v.AsString())
		}
		if v, _ := attrs.Value("http.request.method"); v.AsString() != "_OTHER" {
			t.Errorf("a method of the client's invention is an attribute: %q", v.AsString())
		}
	}
}

func TestRecordSubjectModes(t *testing.T) {
	for mode, want := range map[SubjectMode]string{SubjectHash: "user.hash", SubjectID: "user.id", SubjectNone: ""} {
		span, _, _ := recorded(t, mode, orders, nil, &authz.Request{})
		for _, key := range []attribute.Key{"user.hash", "user.id"} {
			attrs := attribute.NewSet(span.Attributes...)
			if _, ok := attrs.Value(key); ok != (string(key) == want) {
				t.Errorf("%s: %s is there: %v", mode, key, ok)
			}
		}
	}
}

// What the client sent as its trace context is a link or nothing.
func TestForgedTraceparent(t *testing.T) {
	for _, v := range []string{"", "garbage", "00-00000000000000000000000000000000-0000000000000000-01", strings.Repeat("x", 9000)} {
		span, _, _ := recorded(t, SubjectNone, orders, nil, &authz.Request{Headers: []authz.Header{{Name: "traceparent", Value: v}}})
		if len(span.Links) != 0 {
			t.Errorf("%.20q: links %v", v, span.Links)
		}
	}
}

// An internal failure is logged with the decision's id, once a second at most.
func TestInternalIsLogged(t *testing.T) {
	clear(t)
	tel, err := Start(t.Context(), "test", quietLog)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tel.Shutdown(context.Background()) }()
	var out bytes.Buffer
	rec := tel.Recorder(slog.New(slog.NewTextHandler(&out, nil)), SubjectNone, nil)
	p, _ := authz.New(router{nil, errors.New("boom " + strings.Repeat("x", 5000))}, rec)
	d := p.Decide(t.Context(), &authz.Request{})
	p.Decide(t.Context(), &authz.Request{})
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, d.ID()) || !strings.Contains(got, "boom") || len(got) > 2000 {
		t.Errorf("log %q", got)
	}
}
