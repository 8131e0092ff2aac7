package authz

import "context"

// A Router reads a request and finds its route. It fills the canonical fields
// of r. Its errors are Denials for [MalformedRequest] or [NoRoute].
type Router interface {
	Route(r *Request) (*Route, error)
}

// An Authenticator says who is calling. Its errors are Denials for one of
// [MalformedCredential], [NoCredential], [InvalidToken], [IssuerUnavailable].
type Authenticator interface {
	Authenticate(ctx context.Context, r *Request) (*Subject, CacheOutcome, error)
}

// A Condition is a duty of a route besides its policy: scopes, step-up,
// revocation. It may refuse, never allow.
type Condition interface {
	Hold(ctx context.Context, r *Request, sub *Subject) error
}

// An Authorizer says whether this subject may do this, and which rule said so.
type Authorizer interface {
	Authorize(ctx context.Context, r *Request, sub *Subject) (Rule, error)
}

// Obligations says what an answer carries. Both methods are asked once the
// decision stands and cannot change it; what cannot be computed is left out.
type Obligations interface {
	OnAllow(r *Request, d *Decision) Answer
	OnDeny(r *Request, d *Decision) Answer
}

// A Recorder is told each decision once. Only a recorder whose records are
// required returns an error; the decision then becomes a refusal for
// [AuditUnavailable].
type Recorder interface {
	Record(ctx context.Context, r *Request, d *Decision) error
}

// A Route is which policy and which duties apply to a request. The zero value
// refuses.
type Route struct {
	Name     string
	Policy   string // empty where the route allows without one
	Revision string // of the policy

	Authenticator Authenticator // nil: token none, the subject is Nobody
	Conditions    []Condition   // in the order of their reasons
	Authorizer    Authorizer    // nil refuses, see AllowAll
	Obligations   Obligations   // nil: nothing

	Challenges map[Reason]string // WWW-Authenticate by reason
	AsError    bool              // failures to decide are Envoy's to answer
	Shadow     bool              // refusals are recorded and let pass, see Decision.Shadow
}

// AllowAll is the Authorizer of a route that says so in its configuration.
type AllowAll struct{}

// Authorize allows.
func (AllowAll) Authorize(context.Context, *Request, *Subject) (Rule, error) {
	return Rule{}, nil
}
