package expr

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// unreadable returns the error of a source that does not parse. Only the first
// problem counts: the parser guesses after it.
func unreadable(issues *cel.Issues) error {
	first := issues.Errors()[0]
	message, _, _ := strings.Cut(first.Message, " expecting {") // thirty tokens that nobody reads
	return errors.New(position(first.Location) + strings.Replace(oneLine(message), "Syntax error", "syntax error", 1))
}

// refused returns the error of a source that does not type-check, with every
// problem, and with what was probably meant.
func refused(env *cel.Env, src string, parsed *cel.Ast, issues *cel.Issues) error {
	nodes := make(map[int64]ast.Expr)
	ast.PostOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) { nodes[e.ID()] = e }))
	var all []string
	for _, problem := range issues.Errors() {
		message := oneLine(suggestion.ReplaceAllString(problem.Message, ""))
		all = append(all, position(problem.Location)+message+hint(env, src, message, nodes[problem.ExprID]))
		if strings.HasSuffix(all[0], quotes(src)) {
			break // plain text has one problem, not one for each word
		}
	}
	return errors.New(strings.Join(all, "; "))
}

// barred refuses what would only fail at run time, always. A join without a
// separator holds it in every element, see join.
func barred(parsed *cel.Ast) (err error) {
	tree := parsed.NativeRep()
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		at := position(tree.SourceInfo().GetStartLocation(e.ID()))
		switch e.Kind() {
		case ast.StructKind:
			err = fmt.Errorf("%sa value of type '%s' cannot be built", at, e.AsStruct().TypeName())
		case ast.CallKind:
			if call := e.AsCall(); call.IsMemberFunction() && call.FunctionName() == "join" && joinsBare(call.Args()) {
				err = errors.New(at + `join needs a separator, for example join(",")`)
			}
		}
	}))
	return err
}

func joinsBare(args []ast.Expr) bool {
	return len(args) == 0 || len(args) == 1 && args[0].Kind() == ast.LiteralKind && args[0].AsLiteral() == types.String("")
}

// position counts columns from one, in characters, as editors do.
func position(l common.Location) string {
	column := fmt.Sprintf("column %d: ", l.Column()+1)
	if l.Line() > 1 {
		return fmt.Sprintf("line %d, %s", l.Line(), column)
	}
	return column
}

var (
	// CEL suggests too, from all that it could be extended with.
	suggestion = regexp.MustCompile(` \((did you mean|enable with|in container) .*$`)
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	undefined  = regexp.MustCompile(`^undefined field '([^']*)'`)
	plainText  = regexp.MustCompile(`^[\w ./:-]+$`)
)

// hint returns the end of a message: what its author probably meant.
func hint(env *cel.Env, src, message string, at ast.Expr) string {
	if at == nil {
		return ""
	}
	if m := undefined.FindStringSubmatch(message); m != nil {
		return didYouMean(m[1], siblings(at))
	}
	m := undeclared.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	name := m[1]
	if at.Kind() == ast.CallKind {
		return didYouMean(name, slices.Sorted(maps.Keys(env.Functions())))
	}
	var variables, members []string
	for _, v := range env.Variables() {
		variables = append(variables, v.Name())
	}
	for _, o := range objects {
		if o.name == name { // not in this environment, so it is decision
			return " (it is not known in enforce)"
		}
		if slices.Contains(o.FieldNames(), name) {
			members = append(members, o.name+"."+name)
		}
	}
	switch near := didYouMean(name, variables); {
	case near != "":
		return near
	case len(members) > 0:
		return " (did you mean " + strings.Join(members, " or ") + ")"
	case plainText.MatchString(src):
		return quotes(src)
	}
	return ""
}

func quotes(src string) string {
	return ` (text needs quotes inside the quotes: '"` + src + `"')`
}

// siblings returns the members of the variable that e selects from.
func siblings(e ast.Expr) []string {
	var from ast.Expr
	switch {
	case e.Kind() == ast.SelectKind:
		from = e.AsSelect().Operand()
	case e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.OptSelect:
		from = e.AsCall().Args()[0]
	}
	if from == nil || from.Kind() != ast.IdentKind {
		return nil
	}
	if i := place(from.AsIdent()); i >= 0 {
		return objects[i].FieldNames()
	}
	return nil
}

// names returns how the parts of an expression that read something are
// written, by the ids that evaluation errors carry.
func names(checked *cel.Ast) map[int64]string {
	m := make(map[int64]string)
	tree := checked.NativeRep()
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case e.Kind() == ast.SelectKind && !e.AsSelect().IsTestOnly():
		case e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Index:
		default:
			return
		}
		if text, err := parser.Unparse(e, tree.SourceInfo()); err == nil {
			m[e.ID()] = oneLine(text)
		}
	}))
	return m
}

// oneLine returns s on one line, cut to what fits into a message.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 160 {
		return string(r[:160]) + "..."
	}
	return s
}

// didYouMean returns the end of a message that names the nearest candidate, or
// nothing where none is near: a third of the letters may differ.
func didYouMean(word string, candidates []string) string {
	best, least := "", (len(word)+1)/3+1
	for _, c := range candidates {
		if n := edits(strings.ToLower(word), strings.ToLower(c)); n < least {
			best, least = c, n
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + ")"
}

// edits counts insertions, deletions, replacements and swaps of neighbours
// that make b of a, by bytes.
func edits(a, b string) int {
	if len(a) > 64 { // no name is that long
		return len(a)
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			replace := row[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			next[j] = min(row[j]+1, next[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
