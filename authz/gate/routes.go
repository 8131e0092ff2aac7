package gate

import (
	"slices"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/expr"
	"github.com/sallyport-authz/sallyport/authz/route"
	"github.com/sallyport-authz/sallyport/authz/token"
	"github.com/sallyport-authz/sallyport/policy"
)

// route compiles what one route of the configuration asks for.
func (b *build) route(rc *config.Route) *authz.Route {
	r := &authz.Route{
		Name:        rc.Name,
		Shadow:      rc.Mode == config.ModeShadow,
		Policy:      rc.Policy.Value,
		Obligations: b.obligations(rc),
		AsError:     rc.OnError == config.OnErrorEnvoy || rc.OnError == "" && b.server.OnError == config.OnErrorEnvoy,
	}
	if rc.Token != config.TokenNone && b.tokens != nil {
		r.Authenticator = b.tokens.verifier.Route(narrow(rc))
		r.Conditions = conditions(rc, func(s *config.StepUp) authz.Condition { return token.StepUp(s.ACR, s.MaxAge, nil) })
		challenge := token.Challenge{Realm: b.server.Realm, Scopes: rc.Scopes, ResourceMetadata: rc.ResourceMetadata}
		if s := rc.StepUp; s != nil {
			challenge.ACR, challenge.MaxAge = s.ACR, s.MaxAge
		}
		r.Challenges = token.Challenges(challenge)
	}
	switch {
	case rc.Allow:
		r.Authorizer = authz.AllowAll{}
	case rc.Policy.Value != "":
		b.enforce(rc, r)
	}
	return r
}

// narrow says which tokens a route takes.
func narrow(rc *config.Route) token.RouteOptions {
	return token.RouteOptions{Optional: rc.Token == config.TokenOptional, Issuers: rc.Issuers, Audiences: rc.Audiences}
}

// conditions are the duties of a route besides its policy, in the order of
// their reasons.
func conditions(rc *config.Route, stepUp func(*config.StepUp) authz.Condition) []authz.Condition {
	var cs []authz.Condition
	if len(rc.Scopes) > 0 {
		cs = append(cs, token.Scopes(rc.Scopes))
	}
	if rc.StepUp != nil {
		cs = append(cs, stepUp(rc.StepUp))
	}
	return cs
}

// enforce gives a route its policy and the arguments for it.
func (b *build) enforce(rc *config.Route, r *authz.Route) {
	var snapshot *policy.Snapshot
	if p := b.policies[rc.Policy.Value]; p != nil {
		snapshot = p.snapshots[sectionsOf(rc)]
	}
	if snapshot == nil {
		// The policy did not load or is not there: that is reported already.
		// What can be checked without it still is.
		for _, e := range rc.Enforce {
			b.compile(e.Expr, expr.Enforce, expr.Any)
		}
		return
	}
	fields := snapshot.Fields()
	for _, e := range rc.Enforce {
		if !slices.Contains(fields, e.Name) {
			b.problem(e.Expr.Line, e.Expr.Key, "the request definition of policy %q has no field %q (it has %s)",
				rc.Policy.Value, e.Name, strings.Join(fields, ", "))
			b.compile(e.Expr, expr.Enforce, expr.Any)
		}
	}
	enf := &enforcer{route: rc.Name, policy: snapshot}
	for _, field := range fields {
		text := config.Text{Line: rc.Line, Key: rc.Key + ".enforce." + field}
		if i := slices.IndexFunc(rc.Enforce, func(e config.Entry) bool { return e.Name == field }); i >= 0 {
			text = rc.Enforce[i].Expr
		} else if text.Value = defaults[field]; text.Value == "" {
			b.problem(b.cfg.Line(rc.Key+".enforce"), rc.Key+".enforce",
				"field %q of the request definition of policy %q has no expression and no default", field, rc.Policy.Value)
			continue
		}
		if p := b.compile(text, expr.Enforce, expr.Any); p != nil {
			enf.args = append(enf.args, argument{field, text.Value, p})
		}
	}
	r.Revision = snapshot.Revision()
	r.Authorizer = enf
}

func (b *build) obligations(rc *config.Route) authz.Obligations {
	o := &obligations{
		route:           rc.Name,
		set:             b.compileAll(rc.OnAllow.RequestHeaders.Set, expr.String),
		add:             b.compileAll(rc.OnAllow.RequestHeaders.Append, expr.String),
		remove:          rc.OnAllow.RequestHeaders.Remove,
		onAllowResponse: b.compileAll(rc.OnAllow.ResponseHeaders.Set, expr.String),
		querySet:        b.compileAll(rc.OnAllow.Query.Set, expr.String),
		queryRemove:     rc.OnAllow.Query.Remove,
		metadata:        b.compileAll(rc.OnAllow.Metadata, expr.Any),
		onDenyResponse:  b.compileAll(rc.OnDeny.ResponseHeaders.Set, expr.String),
	}
	if rc.OnDeny.Body.Value != "" {
		o.body = b.compile(rc.OnDeny.Body, expr.Answer, expr.String)
	}
	if rc.OnDeny.Redirect.Value != "" {
		o.redirect = b.compile(rc.OnDeny.Redirect, expr.Answer, expr.String)
	}
	return o
}

// preflights are the routes that let CORS preflights pass, each with the
// route that stands in for it then: same name, no duties, and nothing for the
// upstream that the route would not let through.
type preflights map[*authz.Route]*authz.Route

func (p preflights) add(r *authz.Route) {
	standIn := &authz.Route{Name: r.Name, Authorizer: authz.AllowAll{}, AsError: r.AsError}
	if o, ok := r.Obligations.(*obligations); ok {
		standIn.Obligations = &obligations{route: o.route, remove: o.remove, queryRemove: o.queryRemove}
	}
	p[r] = standIn
}

// A preflightRouter routes preflights of routes that let them pass to their
// stand-ins. A browser sends no credentials with a preflight, and what it asks
// is answered by the upstream or by Envoy's CORS filter.
type preflightRouter struct {
	authz.Router
	variants preflights
}

// Route implements [authz.Router].
func (p preflightRouter) Route(r *authz.Request) (*authz.Route, error) {
	found, err := p.Router.Route(r)
	if err != nil {
		return nil, err
	}
	if v, ok := p.variants[found]; ok && route.Preflight(r) {
		return v, nil
	}
	return found, nil
}
