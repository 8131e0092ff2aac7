package gate

import (
	"context"
	"fmt"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/expr"
	"github.com/sallyport-authz/sallyport/policy"
)

// defaults are what the fields of a request definition mean where a route
// does not say.
var defaults = map[string]string{
	"sub": "subject.id",
	"obj": "request.path",
	"act": "request.method",
	"dom": "subject.tenant",
}

// An enforcer asks a policy, with the arguments that the route's expressions
// give for this request.
type enforcer struct {
	route  string
	policy *policy.Snapshot
	args   []argument // in the order of the request definition
}

type argument struct {
	field   string
	text    string // as the configuration has it
	program *expr.Program
}

// Authorize implements [authz.Authorizer].
func (e *enforcer) Authorize(_ context.Context, r *authz.Request, sub *authz.Subject) (authz.Rule, error) {
	q, err := e.query(r, sub)
	if err != nil {
		return authz.Rule{}, err
	}
	return e.policy.Decide(&q)
}

// query evaluates the arguments. What is missing is a refusal.
func (e *enforcer) query(r *authz.Request, sub *authz.Subject) (policy.Query, error) {
	scope := expr.NewScope(r, sub, e.route, nil)
	args := make([]any, len(e.args))
	for i, a := range e.args {
		v, err := a.program.Value(scope)
		if err != nil {
			return policy.Query{}, authz.Refuse(authz.AttributeMissing, authz.MissingAttribute, fmt.Errorf("enforce.%s: %w", a.field, err))
		}
		args[i] = v
	}
	return policy.Query{Args: args, Subject: sub.ID, Roles: sub.Roles, Tenant: sub.Tenant}, nil
}
