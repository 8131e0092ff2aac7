package gate

import (
	"slices"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/expr"
)

// obligations compute what the answers of one route carry. What cannot be
// computed is left out; a request header or query parameter so left out is
// removed, so that the client's own copy cannot stand in for it.
type obligations struct {
	route string

	set, add        []named
	remove          []string
	onAllowResponse []named
	querySet        []named
	queryRemove     []string
	metadata        []named

	onDenyResponse []named
	body, redirect *expr.Program
}

type named struct {
	name    string
	program *expr.Program
}

// OnAllow implements [authz.Obligations].
func (o *obligations) OnAllow(r *authz.Request, d *authz.Decision) authz.Answer {
	scope := expr.NewScope(r, d.Subject(), o.route, d)
	a := authz.Answer{Remove: o.removed(r), QueryRemove: o.queryRemove}
	for _, n := range o.set {
		if v, ok := n.program.Header(scope); ok {
			a.Set = append(a.Set, authz.Header{Name: n.name, Value: v})
		} else {
			a.Remove = append(a.Remove[:len(a.Remove):len(a.Remove)], n.name)
		}
	}
	a.Append = headers(o.add, scope)
	a.Response = headers(o.onAllowResponse, scope)
	for _, n := range o.querySet {
		if v, ok := n.program.Query(scope); ok {
			a.QuerySet = append(a.QuerySet, authz.Param{Name: n.name, Value: v})
		} else {
			a.QueryRemove = append(a.QueryRemove[:len(a.QueryRemove):len(a.QueryRemove)], n.name)
		}
	}
	a.Metadata = o.extra(scope)
	return a
}

// removed returns what the upstream must not see: the names of the
// configuration, and how this client may have spelled them for a server that
// reads _ as -.
func (o *obligations) removed(r *authz.Request) []string {
	names := o.remove
	for i := range r.Headers {
		name := r.Headers[i].Name
		if strings.IndexByte(name, '_') < 0 || slices.Contains(o.remove, name) {
			continue
		}
		if slices.ContainsFunc(o.remove, func(n string) bool { return fold(n) == fold(name) }) {
			names = append(names[:len(names):len(names)], name)
		}
	}
	return names
}

// OnDeny implements [authz.Obligations].
func (o *obligations) OnDeny(r *authz.Request, d *authz.Decision) authz.Answer {
	if len(o.onDenyResponse) == 0 && o.body == nil && o.redirect == nil {
		return authz.Answer{}
	}
	scope := expr.NewScope(r, d.Subject(), o.route, d)
	a := authz.Answer{Response: headers(o.onDenyResponse, scope)}
	if o.body != nil {
		if v, ok := o.body.Text(scope); ok {
			a.Body = &v
		}
	}
	if o.redirect != nil {
		a.Redirect, _ = o.redirect.Header(scope)
	}
	return a
}

func (o *obligations) extra(scope *expr.Scope) map[string]any {
	if len(o.metadata) == 0 {
		return nil
	}
	m := make(map[string]any, len(o.metadata))
	for _, n := range o.metadata {
		if v, ok := n.program.Metadata(scope); ok {
			m[n.name] = v
		}
	}
	return m
}

func headers(entries []named, scope *expr.Scope) []authz.Header {
	if len(entries) == 0 {
		return nil
	}
	hs := make([]authz.Header, 0, len(entries))
	for _, n := range entries {
		if v, ok := n.program.Header(scope); ok {
			hs = append(hs, authz.Header{Name: n.name, Value: v})
		}
	}
	return hs
}
