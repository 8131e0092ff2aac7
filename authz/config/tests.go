package config

import (
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-authz/sallyport/authz"
)

// Tests are one file of policy tests.
type Tests struct {
	// Subjects are who asks, by name. The subject anonymous is always there.
	Subjects []TestSubject `yaml:"subjects" check:"keyed"`
	Tests    []Test        `yaml:"tests" check:"required,nonempty"`

	// File is the file as it was named to LoadTests.
	File string `yaml:"-"`
}

// A TestSubject is who asks: anonymous, or what a verified token would say.
type TestSubject struct {
	Place
	Name      string         `yaml:"-"`
	Anonymous bool           `yaml:"-"`      // written as the word anonymous
	Issuer    string         `yaml:"issuer"` // a name. Default: the only issuer
	Sub       string         `yaml:"sub" check:"required"`
	Client    string         `yaml:"client"`
	Roles     []string       `yaml:"roles"`
	Scopes    []string       `yaml:"scopes"`
	Tenant    string         `yaml:"tenant"`
	ACR       string         `yaml:"acr"`
	AMR       []string       `yaml:"amr"`
	AuthTime  time.Time      `yaml:"authTime"`
	Audiences []string       `yaml:"audiences"` // default: the issuer's
	Claims    map[string]any `yaml:"claims"`    // beside those that the fields above stand for
}

// A Test is one request with the answer that it must get, or a matrix:
// subjects and requests, of which every pair that Allow does not list must be
// denied.
type Test struct {
	Place
	Name string `yaml:"name"`
	With With   `yaml:"with"`
	Host string `yaml:"host"` // of requests that are paths

	Request  Text    `yaml:"request"` // METHOD URL
	Subject  Text    `yaml:"subject"`
	Expect   string  `yaml:"expect" enum:"allow,deny"`
	Reason   Text    `yaml:"reason"`   // default: any
	Upstream []Value `yaml:"upstream"` // headers that the upstream gets; null: must not get

	Subjects []Text  `yaml:"subjects" check:"nonempty"`
	Requests []Text  `yaml:"requests" check:"nonempty"`
	Allow    []Value `yaml:"allow"` // requests by subject
}

// Matrix reports whether the test is a matrix.
func (t *Test) Matrix() bool { return len(t.Requests) > 0 }

// A With is what a request carries beside its method and URL.
type With struct {
	Headers []Value    `yaml:"headers"`
	Source  TestSource `yaml:"source"`
	Context []Value    `yaml:"context"` // Envoy's context extensions
	Time    time.Time  `yaml:"time"`    // default: now
}

// A TestSource is where a request comes from.
type TestSource struct {
	Address   string `yaml:"address"`
	Principal string `yaml:"principal"`
}

// A Value is one name with the words that belong to it, in the order of the
// file. Null is a name without any.
type Value struct {
	Name  string
	Line  int
	Words []Text
	Null  bool
}

var (
	timeType   = reflect.TypeFor[time.Time]()
	valuesType = reflect.TypeFor[[]Value]()
	freeType   = reflect.TypeFor[map[string]any]()
)

// anonymous is the subject that needs no definition.
const anonymous = "anonymous"

// LoadTests reads and checks a file of policy tests as strictly as [Load]
// reads the configuration. Tests is nil where the file cannot be read or is no
// YAML mapping; otherwise it is as complete as its problems allow.
func LoadTests(path string) (*Tests, Problems) {
	data, err := read(path)
	if err != nil {
		if pe, ok := err.(*fs.PathError); ok { //nolint:errorlint // read wraps nothing
			err = pe.Err
		}
		return nil, Problems{{File: path, Message: fmt.Sprintf("cannot be read: %v", err)}}
	}
	return ParseTests(path, data)
}

// ParseTests is [LoadTests] for what the file name holds.
func ParseTests(name string, data []byte) (*Tests, Problems) {
	root, p := parseYAML(data)
	if p != nil {
		p.File = name
		return nil, Problems{*p}
	}
	t := &Tests{File: name}
	d := &decoder{config: &Config{File: name, lines: map[string]int{"": root.Line}}, dir: filepath.Dir(name), broken: map[string]bool{}, foreign: true}
	d.value(root, "", reflect.ValueOf(t).Elem(), "")
	if !d.bomb {
		t.check(&checker{d: d, c: d.config})
	}
	d.problems.Sort()
	if len(d.problems) == 0 {
		return t, nil
	}
	return t, d.problems
}

