package config

import (
	"math"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// exprTags mark a field as CEL: any scalar will do, as it is written.
const exprTags reflect.StructTag = `check:"expr"`

// scalar decodes one word into a field that is no list and no section.
func (d *decoder) scalar(n *yaml.Node, key string, v reflect.Value, tags reflect.StructTag) {
	switch {
	case v.Type() == durationType:
		d.duration(n, key, v, tags)
	case v.Kind() == reflect.Int64:
		d.size(n, key, v, tags)
	case v.Kind() == reflect.Int:
		d.integer(n, key, v, tags)
	case v.Kind() == reflect.Bool:
		var b bool
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || n.Decode(&b) != nil {
			d.bad(n.Line, key, "must be true or false, not %s", describe(n))
			return
		}
		v.SetBool(b)
	default:
		d.str(n, key, v, tags)
	}
}

// str decodes a string, a Text or a File.
func (d *decoder) str(n *yaml.Node, key string, v reflect.Value, tags reflect.StructTag) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.bad(n.Line, key, "must be a string, not %s", describe(n))
		return
	case n.Tag == "!!str", n.Tag == "!!timestamp":
	case checks(tags, "expr") && (n.Tag == "!!int" || n.Tag == "!!float" || n.Tag == "!!bool"):
	case strings.HasPrefix(n.Tag, "!!"):
		d.bad(n.Line, key, "must be a string, not %s: put it in quotes", describe(n))
		return
	default:
		d.bad(n.Line, key, "has the tag %s, which is not supported", quote(n.Tag))
		return
	}
	if n.Value == "" {
		d.bad(n.Line, key, "must not be empty")
		return
	}
	if enum := words(tags); len(enum) > 0 {
		if msg := d.wrongWord(n.Value, enum); msg != "" {
			d.bad(n.Line, key, "%s", msg)
			return
		}
	}
	switch v.Type() {
	case textType:
		v.Set(reflect.ValueOf(Text{Value: n.Value, Line: n.Line, Key: key}))
	case fileType:
		if strings.ContainsRune(n.Value, 0) {
			d.bad(n.Line, key, "%s is not a path", quote(n.Value))
			return
		}
		path := n.Value
		if !filepath.IsAbs(path) {
			path = filepath.Join(d.dir, path)
		}
		v.Set(reflect.ValueOf(File{Path: path, Written: n.Value, Line: n.Line, Key: key}))
	default:
		v.SetString(n.Value)
	}
}

func (d *decoder) integer(n *yaml.Node, key string, v reflect.Value, tags reflect.StructTag) {
	var i int
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || n.Decode(&i) != nil {
		d.bad(n.Line, key, "must be a whole number, not %s", describe(n))
		return
	}
	least, _ := strconv.Atoi(tags.Get("min"))
	most := math.MaxInt32 // more than any machine has of anything here
	if s := tags.Get("max"); s != "" {
		most, _ = strconv.Atoi(s)
	}
	switch {
	case i < least && least == most, i > most && least == most:
		d.bad(n.Line, key, "must be %d, not %d", least, i)
	case i < least:
		d.bad(n.Line, key, "must be at least %d, not %d", least, i)
	case i > most:
		d.bad(n.Line, key, "must be at most %d, not %d", most, i)
	default:
		v.SetInt(int64(i))
	}
}

func (d *decoder) duration(n *yaml.Node, key string, v reflect.Value, tags reflect.StructTag) {
	dur, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || err != nil {
		d.bad(n.Line, key, "must be a duration such as 150ms or 5m, not %s", describe(n))
		return
	}
	least, _ := time.ParseDuration(tags.Get("min"))
	most, err := time.ParseDuration(tags.Get("max"))
	switch {
	case checks(tags, "positive") && dur <= 0:
		d.bad(n.Line, key, "must be more than 0s, not %s", quote(n.Value))
	case dur < least:
		d.bad(n.Line, key, "must be at least %s, not %s", tags.Get("min"), quote(n.Value))
	case err == nil && dur > most:
		d.bad(n.Line, key, "must be at most %s, not %s", tags.Get("max"), quote(n.Value))
	default:
		v.SetInt(int64(dur))
	}
}

// units are those of sizes, the largest first.
var units = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

func (d *decoder) size(n *yaml.Node, key string, v reflect.Value, tags reflect.StructTag) {
	size, ok := parseSize(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || !ok {
		d.bad(n.Line, key, "must be a size such as 128MiB (KiB, MiB, GiB), not %s", describe(n))
		return
	}
	if checks(tags, "positive") && size <= 0 {
		d.bad(n.Line, key, "must be more than 0KiB, not %s", quote(n.Value))
		return
	}
	v.SetInt(size)
}

func parseSize(s string) (int64, bool) {
	for _, u := range units {
		if digits, ok := strings.CutSuffix(s, u.name); ok {
			count, err := strconv.ParseUint(digits, 10, 32)
			return int64(count) * u.bytes, err == nil
		}
	}
	return 0, false
}

// words returns what the enum tag of a field lists.
func words(tags reflect.StructTag) []string {
	if s := tags.Get("enum"); s != "" {
		return strings.Split(s, ",")
	}
	return nil
}

// wrongWord says what is wrong with a word that must be one of some, or
// nothing.
func (d *decoder) wrongWord(got string, some []string) string {
	for _, w := range some {
		if got == w {
			return ""
		}
	}
	msg := quote(got) + " is not one of " + strings.Join(some, ", ")
	if strings.HasPrefix(got, "HS") {
		return msg // no hint: the issuer that signs with a shared secret does not use RS256 by another name
	}
	return msg + d.didYouMean(got, some)
}

// describe says what a node is, for "must be ..., not ...".
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!int", n.Tag == "!!float":
		return "the number " + strings.Trim(quote(n.Value), `"`)
	case n.Tag == "!!bool":
		return n.Value
	case n.Tag == "!!null":
		return "nothing"
	}
	return quote(n.Value)
}
