package extauthz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"

	"github.com/sallyport-authz/sallyport/authz"
)

// A Decider decides about one request. It is asked concurrently. Like
// [authz.Pipeline], which is one, it records its decisions itself.
type Decider interface {
	Decide(ctx context.Context, r *authz.Request) authz.Decision
}

// A Server answers Envoy. It is safe for concurrent use.
type Server struct {
	decider         Decider
	recorder        authz.Recorder // may be nil
	deadline        time.Duration
	maxInFlight     int64
	trustedHops     int
	overloadAsError bool
	reflection      bool
	tlsFiles        *TLSFiles
	log             *slog.Logger
	tracers         trace.TracerProvider
	propagators     propagation.TextMapPropagator

	inFlight    atomic.Int64
	connections atomic.Int64
	health      *health
	grpc        *grpc.Server
}

// NewServer returns a Server that is not serving yet, in the sense of its
// health, and not listening. The decider is required.
func NewServer(d Decider, opts ...Option) (*Server, error) {
	s := &Server{
		decider:     d,
		deadline:    150 * time.Millisecond,
		maxInFlight: 4096,
		log:         slog.New(slog.DiscardHandler),
		tracers:     tracenoop.NewTracerProvider(),
		propagators: propagation.TraceContext{},
		health:      newHealth(),
	}
	for _, opt := range opts {
		opt(s)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("extauthz: %w", err)
	}
	if err := s.build(); err != nil {
		return nil, fmt.Errorf("extauthz: %w", err)
	}
	return s, nil
}

// Check implements envoy.service.auth.v3. The error is always nil: Envoy
// treats an error as its own failure mode says.
func (s *Server) Check(ctx context.Context, m *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return s.answer(ctx, func() *authz.Request { return Read(m, s.trustedHops) }), nil
}

// undecodable answers a message that is no CheckRequest: one string that is
// not UTF-8 is enough (CVE-2023-27488).
func (s *Server) undecodable(ctx context.Context, err error) *authv3.CheckResponse {
	return s.answer(ctx, func() *authz.Request {
		return &authz.Request{Time: time.Now(), Malformed: authz.Refuse(authz.MalformedRequest, authz.BadMessage, err)}
	})
}

// answer is the one path of every check. It never returns nil, and an answer
// without an OK unless a decision allows.
func (s *Server) answer(ctx context.Context, read func() *authz.Request) (resp *authv3.CheckResponse) {
	admitted := s.inFlight.Add(1) <= s.maxInFlight
	if admitted {
		defer s.inFlight.Add(-1)
	} else {
		s.inFlight.Add(-1) // refusals take no room
	}
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(ctx, v)
			// What the request held may be what broke us: the answer
			// is made without it.
			resp = s.refuse(ctx, &authz.Request{Time: time.Now()}, authz.Refuse(authz.Internal, authz.Panicked, errors.New("panic in a check")), false)
		}
	}()

	r := read()
	if !admitted {
		return s.refuse(ctx, r, authz.Refuse(authz.Overloaded, authz.InFlight, fmt.Errorf("more than %d checks in flight", s.maxInFlight)), s.overloadAsError)
	}
	// The decider honours the deadline, and refuses what comes after it: its
	// answer is rendered in any case, whether or not ctx has ended by then.
	limited, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	d := s.decider.Decide(limited, r)
	resp, err := Render(r, &d)
	if err == nil && !faithful(resp, &d) {
		err = errors.New("answer does not say what the decision says")
	}
	if err != nil {
		s.log.ErrorContext(ctx, "answer cannot be delivered", "decision", d.ID(), "route", d.Route(), "error", err)
		return s.refuse(ctx, r, authz.Refuse(authz.Internal, authz.Undeliverable, err), false)
	}
	return resp
}

// faithful holds that an answer lets pass only what the decision does. Envoy
// reads a missing status as OK.
func faithful(resp *authv3.CheckResponse, d *authz.Decision) bool {
	ok := resp.GetStatus().GetCode() == 0 // nil included
	return resp.GetStatus() != nil && ok == d.Passes()
}

// refuse makes and records a refusal of the server's own. Where the record is
// required and impossible, that is the refusal.
func (s *Server) refuse(ctx context.Context, r *authz.Request, why error, asError bool) *authv3.CheckResponse {
	d := authz.Refusal(why)
	if s.recorder != nil {
		if err := s.record(ctx, r, &d); err != nil {
			d = authz.Refusal(err)
		}
	}
	d.Answer().AsError = asError
	return deny(r, &d)
}

func (s *Server) record(ctx context.Context, r *authz.Request, d *authz.Decision) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(ctx, v)
			err = authz.Refuse(authz.Internal, authz.Panicked, errors.New("panic in the recorder"))
		}
	}()
	return s.recorder.Record(context.WithoutCancel(ctx), r, d)
}

// logPanic says where it happened. What was passed to panic may hold a part
// of the request and stays out, unless the runtime wrote it.
func (s *Server) logPanic(ctx context.Context, v any) {
	what := fmt.Sprintf("%T", v)
	if err, ok := v.(runtime.Error); ok {
		what = err.Error()
	}
	s.log.ErrorContext(ctx, "panic in a check", "panic", what, "stack", string(debug.Stack()))
}

// SetServing says what health answers; false until the first call. After
// Shutdown it has no effect.
func (s *Server) SetServing(serving bool) { s.health.set(serving) }
