package config

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Print writes the effective configuration as YAML, with every default filled
// in. Beside the original file it means the same. Secrets are files, whose
// contents are never read here, so there is none to mask.
func (c *Config) Print(w io.Writer) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(node(reflect.ValueOf(c).Elem())); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return enc.Close()
}

// node returns the YAML of a value.
func node(v reflect.Value) *yaml.Node {
	switch x := v.Interface().(type) {
	case Text:
		return scalarNode("!!str", x.Value)
	case File:
		return scalarNode("!!str", x.Written)
	case string:
		return scalarNode("!!str", x)
	case time.Duration:
		return scalarNode("!!str", formatDuration(x))
	case int64:
		return scalarNode("!!str", formatSize(x))
	case int:
		return scalarNode("!!int", strconv.Itoa(x))
	case bool:
		return scalarNode("!!bool", strconv.FormatBool(x))
	case []Entry:
		m := &yaml.Node{Kind: yaml.MappingNode}
		for _, e := range x {
			m.Content = append(m.Content, scalarNode("!!str", e.Name), scalarNode("!!str", e.Expr.Value))
		}
		return m
	case []Policy:
		return keyedNode(x, func(p Policy) string { return p.Name })
	case []Matching:
		return keyedNode(x, func(m Matching) string { return m.Name })
	}
	switch v.Kind() {
	case reflect.Pointer:
		return node(v.Elem())
	case reflect.Slice:
		s := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			s.Content = append(s.Content, node(v.Index(i)))
		}
		return s
	default:
		return sectionNode(v)
	}
}

// keyedNode returns the mapping of elements by their names.
func keyedNode[T any](list []T, name func(T) string) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, one := range list {
		m.Content = append(m.Content, scalarNode("!!str", name(one)), node(reflect.ValueOf(one)))
	}
	return m
}

func sectionNode(v reflect.Value) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fieldsOf(v.Type()) {
		fv := v.FieldByIndex(f.Index)
		_, hasDefault := f.Tag.Lookup("default")
		if empty(fv) && !hasDefault {
			continue // nothing is its default
		}
		val := node(fv)
		if val.Kind == yaml.MappingNode && len(val.Content) == 0 {
			continue // a section of which every key is at nothing
		}
		m.Content = append(m.Content, scalarNode("!!str", f.Tag.Get("yaml")), val)
	}
	return m
}

func empty(v reflect.Value) bool {
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

func scalarNode(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

// formatDuration writes 5m, where Duration.String has 5m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func formatSize(n int64) string {
	for _, u := range units {
		if n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n/1024, 10) + "KiB" // sizes are read in KiB and up
}
