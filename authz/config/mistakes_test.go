package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// good are sections for tests that are about others.
var good = []struct{ key, text string }{
	{"issuers:", "issuers: [{issuer: 'https://id.example.com', audiences: api}]\n"},
	{"policies:", "policies: {api: {model: model.conf, rules: policy.csv}}\n"},
	{"routes:", "routes: [{match: /, policy: api}]\n"},
}

func withGood(text string) string {
	for _, g := range good {
		if !strings.Contains("\n"+text, "\n"+g.key) {
			text += g.text
		}
	}
	return text
}

// wanted returns the problems that the comments of a configuration ask for.
func wanted(file, text string) Problems {
	var ps Problems
	line := 0
	for l := range strings.Lines(text) {
		line++
		_, want, ok := strings.Cut(strings.TrimSuffix(l, "\n"), "# want ")
		if !ok {
			continue
		}
		for w := range strings.SplitSeq(want, " ;; ") {
			p := Problem{File: file, Line: line, Message: w}
			if key, msg, ok := strings.Cut(w, ": "); ok {
				p.Key, p.Message = key, msg
			}
			ps = append(ps, p)
		}
	}
	ps.Sort()
	return ps
}

func TestMistakes(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "mistakes.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, f := range archive.Files {
		t.Run(f.Name, func(t *testing.T) {
			want := wanted("sallyport.yaml", string(f.Data))
			c, got := Parse("sallyport.yaml", []byte(withGood(string(f.Data))))
			if c == nil {
				t.Fatalf("no Config: %v", got)
			}
			if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			count += len(want)
		})
	}
	if count < 60 {
		t.Errorf("%d mistakes in testdata, want at least 60", count)
	}
}

func lines(ps Problems) []string { return strings.Split(ps.Error(), "\n") }

// All mistakes of all files together are found as they are found alone, where
// the files do not overlap: here the two that fill the most sections.
func TestAllAtOnce(t *testing.T) {
	const text = `vershun: 1
server:
  deadline: fast
  grpc: {listen: 0.0.0.0:1}
issuers:
  - issuer: http://id.example.com
    algorithms: [HS256]
policies:
  api: {model: m}
routes:
  - {match: /, policy: ap}
  - {match: /, allow: true, stepUp: {}}
cache: {bytes: 1}
`
	want := []string{
		`conf/s.yaml:1: vershun: unknown key (did you mean version)`,
		`conf/s.yaml:3: server.deadline: must be a duration such as 150ms or 5m, not "fast"`,
		`conf/s.yaml:4: server.grpc.listen: "0.0.0.0:1" is not a loopback address: it needs tls or plaintext: true`,
		`conf/s.yaml:6: issuers[0].audiences: is required`,
		`conf/s.yaml:6: issuers[0].issuer: "http://id.example.com" is not an https URL (http is for localhost and loopback addresses only)`,
		`conf/s.yaml:7: issuers[0].algorithms[0]: "HS256" is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, Ed25519`,
		`conf/s.yaml:11: routes[0].policy: there is no policy "ap" (did you mean api)`,
		`conf/s.yaml:12: routes[1].name: "/" is the name of routes[0] already`,
		`conf/s.yaml:12: routes[1].stepUp: must have acr or maxAge`,
		`conf/s.yaml:13: cache.bytes: must be a size such as 128MiB (KiB, MiB, GiB), not the number 1`,
	}
	for range 20 {
		c, ps := Parse("conf/s.yaml", []byte(text))
		if diff := cmp.Diff(want, lines(ps)); diff != "" {
			t.Fatalf("problems (-want +got):\n%s", diff)
		}
		if c == nil || len(c.Routes) != 2 || c.Routes[1].Match[0].Value != "/" || c.Policies[0].Model.Path != "conf/m" {
			t.Fatalf("a Config with problems lacks what is good in it: %+v", c)
		}
	}
}

