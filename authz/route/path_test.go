package route

import (
	"net/url"
	"strings"
	"testing"
)

func TestCanonicalPath(t *testing.T) {
	for _, tt := range []struct{ raw, want string }{
		{"/", "/"},
		{"/v1/orders/7", "/v1/orders/7"},
		{"/a/", "/a/"},
		{"/a/...", "/a/..."},
		{"/.well-known/x..y/.z", "/.well-known/x..y/.z"},

		// Unreserved characters, colon, at sign and sub-delimiters are decoded.
		{"/%61dmin", "/admin"},
		{"/a%7e%7E%2d%2E%5fb", "/a~~-._b"},
		{"/%3A%40%21%24%26%27%28%29%2A%2B%2C%3D", "/:@!$&'()*+,="},
		{"/:@!$&'()*+,=", "/:@!$&'()*+,="},
		{"/a%2e%2e/b", "/a../b"},
		{"/%2e%2e%2e", "/..."},

		// Raw characters that RFC 3986 does not allow are escaped.
		{`/a"b`, "/a%22b"},
		{"/a<b>", "/a%3Cb%3E"},
		{"/a|b", "/a%7Cb"},
		{"/a^b{c}", "/a%5Eb%7Bc%7D"},
		{"/a b`", "/a%20b%60"},
		{"/[x]", "/%5Bx%5D"},

		// Other escapes stay, in upper case.
		{"/a%3fx%23%20%22%5b", "/a%3Fx%23%20%22%5B"},
		{"/caf%c3%a9/%ff", "/caf%C3%A9/%FF"},
		{"/100%25", "/100%25"},
		{"/a%25zz%25", "/a%25zz%25"},
		{"/%25/41", "/%25/41"},
		{"/%254/1", "/%254/1"},
		{"/%25%25", "/%25%25"},
		{"/%25%2041", "/%25%2041"},
		{"/%E0%A0%80%F0%90%80%80", "/%E0%A0%80%F0%90%80%80"},
		{"/voil%E0/%E0%20la/%F0a", "/voil%E0/%E0%20la/%F0a"}, // Latin-1
		{"/%20/+/a%20.b/. a", "/%20/+/a%20.b/.%20a"},
	} {
		got, found, err := canonicalPath(tt.raw)
		if err != nil || got != tt.want || found != 0 {
			t.Errorf("%s: got %s, %b, %v; want %s", tt.raw, got, found, err, tt.want)
		}
	}
}

func TestCanonicalPathKeeps(t *testing.T) {
	for _, tt := range []struct {
		raw, want string
		found     kept
	}{
		{"/a%2fb", "/a%2Fb", keptSlash},
		{"/a%2F", "/a%2F", keptSlash},
		{"/a%2Fb%2Fc/d", "/a%2Fb%2Fc/d", keptSlash},
		{"/a;x=1/b;y", "/a;x=1/b;y", keptSemicolon},
		{"/a%3bx", "/a%3Bx", keptSemicolon},
		{"/...;x", "/...;x", keptSemicolon},
		{"/a;../b", "/a;../b", keptSemicolon},
		{"/a;x%2fb", "/a;x%2Fb", keptSlash | keptSemicolon},
	} {
		got, found, err := canonicalPath(tt.raw)
		if err != nil || got != tt.want || found != tt.found {
			t.Errorf("%s: got %s, %b, %v; want %s, %b", tt.raw, got, found, err, tt.want, tt.found)
		}
	}
}

func TestCanonicalPathRefuses(t *testing.T) {
	for reason, paths := range map[string][]string{
		"does not start with a slash": {"", "a/b", "*", "?x", "http://x/y", "%2Fa", `\a`, ".", ";/a"},
		"has the character": {"/a\x00b", "/a\tb", "/a\nb", "/a\x7fb", "/caf\xc3\xa9", "/a\xff", `/a\b`, `/\a`,
			"/a#f", "/a#"},
		"broken escape": {"/a%zz", "/a%", "/a%4", "/%%41", "/%g1", "/%1g", "/a%2"},
		"has the escape": {"/a%00b", "/a%0d%0ab", "/%1F", "/%7f", "/a%5cb", "/a%5Cb", "/..%5c..",
			"/a%09"},
		"escaped twice": {"/a%252fb", "/a/%252e%252e/b", "/%2541", "/%25%34%31", "/%254%31", "/%25%341", "/%252525"},
		"empty segment": {"//a", "/a//b", "/a//", "//", "/a/%2Fb", "/%2F", "/%2f%2F", "/a%2f%2fb", "/a%2F/b",
			"/a%2F%2F", "/;x/a", "/a/;/b", "/a/;", "/;", "/%3b/a", "/a%2F;x"},
		"dot segment": {"/./a", "/../a", "/..", "/.", "/a/./b", "/a/..", "/a/.", "/a/%2e%2e/b", "/%2e", "/.%2e/a", "/%2E./a",
			"/..;/admin", "/a/..;/admin", "/a;/../b", "/.;x", "/..;x=1/a", "/..%3b/a", "/%2e%2e;/a", "/.%3B",
			"/a%2F..%2Fb", "/a%2f..", "/a%2F.", "/..%2fb", "/%2e%2e%2fb", "/a%2f%2e%2e%2fb", "/a/..%2fb", "/a%2F..;x/b",
			"/a%2F.%2Fb",
			"/a/..%20/b", "/a/%20../b", "/a/.%20.", "/a/..%20./b", "/a/.. /b", "/a/..+/b", "/a/%2B.+", "/a/%20.", "/a%2F..%20%2Fb", "/a/..%20;x/b"},
		"overlong escape": {"/%c0%ae%c0%ae/a", "/a%C0%AFb", "/%C1%9C", "/%E0%80%AF", "/%F0%80%80%AF", "/%e0%80%ae",
			"/%c0%2e%c0%2e/a", "/%c0.", "/%c0n", "/..%c0/a", "/..%c1%5ca", "/a%c0", "/%C0x%80", "/%e0@n", "/%e0%40%6e", "/%e0A.", "/%f0%40@n"},
	} {
		for _, raw := range paths {
			got, _, err := canonicalPath(raw)
			if err == nil {
				t.Errorf("%q: got %q, want an error", raw, got)
			} else if !strings.Contains(err.Error(), reason) {
				t.Errorf("%q: got %q, want %q in it", raw, err, reason)
			}
		}
	}
}

