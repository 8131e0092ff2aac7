package policy

import "github.com/sallyport-authz/sallyport/authz"

// DecideByScan decides as Decide does, but evaluates the matcher for every
// rule: no index, no screening.
func (s *Snapshot) DecideByScan(q *Query) (authz.Rule, error) {
	scan := &Snapshot{
		file: s.file, sections: s.sections, fields: s.fields, pFields: s.pFields, effect: s.effect, eft: s.eft, deny: s.deny,
		syms: s.syms, patterns: s.patterns, rules: s.rules, graphs: s.graphs, roles: s.roles, matcher: s.matcher, evals: s.evals,
		plan: &plan{branches: make([]branch, 1), deny: s.plan.deny}, loops: s.loops, noRules: s.noRules, ownFirst: s.ownFirst, effector: s.effector,
	}
	scan.scratch.New = func() any { return newEvaluator(scan) }
	return scan.Decide(q)
}

// PatternLabel and SegmentLabels are what the index is built from.
var (
	PatternLabel  = patternLabel
	SegmentLabels = segmentLabels
)

// Match runs an operator as rules do.
func Match(op, value, pattern string) (ok, valid bool) {
	ps := newPatterns()
	if ps.prepare(op, pattern) != nil {
		return false, false
	}
	ok, err := ps.match(op, value, pattern)
	return ok, err == nil
}
