package expr

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// maxValue bounds a text that leaves in an answer, in bytes. Envoy allows
// 60 KiB for all headers together; servers behind it often 8 KiB.
const maxValue = 8 << 10

// A Program is a compiled expression. It is safe for concurrent use, each use
// with a Scope of its own.
type Program struct {
	env   *Env
	src   string
	prog  cel.Program
	names map[int64]string // what the nodes of the expression read, for Missing

	// Most expressions are one member, one variable or one text. They are
	// answered without the interpreter, with the same result.
	object   int    // place in Scope.objects, -1 for none
	member   *field // of that object; nil for the object itself
	constant *string
}

// A Missing is the error of a value that an expression did not give.
type Missing struct {
	What string // what it reads or is, as the configuration writes it: subject.tenant
	Why  string // the rest of the sentence: is unknown
	Err  error  // of the evaluation; may hold values of the request, so it is not in the message
}

// Why a value is missing.
const (
	unknown    = "is unknown"
	wrongType  = "has the wrong type"
	tooCostly  = "costs too much"
	tooLong    = "is too long"
	ambiguous  = "is ambiguous: an element holds the separator, or spaces around it"
	incomplete = "cannot be evaluated"
)

func (m *Missing) Error() string { return m.What + " " + m.Why }

func (m *Missing) Unwrap() error { return m.Err }

// Value returns what Casbin is asked with: a string, bool or float64, or
// []any and map[string]any of these. Times are Unix seconds, durations
// seconds, an optional value is what is in it, an object a map of its known
// members. Null, bytes, infinities and numbers of 2^53 and more have no such form:
// as a member of a map they are left out, else the value is missing. Its error
// is a [*Missing].
func (p *Program) Value(s *Scope) (any, error) {
	v, err := p.eval(s)
	if err != nil {
		return nil, err
	}
	got, why := plain(v, false)
	if why != "" {
		return nil, &Missing{What: p.src, Why: why}
	}
	return got, nil
}

// Metadata returns a value for dynamic metadata: as Value, and nil for null;
// times and durations are text, as JSON has them. false: it is left out.
func (p *Program) Metadata(s *Scope) (any, bool) {
	v, err := p.eval(s)
	if err != nil {
		return nil, false
	}
	got, why := plain(v, true)
	return got, why == ""
}

// Header returns the value of a header. It is empty and false where it is
// missing, or where it is no header value: control characters (a tab is one),
// invalid UTF-8, more than 8 KiB, or spaces around it, which are no part of a
// value (RFC 9110 section 5.5), so that " ada" would arrive as ada.
func (p *Program) Header(s *Scope) (string, bool) {
	v, ok := p.text(s, func(r rune) bool { return !unicode.IsControl(r) })
	if strings.Trim(v, " ") != v {
		return "", false
	}
	return v, ok
}

// Query returns the value of a query parameter: as Header, and no characters
// but A-Za-z0-9*-._ which Envoy writes as they are.
func (p *Program) Query(s *Scope) (string, bool) {
	return p.text(s, func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("*-._", r)
	})
}

// Text returns a body: as Header, and control characters may be in it.
func (p *Program) Text(s *Scope) (string, bool) {
	return p.text(s, func(rune) bool { return true })
}

func (p *Program) text(s *Scope, allowed func(rune) bool) (string, bool) {
	v, err := p.eval(s)
	if err != nil {
		return "", false
	}
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case types.String:
		text = string(v)
	default:
		return "", false
	}
	if len(text) > maxValue || !utf8.ValidString(text) {
		return "", false
	}
	for _, r := range text {
		if !allowed(r) {
			return "", false
		}
	}
	return text, true
}

// eval returns a CEL value, or the Go value that one stands for.
func (p *Program) eval(s *Scope) (any, error) {
	s.bind(p.env)
	switch {
	case p.constant != nil:
		return *p.constant, nil
	case p.member != nil:
		v, ok := p.member.get(s)
		if !ok {
			return nil, p.member.missing
		}
		return v, nil
	case p.object >= 0:
		return &s.objects[p.object], nil
	}
	return p.interpret(s)
}

func (p *Program) interpret(s *Scope) (ref.Val, error) {
	v, _, err := p.prog.Eval(s)
	if err != nil {
		return nil, p.missing(err)
	}
	for {
		o, ok := v.(*types.Optional)
		switch {
		case !ok:
			return v, nil
		case !o.HasValue():
			return nil, &Missing{What: p.src, Why: unknown}
		}
		v = o.GetValue()
	}
}

// missing says in our words what stopped an evaluation. CEL's own may hold
// values of the request.
func (p *Program) missing(err error) error {
	var m *Missing
	if errors.As(err, &m) {
		return m // a member of an object, which knows its name
	}
	what := p.src
	var node *types.Err
	if errors.As(err, &node) && p.names[node.NodeID()] != "" {
		what = p.names[node.NodeID()]
	}
	return &Missing{What: what, Why: why(err), Err: err}
}

func why(err error) string {
	var canceled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &canceled):
		return tooCostly
	case errors.Is(err, errSeparator):
		return ambiguous
	case errors.Is(err, errLongText):
		return tooLong
	}
	// CEL has no kinds of errors, only messages.
	for prefix, why := range map[string]string{
		"no such key":         unknown,
		"no such field":       unknown,
		"index out of bounds": unknown,
		"no such overload":    wrongType,
	} {
		if strings.HasPrefix(err.Error(), prefix) {
			return why
		}
	}
	return incomplete
}

// shortcut finds out whether the interpreter is needed.
func (p *Program) shortcut(checked *cel.Ast) {
	p.object = -1
	e := checked.NativeRep().Expr()
	switch e.Kind() {
	case ast.LiteralKind:
		if text, ok := e.AsLiteral().(types.String); ok {
			p.constant = (*string)(&text)
		}
	case ast.IdentKind:
		p.object = place(e.AsIdent())
	case ast.SelectKind:
		sel := e.AsSelect()
		if sel.IsTestOnly() || sel.Operand().Kind() != ast.IdentKind {
			return
		}
		if i := place(sel.Operand().AsIdent()); i >= 0 {
			for j := range objects[i].fields {
				if f := &objects[i].fields[j]; f.name == sel.FieldName() {
					p.object, p.member = i, f
				}
			}
		}
	}
}

func place(name string) int {
	for i, o := range objects {
		if o.name == name {
			return i
		}
	}
	return -1
}
