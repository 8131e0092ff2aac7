package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxExpanded is how many values may come out of aliases. A configuration
// that repeats itself a little needs some hundreds; a bomb needs millions.
const maxExpanded = 10_000

// A decoder turns YAML nodes into the fields of a Config. It goes on after
// each mistake, and remembers where every key stands.
type decoder struct {
	config   *Config
	dir      string // where relative paths start
	problems Problems
	broken   map[string]bool // keys with problems: nothing more is said about them
	aliases  int             // that stand around the value being decoded
	expanded int             // values that came out of aliases
	bomb     bool            // too many: nothing more is decoded
	hints    int             // searches for what was meant
	foreign  bool            // not the configuration: keys of its other sections are no hint
}

// bad notes a problem, one for each key.
func (d *decoder) bad(line int, key, format string, args ...any) {
	if d.broken[key] {
		return
	}
	d.broken[key] = key != ""
	d.problems = append(d.problems, d.config.Problem(line, key, format, args...))
}

var (
	textType     = reflect.TypeFor[Text]()
	fileType     = reflect.TypeFor[File]()
	placeType    = reflect.TypeFor[Place]()
	entriesType  = reflect.TypeFor[[]Entry]()
	durationType = reflect.TypeFor[time.Duration]()
)

// value decodes n, which stands at key, into v, by the tags of its field. An
// alias that stands inside of what it names ends where the grammar does.
func (d *decoder) value(n *yaml.Node, key string, v reflect.Value, tags reflect.StructTag) {
	n, leave := d.enter(n)
	defer leave()
	if d.bomb {
		return
	}
	if n.Tag == "!!null" {
		d.bad(n.Line, key, "has no value")
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, key, v.Elem(), tags)
	case v.Type() == entriesType:
		d.entries(n, key, v)
	case v.Type() == valuesType:
		d.values(n, key, v)
	case v.Type() == freeType:
		if n.Kind != yaml.MappingNode {
			d.bad(n.Line, key, "must be a mapping, not %s", describe(n))
			return
		}
		v.Set(reflect.ValueOf(d.free(n, key)))
	case v.Type() == timeType:
		d.instant(n, key, v)
	case v.Type() == reflect.TypeFor[TestSubject]() && n.Kind == yaml.ScalarNode:
		if n.Value != anonymous {
			d.bad(n.Line, key, "must be a mapping or the word anonymous, not %s", describe(n))
			return
		}
		v.FieldByName("Anonymous").SetBool(true)
	case v.Kind() == reflect.Slice && checks(tags, "keyed"):
		d.keyed(n, key, v)
	case v.Kind() == reflect.Slice:
		d.list(n, key, v, tags)
	case section(v.Type()):
		d.section(n, key, v)
	default:
		d.scalar(n, key, v, tags)
	}
}

// enter returns what a node stands for, and what to call once that is decoded.
// It counts what comes out of aliases, and sets bomb where that is too much.
func (d *decoder) enter(n *yaml.Node) (node *yaml.Node, leave func()) {
	leave = func() {}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
		d.aliases++
		leave = func() { d.aliases-- }
	}
	if d.aliases > 0 {
		d.expanded++
	}
	if d.expanded > maxExpanded {
		if !d.bomb {
			d.bad(n.Line, "", "aliases stand for more than %d values", maxExpanded)
		}
		d.bomb = true
	}
	return n, leave
}

// section decodes a mapping into a struct: defaults first, then what is there.
func (d *decoder) section(n *yaml.Node, key string, v reflect.Value) {
	d.defaults(v)
	if n.Kind != yaml.MappingNode {
		d.bad(n.Line, key, "must be a mapping, not %s", describe(n))
		return
	}
	fields := fieldsOf(v.Type())
	var names, meant []string
	for _, f := range fields {
		names = append(names, f.Tag.Get("yaml"))
	}
	given := d.pairs(n, key, func(name *yaml.Node, path string, val *yaml.Node) {
		if i := slices.Index(names, name.Value); i >= 0 {
			d.value(val, path, v.FieldByIndex(fields[i].Index), fields[i].Tag)
			return
		}
		if d.hints++; d.hints > mostHints {
			d.bad(name.Line, path, "unknown key")
			return
		}
		hint := near(name.Value, names)
		meant = append(meant, hint)
		if hint == "" && !d.foreign {
			hint = keyElsewhere(name.Value)
		}
		d.unknown(name, path, hint)
	})
	line := d.config.Line(key)
	for i, f := range fields {
		path := join(key, names[i])
		switch {
		case given[names[i]] > 0:
		case slices.Contains(meant, names[i]):
			d.broken[path] = true // misspelt: nobody need be told that it is missing as well
		case checks(f.Tag, "required"):
			d.bad(line, path, "is required")
		}
	}
}

