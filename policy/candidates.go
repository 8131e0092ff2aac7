package policy

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"

	"github.com/casbin/casbin/v2/constant"
)

// What is known about an atom for one request.
type probe struct {
	text  string // the value
	id    uint32 // its symbol, or none
	roles *closure
	err   error // the value is missing or of a type that the atom cannot use
}

// finder is the part of an evaluator that finds candidates.
type finder struct {
	probes [][]probe  // by branch, by atom
	labels [][]uint32 // by level
	found  []uint32
	all    bool // every rule is a candidate
	unsure bool // rules that deny may fail for reasons that only the engine sees
}

// find fills ev.found with the candidates, in order, or says that all rules
// are. err tells why a rule that allows could not be evaluated, where it is
// known already.
func (ev *evaluator) find() (err error) {
	p := ev.s.plan
	ev.found, ev.all, ev.unsure = ev.found[:0], false, false
	allows := ev.s.effect != constant.DenyOverrideEffect
	denies := len(p.deny) > 0 && ev.s.effect != constant.AllowOverrideEffect
	denyAll := false
	for i := range p.branches {
		b := &p.branches[i]
		state := ev.probe(i, b)
		if state.err != nil && err == nil {
			err = state.err
		}
		switch {
		case !allows || state.err != nil || state.no:
		case b.allow == nil:
			ev.all = true
		default:
			ev.found = b.allow.Find(ev.found, ev.level(i, b))
		}
		switch {
		case !denies:
		case state.unsure:
			denyAll, ev.unsure = true, true
		case state.noDeny:
		case b.deny == nil:
			denyAll = true
		default:
			ev.found = b.deny.Find(ev.found, ev.level(i, b))
		}
	}
	if ev.all && ev.s.ownFirst && len(ev.q.Roles) > 0 {
		ev.all, ev.found = false, ev.found[:0]
		for i := range ev.s.rules.len() {
			ev.found = append(ev.found, uint32(i)) // bounded by maxRulesFile
		}
	}
	if ev.all {
		return err
	}
	if denyAll {
		ev.found = append(ev.found, p.deny...)
	}
	if !slices.IsSorted(ev.found) {
		slices.Sort(ev.found)
	}
	if len(p.branches) > 1 || denyAll {
		ev.found = slices.Compact(ev.found)
	}
	ev.ownFirst()
	return err
}

// count returns how many candidates there are.
func (ev *evaluator) count() int {
	if ev.all {
		return ev.s.rules.len()
	}
	return len(ev.found)
}

// candidate returns the nth candidate.
func (ev *evaluator) candidate(n int) int {
	if ev.all {
		return n
	}
	return int(ev.found[n])
}

// state is what the request alone says about a branch.
type state struct {
	err    error // it fails for every rule that gets there
	no     bool  // no rule that allows can match by it
	noDeny bool  // no rule that denies can match by it, or fail in it
	unsure bool  // rules that deny may fail in it
}

func (st *state) fail(err error) {
	if st.err == nil {
		st.err = err
	}
	st.unsure = true
}

// probe reads the values of a request that a branch compares.
func (ev *evaluator) probe(i int, b *branch) (st state) {
	for _, o := range b.loose {
		if v, err := ev.value(o); err != nil || !isText(v) {
			st.unsure = true
		}
	}
	for j := range b.atoms {
		a, pr := &b.atoms[j], &ev.probes[i][j]
		if pr.err = ev.probeAtom(a, pr); pr.err != nil {
			st.fail(pr.err)
		} else if a.kind == atomEqual && pr.id == none && len(a.consts) == 0 {
			st.no = true
			st.noDeny = st.noDeny || a.safe
		}
	}
	for _, c := range b.conds {
		if ok, known := ev.compare(c.term); known {
			if !ok {
				st.no = true
				st.noDeny = st.noDeny || c.safe
			}
			continue
		}
		ev.row = nil
		v, err := ev.run(c.run)
		ok, isBool := v.(bool)
		switch {
		case err != nil:
			st.fail(err)
		case !isBool:
			st.fail(errNotBool)
		case !ok:
			st.no = true
			st.noDeny = st.noDeny || c.safe
		}
	}
	return st
}

// probeAtom reads what one atom compares.
func (ev *evaluator) probeAtom(a *atom, pr *probe) error {
	*pr = probe{id: none}
	v, err := ev.value(a.value)
	if err != nil {
		return err
	}
	text, ok := v.(string)
	pr.text = text
	switch {
	case a.kind == atomEqual:
		if id, known := ev.s.syms.lookup(text); ok && known {
			pr.id = id
		}
	case !ok:
		return fmt.Errorf("%s is no string", ev.s.describe(a.value))
	case a.kind == atomRole:
		return ev.probeRole(a, pr)
	case a.op == "ipMatch" && net.ParseIP(text) == nil:
		return fmt.Errorf("%s, %q, is no IP address", ev.s.describe(a.value), firstWords(text))
	}
	return nil
}

