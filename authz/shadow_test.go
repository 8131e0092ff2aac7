package authz_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
)

// shadowed is the route of a gate in shadow mode.
func shadowed(g *gate) *gate {
	g.route = func(*authz.Request) (*authz.Route, error) {
		return &authz.Route{
			Name: "orders", Policy: "api", Authenticator: g, Conditions: []authz.Condition{g}, Authorizer: g, Obligations: g,
			Challenges: map[authz.Reason]string{authz.InvalidToken: "Bearer"}, AsError: true, Shadow: true,
		}, nil
	}
	return g
}

// In shadow mode every refusal passes but the malformed ones, with its reason
// in the record and without anything that the client might have forged.
func TestShadow(t *testing.T) {
	no := func(r authz.Reason) error { return authz.Refuse(r, "", errors.New("boom")) }
	for _, reason := range authz.Reasons() {
		g := shadowed(&gate{authn: func(context.Context) (*authz.Subject, error) { return nil, no(reason) }})
		d := decide(t, g, &authz.Request{})
		passes := reason != authz.MalformedRequest && reason != authz.MalformedCredential && reason != authz.AuditUnavailable
		if d.Allowed() || d.Reason() != reason || d.Shadow() != passes || d.Passes() != passes {
			t.Errorf("%s: allowed %t, reason %s, shadow %t, passes %t", reason, d.Allowed(), d.Reason(), d.Shadow(), d.Passes())
		}
		if len(g.records) != 1 || g.records[0].Reason() != reason || g.records[0].Shadow() != passes {
			t.Errorf("%s: recorded %+v", reason, g.records)
		}
		a := d.Answer()
		if !passes {
			continue
		}
		if !slices.Equal(a.Remove, []string{"x-roles", "x-user"}) || len(a.Set) > 0 || len(a.Response) > 0 || a.Challenge != "" || a.AsError {
			t.Errorf("%s: the answer carries %+v", reason, a)
		}
	}
}

func TestShadowAllows(t *testing.T) {
	d := decide(t, shadowed(&gate{}), &authz.Request{})
	if !d.Allowed() || d.Shadow() || !d.Passes() || len(d.Answer().Set) != 1 {
		t.Errorf("an allow in shadow mode: %+v", d)
	}
}

// What breaks after the decision passes too, and takes the owned headers away.
func TestShadowOfFailures(t *testing.T) {
	for name, g := range map[string]*gate{
		"panic in the obligations": {onAllow: func() authz.Answer { panic("boom") }},
		"panic in a stage":         {authorize: func() (authz.Rule, error) { panic("boom") }},
	} {
		d := decide(t, shadowed(g), &authz.Request{})
		if d.Allowed() || !d.Shadow() || !slices.Equal(d.Answer().Remove, []string{"x-roles", "x-user"}) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// A record that is required is required in shadow mode too.
func TestShadowNeedsItsRecord(t *testing.T) {
	no := func(context.Context, *authz.Decision) error { return authz.Refuse(authz.AuditUnavailable, "", nil) }
	refused := func(context.Context) (*authz.Subject, error) { return nil, authz.Refuse(authz.NoCredential, "", nil) }
	for _, g := range []*gate{{record: no}, {record: no, authn: refused}} {
		if d := decide(t, shadowed(g), &authz.Request{}); d.Passes() || d.Reason() != authz.AuditUnavailable {
			t.Errorf("passes %t, reason %s", d.Passes(), d.Reason())
		}
	}
}

// Shadow mode belongs to a route: without one, and for decisions that no
// pipeline made, a refusal is a refusal.
func TestNoShadowWithoutRoute(t *testing.T) {
	g := &gate{route: func(*authz.Request) (*authz.Route, error) { return nil, authz.Refuse(authz.NoRoute, "", nil) }}
	zero, refusal, unrouted := authz.Decision{}, authz.Refusal(errors.New("boom")), decide(t, g, &authz.Request{})
	for name, d := range map[string]*authz.Decision{"zero": &zero, "refusal": &refusal, "no route": &unrouted} {
		if d.Passes() || d.Shadow() {
			t.Errorf("%s passes", name)
		}
	}
	plain := decide(t, &gate{hold: func() error { return authz.Refuse(authz.InsufficientScope, "", nil) }}, &authz.Request{})
	if plain.Passes() || plain.Shadow() {
		t.Error("a refusal passes without shadow mode")
	}
}
