package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sallyport.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sallyport.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func TestSchemaAccepts(t *testing.T) {
	s := compiled(t)
	data, err := os.ReadFile(filepath.Join("testdata", "full.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if err := full(t).Print(&printed); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"full": string(data), "minimal": withGood(""), "printed": printed.String()} {
		if err := validate(t, s, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	for _, text := range []string{
		"routs: []\n",
		"server: {grpc: {lisen: a}}\n",
		"server: {onError: allow}\n",
		"server: {deadline: 150}\n",
		"server: {deadline: never}\n",
		"server: {trustedHops: 17}\n",
		"version: 2\n",
		"cache: {bytes: 128MB}\n",
		"issuers: [{issuer: 'https://id.example.com'}]\n",
		"issuers: [{issuer: 'https://id.example.com', audiences: []}]\n",
		"issuers: [{issuer: 'https://id.example.com', audiences: a, algorithms: HS256}]\n",
		"issuers: [{issuer: 'https://id.example.com', audiences: a, algorithms: [RS256, none]}]\n",
		"policies: {Api: {model: a, rules: b}}\n",
		"policies: {api: {model: a, rules: b, tests: []}}\n",
		"policies: {api: {model: a, rules: b, matching: {h: {role: keyMatch}}}}\n",
		"policies: {api: {model: a, rules: b, matching: {g: {role: keyMatch9}}}}\n",
		"policies: {api: {rules: a}}\n",
		"routes: [{match: /, policy: api, mode: shadows}]\n",
		"audit: {mode: sync}\n",
		"routes: [{match: /, policy: api, enforce: {sub: [a]}}]\n",
		"routes: []\n",
	} {
		if err := validate(t, s, withGood(text)); err == nil {
			t.Errorf("the schema accepts\n%s", text)
		}
	}
}

// What the schema refuses, Parse refuses: the schema of an editor must not
// complain about what works.
func TestSchemaIsNoStricter(t *testing.T) {
	s := compiled(t)
	archive, err := txtar.ParseFile(filepath.Join("testdata", "mistakes.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, f := range archive.Files {
		var v any
		text := withGood(string(f.Data))
		if yaml.Unmarshal([]byte(text), &v) != nil {
			continue
		}
		if s.Validate(v) == nil {
			continue
		}
		refused++
		if _, ps := Parse("s.yaml", []byte(text)); len(ps) == 0 {
			t.Errorf("%s: refused by the schema only", f.Name)
		}
	}
	if refused == 0 {
		t.Error("the schema refuses nothing")
	}
}

// Every key is described, closed, and shows the default that Parse uses.
func TestSchemaDescribesEveryKey(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), `"description": "`); n < len(grammar()) {
		t.Errorf("%d descriptions for %d keys", n, len(grammar()))
	}
	ref := Reference()
	for _, want := range []string{
		"| `server.deadline` | `150ms` |", "| `issuers[].keys.refresh` | `5m` |", "| `policies.NAME.model` |  |", "| `routes[].onAllow.query.set` |",
	} {
		if !strings.Contains(ref, want) {
			t.Errorf("the reference lacks %q", want)
		}
	}
}
