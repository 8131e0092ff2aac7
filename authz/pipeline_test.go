package authz_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// gate is a router, an authenticator, a condition, an authorizer, obligations
// and a recorder whose behaviour a test sets.
type gate struct {
	route     func(*authz.Request) (*authz.Route, error)
	authn     func(context.Context) (*authz.Subject, error)
	hold      func() error
	authorize func() (authz.Rule, error)
	onAllow   func() authz.Answer
	record    func(ctx context.Context, d *authz.Decision) error
	records   []authz.Decision
}

func (g *gate) Route(r *authz.Request) (*authz.Route, error) {
	if g.route != nil {
		return g.route(r)
	}
	return &authz.Route{
		Name: "orders", Policy: "api", Revision: "r1",
		Authenticator: g, Conditions: []authz.Condition{g}, Authorizer: g, Obligations: g,
		Challenges: map[authz.Reason]string{authz.InvalidToken: `Bearer error="invalid_token"`},
	}, nil
}

func (g *gate) Authenticate(ctx context.Context, _ *authz.Request) (*authz.Subject, authz.CacheOutcome, error) {
	if g.authn != nil {
		s, err := g.authn(ctx)
		return s, authz.CacheMiss, err
	}
	return &authz.Subject{ID: "user:corp/ada", Kind: authz.User}, authz.CacheHit, nil
}

func (g *gate) Hold(context.Context, *authz.Request, *authz.Subject) error {
	if g.hold != nil {
		return g.hold()
	}
	return nil
}

func (g *gate) Authorize(context.Context, *authz.Request, *authz.Subject) (authz.Rule, error) {
	if g.authorize != nil {
		return g.authorize()
	}
	return authz.Rule{File: "policy.csv", Line: 3}, nil
}

func (g *gate) OnAllow(*authz.Request, *authz.Decision) authz.Answer {
	if g.onAllow != nil {
		return g.onAllow()
	}
	return authz.Answer{Set: []authz.Header{{Name: "x-user", Value: "ada"}}}
}

func (g *gate) OnDeny(_ *authz.Request, d *authz.Decision) authz.Answer {
	return authz.Answer{Response: []authz.Header{{Name: "x-why", Value: string(d.Reason())}}}
}

func (g *gate) Record(ctx context.Context, _ *authz.Request, d *authz.Decision) error {
	g.records = append(g.records, *d)
	if g.record != nil {
		return g.record(ctx, d)
	}
	return nil
}

func decide(t *testing.T, g *gate, r *authz.Request) authz.Decision {
	t.Helper()
	p, err := authz.New(g, g, authz.WithOwned([]string{"x-roles", "x-user"}))
	if err != nil {
		t.Fatal(err)
	}
	return p.Decide(t.Context(), r)
}

func TestDecideAllows(t *testing.T) {
	g := &gate{}
	d := decide(t, g, &authz.Request{})
	if !d.Allowed() || d.Reason() != authz.Allowed || d.Detail() != "" || d.Err() != nil {
		t.Fatalf("got %s (%s) %v, want an allow", d.Reason(), d.Detail(), d.Err())
	}
	if got := d.Rule().String(); got != "policy.csv:3" {
		t.Errorf("rule %q", got)
	}
	if d.Subject().ID != "user:corp/ada" || d.Route() != "orders" || d.Policy() != "api" || d.Revision() != "r1" || d.Cache() != authz.CacheHit {
		t.Errorf("decision lost its evidence: %+v", d)
	}
	if len(d.ID()) != 32 {
		t.Errorf("id %q is not 128 bits of hex", d.ID())
	}
	if len(g.records) != 1 || g.records[0].ID() != d.ID() {
		t.Errorf("recorded %d decisions, want this one", len(g.records))
	}
}

