package config

import (
	"embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"sync"
)

// The comments in keys.go are the documentation of the keys, so the file
// comes along.
//
//go:embed keys.go
var source embed.FS

// comments returns the comment of each field, by "Type.Field". It begins with
// the name of the key instead of that of the field.
var comments = sync.OnceValue(func() map[string]string {
	text, err := source.ReadFile("keys.go")
	if err != nil {
		panic(err) // it is embedded
	}
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", text, parser.ParseComments)
	if err != nil {
		panic(err) // it has been compiled
	}
	all := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range st.Fields.List {
				for _, name := range f.Names {
					doc := strings.ReplaceAll(strings.TrimSpace(f.Doc.Text()), "\n", " ")
					if rest, ok := strings.CutPrefix(doc, name.Name+" "); ok {
						doc = keyOf(f) + " " + rest
					}
					all[spec.Name.Name+"."+name.Name] = doc
				}
			}
		}
		return false
	})
	return all
})

func keyOf(f *ast.Field) string {
	return reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml")
}

// A key is one key of the grammar.
type key struct {
	path  string // issuers[].keys.refresh, policies.NAME.model
	field reflect.StructField
	doc   string
}

// grammar returns every key, in order.
var grammar = sync.OnceValue(func() []key {
	var all []key
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for _, f := range fieldsOf(t) {
			k := key{path: prefix + f.Tag.Get("yaml"), field: f, doc: comments()[t.Name()+"."+f.Name]}
			all = append(all, k)
			switch inner := f.Type; {
			case inner == entriesType:
			case inner.Kind() == reflect.Pointer:
				walk(k.path+".", inner.Elem())
			case inner.Kind() == reflect.Slice && section(inner.Elem()) && checks(f.Tag, "keyed"):
				walk(k.path+".NAME.", inner.Elem())
			case inner.Kind() == reflect.Slice && section(inner.Elem()):
				walk(k.path+"[].", inner.Elem())
			case section(inner):
				walk(k.path+".", inner)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	return all
})

// Reference returns every key with its default and its documentation, as a
// Markdown table.
func Reference() string {
	var b strings.Builder
	b.WriteString("| key | default | |\n|---|---|---|\n")
	for _, k := range grammar() {
		def := k.field.Tag.Get("default")
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.path, def, k.doc)
	}
	return b.String()
}
