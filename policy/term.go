package policy

import (
	"time"

	"github.com/casbin/govaluate"
)

// A term is a piece of an expression as far as analysis understands it. The
// compiled expression decides; terms only say which rules it could match and
// why it did not.
type term struct {
	kind   termKind
	name   string   // field of termRequest and termPolicy, function of termCall, operator of termCompare
	path   []string // members below a request field
	value  any      // of termConst
	args   []*term
	tokens []govaluate.ExpressionToken
}

type termKind int

const (
	termOther   termKind = iota // anything that is not listed below
	termOr                      // args joined by ||
	termAnd                     // args joined by &&
	termNot                     // ! args[0]
	termCompare                 // args[0] name args[1]
	termCall                    // name(args)
	termRequest                 // r.name, with path
	termPolicy                  // p.name
	termConst                   // a literal
)

// parseTerm builds the tree of an expression that the engine accepted. It
// follows the engine's precedence: ?: binds loosest, then ||, &&, comparison.
func parseTerm(ts []govaluate.ExpressionToken) *term {
	t := &term{tokens: ts}
	if len(ts) == 0 {
		return t
	}
	if has(ts, govaluate.TERNARY, nil) || has(ts, govaluate.SEPARATOR, nil) {
		t.args = inner(ts)
		return t
	}
	for _, level := range []struct {
		op   string
		kind termKind
	}{{"||", termOr}, {"&&", termAnd}} {
		if has(ts, govaluate.LOGICALOP, level.op) {
			t.kind = level.kind
			for _, part := range split(ts, govaluate.LOGICALOP, level.op) {
				t.args = append(t.args, parseTerm(part))
			}
			return t
		}
	}
	if end := closing(ts, 0); ts[0].Kind == govaluate.CLAUSE && end == len(ts)-1 {
		return parseTerm(ts[1:end])
	}
	if parts := split(ts, govaluate.COMPARATOR, nil); len(parts) == 2 {
		t.kind, t.name = termCompare, ts[len(parts[0])].Value.(string)
		t.args = []*term{parseTerm(parts[0]), parseTerm(parts[1])}
		if t.name == "in" {
			t.args[1] = list(parts[1])
		}
		return t
	}
	if ts[0].Kind == govaluate.PREFIX && ts[0].Value == "!" && len(ts) > 1 && !has(ts, govaluate.MODIFIER, nil) {
		t.kind, t.args = termNot, []*term{parseTerm(ts[1:])}
		return t
	}
	if ts[0].Kind == govaluate.FUNCTION && len(ts) > 2 && closing(ts, 1) == len(ts)-1 {
		name, _ := ts[0].Value.(govaluate.ExpressionFunction)()
		t.kind, t.name = termCall, name.(string)
		if len(ts) > 3 {
			for _, part := range split(ts[2:len(ts)-1], govaluate.SEPARATOR, nil) {
				t.args = append(t.args, parseTerm(part))
			}
		}
		return t
	}
	if len(ts) == 1 {
		t.leaf(ts[0])
		return t
	}
	t.args = inner(ts)
	return t
}

// leaf reads a single token.
func (t *term) leaf(tok govaluate.ExpressionToken) {
	switch tok.Kind {
	case govaluate.VARIABLE:
		t.variable(tok.Value.(string))
	case govaluate.ACCESSOR:
		path := tok.Value.([]string)
		t.variable(path[0])
		t.path = path[1:]
	case govaluate.STRING, govaluate.NUMERIC, govaluate.BOOLEAN:
		t.kind, t.value = termConst, tok.Value
	case govaluate.TIME:
		t.kind, t.value = termConst, float64(tok.Value.(time.Time).Unix())
	}
}

// variable reads r_name or p2_name; scope.name has the last word on names.
func (t *term) variable(name string) {
	if name == "" {
		return
	}
	i := 1
	for i < len(name) && name[i] >= '0' && name[i] <= '9' {
		i++
	}
	if i >= len(name) || name[i] != '_' {
		return
	}
	switch name[0] {
	case 'r':
		t.kind, t.name = termRequest, name[i+1:]
	case 'p':
		t.kind, t.name = termPolicy, name[i+1:]
	}
}

// inner parses what can be found inside tokens that are not understood as a
// whole: the calls in them still have to be checked.
func inner(ts []govaluate.ExpressionToken) []*term {
	var out []*term
	for i := 0; i < len(ts); i++ {
		switch {
		case ts[i].Kind == govaluate.FUNCTION && i+1 < len(ts):
			end := closing(ts, i+1)
			out = append(out, parseTerm(ts[i:end+1]))
			i = end
		case ts[i].Kind == govaluate.CLAUSE:
			end := closing(ts, i)
			out = append(out, list(ts[i:end+1]))
			i = end
		case ts[i].Kind == govaluate.VARIABLE || ts[i].Kind == govaluate.ACCESSOR:
			out = append(out, parseTerm(ts[i:i+1]))
		}
	}
	return out
}

// list parses ( a, b ) after "in" into one term with an argument each. Other
// right sides of "in" are parsed as they are.
func list(ts []govaluate.ExpressionToken) *term {
	if len(ts) < 2 || ts[0].Kind != govaluate.CLAUSE || closing(ts, 0) != len(ts)-1 {
		return parseTerm(ts)
	}
	t := &term{tokens: ts}
	for _, part := range split(ts[1:len(ts)-1], govaluate.SEPARATOR, nil) {
		t.args = append(t.args, parseTerm(part))
	}
	return t
}

// walk calls f for t and everything below it.
func (t *term) walk(f func(*term)) {
	f(t)
	for _, a := range t.args {
		a.walk(f)
	}
}

// readsPolicy reports whether any policy field stands in t.
func (t *term) readsPolicy() bool {
	found := false
	t.walk(func(t *term) { found = found || t.kind == termPolicy })
	return found
}

// closing returns the index of the parenthesis that closes the one at i.
func closing(ts []govaluate.ExpressionToken, i int) int {
	depth := 0
	for ; i < len(ts); i++ {
		switch ts[i].Kind {
		case govaluate.CLAUSE:
			depth++
		case govaluate.CLAUSE_CLOSE:
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// has reports whether a token of this kind stands outside of parentheses.
// value nil means any.
func has(ts []govaluate.ExpressionToken, kind govaluate.TokenKind, value any) bool {
	return len(split(ts, kind, value)) > 1
}

// split cuts ts at the tokens of this kind outside of parentheses.
func split(ts []govaluate.ExpressionToken, kind govaluate.TokenKind, value any) [][]govaluate.ExpressionToken {
	var out [][]govaluate.ExpressionToken
	depth, start := 0, 0
	for i, t := range ts {
		switch {
		case t.Kind == govaluate.CLAUSE:
			depth++
		case t.Kind == govaluate.CLAUSE_CLOSE:
			depth--
		case depth == 0 && t.Kind == kind && (value == nil || t.Value == value):
			out = append(out, ts[start:i])
			start = i + 1
		}
	}
	return append(out, ts[start:])
}