// Every stage may refuse, with the reason it gives; what nobody planned for
// is internal; and each refusal is recorded once and carries no mutation.
func TestDecideRefuses(t *testing.T) {
	boom := errors.New("boom")
	no := func(r authz.Reason) error { return authz.Refuse(r, "", boom) }
	cases := []struct {
		name   string
		gate   gate
		req    authz.Request
		reason authz.Reason
		detail authz.Detail
	}{
		{"malformed message", gate{}, authz.Request{Malformed: authz.Refuse(authz.MalformedRequest, authz.BadMessage, nil)}, authz.MalformedRequest, authz.BadMessage},
		{"no route", gate{route: func(*authz.Request) (*authz.Route, error) { return nil, no(authz.NoRoute) }}, authz.Request{}, authz.NoRoute, ""},
		{"nil route", gate{route: func(*authz.Request) (*authz.Route, error) { return nil, nil }}, authz.Request{}, authz.Internal, authz.Panicked},
		{"zero route", gate{route: func(*authz.Request) (*authz.Route, error) { return &authz.Route{}, nil }}, authz.Request{}, authz.Internal, ""},
		{"no credential", gate{authn: func(context.Context) (*authz.Subject, error) { return nil, no(authz.NoCredential) }}, authz.Request{}, authz.NoCredential, ""},
		{"no subject and no error", gate{authn: func(context.Context) (*authz.Subject, error) { return nil, nil }}, authz.Request{}, authz.Internal, ""},
		{"unplanned error", gate{authn: func(context.Context) (*authz.Subject, error) { return nil, boom }}, authz.Request{}, authz.Internal, ""},
		{"wrapped denial", gate{authn: func(context.Context) (*authz.Subject, error) {
			return nil, fmt.Errorf("token: %w", no(authz.InvalidToken))
		}}, authz.Request{}, authz.InvalidToken, ""},
		{"denial with an unknown reason", gate{authn: func(context.Context) (*authz.Subject, error) { return nil, no("allowed") }}, authz.Request{}, authz.Internal, ""},
		{"condition", gate{hold: func() error { return no(authz.InsufficientScope) }}, authz.Request{}, authz.InsufficientScope, ""},
		{"policy", gate{authorize: func() (authz.Rule, error) { return authz.Rule{}, no(authz.NotPermitted) }}, authz.Request{}, authz.NotPermitted, ""},
		{"panic in a stage", gate{authorize: func() (authz.Rule, error) { panic("boom") }}, authz.Request{}, authz.Internal, authz.Panicked},
		{"panic in the obligations", gate{onAllow: func() authz.Answer { panic("boom") }}, authz.Request{}, authz.Internal, authz.Panicked},
		{"record required and impossible", gate{record: func(context.Context, *authz.Decision) error { return no(authz.AuditUnavailable) }}, authz.Request{}, authz.AuditUnavailable, ""},
		{"panic in the recorder", gate{record: func(context.Context, *authz.Decision) error { panic("boom") }}, authz.Request{}, authz.Internal, authz.Panicked},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := decide(t, &c.gate, &c.req)
			if d.Allowed() || d.Reason() != c.reason || d.Detail() != c.detail {
				t.Fatalf("got %s (%s) %v, want %s (%s)", d.Reason(), d.Detail(), d.Err(), c.reason, c.detail)
			}
			a := d.Answer()
			if len(a.Set)+len(a.Remove)+len(a.Append)+len(a.QuerySet) > 0 {
				t.Errorf("a refusal carries request mutations: %+v", a)
			}
			if len(c.gate.records) != 1 {
				t.Errorf("recorded %d times, want once", len(c.gate.records))
			}
		})
	}
}

func TestRefusalCarriesItsAnswer(t *testing.T) {
	g := &gate{authn: func(context.Context) (*authz.Subject, error) { return nil, authz.Refuse(authz.InvalidToken, "", nil) }}
	a := decide(t, g, &authz.Request{})
	if got := a.Answer().Challenge; got != `Bearer error="invalid_token"` {
		t.Errorf("challenge %q", got)
	}
	if got := a.Answer().Response; len(got) != 1 || got[0].Value != "invalid_token" {
		t.Errorf("response headers %v", got)
	}
}

