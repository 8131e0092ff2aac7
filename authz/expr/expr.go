// Package expr evaluates the CEL expressions of a configuration: what a policy
// is asked (enforce) and what an answer carries (onAllow, onDeny).
//
// An [Env] compiles and type-checks expressions when a configuration loads. A
// [Program] is then evaluated against the [Scope] of one request, and yields a
// plain Go value, or says which value is missing. What is unknown is a missing
// member, never an empty string or zero; lists and maps are empty instead. A
// value of the wrong type, one that fails to evaluate, or one that costs too
// much is missing as well. So an expression can leave something out, and can
// never make something up.
//
// The language is CEL with its standard library, its strings extension and
// optional values. Two functions differ from the strings extension, see
// functions.go: join refuses elements that hold the separator, and neither
// join nor replace builds long text.
//
// The table of what expressions can see is in variables.go: a new variable is
// a row there. How a request's headers and query read is in request.go, what a
// CEL value becomes outside is in convert.go. The package is the only one that
// imports cel-go.
package expr

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// A Use says where an expression stands, and thereby what it can see.
type Use int

// The uses of an expression.
const (
	Enforce Use = iota // before the decision: everything but decision
	Answer             // after it: everything
)

// A Type says what an expression must yield.
type Type int

// The types that an expression can be asked for.
const (
	Any    Type = iota // enforce and metadata
	String             // headers, query parameters, bodies and redirects
)

const (
	// costLimit bounds one evaluation, in CEL's cost units. Kubernetes allows
	// 1,000,000 for an admission expression and reckons 0.1 s for that; a
	// tenth of it is well within the deadline of a check. Reading a member
	// costs 1 to 3, ten characters of text 1, a step of a loop about 5.
	costLimit = 100_000

	// regexLimit bounds the compiled size of a regular expression, also of
	// one that comes from a request. The work is this times the length of the
	// text, at worst.
	regexLimit = 1000

	// nestingLimit bounds loops in loops. The cost limit stops them at run
	// time; this says so when the configuration loads.
	nestingLimit = 3

	optionalName = "optional_type" // CEL's name of optional(T)
)

// An Env compiles expressions. It is safe for concurrent use.
type Env struct {
	uses   [2]*cel.Env
	hidden map[string]bool
}

// New returns an Env. hidden names the headers that carry credentials besides
// authorization, proxy-authorization and cookie; request.headers does not show
// them. Case does not matter.
func New(hidden ...string) (*Env, error) {
	e := &Env{hidden: map[string]bool{"authorization": true, "proxy-authorization": true, "cookie": true}}
	for _, name := range hidden {
		e.hidden[strings.ToLower(name)] = true
	}
	for _, use := range []Use{Enforce, Answer} {
		env, err := newEnv(use)
		if err != nil {
			return nil, fmt.Errorf("expr: %w", err)
		}
		e.uses[use] = env
	}
	return e, nil
}

func newEnv(use Use) (*cel.Env, error) {
	opts := []cel.EnvOption{
		cel.OptionalTypes(),
		ext.Strings(),
		functions(), // after the extension, whose overloads it replaces
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.EnableIdentifierEscapeSyntax(),
		cel.RegexProgramSizeLimit(regexLimit),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateRegexLiterals(),
			cel.ValidateComprehensionNestingLimit(nestingLimit),
		),
		cel.Variable("context", cel.MapType(cel.StringType, cel.StringType)),
	}
	for _, o := range objects {
		if o == decisionType && use == Enforce {
			continue
		}
		opts = append(opts, cel.Types(o), cel.Variable(o.name, o.celType))
	}
	return cel.NewEnv(opts...)
}

// Compile returns the program of src. Its error is one line that says where:
// "column 9: undeclared reference to 'subjet' (did you mean subject)".
func (e *Env) Compile(src string, use Use, want Type) (*Program, error) {
	if strings.TrimSpace(src) == "" {
		return nil, errors.New("empty expression")
	}
	env := e.uses[use]
	parsed, issues := env.Parse(src)
	if issues.Err() != nil {
		return nil, unreadable(issues)
	}
	if err := barred(parsed); err != nil {
		return nil, err
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, refused(env, src, parsed, issues)
	}
	if err := fits(checked.OutputType(), want); err != nil {
		return nil, err
	}
	prog, err := env.Program(checked,
		cel.EvalOptions(cel.OptOptimize), // compiles constant patterns once
		cel.CostLimit(costLimit))
	if err != nil {
		return nil, fmt.Errorf("column 1: %s", oneLine(err.Error()))
	}
	p := &Program{env: e, src: oneLine(src), prog: prog, names: names(checked)}
	p.shortcut(checked)
	return p, nil
}

// fits reports whether a program of this static type may yield what is wanted.
// An optional value stands for what is in it.
func fits(t *cel.Type, want Type) error {
	for t.TypeName() == optionalName && len(t.Parameters()) == 1 {
		t = t.Parameters()[0]
	}
	switch t.Kind() {
	case cel.DynKind, cel.StringKind:
		return nil
	case cel.BytesKind, cel.TypeKind:
	default:
		if want == Any {
			return nil
		}
	}
	if want == Any {
		return fmt.Errorf("column 1: a value of type '%s' cannot be used here", cel.FormatCELType(t))
	}
	return fmt.Errorf("column 1: expected type 'string' but found '%s'", cel.FormatCELType(t))
}
