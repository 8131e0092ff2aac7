// Package route reads where a request goes, once and in exactly one way, and
// finds the route that applies.
//
// A [Table] is built from every [Spec] of a configuration. [Table.Route]
// refuses what could be read in two ways (a header that shadows one of ours,
// an ambiguous path, a host that is not one host), writes the canonical host,
// path, query and parameters into the request, and returns the most specific
// route. Nothing redirects, nothing is repaired: what an upstream might read
// differently is an error, not a guess.
//
// The package knows nothing of tokens or policies. It cannot see what Envoy's
// route rewrites do to a path afterwards, nor a byte that Envoy replaced
// before it asked.
//
// How a path is read stands in path.go, a host in host.go. The rules for
// hosts are in hostrule.go, the pattern language in pattern.go, which of two
// patterns is narrower in compare.go, the lookup in tree.go.
package route

import (
	"errors"
	"fmt"

	"github.com/sallyport-authz/sallyport/authz"
)

// ContextKey is the context extension by which Envoy's configuration chooses
// a route.
const ContextKey = "sallyport.route"

// A Spec is one route of the configuration, in the words of the file.
type Spec struct {
	Name  string
	Hosts []string // Envoy's virtual-host domains; none: every host
	Match []string // patterns; none: reachable only where Envoy names the route

	KeepEscapedSlash bool // %2F in a path is not refused
	KeepSemicolon    bool // nor ; and %3B

	Route *authz.Route // what Table.Route returns
}

// A Problem is a mistake in one Spec, and where it stands.
type Problem struct {
	Route int    // index into the specs
	Key   string // name, hosts, hosts[1], match[0]; empty for the Spec as a whole
	Err   error
}

// A Table finds the route of a request. It is immutable and safe for
// concurrent use.
type Table struct {
	guard  guard
	hosts  hostIndex
	tcp    *entry
	byName map[string]*entry
}

// An entry is a Spec, checked.
type entry struct {
	name  string
	keep  kept
	route *authz.Route
	group *group // this route's own patterns, whatever its hosts
	tcp   bool   // it names TCP
	bare  bool   // it has no patterns
}

var _ authz.Router = (*Table)(nil)

// New returns a Table, or every problem of specs in their order.
func New(specs []Spec, guard Guard) (*Table, []Problem) {
	b := newBuilder(guard)
	for i := range specs {
		b.add(i, &specs[i])
	}
	if len(b.problems) > 0 {
		return nil, b.problems
	}
	return b.table, nil
}

// Route fills r.Host, r.Path, r.Query and r.Params and returns the route. Its
// errors are Denials for MalformedRequest or NoRoute. What is malformed is
// said first, whether or not there would have been a route.
func (t *Table) Route(r *authz.Request) (*authz.Route, error) {
	if r.TCP {
		return t.routeTCP(r)
	}
	if err := t.guard.check(r.Headers); err != nil {
		return nil, authz.Refuse(authz.MalformedRequest, authz.BadHeader, err)
	}
	if !isToken(r.Method) {
		err := fmt.Errorf("method %q is not a token", clip(r.Method))
		return nil, authz.Refuse(authz.MalformedRequest, authz.BadMessage, err)
	}
	host, err := canonicalHost(r.Authority)
	if err != nil {
		return nil, authz.Refuse(authz.MalformedRequest, authz.BadHost, err)
	}
	path, query, found, err := readTarget(r.Method, r.Target)
	if err != nil {
		return nil, authz.Refuse(authz.MalformedRequest, authz.BadPath, err)
	}
	r.Host, r.Path, r.Query, r.Params = host, path, query, nil

	e, p, refusal := t.find(r)
	var keep kept
	if e != nil {
		keep = e.keep
	}
	if err := found.refusedBy(keep); err != nil {
		return nil, authz.Refuse(authz.MalformedRequest, authz.BadPath, err)
	}
	if refusal != nil {
		return nil, refusal
	}
	if p != nil {
		r.Params = p.params(path)
	}
	return e.route, nil
}

// find returns the route of a request whose canonical fields are filled, and
// the pattern that led there; a route that Envoy chose may have none.
func (t *Table) find(r *authz.Request) (*entry, *pattern, *authz.Denial) {
	method := r.Method
	if m, ok := preflightMethod(r); ok {
		method = m
	}
	name, chosen := r.Context[ContextKey]
	if !chosen {
		if p := t.hosts.find(r.Host, method, r.Path); p != nil {
			return p.entry, p, nil
		}
		return nil, nil, authz.Refuse(authz.NoRoute, authz.NothingMatched, nil)
	}

	e := t.byName[name]
	if e == nil {
		return nil, nil, unknownRoute(name)
	}
	if p := e.group.find(method, r.Path); p != nil {
		return e, p, nil
	}
	// CONNECT and OPTIONS * have no path that a route without patterns covers.
	if e.bare && r.Path != "" && r.Path != "*" && method != "CONNECT" {
		return e, nil, nil
	}
	err := fmt.Errorf("route %q, which Envoy chose, does not match the request", name)
	return nil, nil, authz.Refuse(authz.NoRoute, authz.RouteMismatch, err)
}

func (t *Table) routeTCP(r *authz.Request) (*authz.Route, error) {
	e := t.tcp
	if name, chosen := r.Context[ContextKey]; chosen {
		if e = t.byName[name]; e == nil {
			return nil, unknownRoute(name)
		}
		if !e.tcp {
			err := fmt.Errorf("route %q, which Envoy chose, does not name TCP", name)
			return nil, authz.Refuse(authz.NoRoute, authz.RouteMismatch, err)
		}
	}
	if e == nil {
		return nil, authz.Refuse(authz.NoRoute, authz.NothingMatched, errors.New("no route names TCP"))
	}
	return e.route, nil
}

func unknownRoute(name string) *authz.Denial {
	err := fmt.Errorf("context extension %s names the unknown route %q", ContextKey, clip(name))
	return authz.Refuse(authz.NoRoute, authz.UnknownRoute, err)
}

// clip bounds what an error repeats of a value.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