func TestReadTarget(t *testing.T) {
	for _, tt := range []struct{ method, target, path, query string }{
		{"GET", "/a?b?c", "/a", "b?c"},
		{"GET", "/a??b", "/a", "?b"},
		{"GET", "/a?", "/a", ""},
		{"GET", "/a", "/a", ""},
		{"GET", "/?/../%2f//;%zz\\", "/", "/../%2f//;%zz\\"},
		{"GET", "/a%3Fb?c", "/a%3Fb", "c"},
		{"CONNECT", "", "", ""},
		{"CONNECT", "/a?b", "/a", "b"},
		{"OPTIONS", "*", "*", ""},
		{"OPTIONS", "/*", "/*", ""},
	} {
		path, query, _, err := readTarget(tt.method, tt.target)
		if err != nil || path != tt.path || query != tt.query {
			t.Errorf("%s %s: got %q, %q, %v; want %q, %q", tt.method, tt.target, path, query, err, tt.path, tt.query)
		}
	}
	for _, tt := range []struct{ method, target, reason string }{
		{"GET", "", "does not start with a slash"},
		{"GET", "*", "does not start with a slash"},
		{"connect", "", "does not start with a slash"},
		{"options", "*", "does not start with a slash"},
		{"OPTIONS", "*?x", "does not start with a slash"},
		{"CONNECT", "?x", "does not start with a slash"},
		{"CONNECT", "db.test:5432", "does not start with a slash"},
		{"GET", "/a?b#c", `query has the character '#'`},
		{"GET", "/a?b\r\n", `query has the character '\r'`},
	} {
		path, _, _, err := readTarget(tt.method, tt.target)
		if err == nil || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s %q: got %q, %v; want %q", tt.method, tt.target, path, err, tt.reason)
		}
	}
}

func TestCanonicalPathDoesNotAllocate(t *testing.T) {
	const path = "/v1/tenants/7/orders/caf%C3%A9/x"
	if n := testing.AllocsPerRun(100, func() {
		if got, _, err := canonicalPath(path); err != nil || got != path {
			t.Fatal(got, err)
		}
	}); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{
		"/", "/a/b", "/%61%2f%3b;x", "/a%2F..%2Fb", "/a\"<>^{|}", "/%25%34%31", "/%c0%af", "/caf%c3%a9", "//", "/..;/a", "/%2e%2E",
		"/a b", "/100%25", "/%252f",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, found, err := canonicalPath(raw)
		if err != nil {
			return
		}
		again, found2, err := canonicalPath(got)
		if err != nil || again != got || found2 != found {
			t.Fatalf("%q becomes %q, and that %q, %b, %v", raw, got, again, found2, err)
		}
		want, err := url.PathUnescape(raw)
		if err != nil {
			t.Fatalf("%q has a broken escape: %v", raw, err)
		}
		decoded, err := url.PathUnescape(got)
		if err != nil || decoded != want {
			t.Fatalf("%q becomes %q, which decodes to %q, %v; want %q", raw, got, decoded, err, want)
		}
		for i := range len(got) {
			if c := got[i]; c <= ' ' || c >= 0x7F || strings.IndexByte("\"#<>?[\\]^`{|}", c) >= 0 {
				t.Fatalf("%q becomes %q, which holds %q", raw, got, c)
			}
		}
		// Whatever an upstream decodes, cuts off or takes for a separator, it
		// finds no way up.
		for i := range len(decoded) {
			if decoded[i] < 0x20 || decoded[i] == '\\' || decoded[i] == 0x7F {
				t.Fatalf("%q decodes to the character %q", got, decoded[i])
			}
		}
		segments := strings.Split(decoded[1:], "/")
		for i, seg := range segments {
			name, _, params := strings.Cut(seg, ";")
			if name == "." || name == ".." || name == "" && (params || i < len(segments)-1) {
				t.Fatalf("%q becomes %q, which has the segment %q", raw, got, seg)
			}
		}
		if slash := strings.Contains(got, "%2F"); slash != (found&keptSlash != 0) {
			t.Fatalf("%q: kept %b", got, found)
		}
		if semicolon := strings.Contains(decoded, ";"); semicolon != (found&keptSemicolon != 0) {
			t.Fatalf("%q: kept %b", got, found)
		}
		if twice, err := url.PathUnescape(decoded); err == nil && twice != decoded {
			t.Fatalf("%q becomes %q, which decodes twice, to %q", raw, got, twice)
		}
	})
}