func (ev *evaluator) probeRole(a *atom, pr *probe) error {
	domain := ""
	if a.domain != nil {
		v, err := ev.value(*a.domain)
		if err != nil {
			return err
		}
		var ok bool
		if domain, ok = v.(string); !ok {
			return fmt.Errorf("%s is no string", ev.s.describe(*a.domain))
		}
	}
	pr.roles = ev.pin(a.graph, pr.text, domain)
	return nil
}

// value reads an operand.
func (ev *evaluator) value(o operand) (any, error) {
	v := ev.q.Args[o.field]
	for _, name := range o.path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: there is no object to read %s from", ev.s.describe(o), name)
		}
		if v, ok = m[name]; !ok {
			return nil, fmt.Errorf("%s: there is no member %s", ev.s.describe(o), name)
		}
	}
	return v, nil
}

// describe names an operand as the model does.
func (s *Snapshot) describe(o operand) string {
	d := s.sections.R + "." + s.fields[o.field]
	for _, name := range o.path {
		d += "." + name
	}
	return d
}

// level returns the labels of the request for the levels of b.
func (ev *evaluator) level(i int, b *branch) [][]uint32 {
	for len(ev.labels) < len(b.level) {
		ev.labels = append(ev.labels, nil)
	}
	for l, j := range b.level {
		a, pr, dst := &b.atoms[j], &ev.probes[i][j], ev.labels[l][:0]
		switch a.kind {
		case atomEqual:
			if pr.id != none {
				dst = append(dst, symbolLabel(pr.id))
			}
			for _, c := range a.consts {
				if id, ok := ev.s.syms.lookup(c); ok && !slices.Contains(dst, symbolLabel(id)) {
					dst = append(dst, symbolLabel(id))
				}
			}
		case atomRole:
			if pr.roles != nil {
				for _, id := range pr.roles.ids {
					dst = append(dst, symbolLabel(id))
				}
			}
		case atomMatch:
			dst = segmentLabels(dst, a.op, pr.text)
		}
		ev.labels[l] = dst
	}
	return ev.labels[:len(b.level)]
}

// screen reports whether rule i could still match: it checks the atoms
// without the expression engine, which takes a microsecond and a few
// allocations for what mostly fails.
func (ev *evaluator) screen(i int) bool {
	denies := ev.s.denies(i)
	if denies && (ev.unsure || len(ev.s.plan.branches) > 1) {
		return true
	}
	for n := range ev.s.plan.branches {
		b := &ev.s.plan.branches[n]
		ok := true
		for j := range b.atoms {
			a, pr := &b.atoms[j], &ev.probes[n][j]
			if denies && !a.safe {
				break
			}
			if pr.err != nil || !ev.holds(a, pr, ev.s.rules.cell(i, a.column)) {
				ok = false
				break
			}
		}
		if ok {
			return true
		}
	}
	return false
}

// holds checks one atom against the value of its column.
func (ev *evaluator) holds(a *atom, pr *probe, cell uint32) bool {
	switch a.kind {
	case atomEqual:
		return pr.id == cell || len(a.consts) > 0 && slices.Contains(a.consts, ev.s.syms.text(cell))
	case atomRole:
		return pr.roles.has(cell) || a.graph.patterns() && pr.roles.reaches(ev.s.syms, ev.s.syms.text(cell))
	}
	ok, err := ev.s.patterns.match(a.op, pr.text, ev.s.syms.text(cell))
	return ok || err != nil
}

// compare evaluates a comparison of two texts or numbers of the request, which
// is common enough in ABAC to do without the engine and its allocations. It
// leaves everything else to it.
func (ev *evaluator) compare(t *term) (ok, known bool) {
	if t.kind != termCompare || t.name == "in" {
		return false, false
	}
	var v [2]any
	for i, side := range t.args {
		switch side.kind {
		case termConst:
			v[i] = side.value
		case termRequest:
			var err error
			if v[i], err = ev.value(operand{slices.Index(ev.s.fields, side.name), side.path}); err != nil {
				return false, false
			}
		default:
			return false, false
		}
	}
	switch l := v[0].(type) {
	case string:
		r, same := v[1].(string)
		return same && holdsOrder(t.name, strings.Compare(l, r)), same
	case float64:
		r, same := v[1].(float64)
		if math.IsNaN(l) || math.IsNaN(r) { // NaN has no order
			return false, false
		}
		return same && holdsOrder(t.name, cmp.Compare(l, r)), same
	}
	return false, false
}

func holdsOrder(op string, c int) bool {
	switch op {
	case "==":
		return c == 0
	case "!=":
		return c != 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}