func (t *Tests) check(k *checker) {
	names := []string{anonymous}
	for _, s := range t.Subjects {
		names = append(names, s.Name)
		if s.Name == anonymous && !s.Anonymous {
			k.bad(s.Key, "is who comes without a token, and can be nobody else")
		}
	}
	for i := range t.Tests {
		c := &t.Tests[i]
		if k.d.broken[c.Key] {
			continue
		}
		if k.given(c.Key+".requests") || k.given(c.Key+".subjects") {
			c.checkMatrix(k)
		} else {
			c.checkSingle(k)
		}
		for _, s := range append(c.Subjects, c.Subject) {
			if s.Value != "" && !slices.Contains(names, s.Value) {
				k.bad(s.Key, "there is no subject %s%s", quote(s.Value), k.d.didYouMean(s.Value, names))
			}
		}
	}
}

func (t *Test) checkSingle(k *checker) {
	for _, key := range []string{"request", "subject", "expect"} {
		if at := t.Key + "." + key; !k.given(at) && !k.d.broken[at] {
			k.bad(at, "is required")
		}
	}
	if k.given(t.Key + ".allow") {
		k.bad(t.Key+".allow", "belongs to a test with subjects and requests")
	}
	if t.Reason.Value != "" {
		known := []string{string(authz.Allowed)}
		for _, r := range authz.Reasons() {
			known = append(known, string(r))
		}
		if !slices.Contains(known, t.Reason.Value) {
			k.bad(t.Reason.Key, "%s is no reason%s", quote(t.Reason.Value), k.d.didYouMean(t.Reason.Value, known))
		} else if (t.Reason.Value == string(authz.Allowed)) != (t.Expect == "allow") && t.Expect != "" {
			k.bad(t.Reason.Key, "%s contradicts expect: %s", quote(t.Reason.Value), t.Expect)
		}
	}
	if len(t.Upstream) > 0 && t.Expect == "deny" {
		k.bad(t.Key+".upstream", "has no effect with expect: deny")
	}
}

func (t *Test) checkMatrix(k *checker) {
	for _, key := range []string{"subjects", "requests"} {
		if at := t.Key + "." + key; !k.given(at) && !k.d.broken[at] {
			k.bad(at, "is required")
		}
	}
	for _, key := range []string{"request", "subject", "expect", "reason", "upstream"} {
		if k.given(t.Key + "." + key) {
			k.bad(t.Key+"."+key, "has no effect in a test with subjects and requests")
		}
	}
	subjects, requests := values(t.Subjects), values(t.Requests)
	for _, v := range t.Allow {
		key := join(t.Key+".allow", v.Name)
		if !slices.Contains(subjects, v.Name) {
			k.bad(key, "%s is not one of the test's subjects%s", quote(v.Name), k.d.didYouMean(v.Name, subjects))
		}
		for _, w := range v.Words {
			if !slices.Contains(requests, w.Value) {
				k.bad(w.Key, "%s is not one of the test's requests%s", quote(w.Value), k.d.didYouMean(w.Value, requests))
			}
		}
	}
}

func values(ts []Text) []string {
	out := make([]string, len(ts))
	for i, t := range ts {
		out[i] = t.Value
	}
	return out
}

// values decodes a mapping of names to one word or a list of them.
func (d *decoder) values(n *yaml.Node, key string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.bad(n.Line, key, "must be a mapping, not %s", describe(n))
		return
	}
	all := make([]Value, 0, len(n.Content)/2)
	d.pairs(n, key, func(name *yaml.Node, path string, val *yaml.Node) {
		one := Value{Name: name.Value, Line: name.Line}
		if val.Tag == "!!null" {
			one.Null = true
		} else {
			d.value(val, path, reflect.ValueOf(&one.Words).Elem(), exprTags)
		}
		all = append(all, one)
	})
	v.Set(reflect.ValueOf(all))
}

// free decodes what has no grammar of ours into JSON values: nil, bool,
// string, int64, float64, []any, map[string]any.
func (d *decoder) free(n *yaml.Node, key string) any {
	n, leave := d.enter(n)
	defer leave()
	if d.bomb {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		d.pairs(n, key, func(name *yaml.Node, path string, val *yaml.Node) { m[name.Value] = d.free(val, path) })
		return m
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			list = append(list, d.free(item, key))
		}
		return list
	}
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			return b
		}
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			return i
		}
	case "!!float":
		var f float64
		if n.Decode(&f) == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
	case "!!str", "!!timestamp":
		return n.Value
	}
	d.bad(n.Line, key, "%s is not a JSON value", describe(n))
	return nil
}

// instant decodes a time (RFC 3339).
func (d *decoder) instant(n *yaml.Node, key string, v reflect.Value) {
	t, err := time.Parse(time.RFC3339, n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.bad(n.Line, key, "must be a time such as 2026-11-22T10:00:00Z, not %s", describe(n))
		return
	}
	v.Set(reflect.ValueOf(t))
}
