package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/casbin/govaluate"
)

// A scope is what the names in an expression mean: the fields of one request
// and one policy definition, the role functions, the operators.
type scope struct {
	rKey, pKey       string // "r" and "p", or "r2" and so on
	rFields, pFields []string
	roles            map[string]int    // role function to its number of arguments
	roleOps          map[string]string // role function to the operator by which its names match
	eval             bool              // eval() may be called: in matchers, not in the rules it evaluates
}

// An expression is a matcher, or the text of a rule that eval() runs,
// compiled once by Casbin's own expression engine.
type expression struct {
	text   string // as the engine got it
	tokens []govaluate.ExpressionToken
	tree   *term
	run    *govaluate.EvaluableExpression
	uses   []use
	reads  map[string]bool // policy fields
}

// A use is an operator whose pattern is a policy field, or a constant.
type use struct {
	op    string
	field string // policy field, or empty
	text  string // constant
}

// compile parses text, checks that every name means something, and links the
// functions. It returns every problem it finds.
func (sc *scope) compile(text string, functions map[string]govaluate.ExpressionFunction) (x *expression, errs []error) {
	defer func() {
		if v := recover(); v != nil { // the planner indexes past the end of some texts
			x, errs = nil, []error{fmt.Errorf("the expression cannot be parsed: %v", v)}
		}
	}()
	names := make(map[string]govaluate.ExpressionFunction)
	for name := range functions {
		names[name] = func(...any) (any, error) { return name, nil }
	}
	if !sc.eval {
		delete(names, "eval")
	}
	parsed, err := govaluate.NewEvaluableExpressionWithFunctions(text, names)
	if err != nil {
		return nil, []error{sc.explain(err, names)}
	}
	x = &expression{text: text, tokens: parsed.Tokens(), reads: map[string]bool{}}
	if err := checkTokens(x.tokens); err != nil {
		return nil, []error{err}
	}
	x.tree = parseTerm(x.tokens)
	if errs := sc.check(x); len(errs) > 0 {
		return nil, errs
	}
	x.run, err = link(x.tokens, functions)
	if err != nil {
		return nil, []error{err}
	}
	return x, nil
}

// explain turns an error of the parser into one that says what to do.
func (sc *scope) explain(err error, names map[string]govaluate.ExpressionFunction) error {
	msg := strings.TrimSpace(firstLine(err))
	if fn, ok := strings.CutPrefix(msg, "Undefined function "); ok {
		if fn == "eval" {
			return errors.New("eval() inside a rule that eval() runs is not supported")
		}
		known := make([]string, 0, len(names))
		for n := range names {
			known = append(known, n)
		}
		return fmt.Errorf("unknown function %q (%s)", fn, suggest(fn, known))
	}
	if msg == "Invalid token: '='" {
		return errors.New("= is no operator (write == to compare)")
	}
	if pair, ok := strings.CutPrefix(msg, "Cannot transition token types from "); ok {
		// The engine prints its tokens, functions as addresses among them.
		from, _, _ := strings.Cut(pair, " ")
		_, to, _ := strings.Cut(pair, " to ")
		to, _, _ = strings.Cut(to, " ")
		if from == "CLAUSE_CLOSE" {
			return errors.New("an operator is missing after )")
		}
		return fmt.Errorf("an operator or a value is missing: %s stands directly before %s", strings.ToLower(from), strings.ToLower(to))
	}
	return errors.New(lowerFirst(msg))
}

// maxNesting bounds parentheses: analysis takes time that is quadratic in it.
const maxNesting = 64