// The answer to a refusal that the recorder made is that refusal's, not the
// allow's.
func TestRecorderRefusalReplacesTheAnswer(t *testing.T) {
	g := &gate{record: func(context.Context, *authz.Decision) error { return authz.Refuse(authz.AuditUnavailable, "", nil) }}
	d := decide(t, g, &authz.Request{})
	if got := d.Answer().Response; len(got) != 1 || got[0].Value != "audit_unavailable" {
		t.Errorf("response headers %v", got)
	}
}

func TestZeroDecisionRefuses(t *testing.T) {
	var d authz.Decision
	if d.Allowed() || d.Reason() != authz.Internal {
		t.Errorf("zero decision: allowed %v, reason %s", d.Allowed(), d.Reason())
	}
}

func TestDeadline(t *testing.T) {
	wait := func(ctx context.Context) (*authz.Subject, error) { <-ctx.Done(); return nil, ctx.Err() }
	synctest.Test(t, func(t *testing.T) {
		g := &gate{authn: wait, record: func(ctx context.Context, _ *authz.Decision) error { return ctx.Err() }}
		p, _ := authz.New(g, g)
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		if d := p.Decide(ctx, &authz.Request{}); d.Reason() != authz.Deadline || d.Detail() != authz.TimedOut {
			t.Errorf("got %s (%s), want deadline (timed_out): the record must outlive the deadline", d.Reason(), d.Detail())
		}
	})
	t.Run("caller hung up", func(t *testing.T) {
		g := &gate{authn: wait}
		p, _ := authz.New(g, g)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if d := p.Decide(ctx, &authz.Request{}); d.Reason() != authz.Deadline || d.Detail() != authz.Canceled {
			t.Errorf("got %s (%s)", d.Reason(), d.Detail())
		}
	})
	t.Run("an allow that comes too late", func(t *testing.T) {
		g := &gate{}
		p, _ := authz.New(g, g)
		ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
		defer cancel()
		if d := p.Decide(ctx, &authz.Request{}); d.Allowed() || d.Reason() != authz.Deadline {
			t.Errorf("got %s", d.Reason())
		}
	})
	t.Run("a refusal that was earned in time stands", func(t *testing.T) {
		g := &gate{authn: func(context.Context) (*authz.Subject, error) { return nil, authz.Refuse(authz.InvalidToken, "", nil) }}
		p, _ := authz.New(g, g)
		ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
		defer cancel()
		if d := p.Decide(ctx, &authz.Request{}); d.Reason() != authz.InvalidToken {
			t.Errorf("got %s", d.Reason())
		}
	})
}

// Each allow sets or removes every owned header, never both, and never lets
// the client's copy through by appending to it.
func TestOwnedHeaders(t *testing.T) {
	h := func(name string) authz.Header { return authz.Header{Name: name, Value: "v"} }
	cases := []struct {
		name        string
		answer      authz.Answer
		set, remove []string
		appended    []string
	}{
		{"none set", authz.Answer{}, nil, []string{"x-roles", "x-user"}, nil},
		{"one set", authz.Answer{Set: []authz.Header{h("x-user")}}, []string{"x-user"}, []string{"x-roles"}, nil},
		{"set and removed", authz.Answer{Set: []authz.Header{h("x-user")}, Remove: []string{"x-user"}}, []string{"x-user"}, []string{"x-roles"}, nil},
		{"appended", authz.Answer{Append: []authz.Header{h("x-user")}}, []string{"x-user"}, []string{"x-roles"}, nil},
		{"appended to one that is not owned", authz.Answer{Append: []authz.Header{h("via")}}, nil, []string{"x-roles", "x-user"}, []string{"via"}},
		{"others removed", authz.Answer{Remove: []string{"cookie"}}, nil, []string{"cookie", "x-roles", "x-user"}, nil},
	}
	names := func(hs []authz.Header) (out []string) {
		for _, h := range hs {
			out = append(out, h.Name)
		}
		return out
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := decide(t, &gate{onAllow: func() authz.Answer { return c.answer }}, &authz.Request{})
			a := d.Answer()
			if !slices.Equal(names(a.Set), c.set) || !slices.Equal(a.Remove, c.remove) || !slices.Equal(names(a.Append), c.appended) {
				t.Errorf("set %v, remove %v, append %v; want %v, %v, %v", names(a.Set), a.Remove, names(a.Append), c.set, c.remove, c.appended)
			}
		})
	}
}

