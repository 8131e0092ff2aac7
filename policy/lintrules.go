package policy

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/sallyport-authz/sallyport/policy/index"
)

// columnsRead returns the columns of the rules that conditions read.
func (s *Snapshot) columnsRead() []int {
	var columns []int
	for i, f := range s.pFields {
		read := s.matcher.reads[f]
		for _, x := range s.evals {
			read = read || x != nil && x.reads[f]
		}
		if read {
			columns = append(columns, i)
		}
	}
	return columns
}

// lintFields finds columns that decide nothing: whoever fills them in thinks
// that they do.
func (l *loader) lintFields(s *Snapshot, mf *modelFile) {
	read := s.columnsRead()
	for i, f := range s.pFields {
		if f != "eft" && f != "priority" && !slices.Contains(read, i) {
			mf.warnf("unreadfield", mf.lines[s.sections.P], "the column is ignored", fmt.Sprintf("compare %s.%s in the matcher, or delete the field", s.sections.P, f),
				"no condition reads %s.%s: a rule matches whatever stands there", s.sections.P, f)
		}
	}
}

// maxAlike is how many rules one request may have to look at without a
// warning: a millisecond's work.
const maxAlike = 1000

// lintCost says where the time of a decision grows with the rules.
func (l *loader) lintCost(s *Snapshot, mf *modelFile) {
	line := mf.lines[s.sections.M]
	if linear, why := s.plan.cost(s); linear {
		mf.warnf("cost", line, "every request walks every rule", "join conditions with && and put one such comparison among them",
			"the cost of a decision grows with the number of rules: %s", why)
		return
	}
	for i := range s.plan.branches {
		for _, x := range []*index.Index{s.plan.branches[i].allow, s.plan.branches[i].deny} {
			if x == nil {
				continue
			}
			if rules := x.Widest(); len(rules) > maxAlike {
				l.ruleWarnf("alike", int(s.rules.lines[rules[0]]), "every request walks every rule", "tell them apart by a field that is compared with == or g, or by whole segments of a path",
					"this rule and %d others are alike for the index: a request that may fit one of them looks at all", len(rules)-1)
			}
		}
	}
}

var definitionName = regexp.MustCompile(`\b([rp][0-9]*)_`)

// lintSections compiles the matchers that were not chosen: a route may choose
// them tomorrow.
func (l *loader) lintSections(s *Snapshot, mf *modelFile) {
	for _, key := range sortedKeys(mf.lines) {
		if key[0] != 'm' || key == s.sections.M {
			continue
		}
		text := mf.def(key).Value
		sc := l.scope(s, mf)
		sc.rKey, sc.pKey = "r", "p"
		for _, m := range definitionName.FindAllStringSubmatch(text, -1) {
			switch name := m[1]; {
			case mf.lines[name] == 0:
			case name[0] == 'r':
				sc.rKey = name
			default:
				sc.pKey = name
			}
		}
		if mf.lines[sc.rKey] == 0 || mf.lines[sc.pKey] == 0 {
			continue // said as an unknown name by whoever chooses it
		}
		sc.rFields, sc.pFields = mf.fields(sc.rKey), mf.fields(sc.pKey)
		x, errs := sc.compile(text, s.functions)
		if x != nil {
			for _, u := range x.uses {
				if u.field == "" && !native(u.op, u.text) {
					if _, err := compilePattern(u.op, u.text); err != nil {
						errs = append(errs, fmt.Errorf("pattern %q of %s: %w", u.text, u.op, err))
					}
				}
			}
		}
		for _, err := range errs {
			mf.warnf("unused", mf.lines[key], "requests that choose it fail", "correct or delete it", "%s, which is not in use: %v", key, err)
		}
	}
}