// checkTokens refuses what the parser takes and then evaluates in a way that
// nobody wrote down: it stops reading at (a) b, and it fails on (a &&).
func checkTokens(ts []govaluate.ExpressionToken) error {
	depth := 0
	lists := []bool{false} // by depth: may commas stand here
	for i, t := range ts {
		var prev govaluate.ExpressionToken
		if i > 0 {
			prev = ts[i-1]
		}
		switch t.Kind {
		case govaluate.CLAUSE:
			if prev.Kind == govaluate.CLAUSE_CLOSE {
				return errors.New("an operator is missing between ) and (")
			}
			if prev.Kind == govaluate.ACCESSOR {
				return fmt.Errorf("%s(...) calls a member of a value, which is not supported", strings.Join(prev.Value.([]string), "."))
			}
			if depth++; depth > maxNesting {
				return fmt.Errorf("parentheses are nested more than %d deep", maxNesting)
			}
			lists = append(lists[:depth], prev.Kind == govaluate.FUNCTION || prev.Kind == govaluate.COMPARATOR && prev.Value == "in")
		case govaluate.CLAUSE_CLOSE:
			if depth == 0 {
				return errors.New("unbalanced parenthesis")
			}
			depth--
			switch prev.Kind {
			case govaluate.LOGICALOP, govaluate.COMPARATOR, govaluate.MODIFIER, govaluate.PREFIX, govaluate.SEPARATOR, govaluate.TERNARY:
				return fmt.Errorf("nothing stands between %v and )", prev.Value)
			case govaluate.CLAUSE:
				if i < 2 || ts[i-2].Kind != govaluate.FUNCTION {
					return errors.New("nothing stands between ( and )")
				}
			}
		case govaluate.SEPARATOR:
			if !lists[depth] {
				return errors.New("a comma stands outside of a function or a list (write && between conditions)")
			}
			if prev.Kind == govaluate.SEPARATOR || prev.Kind == govaluate.CLAUSE {
				return errors.New("nothing stands before a comma")
			}
		case govaluate.VARIABLE, govaluate.STRING, govaluate.NUMERIC, govaluate.BOOLEAN, govaluate.PATTERN, govaluate.TIME:
			if prev.Kind == govaluate.CLAUSE_CLOSE {
				return fmt.Errorf("an operator is missing between ) and %v", t.Value)
			}
		}
	}
	return nil
}