func (d *decoder) unknown(name *yaml.Node, path, meant string) {
	if meant == "" {
		d.bad(name.Line, path, "unknown key")
		return
	}
	d.bad(name.Line, path, "unknown key (did you mean %s)", meant)
}

// defaults sets every field of a struct to its default.
func (d *decoder) defaults(v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		fv := v.FieldByIndex(f.Index)
		switch def, ok := f.Tag.Lookup("default"); {
		case ok:
			fv.Set(defaultOf(def, f))
			if fv.Kind() == reflect.Slice {
				fv.Set(reflect.AppendSlice(reflect.MakeSlice(f.Type, 0, fv.Len()), fv)) // the caller's own
			}
		case section(f.Type):
			d.defaults(fv)
		}
	}
}

var parsedDefaults sync.Map // of a field's type and default tag

// defaultOf returns what a default tag says. It is parsed once: a file may
// hold many routes.
func defaultOf(def string, f reflect.StructField) reflect.Value {
	type key struct {
		t   reflect.Type
		def string
	}
	if v, ok := parsedDefaults.Load(key{f.Type, def}); ok {
		return v.(reflect.Value)
	}
	v := reflect.New(f.Type).Elem()
	d := &decoder{config: &Config{lines: map[string]int{}}, broken: map[string]bool{}}
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(def), &n); err != nil {
		d.bad(0, f.Name, "%v", err)
	} else {
		d.value(n.Content[0], f.Name, v, f.Tag)
	}
	if len(d.problems) > 0 {
		panic("default in keys.go: " + d.problems.Error()) // any parse finds it
	}
	parsedDefaults.Store(key{f.Type, def}, v)
	return v
}

// pairs calls f for each key of a mapping with its path and value, and
// complains about keys that are none. It returns the line of each.
func (d *decoder) pairs(n *yaml.Node, key string, f func(name *yaml.Node, path string, val *yaml.Node)) map[string]int {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content) && !d.bomb; i += 2 {
		name, val := n.Content[i], n.Content[i+1]
		switch {
		case name.Tag == "!!merge":
			d.bad(name.Line, join(key, "<<"), "merge keys are not supported")
			continue
		case name.Kind != yaml.ScalarNode:
			d.problems = append(d.problems, d.config.Problem(name.Line, key, "has a key that is not a plain string"))
			continue
		}
		path := join(key, name.Value)
		if first, twice := seen[name.Value]; twice {
			d.problems = append(d.problems, d.config.Problem(name.Line, path, "is given twice, first on line %d", first))
			continue
		}
		seen[name.Value] = name.Line
		d.mark(path, name, val)
		f(name, path, val)
	}
	return seen
}

// mark remembers the line of a key: where its value stands if that is one
// word, else where the key itself does.
func (d *decoder) mark(path string, name, val *yaml.Node) {
	d.config.lines[path] = name.Line
	if val.Kind == yaml.ScalarNode {
		d.config.lines[path] = val.Line
	}
}

