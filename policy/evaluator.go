package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/casbin/govaluate"
)

// An evaluator is the scratch space of one decision. It is what the compiled
// expressions read their values from, and the first argument of every
// function they call.
type evaluator struct {
	s    *Snapshot
	q    *Query
	self any      // the evaluator itself, boxed once
	row  []uint32 // the rule, nil where there is none
	rKey string   // prefixes of names, with the underscore
	pKey string

	closures []closure // first those that the plan looks at, then spare ones
	pinned   int
	next     int // the spare closure to reuse
	finder
}

// spareClosures is how many role checks with other arguments than the plan's
// one request keeps, from functions inside eval() for example.
const spareClosures = 2

func newEvaluator(s *Snapshot) *evaluator {
	ev := &evaluator{s: s, rKey: s.sections.R + "_", pKey: s.sections.P + "_"}
	ev.self = ev
	roles := 0
	for _, b := range s.plan.branches {
		ev.probes = append(ev.probes, make([]probe, len(b.atoms)))
		roles += len(b.atoms)
	}
	ev.closures = make([]closure, roles+spareClosures)
	return ev
}

func (ev *evaluator) begin(q *Query) { ev.q = q }

// end forgets the request.
func (ev *evaluator) end() {
	ev.q, ev.row, ev.next, ev.pinned = nil, nil, 0, 0
	for i := range ev.probes {
		clear(ev.probes[i])
	}
	if cap(ev.found) > maxKept {
		ev.found = nil
	}
	for i := range ev.closures {
		c := &ev.closures[i]
		c.filled, c.graph, c.name, c.domain = false, nil, "", ""
		if cap(c.ids) > maxKept {
			ev.closures[i] = closure{}
		}
	}
}

// maxKept is how much scratch space outlives a request that needed more.
const maxKept = 1 << 16

// Get implements govaluate.Parameters.
func (ev *evaluator) Get(name string) (any, error) {
	if name == evaluation {
		return ev.self, nil
	}
	if f, ok := cut(name, ev.pKey); ok {
		for i, field := range ev.s.pFields {
			if field == f {
				if ev.row == nil {
					return "", nil // Casbin's reading of a policy without rules
				}
				return ev.s.syms.vals[ev.row[i]], nil
			}
		}
	}
	if f, ok := cut(name, ev.rKey); ok {
		for i, field := range ev.s.fields {
			if field == f {
				return ev.q.Args[i], nil
			}
		}
	}
	return nil, fmt.Errorf("unknown name %s", name)
}

func cut(name, prefix string) (string, bool) {
	if len(name) > len(prefix) && name[:len(prefix)] == prefix {
		return name[len(prefix):], true
	}
	return "", false
}

// match evaluates the matcher for rule i.
func (ev *evaluator) match(i int) (bool, error) {
	ev.row = ev.s.rules.row(i)
	return ev.eval(ev.s.matcher)
}

// eval runs an expression to a yes or no. The engine and the operators panic
// on some values; that is one more way of not being evaluable.
func (ev *evaluator) eval(x *expression) (bool, error) {
	v, err := ev.run(x)
	switch v := v.(type) {
	case bool:
		return v && err == nil, err
	case float64:
		return v != 0 && err == nil, err
	}
	return false, cmp.Or(err, errNotBool)
}

var errNotBool = errors.New("the result is neither true nor false")

func (ev *evaluator) run(x *expression) (v any, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, fmt.Errorf("%v", r)
		}
		if err != nil {
			err = ev.plain(err)
		}
	}()
	return x.run.Eval(ev)
}

// plain writes an error of the engine, which quotes whole values and shows
// names as the engine has them, as one of ours.
func (ev *evaluator) plain(err error) error {
	msg := firstLine(err)
	if member, ok := strings.CutPrefix(msg, "No method or field '"); ok {
		member, name, _ := strings.Cut(member, "' present on parameter '")
		return fmt.Errorf("%s: there is no member %s", ev.s.renderName(strings.TrimSuffix(name, "'")), member)
	}
	if len(msg) > maxMessage {
		msg = strings.ToValidUTF8(msg[:maxMessage], "") + "..."
	}
	return errors.New(lowerFirst(msg))
}

// maxMessage bounds what a message shows of a value.
const maxMessage = 200

// runRule implements eval(). Its argument is the text of a rule, compiled at
// load.
func runRule(args ...any) (any, error) {
	ev, text := args[0].(*evaluator), args[1].(string)
	id, ok := ev.s.syms.lookup(text)
	x := ev.s.evals[id]
	if !ok || x == nil {
		return nil, errors.New("eval: the text was not compiled at load")
	}
	return x.run.Eval(ev)
}

// roleFunction implements g and its like for expressions.
func roleFunction(key string, arity int) govaluate.ExpressionFunction {
	return func(args ...any) (any, error) {
		if len(args) != arity+1 {
			return nil, fmt.Errorf("%s: expected %d arguments, got %d", key, arity, len(args)-1)
		}
		ev := args[0].(*evaluator)
		var texts [3]string
		for i, a := range args[1:] {
			t, ok := a.(string)
			if !ok {
				return nil, fmt.Errorf("%s: argument %d is no string", key, i+1)
			}
			texts[i] = t
		}
		return ev.hasRole(ev.s.graphs[key], texts[0], texts[1], texts[2]), nil
	}
}

// hasRole reports whether name has role, by the links of the policy and, for
// the subject of the request, by those of its token.
func (ev *evaluator) hasRole(g *graph, name, role, domain string) bool {
	if name == role {
		return true
	}
	if g.patterns() && ev.closure(g, name, domain).reaches(ev.s.syms, role) {
		return true
	}
	if id, ok := ev.s.syms.lookup(role); ok {
		return ev.closure(g, name, domain).has(id)
	}
	// No rule names this role, so that only the token can give it.
	bare, ok := cut(role, rolePrefix)
	return ok && ev.tokenRoles(g, name, domain) && slices.Contains(ev.q.Roles, bare)
}

// tokenRoles reports whether the roles of the token are links of name: it has
// to be the subject, and in models with domains the domain its tenant. Other
// role definitions than g relate objects, not subjects.
func (ev *evaluator) tokenRoles(g *graph, name, domain string) bool {
	return g.key == "g" && ev.q.Subject != "" && name == ev.q.Subject &&
		(!g.domains || ev.q.Tenant != "" && domain == ev.q.Tenant)
}

// closure returns the roles of name.
func (ev *evaluator) closure(g *graph, name, domain string) *closure {
	if c := known(ev.closures, g, name, domain); c != nil {
		return c
	}
	spare := len(ev.closures) - spareClosures + ev.next
	ev.next = (ev.next + 1) % spareClosures
	return ev.fill(&ev.closures[spare], g, name, domain)
}

// pin returns the roles of name, in a place that lasts for the request.
func (ev *evaluator) pin(g *graph, name, domain string) *closure {
	if c := known(ev.closures[:ev.pinned], g, name, domain); c != nil {
		return c
	}
	ev.pinned++
	return ev.fill(&ev.closures[ev.pinned-1], g, name, domain)
}

func known(closures []closure, g *graph, name, domain string) *closure {
	for i := range closures {
		c := &closures[i]
		if c.filled && c.graph == g && c.name == name && c.domain == domain {
			return c
		}
	}
	return nil
}

func (ev *evaluator) fill(c *closure, g *graph, name, domain string) *closure {
	c.graph, c.name, c.domain = g, name, domain
	var extra []string
	if ev.tokenRoles(g, name, domain) {
		extra = ev.q.Roles
	}
	c.fill(ev.s.syms, extra, ev.s.roles)
	return c
}
