package audit

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
)

// awkward is what has forged lines, keys and terminals before.
var awkward = []string{
	"a\r\nb", "\n{\"decision\":\"allow\"}\n", "\x1b[2J\x1b]0;x\x07", "\u2028\u2029\u0085", "a\x00b", "\xff\xfe\xc0\x80", "\xed\xa0\x80",
	`","decision":"allow","x":"`, `\`, `\"`, `\u0022`, "\x7f", "\u202e\ufeff", "\U0010FFFF", strings.Repeat("\n", 2000), strings.Repeat("a", 1024) + "\u2028",
}

// FuzzRecord: any bytes in any field make exactly one line of printable ASCII
// with the known keys, each once, and with the value that went in.
func FuzzRecord(f *testing.F) {
	for _, s := range awkward {
		f.Add(s, s, s, s, s, s)
	}
	f.Add("GET", "api.example.com", "/v1/orders", "/v1/orders?q", "user:corp/ada", "x")
	f.Fuzz(func(t *testing.T, method, host, path, target, id, other string) {
		w := &world{
			route:   authz.Route{Name: other, Policy: other, Revision: other},
			subject: &authz.Subject{ID: id, Kind: authz.User},
			rule:    authz.Rule{File: other, Line: 7},
		}
		r := &authz.Request{
			Method: method, Host: host, Path: path, Target: target, Authority: other,
			Source: authz.Source{Address: netip.MustParseAddr("fe80::1").WithZone(other), Principal: other},
		}
		fields := []Field{
			{"s", func(*authz.Request, *authz.Decision) (any, bool) { return other, true }},
			{"m", func(*authz.Request, *authz.Decision) (any, bool) {
				return map[string]any{other: []any{other, id}}, true
			}},
		}
		format := &format{fields: fields, subject: func(s *authz.Subject) string { return s.ID }}
		line, ok := strings.CutSuffix(string(format.decision(nil, noon, traceID, r, w.decide(t, r))), "\n")
		if !ok || len(line) >= maxRecord {
			t.Fatalf("%d bytes, the last of which is %q", len(line), line[len(line)-1])
		}
		for i := range len(line) {
			if line[i] < ' ' || line[i] > '~' {
				t.Fatalf("byte %#x in %q", line[i], line)
			}
		}
		if got, want := keysOf(t, line), append(slices.Clone(always), "fields"); !slices.Equal(got, want) {
			t.Fatalf("keys %q, want %q", got, want)
		}
		strict(t, line)
		m := object(t, line)
		if m["decision"] != "allow" || m["reason"] != "allowed" {
			t.Errorf("got %v", m)
		}
		if path == "" {
			path, _, _ = strings.Cut(target, "?")
			path, _, _ = strings.Cut(path, "#")
		}
		if host == "" {
			host = other[strings.LastIndex(other, "@")+1:]
		}
		for k, want := range map[string]string{
			"method": method, "host": host, "path": path, "subject": id, "route": other, "policy": other, "revision": other, "rule": other + ":7",
		} {
			same(t, k, m[k].(string), want)
		}
		source := m["source"].(map[string]any)
		same(t, "principal", source["principal"].(string), other)
		if got := slices.Sorted(maps.Keys(source)); !slices.Equal(got, []string{"address", "principal"}) {
			t.Errorf("source has %q", got)
		}
		extra := m["fields"].(map[string]any)
		same(t, "s", extra["s"].(string), other)
		if len(extra) != 2 {
			t.Errorf("fields are %v", extra)
		}
	})
}

// same fails unless got is what went in, byte for rune, or the beginning of it
// with the mark.
func same(t *testing.T, key, got, in string) {
	t.Helper()
	want := string([]rune(in)) // each byte that is not UTF-8 reads as U+FFFD
	if got == want {
		return
	}
	got = strings.TrimSuffix(got, ":7")
	head, ok := strings.CutSuffix(got, cut)
	if !ok || !strings.HasPrefix(want, head) || len(in) < 100 {
		t.Errorf("%s: got %q, want %q", key, got, want)
	}
}

// The seeds of FuzzRecord, one field at a time, so that no field hides
// another.
func TestAwkwardBytes(t *testing.T) {
	for _, s := range awkward {
		w, r := ada()
		for _, set := range []func(){
			func() { r.Method = s }, func() { r.Host = s }, func() { r.Path = s }, func() { r.Source.Principal = s },
			func() { w.subject.ID = s }, func() { w.route.Name = s }, func() { w.rule.File = s },
		} {
			w, r = ada()
			set()
			line := lineOf(t, r, w.decide(t, r))
			if got := keysOf(t, line); !slices.Equal(got, always) {
				t.Errorf("%q: keys %q", s, got)
			}
			if m := object(t, line); m["decision"] != "allow" || m["time"] == "" {
				t.Errorf("%q: %v", s, m)
			}
		}
	}
}
