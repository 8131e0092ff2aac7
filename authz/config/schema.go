package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"
)

// Schema returns a JSON Schema (2020-12) of the file, for editors and charts.
// What it accepts may still be refused by [Parse], which also judges keys
// together; what it refuses, Parse refuses.
func Schema() ([]byte, error) {
	s := reflectSchema(reflect.TypeFor[Config]())
	s.Version = jsonschema.Version
	s.Title = "Sallyport configuration"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("config: schema: %w", err)
	}
	return b.Bytes(), nil
}

// reflectSchema returns the schema of a section, with what the tags of its
// fields say.
func reflectSchema(t reflect.Type) *jsonschema.Schema {
	r := &jsonschema.Reflector{
		Anonymous:                  true,
		DoNotReference:             true,
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		Mapper:                     leafSchema,
		LookupComment: func(t reflect.Type, field string) string {
			return comments()[t.Name()+"."+field]
		},
	}
	s := r.ReflectFromType(t)
	s.Version = ""
	decorate(s, t)
	return s
}

// leafSchema returns the schema of the types whose Go form is not that of the
// file, or nil.
func leafSchema(t reflect.Type) *jsonschema.Schema {
	str := func(pattern string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern}
	}
	switch t {
	case textType, fileType, reflect.TypeFor[string]():
		one := uint64(1)
		return &jsonschema.Schema{Type: "string", MinLength: &one}
	case durationType:
		return str(`^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$`)
	case reflect.TypeFor[int64]():
		return str(`^[0-9]+(KiB|MiB|GiB)$`)
	case entriesType:
		expr := &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}
		return &jsonschema.Schema{Type: "object", AdditionalProperties: expr}
	case reflect.TypeFor[[]Policy]():
		return &jsonschema.Schema{
			Type:                 "object",
			PropertyNames:        str(nameSyntax.String()),
			AdditionalProperties: reflectSchema(t.Elem()),
		}
	case reflect.TypeFor[[]Matching]():
		return &jsonschema.Schema{
			Type:                 "object",
			PropertyNames:        str(roleDefinition.String()),
			AdditionalProperties: reflectSchema(t.Elem()),
		}
	}
	return nil
}

// decorate adds what the tags of a section's fields say.
func decorate(s *jsonschema.Schema, t reflect.Type) {
	for _, f := range fieldsOf(t) {
		name := f.Tag.Get("yaml")
		p, ok := s.Properties.Get(name)
		if !ok {
			continue
		}
		if checks(f.Tag, "required") {
			s.Required = append(s.Required, name)
		}
		switch inner := f.Type; {
		case inner.Kind() == reflect.Pointer:
			decorate(p, inner.Elem())
		case section(inner):
			decorate(p, inner)
		case inner == entriesType, checks(f.Tag, "keyed"):
		case inner.Kind() == reflect.Slice && section(inner.Elem()):
			decorate(p.Items, inner.Elem())
			atLeastOne(p, f)
		case inner.Kind() == reflect.Slice:
			p = listSchema(p, f)
			s.Properties.Set(name, p)
		default:
			p.Enum = anys(words(f.Tag))
			if inner.Kind() == reflect.Int {
				p.Minimum, p.Maximum = json.Number(f.Tag.Get("min")), json.Number(f.Tag.Get("max"))
			}
		}
		if def, ok := f.Tag.Lookup("default"); ok {
			if err := yaml.Unmarshal([]byte(def), &p.Default); err != nil {
				panic("default in keys.go: " + err.Error()) // any parse finds it
			}
		}
	}
}

// listSchema is that of a list that may be written as one scalar.
func listSchema(list *jsonschema.Schema, f reflect.StructField) *jsonschema.Schema {
	list.Items.Enum = anys(words(f.Tag))
	atLeastOne(list, f)
	doc := list.Description
	list.Description = ""
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{list.Items, list}, Description: doc}
}

func atLeastOne(list *jsonschema.Schema, f reflect.StructField) {
	if checks(f.Tag, "nonempty") {
		one := uint64(1)
		list.MinItems = &one
	}
}

func anys(list []string) []any {
	var all []any
	for _, w := range list {
		all = append(all, w)
	}
	return all
}