// check resolves every name, counts arguments, and notes which policy fields
// are read and which patterns have to be prepared.
func (sc *scope) check(x *expression) []error {
	var errs []error
	for _, t := range x.tokens {
		switch t.Kind {
		case govaluate.VARIABLE:
			errs = append(errs, sc.name(t.Value.(string), false, x))
		case govaluate.ACCESSOR:
			errs = append(errs, sc.name(t.Value.([]string)[0], true, x))
		case govaluate.COMPARATOR:
			if op := t.Value.(string); op == "=~" || op == "!~" {
				errs = append(errs, fmt.Errorf("operator %s is not supported (write regexMatch)", op))
			}
		}
	}
	x.tree.walk(func(t *term) {
		if t.kind == termCall {
			errs = append(errs, sc.call(t, x))
		}
	})
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// name resolves one variable. member says that a member of it is read.
func (sc *scope) name(n string, member bool, x *expression) error {
	show := func(key, n string) string { return key + "." + strings.TrimPrefix(n, key+"_") }
	if f, ok := strings.CutPrefix(n, sc.rKey+"_"); ok {
		if slices.Contains(sc.rFields, f) {
			return nil
		}
		return fmt.Errorf("unknown request field %s (%s)", show(sc.rKey, n), suggest(f, slices.Clone(sc.rFields)))
	}
	if f, ok := strings.CutPrefix(n, sc.pKey+"_"); ok {
		switch {
		case !slices.Contains(sc.pFields, f):
			return fmt.Errorf("unknown policy field %s (%s)", show(sc.pKey, n), suggest(f, slices.Clone(sc.pFields)))
		case member:
			return fmt.Errorf("policy field %s is text and has no members", show(sc.pKey, n))
		}
		x.reads[f] = true
		return nil
	}
	return fmt.Errorf("unknown name %q (fields are %s.NAME and %s.NAME, text stands in quotes)", n, sc.rKey, sc.pKey)
}

// call checks one function call.
func (sc *scope) call(t *term, x *expression) error {
	want, isRole := sc.roles[t.name]
	op, isOp := operators[t.name]
	switch {
	case isOp:
		want = op.args
	case t.name == "eval":
		want = 1
	case !isRole:
		return fmt.Errorf("unknown function %q", t.name)
	}
	if len(t.args) != want {
		return fmt.Errorf("%s takes %d arguments, not %d", t.name, want, len(t.args))
	}
	if t.name == "eval" {
		if t.args[0].kind != termPolicy {
			return errors.New("eval() runs a policy field and nothing else: a value from the request is never read as an expression")
		}
		return nil
	}
	if op := sc.roleOps[t.name]; op != "" {
		switch p := t.args[1]; {
		case p.kind == termPolicy:
			x.uses = append(x.uses, use{op: op, field: p.name})
		case p.kind == termConst && isText(p.value):
			x.uses = append(x.uses, use{op: op, text: p.value.(string)})
		default:
			return fmt.Errorf("the second argument of %s is a pattern of %s: a policy field or a constant, not a value from the request", t.name, op)
		}
		return nil
	}
	if isRole {
		return nil
	}
	switch p := t.args[1]; p.kind {
	case termPolicy:
		x.uses = append(x.uses, use{op: t.name, field: p.name})
	case termConst:
		s, ok := p.value.(string)
		if !ok {
			return fmt.Errorf("the pattern of %s is no string", t.name)
		}
		x.uses = append(x.uses, use{op: t.name, text: s})
	default:
		return fmt.Errorf("the second argument of %s is the pattern: a policy field or a constant, not a value from the request or a computed one", t.name)
	}
	return nil
}

// evaluation is the name under which an expression reads the evaluation that
// it is part of.
const evaluation = "q"

// link compiles tokens, with two changes that let one compiled expression
// serve all requests at once. Every function gets the evaluation as its first
// argument, so that g knows whose roles to look at. And the first element of
// a list after "in" goes through scalar, because the engine would append to
// it in place if it were a list of the request's.
func link(ts []govaluate.ExpressionToken, functions map[string]govaluate.ExpressionFunction) (*govaluate.EvaluableExpression, error) {
	var (
		out   []govaluate.ExpressionToken
		self  = govaluate.ExpressionToken{Kind: govaluate.VARIABLE, Value: evaluation}
		comma = govaluate.ExpressionToken{Kind: govaluate.SEPARATOR, Value: ","}
		shut  = govaluate.ExpressionToken{Kind: govaluate.CLAUSE_CLOSE, Value: ')'}
		wraps = map[int]bool{} // indexes of the commas before which scalar( is closed
	)
	for i, t := range ts {
		if wraps[i] {
			out = append(out, shut)
		}
		if t.Kind == govaluate.FUNCTION {
			name, _ := t.Value.(govaluate.ExpressionFunction)()
			t.Value = functions[name.(string)]
		}
		out = append(out, t)
		if t.Kind != govaluate.CLAUSE || i == 0 {
			continue
		}
		switch prev := ts[i-1]; {
		case prev.Kind == govaluate.FUNCTION:
			out = append(out, self)
			if ts[i+1].Kind != govaluate.CLAUSE_CLOSE {
				out = append(out, comma)
			}
		case prev.Kind == govaluate.COMPARATOR && prev.Value == "in":
			if end := firstComma(ts, i+1); end >= 0 {
				wraps[end] = true
				out = append(out,
					govaluate.ExpressionToken{Kind: govaluate.FUNCTION, Value: govaluate.ExpressionFunction(scalar)},
					govaluate.ExpressionToken{Kind: govaluate.CLAUSE, Value: '('}, self, comma)
			}
		}
	}
	return govaluate.NewEvaluableExpressionFromTokens(out)
}

// firstComma returns the comma that ends the list element at i, or -1.
func firstComma(ts []govaluate.ExpressionToken, i int) int {
	for depth := 0; i < len(ts); i++ {
		switch ts[i].Kind {
		case govaluate.CLAUSE:
			depth++
		case govaluate.CLAUSE_CLOSE:
			if depth--; depth < 0 {
				return -1
			}
		case govaluate.SEPARATOR:
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

// scalar passes one value on, unless it is a list.
func scalar(args ...any) (any, error) {
	if len(args) != 2 {
		return nil, errors.New("a list stands inside a list")
	}
	if _, ok := args[1].([]any); ok {
		return nil, errors.New("a list stands inside a list")
	}
	return args[1], nil
}
