package expr

import (
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"
)

// Bounds of one converted value. The parts of a request are bounded before
// they get here; these stop an expression from multiplying them.
const (
	maxNodes = 100_000 // elements, members and scalars
	maxBytes = 1 << 20 // text
	maxDepth = 100     // nested lists and maps; tokens that are not hostile have five
)

// maxInteger is the largest integer that numbers in JSON and in Casbin can be
// trusted with (RFC 7493, section 2.2).
const maxInteger = 1<<53 - 1

// A converter turns CEL values, and the Go values they stand for, into plain
// Go values. What has no plain form is a missing member of the map it is in;
// a list with such an element is missing itself, because a shorter list could
// mean something else.
type converter struct {
	json         bool // for dynamic metadata: null is a value, times are text
	nodes, bytes int
}

// value reports false for what has no plain form, or is too much.
func (c *converter) value(v any, depth int) (any, bool) {
	if c.nodes++; c.nodes > maxNodes || depth > maxDepth {
		return nil, false
	}
	switch v := v.(type) {
	case nil, types.Null:
		return nil, c.json
	case bool:
		return v, true
	case types.Bool:
		return bool(v), true
	case string:
		return c.text(v)
	case types.String:
		return c.text(string(v))
	case int64:
		return whole(v)
	case types.Int:
		return whole(int64(v))
	case types.Uint:
		return float64(v), v <= maxInteger
	case float64:
		return number(v)
	case types.Double:
		return number(float64(v))
	case time.Time:
		return c.moment(v)
	case types.Timestamp:
		return c.moment(v.Time)
	case types.Duration:
		if c.json {
			return c.value(v.ConvertToType(types.StringType), depth)
		}
		return v.Seconds(), true
	case *types.Optional:
		if !v.HasValue() {
			return nil, false
		}
		return c.value(v.GetValue(), depth)
	}
	return c.composite(v, depth+1)
}

func (c *converter) composite(v any, depth int) (any, bool) {
	switch v := v.(type) {
	case *object:
		m := make(map[string]any, len(v.typ.fields))
		for i := range v.typ.fields {
			f := &v.typ.fields[i]
			if got, ok := f.get(v.scope); ok {
				c.member(m, f.name, got, depth)
			}
		}
		return m, true
	case []string:
		return list(c, v, depth)
	case []any:
		return list(c, v, depth)
	case map[string]string:
		return mapOf(c, v, depth)
	case map[string]any:
		return mapOf(c, v, depth)
	case traits.Lister:
		n := int(v.Size().(types.Int))
		l := make([]any, 0, min(n, maxNodes))
		for i := range n {
			e, ok := c.value(v.Get(types.Int(i)), depth)
			if !ok {
				return nil, false
			}
			l = append(l, e)
		}
		return l, true
	case traits.Mapper:
		m := make(map[string]any)
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			name, ok := key.(types.String)
			if !ok {
				return nil, false // no plain form for the map as a whole
			}
			c.member(m, string(name), v.Get(key), depth)
		}
		return m, c.nodes <= maxNodes
	}
	return nil, false
}

// member adds a member that has a plain form. Whether the whole got too large
// is known from the counters, see plain.
func (c *converter) member(m map[string]any, name string, v any, depth int) {
	if _, ok := c.text(name); !ok {
		return
	}
	if got, ok := c.value(v, depth); ok {
		m[name] = got
	}
}

func list[E any](c *converter, es []E, depth int) (any, bool) {
	l := make([]any, len(es))
	for i, e := range es {
		var ok bool
		if l[i], ok = c.value(e, depth); !ok {
			return nil, false
		}
	}
	return l, true
}

func mapOf[E any](c *converter, es map[string]E, depth int) (any, bool) {
	m := make(map[string]any, len(es))
	for name, e := range es {
		c.member(m, name, e, depth)
	}
	return m, true
}

// plain converts a whole value, and refuses it whole where it is too large. It
// says why there is none.
func plain(v any, json bool) (any, string) {
	c := converter{json: json}
	got, ok := c.value(v, 0)
	switch {
	case c.nodes > maxNodes || c.bytes > maxBytes:
		return nil, tooLong
	case !ok:
		return nil, wrongType
	}
	return got, ""
}

func (c *converter) text(s string) (any, bool) {
	c.bytes += len(s)
	return s, c.bytes <= maxBytes && (!c.json || utf8.ValidString(s))
}

// moment is Unix seconds for Casbin, which compares numbers, and RFC 3339 in
// JSON, as CEL writes it.
func (c *converter) moment(t time.Time) (any, bool) {
	if c.json {
		return t.UTC().Format(time.RFC3339Nano), true
	}
	return float64(t.Unix()) + float64(t.Nanosecond())/1e9, true
}

// whole refuses integers that a float64 does not tell from their neighbours:
// two account numbers that differ must not become equal.
func whole(i int64) (any, bool) {
	return float64(i), -maxInteger <= i && i <= maxInteger
}

// number refuses the same, since an integer too large for int64 gets here as a
// float64, and what is no number at all.
func number(f float64) (any, bool) {
	return f, -maxInteger <= f && f <= maxInteger // false for NaN
}
