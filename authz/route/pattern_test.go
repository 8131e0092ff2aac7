package route

import (
	"strings"
	"testing"
)

func TestParsePatternRefuses(t *testing.T) {
	for reason, patterns := range map[string][]string{
		"is empty":                      {""},
		"which is not a token":          {"G@T /x", "GET,POST /x", "é /x"},
		"which only OPTIONS may have":   {"*", "GET *", "options *", " *"},
		"write CONNECT":                 {"CONNECT /x", "CONNECT /", "CONNECT db.test:80"},
		"write METHOD /PATH":            {"GET", "x", "GET x", "GET ", "connect", "tcp", "OPTIONS"},
		"no path that starts with":      {"GET {x}", "a.test:80", "TCP a b"},
		"name it in hosts":              {"api.test/x", "GET api.test/x", "GET  POST /x", "*/x", "{x}/y"},
		"has a space in its path":       {"/a b", "/ x", "/{ a}"},
		"has a query":                   {"/a?b", "/?"},
		"a wildcard must be a whole":    {"/a{b}", "/{b}c", "/{", "/{a", "/a{", "/{a}{b}x", "/{a}-"},
		"{$} before its end":            {"/{$}/x", "/{$}/"},
		"{x...} before its end":         {"/{x...}/y", "/a/{x...}/"},
		"not an identifier":             {"/{}", "/{...}", "/{1}", "/{a-b}", "/{a}{b}", "/{$x}", "/{$...}"},
		"two wildcards named \"x\"":     {"/{x}/{x}", "/{x}/{x...}"},
		"empty segment":                 {"//", "/a//b", "GET /a//", "//{x}", "/a/;y"},
		"dot segment":                   {"/../a", "/./{x}", "/a/..", "GET /%2e%2E/x", "/..;x"},
		"has the character":             {`/a\b`, "/a#b", "/a\x00b", "/a\nb"},
		"has the escape":                {"/a%5cb", "/a%00"},
		"broken escape":                 {"/a%", "/a%zz"},
		"escaped twice":                 {"/a%252f"},
		"overlong escape":               {"/%c0%ae"},
		"paths: {escapedSlash: keep}":   {"/a%2fb", "/{x}/b%2Fc", "/a%2Fb;c"},
		"paths: {semicolon: keep}":      {"/a;b", "/a%3Bb/{x}"},
		"pattern \"/a%zz\" can never ":  {"/a%zz"},
		"makes a path that is refused:": {"/..", "/a%zz"},
	} {
		for _, text := range patterns {
			p, err := parsePattern(text, 0)
			if err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%q: got %+v, %v; want %q", text, p, err, reason)
			}
		}
	}
}

func TestParsePatternKeeps(t *testing.T) {
	for _, tt := range []struct {
		text string
		keep kept
		want string // the literal
	}{
		{"/a%2fb", keptSlash, "a%2Fb"},
		{"/a;b%3bc", keptSemicolon, "a;b%3Bc"},
		{"GET \t /%7e%c3%a9é", 0, "~%C3%A9%C3%A9"},
		{" /}", 0, "%7D"},
	} {
		p, err := parsePattern(tt.text, tt.keep)
		if err != nil || len(p.segments) != 1 || p.segments[0].text != tt.want {
			t.Errorf("%q: got %+v, %v; want %q", tt.text, p, err, tt.want)
		}
	}
}