// A key that is misspelt is one mistake, not one more for each that needed it.
func TestTypoDoesNotCascade(t *testing.T) {
	const whole = "issuers: [{issuer: 'https://id.example.com', audiences: api}]\n" +
		"policies: {api: {model: m, rules: r}}\nroutes: [{match: /, policy: api}]\n"
	for right, wrong := range map[string]string{
		"issuers:": "isuers:", "policies:": "polices:", "routes:": "rotues:",
		"match:": "mtach:", "policy:": "polcy:", "audiences:": "audience:", "model:": "modle:", "issuer:": "isser:",
	} {
		t.Run(wrong, func(t *testing.T) {
			_, ps := Parse("s.yaml", []byte(strings.Replace(whole, right, wrong, 1)))
			if len(ps) != 1 || !strings.HasSuffix(ps[0].Message, "unknown key (did you mean "+strings.TrimSuffix(right, ":")+")") {
				t.Errorf("got %v", ps)
			}
		})
	}
}

func TestNotAConfigurationAtAll(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\nroutes: [" + strings.Repeat("*a0, ", 20_000) + "]\n"
	nested := "x: &x {match: [" + strings.Repeat("/a, ", 1000) + "], policy: api}\nroutes: [" + strings.Repeat("*x, ", 1000) + "]\n"
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "s.yaml:1: is empty"},
		{"blank", "\n\n", "s.yaml:1: is empty"},
		{"comments", "# nothing\n", "s.yaml:1: is empty"},
		{"null", "~\n", "s.yaml:1: is empty"},
		{"list", "\n- a\n", "s.yaml:2: must be a mapping of keys, not a list"},
		{"word", "hello\n", `s.yaml:1: must be a mapping of keys, not "hello"`},
		{"second document", "version: 1\n---\nversion: 1\n", "s.yaml:2: a second document begins here: one file holds one configuration"},
		{"empty second document", "version: 1\n---\n", "s.yaml:2: a second document begins here: one file holds one configuration"},
		{"broken second document", "version: 1\n---\n[\n", "s.yaml:3: is not YAML: did not find expected node content"},
		{"not UTF-8", "version: 1\nserver: {realm: \"\xff\"}\n", "s.yaml:2: is not UTF-8"},
		{"UTF-16", "\xff\xfev\x00e\x00", "s.yaml:1: is not UTF-8"},
		{"too large", strings.Repeat("#", maxFile+1), "s.yaml: is larger than 1 MiB"},
		{"unknown alias", "version: *v\n", "s.yaml:1: is not YAML: unknown anchor 'v' referenced"},
		{"alias bomb", bomb, "s.yaml:1: aliases stand for more than 10000 values"},
		{"wide alias bomb", nested, "s.yaml:1: aliases stand for more than 10000 values"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, ps := Parse("s.yaml", []byte(tt.text))
			if c != nil || len(ps) != 1 || ps[0].String() != tt.want {
				t.Errorf("got %v, %v; want nothing but %s", c != nil, ps, tt.want)
			}
		})
	}
}

// The classic bomb hides in keys that nobody knows, and is never unpacked.
func TestBombUnderUnknownKeys(t *testing.T) {
	var b strings.Builder
	b.WriteString("a: &a [x, x, x, x, x, x, x, x, x]\n")
	for c := 'b'; c <= 'z'; c++ {
		b.WriteString(string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+", ", 9) + "]\n")
	}
	b.WriteString("routes: *z\n")
	c, ps := Parse("s.yaml", []byte(b.String()))
	if c == nil {
		t.Fatal(ps)
	}
	for _, want := range []Problem{
		{File: "s.yaml", Line: 1, Key: "a", Message: "unknown key"},
		{File: "s.yaml", Line: 25, Key: "routes[0]", Message: "must be a mapping, not a list"},
	} {
		if !slices.Contains(ps, want) {
			t.Errorf("no %q in %v", want, ps)
		}
	}
}

