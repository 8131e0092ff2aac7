package expr

import (
	"errors"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// maxText bounds what one call of join or replace may build, in bytes. The
// cost limit counts a result after it was built, and replacing each letter of
// one long header by another long header would build gigabytes. It is Envoy's
// default limit for all headers of a request, with some room.
const maxText = 64 << 10

var (
	errSeparator = errors.New("an element holds the separator, or spaces around it")
	errLongText  = errors.New("the text would be too long")
)

// zoneCost is what reading a time in another zone costs: Go reads the zone's
// file each time, which takes some 100 times a call's unit.
const zoneCost = 100

// functions replaces overloads of the strings extension, whose signatures and
// cost models stay, and prices what CEL takes for free.
func functions() cel.EnvOption {
	str, list := cel.StringType, cel.ListType(cel.StringType)
	join := cel.Function("join",
		cel.MemberOverload("list_join", []*cel.Type{list}, str,
			cel.UnaryBinding(func(l ref.Val) ref.Val { return join(l.(traits.Lister), "") })),
		cel.MemberOverload("list_join_string", []*cel.Type{list, str}, str,
			cel.BinaryBinding(func(l, sep ref.Val) ref.Val {
				return join(l.(traits.Lister), string(sep.(types.String)))
			})))
	replace := cel.Function("replace",
		cel.MemberOverload("string_replace_string_string", []*cel.Type{str, str, str}, str,
			cel.FunctionBinding(func(args ...ref.Val) ref.Val { return replace(args, -1) })),
		cel.MemberOverload("string_replace_string_string_int", []*cel.Type{str, str, str, cel.IntType}, str,
			cel.FunctionBinding(func(args ...ref.Val) ref.Val { return replace(args, int64(args[3].(types.Int))) })))
	models := []cost.OverloadModel{cost.MemberOverload("string_format",
		cost.EvalCost(cost.Sum(cost.Const(cost.CallCost), cost.StringScan(cost.Length(cost.Result())))))}
	for _, id := range []string{
		overloads.TimestampToYearWithTz, overloads.TimestampToMonthWithTz, overloads.TimestampToDayOfYearWithTz,
		overloads.TimestampToDayOfMonthZeroBasedWithTz, overloads.TimestampToDayOfMonthOneBasedWithTz,
		overloads.TimestampToDayOfWeekWithTz, overloads.TimestampToHoursWithTz, overloads.TimestampToMinutesWithTz,
		overloads.TimestampToSecondsWithTz, overloads.TimestampToMillisecondsWithTz,
	} {
		models = append(models, cost.MemberOverload(id, cost.EvalCost(cost.Const(zoneCost))))
	}
	return cel.Lib(library{join, replace, cel.CostModel(models...)})
}

type library []cel.EnvOption

func (l library) CompileOptions() []cel.EnvOption { return l }

func (library) ProgramOptions() []cel.ProgramOption { return nil }

// join writes what a reader can split again. An element that holds the
// separator would read as two: a role named "clerk,admin" must not arrive as
// two roles. The empty separator is in every element, so it joins none. Readers
// of lists drop the spaces around an element (RFC 9110 section 5.6.1): one that
// has any would read as another.
func join(l traits.Lister, sep string) ref.Val {
	var b strings.Builder
	n := int(l.Size().(types.Int))
	for i := range n {
		e, ok := l.Get(types.Int(i)).(types.String)
		if !ok {
			return types.NewErr("no such overload: join takes strings")
		}
		if holds(string(e), sep) {
			return types.WrapErr(errSeparator)
		}
		if b.Len()+len(sep)+len(e) > maxText {
			return types.WrapErr(errLongText)
		}
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(string(e))
	}
	return types.String(b.String())
}

// holds reports whether a reader would find the separator before the end of
// the element: in it, or where its end and the next separator overlap ("a-"
// before "--").
func holds(element, sep string) bool {
	if strings.Contains(element, sep) || strings.Trim(element, " ") != element {
		return true
	}
	for k := 1; k < len(sep); k++ {
		if strings.HasSuffix(element, sep[:k]) && strings.HasPrefix(sep, sep[k:]) {
			return true
		}
	}
	return false
}

func replace(args []ref.Val, limit int64) ref.Val {
	s, from, to := string(args[0].(types.String)), string(args[1].(types.String)), string(args[2].(types.String))
	n := int64(strings.Count(s, from))
	if limit >= 0 {
		n = min(n, limit)
	}
	if grown := int64(len(s)) + n*int64(len(to)-len(from)); grown > maxText && grown > int64(len(s)) {
		return types.WrapErr(errLongText)
	}
	return types.String(strings.Replace(s, from, to, int(n)))
}
