package policy

import (
	"fmt"
	"net"
	"slices"

	"github.com/casbin/casbin/v2/constant"
)

// What is known about an atom for one request.
type probe struct {
	text   string // the value
	id     uint32 // its symbol, or none
	roles  *closure
	failed bool // the value is missing or of a type that the atom cannot use
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
			ev.found = append(ev.found, uint32(i)) //nolint:gosec // bounded by maxRulesFile
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

// state is what the request alone says about a branch.
type state struct {
	err    error // it fails for every rule that gets there
	no     bool  // no rule that allows can match by it
	noDeny bool  // no rule that denies can match by it, or fail in it
	unsure bool  // rules that deny may fail in it
}

// probe reads the values of a request that a branch compares.
func (ev *evaluator) probe(i int, b *branch) (st state) {
	fail := func(err error) {
		if st.err == nil {
			st.err = err
		}
		st.unsure = true
	}
	for _, o := range b.loose {
		if v, err := ev.value(o); err != nil || !isText(v) {
			st.unsure = true
		}
	}
	for j := range b.atoms {
		a, pr := &b.atoms[j], &ev.probes[i][j]
		*pr = probe{id: none}
		v, err := ev.value(a.value)
		if err != nil {
			pr.failed = true
			fail(err)
			continue
		}
		text, ok := v.(string)
		pr.text = text
		if id, known := ev.s.syms.lookup(text); ok && known {
			pr.id = id
		}
		switch {
		case a.kind == atomEqual:
			if pr.id == none && len(a.consts) == 0 {
				st.no = true
				st.noDeny = st.noDeny || a.safe
			}
		case !ok:
			pr.failed = true
			fail(fmt.Errorf("%s is no string", ev.s.describe(a.value)))
		case a.kind == atomRole:
			if err := ev.probeRole(a, pr); err != nil {
				fail(err)
			}
		case a.op == "ipMatch" && net.ParseIP(text) == nil:
			pr.failed = true
			fail(fmt.Errorf("%s, %q, is no IP address", ev.s.describe(a.value), firstWords(text)))
		}
	}
	for _, c := range b.conds {
		ev.row = nil
		v, err := ev.run(c.run)
		ok, isBool := v.(bool)
		switch {
		case err != nil:
			fail(err)
		case !isBool:
			fail(errNotBool)
		case !ok:
			st.no = true
			st.noDeny = st.noDeny || c.safe
		}
	}
	return st
}

func (ev *evaluator) probeRole(a *atom, pr *probe) error {
	domain := ""
	if a.domain != nil {
		v, err := ev.value(*a.domain)
		if err == nil && !isText(v) {
			err = fmt.Errorf("%s is no string", ev.s.describe(*a.domain))
		}
		if err != nil {
			pr.failed = true
			return err
		}
		domain = v.(string)
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
			if pr.failed || !ev.holds(a, pr, ev.s.rules.cell(i, a.column)) {
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
		if a.graph.patterns() {
			return true
		}
		return pr.roles.has(cell)
	}
	ok, err := ev.s.patterns.match(a.op, pr.text, ev.s.syms.text(cell))
	return ok || err != nil
}