// problems returns what New says about specs: the route's name, key and
// message of each problem.
func problems(specs ...Spec) []string {
	_, list := New(specs, Guard{})
	var got []string
	for _, p := range list {
		got = append(got, specs[p.Route].Name+" "+p.Key+": "+p.Err.Error())
	}
	return got
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		name  string
		specs []Spec
		want  []string
	}{
		{"other methods", []Spec{spec("a", "", "GET /x"), spec("b", "", "POST /x", "/x")}, nil},
		{"other hosts", []Spec{spec("a", "", "/x"), spec("b", "h", "/x"), spec("c", "*h", "/x"), spec("d", "h*", "/x")}, nil},
		{"no patterns", []Spec{spec("a", ""), spec("b", "")}, nil},
		{"none at all", nil, nil},
		{"methods against paths", []Spec{spec("a", "", "GET /"), spec("b", "", "/admin/")}, []string{
			`b match[0]: pattern "/admin/" and pattern "GET /" of route "a" both match "GET /admin/", and neither is narrower: ` +
				`write "GET /admin/" instead of "/admin/", or "/" instead of "GET /", or give their routes different hosts`}},
		{"HEAD against GET", []Spec{spec("a", "", "GET /{x}"), spec("b", "", "HEAD /{x...}")}, []string{
			`b match[0]: pattern "HEAD /{x...}" and pattern "GET /{x}" of route "a" both match "HEAD /x", and neither is narrower: ` +
				`write "GET /{x...}" instead of "HEAD /{x...}", or "HEAD /{x}" instead of "GET /{x}", or give their routes different hosts`}},
		{"paths", []Spec{spec("a", "", "/{x}/b/"), spec("b", "", "POST /a/{y}/{$}")}, []string{
			`b match[0]: pattern "POST /a/{y}/{$}" and pattern "/{x}/b/" of route "a" both match "POST /a/b/", and neither is narrower: ` +
				`change one so that it does not match that or covers the other, or give their routes different hosts`}},
		{"equal", []Spec{spec("a", "", "/{x}/"), spec("b", "", "/{y}/{z...}")}, []string{
			`b match[0]: pattern "/{y}/{z...}" matches the same requests as pattern "/{x}/" of route "a": remove one, or give their routes different hosts`}},
		{"equal in another spelling", []Spec{spec("a", "", "/%7eé"), spec("b", "*", "/~%c3%a9")}, []string{
			`b match[0]: pattern "/~%c3%a9" matches the same requests as pattern "/%7eé" of route "a": remove one, or give their routes different hosts`}},
		{"within a route", []Spec{spec("a", "", "GET /x", "GET /x")}, []string{
			`a match[1]: pattern "GET /x" matches the same requests as pattern "GET /x" of the same route: remove one`}},
		{"two within a route", []Spec{spec("a", "", "GET /a/", "/a/{b}/{c...}")}, []string{
			`a match[1]: pattern "/a/{b}/{c...}" and pattern "GET /a/" of the same route both match "GET /a/b/", and neither is narrower: ` +
				`write "GET /a/{b}/{c...}" instead of "/a/{b}/{c...}", or "/a/" instead of "GET /a/"`}},
		{"once for all hosts", []Spec{spec("a", "x.test *.test", "/x"), spec("b", "*.TEST x.test. y.test", "/x")}, []string{
			`b match[0]: pattern "/x" matches the same requests as pattern "/x" of route "a" on host "*.test": remove one, or give their routes different hosts`}},
		{"with each", []Spec{spec("a", "", "/a/"), spec("b", "", "/b/"), spec("c", "", "GET /")}, []string{
			`c match[0]: pattern "GET /" and pattern "/a/" of route "a" both match "GET /a/", and neither is narrower: ` +
				`write "/" instead of "GET /", or "GET /a/" instead of "/a/", or give their routes different hosts`,
			`c match[0]: pattern "GET /" and pattern "/b/" of route "b" both match "GET /b/", and neither is narrower: ` +
				`write "/" instead of "GET /", or "GET /b/" instead of "/b/", or give their routes different hosts`}},
		{"special patterns", []Spec{spec("a", "", "CONNECT", "OPTIONS *", "TCP"), spec("b", "", "CONNECT", "OPTIONS *", "TCP"), spec("c", "h", "CONNECT")}, []string{
			`b match[0]: pattern "CONNECT" matches the same requests as pattern "CONNECT" of route "a": remove one, or give their routes different hosts`,
			`b match[1]: pattern "OPTIONS *" matches the same requests as pattern "OPTIONS *" of route "a": remove one, or give their routes different hosts`,
			`b match[2]: TCP is taken by route "a": remove one`}},
		{"TCP", []Spec{spec("a", "h", "TCP"), spec("b", "", "TCP", "TCP")}, []string{
			`a match[0]: TCP checks have no host: give TCP a route without hosts`,
			`b match[1]: TCP stands twice: remove one`}},
		{"all at once, in order", []Spec{
			spec("a", "x:80 ok.test OK.test. **", "/x", "y", "/z//"), spec("a", ""), {Name: "b", Hosts: []string{"h"}},
		}, []string{
			`a hosts[0]: host "x:80" has a port: hosts are compared without it`,
			`a hosts[2]: host "OK.test." repeats hosts[1]`,
			`a hosts[3]: host "**" has more than one *`,
			`a match[1]: pattern "y" has no path: write METHOD /PATH or /PATH`,
			`a match[2]: pattern "/z//" can never match: the segment "" makes a path that is refused: path has an empty segment`,
			`a name: name "a" is taken by route 1`,
			`b : route leads nowhere`,
			`b hosts: a route without match is reachable only where Envoy names it, and then hosts are not consulted`}},
	} {
		got := problems(tt.specs...)
		if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
		table, list := New(tt.specs, Guard{})
		if (table == nil) != (len(list) > 0) {
			t.Errorf("%s: a table beside problems, or neither", tt.name)
		}
	}
}

// Problems come in the order of the configuration, also where the tree of
// patterns has none.
func TestProblemsAreInOrder(t *testing.T) {
	var specs []Spec
	for _, name := range strings.Split("h c a g b f d e", " ") {
		specs = append(specs, spec(name, "", "/"+name+"/"))
	}
	got := problems(append(specs, spec("last", "", "GET /"))...)
	if len(got) != len(specs) {
		t.Fatalf("got %d problems: %q", len(got), got)
	}
	for i, s := range specs {
		if want := `of route "` + s.Name + `"`; !strings.Contains(got[i], want) {
			t.Errorf("problem %d is %s, want one %s", i, got[i], want)
		}
	}
}

// The way out that a message names must be one.
func TestWayOut(t *testing.T) {
	for _, patterns := range [][2]string{{"GET /", "/admin/"}, {"/{x}/y", "GET /{z...}"}, {"HEAD /{x...}", "GET /{y}"}} {
		a, b := spec("a", "", patterns[0]), spec("b", "", patterns[1])
		got := problems(a, b)
		if len(got) != 1 {
			t.Fatalf("%q: got %q", patterns, got)
		}
		f := strings.Split(got[0][strings.Index(got[0], "write "):], `"`)
		newB, newA := f[1], f[5]
		for _, pair := range [][2]Spec{{a, spec("b", "", newB)}, {spec("a", "", newA), b}} {
			if got := problems(pair[0], pair[1]); got != nil {
				t.Errorf("%q: %q and %q: got %q", patterns, pair[0].Match, pair[1].Match, got)
			}
		}
	}
}
