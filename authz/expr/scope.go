package expr

import (
	"cel.dev/cel-go/interpreter"

	"github.com/sallyport-authz/sallyport/authz"
)

// A Scope is what the expressions of one request see. It converts a part of
// the request when the first expression asks for it, and then keeps it. It is
// not safe for concurrent use, and its request, subject and decision must not
// change while it is in use.
type Scope struct {
	request  *authz.Request
	subject  *authz.Subject
	route    string
	decision *authz.Decision
	objects  [objectCount]object

	// Kept maps have text lists as values; map[string]any is the map that
	// the interpreter reads without reflection.
	env       *Env           // whose hidden headers are left out of headers
	headers   map[string]any // nil: not built yet
	query     map[string]any // nil: not built yet
	longQuery bool
	params    map[string]string // nil: not built yet
}

var _ interpreter.Activation = (*Scope)(nil)

// NewScope returns what the expressions of one request see. sub is nil where
// nobody was authenticated: its members are missing then, its lists and claims
// empty. d is nil before the decision. Nothing is read or converted before an
// expression asks.
func NewScope(r *authz.Request, sub *authz.Subject, route string, d *authz.Decision) *Scope {
	if sub == nil {
		sub = &authz.Subject{}
	}
	s := &Scope{request: r, subject: sub, route: route, decision: d}
	for i, t := range objects {
		s.objects[i] = object{typ: t, scope: s}
	}
	return s
}

// ResolveName implements [interpreter.Activation].
func (s *Scope) ResolveName(name string) (any, bool) {
	if name == "context" {
		return s.request.Context, true
	}
	for i := range s.objects {
		if s.objects[i].typ.name == name {
			return &s.objects[i], true
		}
	}
	return nil, false
}

// Parent implements [interpreter.Activation]: there is none.
func (s *Scope) Parent() interpreter.Activation { return nil }

// bind makes e the Env whose programs are about to ask.
func (s *Scope) bind(e *Env) {
	if s.env != e {
		s.env, s.headers = e, nil
	}
}
