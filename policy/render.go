package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/casbin/govaluate"
)

// maxShown is how many values, or elements of one, a message shows.
const maxShown = 8

// show writes a value for a message.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(firstWords(v))
	case []any:
		parts := make([]string, 0, maxShown)
		for i, e := range v {
			if i == maxShown {
				parts = append(parts, "...")
				break
			}
			parts = append(parts, show(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		return "an object"
	case nil:
		return "null"
	}
	return fmt.Sprint(v)
}

// render writes tokens much as the model has them.
func (s *Snapshot) render(ts []govaluate.ExpressionToken) string {
	var b strings.Builder
	for i, t := range ts {
		text, tight := s.renderToken(t)
		if i > 0 && !tight && !opens(ts[i-1]) {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	return b.String()
}

// opens reports whether nothing stands between a token and the next.
func opens(t govaluate.ExpressionToken) bool {
	return t.Kind == govaluate.CLAUSE || t.Kind == govaluate.FUNCTION || t.Kind == govaluate.PREFIX
}

// renderToken writes one token. tight says that no space stands before it.
func (s *Snapshot) renderToken(t govaluate.ExpressionToken) (text string, tight bool) {
	switch t.Kind {
	case govaluate.VARIABLE:
		return s.renderName(t.Value.(string)), false
	case govaluate.ACCESSOR:
		path := t.Value.([]string)
		return strings.Join(append([]string{s.renderName(path[0])}, path[1:]...), "."), false
	case govaluate.FUNCTION:
		name, _ := t.Value.(govaluate.ExpressionFunction)()
		return name.(string), false
	case govaluate.STRING:
		return strconv.Quote(t.Value.(string)), false
	case govaluate.TIME:
		return strconv.FormatInt(t.Value.(time.Time).Unix(), 10), false
	case govaluate.CLAUSE:
		return "(", false
	case govaluate.CLAUSE_CLOSE:
		return ")", true
	case govaluate.SEPARATOR:
		return ",", true
	}
	return fmt.Sprint(t.Value), false
}

// renderName writes r_sub as r.sub.
func (s *Snapshot) renderName(name string) string {
	for _, key := range []string{s.sections.R, s.sections.P} {
		if field, ok := cut(name, key+"_"); ok {
			return key + "." + field
		}
	}
	return name
}
