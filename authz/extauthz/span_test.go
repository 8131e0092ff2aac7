package extauthz_test

import (
	"context"
	"errors"
	"io"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

// One server span a check, child of what the metadata says, never of what the
// client sent; none for health and reflection.
func TestServerSpan(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	var inner trace.SpanContext
	w := &world{authorize: func(ctx context.Context, _ *authz.Request) error {
		inner = trace.SpanContextFromContext(ctx)
		return nil
	}}
	s, conn := serve(t, w.pipeline(t), extauthz.WithTracerProvider(tp), extauthz.WithPropagators(propagation.TraceContext{}), extauthz.WithReflection())
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", parent, "tracestate", "")
	m := get("traceparent: 00-11111111111111111111111111111111-2222222222222222-01")
	if _, err := authv3.NewAuthorizationClient(conn).Check(ctx, m); err != nil {
		t.Fatal(err)
	}
	if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil { // the span ends after the answer has left
		t.Fatal(err)
	}
	ended := rec.Ended()
	if len(ended) != 1 {
		t.Fatalf("%d spans, want one", len(ended))
	}
	span := ended[0]
	if span.Name() != "envoy.service.auth.v3.Authorization/Check" || span.SpanKind() != trace.SpanKindServer {
		t.Errorf("span %q, kind %v", span.Name(), span.SpanKind())
	}
	if got := span.Parent(); got.TraceID().String() != parent[3:35] || got.SpanID().String() != parent[36:52] || !got.IsRemote() {
		t.Errorf("parent %v", got)
	}
	if inner.SpanID() != span.SpanContext().SpanID() {
		t.Error("the decider does not see the server span")
	}
}

func TestReflectionBehindAFlag(t *testing.T) {
	ask := func(t *testing.T, opts ...extauthz.Option) error {
		_, conn := serve(t, (&world{}).pipeline(t), opts...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "envoy.service.auth.v3.Authorization"},
		}); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv has the status
			return err
		}
		resp, err := stream.Recv()
		if err == nil && resp.GetErrorResponse() != nil {
			err = errors.New(resp.GetErrorResponse().GetErrorMessage())
		}
		return err
	}
	if err := ask(t); status.Code(err) != codes.Unimplemented {
		t.Errorf("off: got %v, want UNIMPLEMENTED", err)
	}
	if err := ask(t, extauthz.WithReflection()); err != nil {
		t.Errorf("on: %v", err)
	}
}