// list decodes a list, or one scalar in place of a list of scalars.
func (d *decoder) list(n *yaml.Node, key string, v reflect.Value, tags reflect.StructTag) {
	elem := v.Type().Elem()
	scalars := elem.Kind() == reflect.String || elem == textType || elem == fileType
	switch {
	case n.Kind == yaml.ScalarNode && scalars:
		one := reflect.MakeSlice(v.Type(), 1, 1)
		d.scalar(n, key, one.Index(0), tags)
		if !d.broken[key] {
			v.Set(one)
		}
		return
	case n.Kind != yaml.SequenceNode && scalars:
		d.bad(n.Line, key, "must be a list of strings, or one string, not %s", describe(n))
		return
	case n.Kind != yaml.SequenceNode:
		d.bad(n.Line, key, "must be a list, not %s", describe(n))
		return
	case len(n.Content) == 0 && checks(tags, "nonempty"):
		d.bad(n.Line, key, "must not be empty")
		return
	}
	all := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		path := key + "[" + strconv.Itoa(i) + "]"
		d.config.lines[path] = item.Line
		one := reflect.New(elem).Elem()
		d.place(one, path)
		if scalars && item.Kind == yaml.SequenceNode {
			d.bad(item.Line, path, "must be a string, not a list")
		} else {
			d.value(item, path, one, tags)
		}
		if d.bomb {
			return
		}
		if !scalars || !d.broken[path] {
			all = reflect.Append(all, one)
		}
	}
	v.Set(all)
}

// keyed decodes a mapping into a list whose elements have the keys as names.
func (d *decoder) keyed(n *yaml.Node, key string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.bad(n.Line, key, "must be a mapping of names, not %s", describe(n))
		return
	}
	all := reflect.MakeSlice(v.Type(), 0, len(n.Content)/2)
	d.pairs(n, key, func(name *yaml.Node, path string, val *yaml.Node) {
		one := reflect.New(v.Type().Elem()).Elem()
		one.FieldByName("Name").SetString(name.Value)
		d.config.lines[path] = name.Line
		d.place(one, path)
		d.value(val, path, one, "")
		all = reflect.Append(all, one)
	})
	v.Set(all)
}

// entries decodes a mapping of names to expressions.
func (d *decoder) entries(n *yaml.Node, key string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.bad(n.Line, key, "must be a mapping of names to expressions, not %s", describe(n))
		return
	}
	all := make([]Entry, 0, len(n.Content)/2)
	d.pairs(n, key, func(name *yaml.Node, path string, val *yaml.Node) {
		e := Entry{Name: name.Value}
		if name.Value == "" {
			d.bad(name.Line, path, "has no name")
			return
		}
		d.value(val, path, reflect.ValueOf(&e.Expr).Elem(), exprTags)
		if !d.broken[path] {
			all = append(all, e)
		}
	})
	v.Set(reflect.ValueOf(all))
}

func (d *decoder) place(v reflect.Value, key string) {
	if v.Kind() != reflect.Struct {
		return
	}
	if p := v.FieldByName("Place"); p.IsValid() && p.Type() == placeType {
		p.Set(reflect.ValueOf(Place{Key: key, Line: d.config.lines[key]}))
	}
}

// section reports whether a type is a mapping of keys that we know.
func section(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != textType && t != fileType && t != timeType
}

var knownFields sync.Map // of a type, because looking takes longer than decoding

// fieldsOf returns the fields of a struct that are keys.
func fieldsOf(t reflect.Type) []reflect.StructField {
	if fields, ok := knownFields.Load(t); ok {
		return fields.([]reflect.StructField)
	}
	var fields []reflect.StructField
	for _, f := range reflect.VisibleFields(t) {
		if name := f.Tag.Get("yaml"); name != "" && name != "-" {
			fields = append(fields, f)
		}
	}
	knownFields.Store(t, fields)
	return fields
}

// checks reports whether a field's check tag holds word.
func checks(tags reflect.StructTag, word string) bool {
	return slices.Contains(strings.Split(tags.Get("check"), ","), word)
}

// join appends a name to a dotted key. A name that would be misread is
// quoted.
func join(key, name string) string {
	odd := func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"'[]:{},\`, r)
	}
	if name == "" || len(name) > 80 || strings.ContainsFunc(name, odd) {
		name = quote(name)
	}
	if key == "" {
		return name
	}
	return key + "." + name
}

// keyElsewhere returns the one dotted key of the whole grammar that ends in
// name, or nothing.
func keyElsewhere(name string) string {
	var found []string
	for _, k := range grammar() {
		if last := k.path[strings.LastIndex(k.path, ".")+1:]; last != k.path && plain(last) == plain(name) {
			found = append(found, k.path)
		}
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}
