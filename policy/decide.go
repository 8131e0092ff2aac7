package policy

import (
	"errors"
	"fmt"

	"github.com/casbin/casbin/v2/constant"
	"github.com/casbin/casbin/v2/effector"

	"github.com/sallyport-authz/sallyport/authz"
)

// A Query is one question to a policy. Decide keeps none of it.
type Query struct {
	// Args are the values of the request definition, in the order of
	// [Snapshot.Fields]: string, bool, float64, []any or map[string]any.
	Args []any

	Subject string   // the subject's id; where it is the first argument of g, Roles count
	Roles   []string // of the token, bare names, at most 256
	Tenant  string   // where Roles hold in models with domains; empty for none
}

// Revision identifies the contents of model and rules, and by which operators
// names match: 12 hex digits. It is the same for all sections of a model.
func (s *Snapshot) Revision() string { return s.revision }

// Fields returns the names of the request definition, in order. The caller
// must not change them.
func (s *Snapshot) Fields() []string { return s.fields }

// Decide says whether the policy allows the request, and which rule decided.
// A nil error allows. Every refusal is an [*authz.Denial]. The rule is empty
// where no single rule decided: a matcher without rules, or an effect that
// allows what nothing denies.
func (s *Snapshot) Decide(q *Query) (authz.Rule, error) {
	if s.noRules {
		return authz.Rule{}, authz.Refuse(authz.NotPermitted, authz.NoRules, nil)
	}
	if len(q.Args) != len(s.fields) {
		return authz.Rule{}, authz.Refuse(authz.Internal, "", fmt.Errorf("policy wants %d arguments, got %d", len(s.fields), len(q.Args)))
	}
	if len(q.Roles) > maxTokenRoles {
		return authz.Rule{}, authz.Refuse(authz.NotPermitted, authz.TooManyRoles, fmt.Errorf("the token has %d roles, more than %d", len(q.Roles), maxTokenRoles))
	}
	ev := s.scratch.Get().(*evaluator)
	ev.begin(q)
	v := ev.decide()
	ev.end()
	s.scratch.Put(ev)
	return v.rule(s)
}

// A verdict is the outcome of one evaluation.
type verdict struct {
	effect effector.Effect
	index  int   // of the rule that decided, or -1
	err    error // why that rule, or the first of those that did not match, could not be evaluated
}

func (v verdict) rule(s *Snapshot) (authz.Rule, error) {
	rule := authz.Rule{}
	if v.index >= 0 {
		rule = s.ruleAt(v.index)
	}
	switch {
	case v.effect == effector.Allow:
		return rule, nil
	case v.index < 0:
		return authz.Rule{}, authz.Refuse(authz.NotPermitted, authz.NoRuleMatched, v.err)
	}
	detail := authz.DeniedByRule
	if v.err != nil {
		detail = authz.RuleUnevaluable
	}
	return rule, &authz.Denial{Reason: authz.NotPermitted, Detail: detail, Rule: rule, Err: v.err}
}

// decide evaluates the matcher for the rules that could match, in order, and
// lets Casbin's effector merge the effects.
func (ev *evaluator) decide() verdict {
	if !ev.s.loops {
		return ev.once()
	}
	m := merger{effector: ev.s.effector, effect: ev.s.effect}
	unevaluable := ev.find()
	for n := range ev.count() {
		i := ev.candidate(n)
		eft := ev.s.effectOf(i)
		if m.useless(eft) || !ev.screen(i) {
			continue
		}
		ok, err := ev.match(i)
		switch {
		case err != nil && eft == effector.Allow:
			if unevaluable == nil {
				unevaluable = fmt.Errorf("%s:%d: %w", ev.s.file, ev.s.rules.lines[i], err)
			}
			continue
		case !ok && err == nil:
			continue
		}
		if m.step(eft, i) {
			return verdict{m.result, i, err}
		}
	}
	m.end()
	if m.result != effector.Allow {
		return verdict{m.result, -1, unevaluable}
	}
	return verdict{m.result, m.first, nil}
}

// once evaluates a matcher that reads no rules: Casbin takes true as one rule
// that allows.
func (ev *evaluator) once() verdict {
	ev.row = nil
	ok, err := ev.eval(ev.s.matcher)
	effects, matches := [1]effector.Effect{effector.Indeterminate}, [1]float64{1}
	if ok && err == nil {
		effects[0] = effector.Allow
	}
	result, _, mergeErr := ev.s.effector.MergeEffects(ev.s.effect, effects[:], matches[:], 0, 1)
	return verdict{result, -1, errors.Join(err, mergeErr)}
}

// effectOf returns what a rule does where it matches.
func (s *Snapshot) effectOf(i int) effector.Effect {
	if s.denies(i) {
		return effector.Deny
	}
	return effector.Allow
}

func (s *Snapshot) denies(i int) bool {
	return s.eft >= 0 && s.rules.cell(i, s.eft) == s.deny
}

// A merger feeds Casbin's effector one matching rule at a time. The effector
// looks at nothing but rules that matched, in order; given all of them at
// each step it takes quadratic time, so it gets the one that is new, and at
// the end the first that allowed.
type merger struct {
	effector *effector.DefaultEffector
	effect   string
	result   effector.Effect
	first    int // the rule to name at the end, -1 if none
	seen     bool
}

// useless reports whether a rule with this effect cannot change the result.
func (m *merger) useless(eft effector.Effect) bool {
	switch m.effect {
	case constant.AllowOverrideEffect:
		return eft == effector.Deny
	case constant.DenyOverrideEffect:
		return eft == effector.Allow
	case constant.AllowAndDenyEffect:
		return eft == effector.Allow && m.seen
	}
	return false
}

// step reports whether rule i, which matches, decides.
func (m *merger) step(eft effector.Effect, i int) bool {
	if eft == effector.Allow && !m.seen {
		m.seen, m.first = true, i
	}
	effects, matches := [1]effector.Effect{eft}, [1]float64{1}
	var err error
	m.result, _, err = m.effector.MergeEffects(m.effect, effects[:], matches[:], 0, 2)
	if err != nil {
		m.result = effector.Deny // cannot happen: the loader knows the effect
	}
	return m.result != effector.Indeterminate
}

// end merges what is left when no rule decided.
func (m *merger) end() {
	effects, matches := [1]effector.Effect{effector.Indeterminate}, [1]float64{0}
	if m.seen {
		effects[0], matches[0] = effector.Allow, 1
	}
	var err error
	m.result, _, err = m.effector.MergeEffects(m.effect, effects[:], matches[:], 0, 1)
	if err != nil {
		m.result = effector.Deny
	}
	if !m.seen || m.effect == constant.DenyOverrideEffect {
		m.first = -1
	}
}