// The parser bounds nesting itself; what matters is that it says so.
func TestDeepNesting(t *testing.T) {
	for _, s := range []string{strings.Repeat("[", maxFile-1), strings.Repeat("{a: ", maxFile/5), strings.Repeat("- ", maxFile/2-1)} {
		c, ps := Parse("s.yaml", []byte(s))
		if c != nil || len(ps) != 1 || !strings.Contains(ps[0].Message, "exceeded max depth") {
			t.Errorf("%.10s...: got %v", s, ps)
		}
	}
}

func TestOtherEncodings(t *testing.T) {
	text := "issuers:\n  - issuer: https://id.example.com\n    audiences: [a]\n    leway: 1s\npolicies: {api: {model: m, rules: r}}\nroutes: [{match: /, policy: api}]\n"
	const want = "s.yaml:4: issuers[0].leway: unknown key (did you mean leeway)"
	for name, text := range map[string]string{
		"byte order mark":  "\ufeff" + text,
		"carriage returns": strings.ReplaceAll(text, "\n", "\r\n"),
	} {
		if _, ps := Parse("s.yaml", []byte(text)); ps.Error() != want {
			t.Errorf("%s: got %v, want %s", name, ps, want)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		line       int
	}{
		{"tab", "version: 1\nserver:\n\tdrain: 1s\n", 3},
		{"open bracket", "version: 1\nroutes: [\n  {match: /}\nserver: {}\n\n\n", 2},
		{"open brace", "a: 1\nb: {c: d, e\nf: 2\ng: 3\n", 2},
		{"pattern with braces", "a: 1\nroutes:\n  - {match: [GET /a,\n      GET /orders/{order}], policy: a}\nx: 1\n", 4},
		{"brace too many", "a: 1\nb: {c: d}}\nf: 2\ng: 3\n\n", 2},
		{"out of line", "server:\n  drain: 1s\n deadline: 1s\nx: 1\n", 3},
		{"out of line below a comment", "server:\n  drain: 1s\n\n# foo\n deadline: 1s\nx: 1\n", 5},
		{"colon", "server:\n  realm: a: b\nx: 1\n", 2},
		{"open quote", "version: 1\nserver:\n  realm: \"abc\nx: 1\n", 3},
		{"item among keys", "a: 1\nb: 2\n- c\nd: e\n", 3},
		{"key among items", "a:\n - b\n - c\n d: 1\ne: 1\n", 4},
		{"item out of line", "a: 1\nroutes:\n  - match: /\n    policy: a\n   - match: b\nx: 2\n", 5},
		{"after a quote", "a: 1\nb: 'x' y\nf: 2\n", 2},
		{"no colon", "a: 1\nb\nf: 2\n", 2},
		{"escape", "a: \"\\q\"\nb: 1\n", 1},
		{"anchor", "a: 1\nb: *x\nc: 1\nd: 1\n", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, ps := Parse("s.yaml", []byte(tt.text))
			if c != nil || len(ps) != 1 || ps[0].Line != tt.line || !strings.HasPrefix(ps[0].Message, "is not YAML: ") {
				t.Errorf("got %v, want one about line %d", ps, tt.line)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.yaml")
	if c, ps := Load(missing); c != nil || ps.Error() != missing+": cannot be read: no such file or directory" {
		t.Errorf("missing: %v, %v", c, ps)
	}
	if c, ps := Load(dir); c != nil || ps.Error() != dir+": cannot be read: is a directory" {
		t.Errorf("folder: %v, %v", c, ps)
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, 2*maxFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, ps := Load(large); c != nil || ps.Error() != large+": is larger than 1 MiB" {
		t.Errorf("large: %v, %v", c, ps)
	}
	path := filepath.Join(dir, "sallyport.yaml")
	if err := os.WriteFile(path, []byte(withGood("")), 0o600); err != nil {
		t.Fatal(err)
	}
	c, ps := Load(path)
	if err := ps.Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{path, filepath.Join(dir, "model.conf"), filepath.Join(dir, "policy.csv")}
	if diff := cmp.Diff(want, c.Files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
