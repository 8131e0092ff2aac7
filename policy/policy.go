// Package policy decides with Casbin: a model and its rules become one
// immutable [Snapshot] that says which rule allows a request, or which one
// does not.
//
// Decisions and their order are those of stock Casbin v2, which parses the
// models and supplies the operators, the expression engine and the effects.
// The loop over the rules is ours, because the stock enforcer compiles
// patterns on every call, remembers role checks without bound, cannot take
// roles from a token, and lets pass what it cannot read. Where it fails open
// we refuse, at load where that is possible: [Compile] returns every such
// [Finding]. A rule that cannot be evaluated on a request does not match if
// it would allow, and refuses if it would deny.
//
// What needs functions registered in code (conditional roles, operators of
// one's own) is refused at load. JSON in request values is never parsed, and
// no value from a request is ever read as a pattern or an expression.
//
// Start at source.go for where policies come from, policy.go for compiling
// them, decide.go for the decision, rules.go and modelfile.go for the syntax of
// the files, expression.go for matchers, roles.go for g.
package policy

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/casbin/casbin/v2/effector"
	"github.com/casbin/govaluate"
)

// A Snapshot is a model and its rules, loaded together, checked and compiled.
// It never changes and is safe for concurrent use; the read path takes no
// lock.
type Snapshot struct {
	revision string
	file     string // base name of the rules file, or empty
	sections Sections
	fields   []string // of the request definition
	pFields  []string
	effect   string
	eft      int    // column, or -1
	deny     uint32 // symbol of "deny", or none

	syms      *symbols
	patterns  *patterns
	rules     *table
	graphs    map[string]*graph
	roles     map[string]uint32 // bare role name to the symbol role:NAME
	functions map[string]govaluate.ExpressionFunction
	matcher   *expression
	plan      *plan
	evals     map[uint32]*expression // by symbol of the rule's text

	loops    bool // the matcher is evaluated for each rule
	noRules  bool // it reads rules, and there are none
	ownFirst bool // subjectPriority: see order.go

	effector *effector.DefaultEffector
	scratch  sync.Pool // of *evaluator
}

// Sections names the definitions of a model that has several. The zero value
// of a field means the plain one: r, p, e, m.
type Sections struct {
	R, P, E, M string
}

// An Option tunes Compile. No option can switch a check off.
type Option func(*loader)

// WithSections chooses among the definitions of a model that has several, for
// example r2, p2, e2, m2. Default r, p, e, m.
func WithSections(s Sections) Option { return func(l *loader) { l.sections = s } }

type loader struct {
	text     *Text
	sections Sections
	fs       findings

	matching map[string]Matching
}

// Compile checks and compiles one revision. It returns every finding at once,
// sorted by file and line, and a nil Snapshot if any of them is an [Error].
func Compile(t *Text, opts ...Option) (*Snapshot, []Finding) {
	l := &loader{text: t}
	for _, opt := range opts {
		opt(l)
	}
	l.sections.R = cmp.Or(l.sections.R, "r")
	l.sections.P = cmp.Or(l.sections.P, "p")
	l.sections.E = cmp.Or(l.sections.E, "e")
	l.sections.M = cmp.Or(l.sections.M, "m")
	s := l.load()
	if l.fs.failed() {
		s = nil
	}
	return s, l.fs.sorted()
}

func (l *loader) load() *Snapshot {
	rulesText, rulesName := "", l.text.RulesFile
	if rulesName != "" {
		rulesText = l.text.Rules
	}
	if len(rulesText) > maxRulesFile {
		l.fs.add("size", Finding{File: rulesName, Severity: Error, Message: fmt.Sprintf("the rules have %d bytes, more than %d", len(rulesText), maxRulesFile)})
		return nil
	}
	mf := parseModel(l.text.ModelFile, l.text.Model, &l.fs)
	if mf == nil {
		return nil
	}
	for _, key := range []string{l.sections.R, l.sections.P, l.sections.E, l.sections.M} {
		if mf.lines[key] == 0 {
			mf.errorf("sections", 1, "", "", "the model does not define %s", key)
			return nil
		}
	}
	l.checkMatching(mf)
	s := &Snapshot{
		revision: revision(l.text.Model, rulesText, fmt.Sprint(l.matching)),
		sections: l.sections,
		fields:   mf.fields(l.sections.R),
		pFields:  mf.fields(l.sections.P),
		effect:   mf.def(l.sections.E).Value,
		syms:     newSymbols(len(rulesText)),
		patterns: newPatterns(),
		graphs:   map[string]*graph{},
		evals:    map[uint32]*expression{},
		effector: effector.NewDefaultEffector(),
	}
	if rulesName != "" {
		s.file = filepath.Base(rulesName)
	}
	s.eft = slices.Index(s.pFields, "eft")
	rd := newReader(rulesName, mf, s.syms, &l.fs)
	rd.read(rulesText)
	s.rules = rd.tables[l.sections.P]
	l.compile(s, mf)
	if l.fs.failed() {
		return nil
	}
	s.deny = none
	if id, ok := s.syms.lookup("deny"); ok {
		s.deny = id
	}
	for key, t := range rd.tables {
		if key[0] == 'g' {
			s.graphs[key] = newGraph(t)
			s.graphs[key].match(s, l, t)
		}
	}
	l.checkRules(s, rd)
	l.sort(s, rd)
	if l.fs.failed() {
		return nil
	}
	s.plan = newPlan(s)
	l.lint(s, rd)
	s.syms.seal()
	s.roles = map[string]uint32{}
	for id, v := range s.syms.vals {
		if name, ok := cut(v.(string), rolePrefix); ok {
			s.roles[name] = uint32(id) // bounded by maxRulesFile
		}
	}
	s.scratch.New = func() any { return newEvaluator(s) }
	return s
}

// revision is a hash of the contents that decide. Which of several sections a
// route chooses is no part of it.
func revision(contents ...string) string {
	sum := digest(contents...)
	return hex.EncodeToString(sum[:6])
}

// compile compiles the chosen matcher.
func (l *loader) compile(s *Snapshot, mf *modelFile) {
	sc := l.scope(s, mf)
	functions := map[string]govaluate.ExpressionFunction{"eval": runRule}
	for op := range operators {
		functions[op] = s.patterns.function(op)
	}
	for key, arity := range sc.roles {
		functions[key] = roleFunction(key, arity)
	}
	s.functions = functions
	line := mf.lines[l.sections.M]
	text := mf.def(l.sections.M).Value
	x, errs := sc.compile(text, functions)
	for _, err := range errs {
		mf.errorf("matcher", line, "requests fail, or the text is read in another way", "", "%s: %v", l.sections.M, err)
	}
	if x == nil {
		return
	}
	s.matcher = x
	l.patterns(s, x, func(u use, err error) {
		mf.errorf("pattern", line, "every request that gets there fails", "", "%s: pattern %q of %s: %v", l.sections.M, u.text, u.op, err)
	})
	l.compileRules(s, sc, functions)
}

// scope returns the names of the chosen definitions.
func (l *loader) scope(s *Snapshot, mf *modelFile) *scope {
	sc := &scope{rKey: s.sections.R, pKey: s.sections.P, rFields: s.fields, pFields: s.pFields, roles: map[string]int{}, roleOps: map[string]string{}, eval: true}
	for key := range mf.lines {
		if key[0] == 'g' {
			sc.roles[key] = mf.roleArity(key)
			if op := l.matching[key].Role; op != "" {
				sc.roleOps[key] = op
			}
		}
	}
	return sc
}
