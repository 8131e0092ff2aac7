// Package authz decides whether one HTTP request may proceed.
//
// A [Pipeline] asks a [Router] which [Route] applies, and that route's
// [Authenticator] who is calling, its [Condition] values whether its duties
// are met, its [Authorizer] whether this caller may do this, and its
// [Obligations] what the answer carries. Each may refuse; none may allow by
// itself. The resulting [Decision] goes to a [Recorder], once, on every path
// out, before anybody sees it.
//
// The package fails closed. The zero Decision is a refusal, an error nobody
// planned for is a refusal, a panic is a refusal, and Pipeline.Decide is the
// only place that says yes.
//
// A new reason is a row in [Reasons] and one in the table of answers of
// package extauthz; a new detail is a row in detail.go; a new duty is a
// Condition. The parts meet in package gate.
package authz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// A Pipeline decides. It is immutable and safe for concurrent use.
type Pipeline struct {
	router      Router
	rec         Recorder
	audit       Recorder // may be nil
	deliverable func(*Request, *Decision) error
	owned       []string
	tracer      trace.Tracer
}

// An Option tunes a Pipeline. No option can switch a stage off.
type Option func(*Pipeline)

// WithOwned names the request headers that the configuration owns: each allow
// sets or removes every one of them. Lower case, sorted.
func WithOwned(names []string) Option { return func(p *Pipeline) { p.owned = names } }

// WithAudit sets the recorder whose records may be required: it is told first,
// and where it fails the decision becomes a refusal before the other recorder
// is told. Default: none.
func WithAudit(rec Recorder) Option { return func(p *Pipeline) { p.audit = rec } }

// WithDeliverable sets what says whether an answer that allows can be given at
// all; an allow that cannot becomes a refusal, before it is recorded. Default:
// every answer can.
func WithDeliverable(check func(*Request, *Decision) error) Option {
	return func(p *Pipeline) { p.deliverable = check }
}

// WithTracer sets where the spans of the stages go; none by default.
func WithTracer(t trace.Tracer) Option { return func(p *Pipeline) { p.tracer = t } }