// A route without an authenticator looks at nothing: the subject is nobody.
func TestNobody(t *testing.T) {
	g := &gate{}
	g.route = func(*authz.Request) (*authz.Route, error) {
		return &authz.Route{Name: "health", Authorizer: authz.AllowAll{}}, nil
	}
	d := decide(t, g, &authz.Request{})
	if !d.Allowed() || d.Subject().ID != "anonymous" || d.Cache() != "" {
		t.Errorf("got %s as %v, cache %q", d.Reason(), d.Subject(), d.Cache())
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	_, err := authz.New(nil, nil)
	if err == nil || err.Error() != "authz: no router\nno recorder" {
		t.Errorf("got %v", err)
	}
}

func TestReasonOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want authz.Reason
	}{
		{nil, ""},
		{errors.New("x"), authz.Internal},
		{authz.Refuse(authz.NoRoute, authz.NothingMatched, nil), authz.NoRoute},
		{fmt.Errorf("x: %w", authz.Refuse(authz.NoRoute, "", nil)), authz.NoRoute},
		{authz.Refuse("", "", nil), authz.Internal},
	} {
		if got := authz.ReasonOf(c.err); got != c.want {
			t.Errorf("ReasonOf(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}

// recorder is a function that records.
type recorder func(*authz.Decision) error

func (f recorder) Record(_ context.Context, _ *authz.Request, d *authz.Decision) error { return f(d) }

// The audit log is told first, and where it fails the other recorder is told
// the refusal, not the allow that nobody got.
func TestAuditComesFirst(t *testing.T) {
	for _, want := range []authz.Reason{authz.Allowed, authz.AuditUnavailable} {
		var order []string
		audit := recorder(func(d *authz.Decision) error {
			order = append(order, "audit "+string(d.Reason()))
			if want == authz.Allowed {
				return nil
			}
			return authz.Refuse(authz.AuditUnavailable, "", nil)
		})
		rec := recorder(func(d *authz.Decision) error { order = append(order, "record "+string(d.Reason())); return nil })
		p, err := authz.New(&gate{}, rec, authz.WithAudit(audit))
		if err != nil {
			t.Fatal(err)
		}
		d := p.Decide(t.Context(), &authz.Request{})
		if d.Reason() != want || !slices.Equal(order, []string{"audit allowed", "record " + string(want)}) {
			t.Errorf("decided %s, in the order %v", d.Reason(), order)
		}
	}
}

// An allow that cannot be delivered is a refusal, and recorded as such, once.
func TestUndeliverable(t *testing.T) {
	g := &gate{}
	p, err := authz.New(g, g, authz.WithDeliverable(func(_ *authz.Request, d *authz.Decision) error {
		if len(d.Answer().Set) == 0 {
			t.Error("asked before the answer was there")
		}
		return errors.New("too large")
	}))
	if err != nil {
		t.Fatal(err)
	}
	d := p.Decide(t.Context(), &authz.Request{})
	if d.Allowed() || d.Reason() != authz.Internal || d.Detail() != authz.Undeliverable || len(d.Answer().Set) > 0 {
		t.Errorf("got %+v", d)
	}
	if len(g.records) != 1 || g.records[0].Reason() != authz.Internal {
		t.Errorf("recorded %+v", g.records)
	}
}
