package extauthz

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-authz/sallyport/authz"
)

// An Option tunes a Server. No option lets a request pass.
type Option func(*Server)

// WithDeadline limits each check, whatever the client allows; 150ms by
// default.
func WithDeadline(d time.Duration) Option { return func(s *Server) { s.deadline = d } }

// WithMaxInFlight limits how many checks are decided at once; 4096 by default.
// One more is refused as overloaded, without waiting.
func WithMaxInFlight(n int) Option { return func(s *Server) { s.maxInFlight = int64(n) } }

// WithTrustedHops says how many rightmost entries of x-forwarded-for our own
// proxies added; 0 by default, which believes none.
func WithTrustedHops(n int) Option { return func(s *Server) { s.trustedHops = n } }

// WithRecorder is told the refusals that the server makes without, or in spite
// of, its decider: an overload, a panic outside of the pipeline, an answer too
// large for Envoy. By default nobody is.
func WithRecorder(r authz.Recorder) Option { return func(s *Server) { s.recorder = r } }

// WithOverloadAsError answers overloaded with an error_response, which obeys
// Envoy's failure_mode_allow; a denial by default. No route is known yet, so
// it fits where every route leaves failures to Envoy.
func WithOverloadAsError() Option { return func(s *Server) { s.overloadAsError = true } }

// WithTLS serves TLS; plaintext by default.
func WithTLS(f TLSFiles) Option { return func(s *Server) { s.tlsFiles = &f } }

// WithReflection lets clients list the services; off by default.
func WithReflection() Option { return func(s *Server) { s.reflection = true } }

// WithLogger sets where panics and certificates that do not load are logged;
// nowhere by default.
func WithLogger(l *slog.Logger) Option { return func(s *Server) { s.log = l } }

// WithTracerProvider sets where the server span of each check goes; nowhere by
// default.
func WithTracerProvider(tp trace.TracerProvider) Option { return func(s *Server) { s.tracers = tp } }

// WithPropagators sets how the parent of the server span is read from gRPC
// metadata; W3C trace context by default.
func WithPropagators(p propagation.TextMapPropagator) Option {
	return func(s *Server) { s.propagators = p }
}

// check returns every complaint about the options at once.
func (s *Server) check() error {
	var errs []error
	if s.decider == nil {
		errs = append(errs, errors.New("no decider"))
	}
	if s.deadline <= 0 {
		errs = append(errs, fmt.Errorf("deadline %v is not positive", s.deadline))
	}
	if s.maxInFlight <= 0 {
		errs = append(errs, fmt.Errorf("limit of %d checks in flight is not positive", s.maxInFlight))
	}
	if s.trustedHops < 0 {
		errs = append(errs, fmt.Errorf("%d trusted hops", s.trustedHops))
	}
	return errors.Join(errs...)
}