// New returns a Pipeline. Router and recorder are required: without the one
// nothing has a policy, without the other nothing leaves a trace.
func New(router Router, rec Recorder, opts ...Option) (*Pipeline, error) {
	p := &Pipeline{
		router: router, rec: rec, tracer: noop.NewTracerProvider().Tracer(""),
		deliverable: func(*Request, *Decision) error { return nil },
	}
	for _, opt := range opts {
		opt(p)
	}
	var errs []error
	if router == nil {
		errs = append(errs, errors.New("no router"))
	}
	if rec == nil {
		errs = append(errs, errors.New("no recorder"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("authz: %w", err)
	}
	return p, nil
}

// Decide has no error result: failing to decide is itself a decision. The
// record outlives the caller's deadline, and is made even if a stage panics.
func (p *Pipeline) Decide(ctx context.Context, r *Request) (d Decision) {
	start := time.Now()
	d.id = newID()
	defer func() {
		if v := recover(); v != nil {
			d.deny(Refuse(Internal, Panicked, fmt.Errorf("panic: %v", v)))
		}
		d.duration = time.Since(start)
		p.finish(ctx, r, &d)
	}()

	rule, err := p.stages(ctx, r, &d)
	if err == nil {
		err = ctx.Err() // nobody waits for an allow that comes too late
	}
	if err != nil {
		d.deny(late(ctx, err))
		return d
	}
	d.allow(rule)
	return d
}

// stages runs the five stages in the open, and returns the rule that allowed.
func (p *Pipeline) stages(ctx context.Context, r *Request, d *Decision) (Rule, error) {
	if r.Malformed != nil {
		return Rule{}, r.Malformed
	}
	route, err := p.router.Route(r)
	if err != nil {
		return Rule{}, err
	}
	d.route = route

	sub := Nobody
	if route.Authenticator != nil {
		if sub, err = p.authenticate(ctx, r, d); err != nil {
			return Rule{}, err
		}
	}
	d.subject = sub

	for _, c := range route.Conditions {
		if err := c.Hold(ctx, r, sub); err != nil {
			return Rule{}, err
		}
	}
	return p.authorize(ctx, r, d)
}

func (p *Pipeline) authenticate(ctx context.Context, r *Request, d *Decision) (sub *Subject, err error) {
	ctx, span := p.child(ctx, "authz.authenticate")
	defer span.End()
	sub, d.cache, err = d.route.Authenticator.Authenticate(ctx, r)
	if err == nil && sub == nil {
		err = errors.New("authenticator returned no subject")
	}
	return sub, err
}

func (p *Pipeline) authorize(ctx context.Context, r *Request, d *Decision) (Rule, error) {
	if d.route.Authorizer == nil {
		return Rule{}, fmt.Errorf("route %q has no authorizer", d.route.Name)
	}
	if d.route.Policy == "" {
		return d.route.Authorizer.Authorize(ctx, r, d.subject)
	}
	ctx, span := p.child(ctx, "authz.evaluate")
	defer span.End()
	return d.route.Authorizer.Authorize(ctx, r, d.subject)
}

// child starts a span for a stage. Below a check that nobody records there is
// nothing to record either, and making such spans costs more than a stage.
func (p *Pipeline) child(ctx context.Context, name string) (context.Context, trace.Span) {
	if check := trace.SpanFromContext(ctx); check.SpanContext().IsValid() && !check.IsRecording() {
		return ctx, noop.Span{}
	}
	return p.tracer.Start(ctx, name)
}

// late turns the error of a stage that ran out of time into the reason that
// says so. A refusal that a stage earned before that stands.
func late(ctx context.Context, err error) error {
	var d *Denial
	if ctx.Err() == nil || errors.As(err, &d) {
		return err
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return Refuse(Deadline, Canceled, ctx.Err())
	}
	return Refuse(Deadline, TimedOut, ctx.Err())
}

// finish computes what the answer carries and records the decision. Where the
// record is required and cannot be made, the decision becomes a refusal.
func (p *Pipeline) finish(ctx context.Context, r *Request, d *Decision) {
	p.oblige(r, d)
	for _, rec := range []Recorder{p.audit, p.rec} {
		if rec == nil {
			continue
		}
		if err := record(ctx, rec, r, d); err != nil {
			d.deny(err)
			p.oblige(r, d)
		}
	}
}

// record survives a recorder that panics: no record, no allow.
func record(ctx context.Context, rec Recorder, r *Request, d *Decision) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = Refuse(Internal, Panicked, fmt.Errorf("panic in the recorder: %v", v))
		}
	}()
	return rec.Record(context.WithoutCancel(ctx), r, d)
}

// oblige fills the answer. A panic in an obligation turns an allow into a
// refusal, because the upstream would miss what the route promised it; so does
// an answer that cannot be delivered.
func (p *Pipeline) oblige(r *Request, d *Decision) {
	defer func() {
		if v := recover(); v != nil {
			d.deny(Refuse(Internal, Panicked, fmt.Errorf("panic in the obligations: %v", v)))
		}
		if d.Shadow() {
			p.shadow(d)
		}
	}()
	route := d.route
	if route != nil && route.Obligations != nil {
		if d.allowed {
			d.answer = route.Obligations.OnAllow(r, d)
		} else {
			d.answer = route.Obligations.OnDeny(r, d)
		}
	}
	if d.allowed {
		d.answer.own(p.owned)
		if err := p.deliverable(r, d); err != nil {
			d.deny(Refuse(Internal, Undeliverable, err))
		}
		return
	}
	if route != nil {
		d.answer.Challenge = route.Challenges[d.Reason()]
		d.answer.AsError = route.AsError
	}
}
