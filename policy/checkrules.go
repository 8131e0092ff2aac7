package policy

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/casbin/casbin/v2/constant"
	"github.com/casbin/casbin/v2/util"
	"github.com/casbin/govaluate"
)

// patterns prepares the constant patterns of x.
func (l *loader) patterns(s *Snapshot, x *expression, fail func(use, error)) {
	for _, u := range x.uses {
		if u.field != "" {
			continue
		}
		if err := s.patterns.prepare(u.op, u.text); err != nil {
			fail(u, err)
		}
	}
}

// compileRules compiles, once for each distinct text, the expressions that
// eval() runs, and prepares the patterns that stand in rules.
func (l *loader) compileRules(s *Snapshot, sc *scope, functions map[string]govaluate.ExpressionFunction) {
	var evals []int
	s.matcher.tree.walk(func(t *term) {
		if t.kind == termCall && t.name == "eval" {
			evals = append(evals, s.column(t.args[0].name))
		}
	})
	inner := *sc
	inner.eval = false
	type key struct {
		op   string
		text uint32
	}
	done := map[key]error{}
	prepare := func(u use, row []uint32, line int) {
		k := key{u.op, row[s.column(u.field)]}
		if native(u.op, s.syms.text(k.text)) {
			return // most of a million patterns: not worth remembering
		}
		err, ok := done[k]
		if !ok {
			err = s.patterns.prepare(u.op, s.syms.text(k.text))
			done[k] = err
		}
		if err != nil {
			l.ruleErrorf("pattern", line, "the pattern fails every request that reaches the rule", "quote what is meant literally, or use another operator", "%q is no pattern for %s: %s", s.syms.text(k.text), u.op, strings.TrimPrefix(firstLine(err), "error parsing regexp: "))
		}
	}
	for i := range s.rules.len() {
		yield(i)
		row, line := s.rules.row(i), int(s.rules.lines[i])
		for _, u := range s.matcher.uses {
			if u.field != "" {
				prepare(u, row, line)
			}
		}
		for _, c := range evals {
			x := l.evalText(s, &inner, functions, row[c], line)
			if x == nil {
				continue
			}
			for _, u := range x.uses {
				if u.field != "" {
					prepare(u, row, line)
				}
			}
		}
	}
}

// evalText compiles the text of a rule, or returns what was compiled before.
func (l *loader) evalText(s *Snapshot, sc *scope, functions map[string]govaluate.ExpressionFunction, id uint32, line int) *expression {
	if x, ok := s.evals[id]; ok && x != nil {
		return x
	}
	text := s.syms.text(id)
	x, errs := sc.compile(util.EscapeAssertion(text), functions)
	for _, err := range errs {
		l.ruleErrorf("eval", line, "every request that reaches the rule fails", "", "%q cannot be evaluated: %v", firstWords(text), err)
	}
	if x != nil {
		l.patterns(s, x, func(u use, err error) {
			l.ruleErrorf("pattern", line, "every request that reaches the rule fails", "", "pattern %q of %s: %v", u.text, u.op, err)
		})
	}
	s.evals[id] = x
	return x
}

// checkRules checks what depends on model and rules together.
func (l *loader) checkRules(s *Snapshot, rd *reader) {
	reads := len(s.matcher.reads) > 0
	// Casbin looks for the text "p_", in strings too, to tell whether it has
	// to walk the rules.
	s.loops = s.rules.len() > 0 && strings.Contains(s.matcher.text, s.sections.P+"_")
	s.noRules = reads && s.rules.len() == 0
	model, line := rd.model, rd.model.lines[s.sections.M]
	switch {
	case s.noRules:
		file := cmp.Or(rd.name, model.name)
		l.fs.add("norules", Finding{File: file, Line: 1, Severity: Warning, Message: "there are no rules of type " + s.sections.P + ": every request is refused",
			Stock: "the matcher is evaluated once with empty fields, and some effects then allow everything", Fix: "add a rule"})
	case !reads && s.effect == constant.DenyOverrideEffect && !s.loops:
		model.errorf("open", line, "every request is allowed, whatever the matcher says", "use the effect some(where (p.eft == allow))", "%s reads no field of %s, so the effect !some(where (p.eft == deny)) allows every request", s.sections.M, s.sections.P)
	case !reads && s.rules.len() > 0:
		model.warnf("unread", line, "the rules are ignored, those that deny too", "compare a field of "+s.sections.P, "%s reads no field of %s: the %d rules are not consulted one by one", s.sections.M, s.sections.P, s.rules.len())
	}
	if s.eft >= 0 {
		return
	}
	switch s.effect {
	case constant.DenyOverrideEffect:
		model.errorf("open", rd.model.lines[s.sections.E], "every request is allowed", "add eft to the policy definition", "%s denies by eft, but %s has no field eft: every request would be allowed", s.sections.E, s.sections.P)
	case constant.AllowAndDenyEffect:
		model.warnf("eft", rd.model.lines[s.sections.E], "every rule allows", "add eft to the policy definition", "%s denies by eft, but %s has no field eft: no rule can deny", s.sections.E, s.sections.P)
	}
}

func (l *loader) ruleErrorf(kind string, line int, stock, fix, format string, args ...any) {
	l.fs.add(kind, Finding{File: l.text.RulesFile, Line: line, Severity: Error, Stock: stock, Fix: fix, Message: fmt.Sprintf(format, args...)})
}
