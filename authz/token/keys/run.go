package keys

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const (
	firstRetry = 500 * time.Millisecond // after a failed refresh, doubled each time
	lastRetry  = 30 * time.Second
	filePoll   = time.Second // a changed file must take effect within two

	// maxWaiting bounds the requests that wait for one refresh: a flood of
	// unknown keys while an issuer hangs must not hold every place in the server.
	maxWaiting = 256
)

// Run finds and refreshes the keys until ctx ends. It must run once at a time.
func (s *Set) Run(ctx context.Context) {
	s.setRunning(true)
	defer s.setRunning(false)
	var f fetcher
	failures := 0
	for {
		fl := s.depart()
		err := s.refresh(ctx, &f, fl.span)
		s.arrive()
		if err == nil {
			failures = 0
		} else {
			failures++
		}
		timer := time.NewTimer(s.pause(failures))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.kick:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// pause is how long to wait after so many failures in a row. It differs by a
// tenth from time to time, so that many servers do not ask at once.
func (s *Set) pause(failures int) time.Duration {
	d := s.cfg.Refresh
	if failures > 0 {
		d = min(firstRetry<<min(failures-1, 10), lastRetry, d)
	}
	if s.cfg.JWKSFile != "" {
		d = min(d, filePoll)
	}
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // jitter, nothing secret
}

// refresh does one refresh and tells everybody how it went.
func (s *Set) refresh(ctx context.Context, f *fetcher, asked trace.SpanContext) error {
	if s.cfg.JWKSFile == "" {
		if asked.IsValid() {
			ctx = trace.ContextWithRemoteSpanContext(ctx, asked)
		}
		var span trace.Span
		ctx, span = s.tracer.Start(ctx, "authz.jwks.fetch", trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(attribute.String("authz.issuer", s.cfg.Issuer)))
		defer span.End()
	}
	set, result, err := s.load(ctx, f)
	if ctx.Err() != nil {
		return ctx.Err() // the end of Run, not a failure of the issuer
	}
	if set != nil && (len(set.keys) > 0 || s.current.Load() != nil) {
		s.current.Store(&state{snapshot: set, at: s.now()})
	} else if set != nil {
		result, err = ResultDocument, errors.Join(errNoKeys, err)
	}
	if set == nil || result == ResultDocument {
		trace.SpanFromContext(ctx).SetStatus(codes.Error, result)
	}
	if s.cfg.JWKSFile == "" || result != ResultUnchanged {
		s.observe(result, err)
	}
	if result == ResultOK {
		return nil // whatever keys of the set are no use
	}
	return err
}

// wait asks for a refresh, where one is due, and waits for the one that is
// under way until ctx ends.
func (s *Set) wait(ctx context.Context) error {
	fl := s.ask(trace.SpanContextFromContext(ctx))
	if fl == nil {
		return nil
	}
	select {
	case <-fl.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask returns the refresh under way, or starts one where the cooldown allows;
// nil where there is nothing to wait for.
func (s *Set) ask(asked trace.SpanContext) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.inFlight != nil && s.inFlight.waiting < maxWaiting:
		s.inFlight.waiting++
		return s.inFlight
	case s.inFlight != nil:
		return nil
	case !s.running:
		return nil
	case s.now().Sub(s.forced) < s.cfg.Cooldown: // never for the first: the zero time is long ago
		return nil
	}
	s.forced = s.now()
	s.inFlight = &flight{done: make(chan struct{}), waiting: 1, span: asked}
	select {
	case s.kick <- struct{}{}:
	default: // Run has not taken the last one yet
	}
	return s.inFlight
}

// depart returns the flight that a refresh will land: the one that a token
// asked for, or a new one that tokens may join.
func (s *Set) depart() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight == nil {
		s.inFlight = &flight{done: make(chan struct{})}
	}
	return s.inFlight
}

// arrive lets go of everybody who waits.
func (s *Set) arrive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight != nil {
		close(s.inFlight.done)
		s.inFlight = nil
	}
	select {
	case <-s.kick: // asked for between depart and here: it has been done
	default:
	}
}

func (s *Set) setRunning(on bool) {
	s.mu.Lock()
	s.running = on
	s.mu.Unlock()
	if !on {
		s.arrive()
	}
}
