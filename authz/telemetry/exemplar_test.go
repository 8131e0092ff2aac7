package telemetry

import (
	"context"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sallyport-authz/sallyport/authz"
)

// scrape returns the metrics in the format that accept asks for.
func scrape(t *testing.T, tel *Telemetry, accept string) string {
	t.Helper()
	rec, req := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
	req.Header.Set("Accept", accept)
	tel.Metrics().ServeHTTP(rec, req)
	if got := rec.Header().Get("Content-Type"); rec.Code != 200 || !strings.HasPrefix(got, accept) {
		t.Fatalf("status %d, format %q, want %q", rec.Code, got, accept)
	}
	return rec.Body.String()
}

// A decision whose span is kept is an exemplar of its bucket and its counter,
// for scrapers that understand them. One whose span is not leads nowhere and
// is none.
func TestExemplars(t *testing.T) {
	clear(t)
	tel, err := Start(t.Context(), "test", quietLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	// One decision under a span of this sampler, by a route of its own.
	decide := func(route string, sampler sdktrace.Sampler) (traceID string) {
		p, err := authz.New(router{&authz.Route{Name: route, Authenticator: ada{}, Authorizer: ada{}}, nil}, tel.Recorder(quietLog, SubjectNone, nil))
		if err != nil {
			t.Fatal(err)
		}
		ctx, span := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler)).Tracer("").Start(t.Context(), "check")
		defer span.End()
		if d := p.Decide(ctx, &authz.Request{}); !d.Allowed() {
			t.Fatalf("refused: %s", d.Reason())
		}
		return span.SpanContext().TraceID().String()
	}
	kept, dropped := decide("kept", sdktrace.AlwaysSample()), decide("dropped", sdktrace.NeverSample())

	text := scrape(t, tel, "application/openmetrics-text")
	for _, want := range []string{
		`authz_decision_duration_seconds_bucket\{decision="allow",le="[^"]+"\} \d+ # \{[^}]*trace_id="` + kept + `"[,}]`,
		`authz_decisions_total\{decision="allow",reason="allowed",route="kept"\} 1\.0 # \{[^}]*trace_id="` + kept + `"[,}]`,
		`authz_decisions_total\{decision="allow",reason="allowed",route="dropped"\} 1\.0\n`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s is not in the scrape", want)
		}
	}
	if strings.Contains(text, dropped) {
		t.Error("a span that nobody keeps is an exemplar")
	}
	if strings.Contains(scrape(t, tel, "text/plain"), kept) {
		t.Error("the plain format has exemplars, which it cannot")
	}
}
