package config

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// same compares what configurations mean: not where it stands.
var same = cmp.Options{
	cmpopts.IgnoreUnexported(Config{}),
	cmpopts.IgnoreFields(Config{}, "Revision"),
	cmpopts.IgnoreFields(Place{}, "Line"),
	cmpopts.IgnoreFields(Text{}, "Line", "Key"),
	cmpopts.IgnoreFields(File{}, "Line"),
	cmpopts.EquateEmpty(),
}

func mustParse(t *testing.T, name, text string) *Config {
	t.Helper()
	c, ps := Parse(name, []byte(text))
	if err := ps.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func full(t *testing.T) *Config {
	t.Helper()
	c, ps := Load(filepath.Join("testdata", "full.yaml"))
	if err := ps.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

// The smallest configuration, with each default of the contract.
func TestMinimal(t *testing.T) {
	c := mustParse(t, "/etc/sallyport/s.yaml", `issuers:
  - issuer: https://id.example.com
    audiences: [https://api.example.com]
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {match: /, policy: api}
`)
	want := &Config{
		File:    "/etc/sallyport/s.yaml",
		Version: 1,
		Server: Server{
			GRPC:     GRPC{Listen: "127.0.0.1:9191", MaxInFlight: 4096},
			Admin:    Admin{Listen: "127.0.0.1:9192"},
			Deadline: 150 * time.Millisecond,
			OnError:  "deny",
			Drain:    10 * time.Second,
			Realm:    "sallyport",
		},
		Issuers: []Issuer{{
			Place:       Place{Key: "issuers[0]", Line: 2},
			Name:        "id.example.com",
			Issuer:      "https://id.example.com",
			Audiences:   []string{"https://api.example.com"},
			Algorithms:  []string{"RS256", "PS256", "ES256", "EdDSA"},
			Types:       []string{"at+jwt"},
			Leeway:      10 * time.Second,
			MaxLifetime: 24 * time.Hour,
			Required:    true,
			Keys:        Keys{Refresh: 5 * time.Minute, Cooldown: 30 * time.Second, MaxAge: time.Hour, Timeout: 5 * time.Second},
			Claims: Claims{
				Roles: []string{"roles"}, Scopes: []string{"scope", "scp"},
				Client: []string{"client_id", "azp"}, Audience: []string{"aud"},
			},
		}},
		Credentials: []Credential{{Header: "authorization", Scheme: "Bearer"}},
		Policies: []Policy{{
			Place: Place{Key: "policies.api", Line: 5},
			Name:  "api",
			Model: File{Path: "/etc/sallyport/model.conf", Written: "model.conf", Line: 5, Key: "policies.api.model"},
			Rules: File{Path: "/etc/sallyport/policy.csv", Written: "policy.csv", Line: 5, Key: "policies.api.rules"},
		}},
		Routes: []Route{{
			Place:    Place{Key: "routes[0]", Line: 7},
			Name:     "/",
			Match:    []Text{{Value: "/", Line: 7, Key: "routes[0].match"}},
			Token:    "required",
			Issuers:  []string{"id.example.com"},
			Policy:   Text{Value: "api", Line: 7, Key: "routes[0].policy"},
			Sections: Sections{R: "r", P: "p", E: "e", M: "m"},
			Mode:     "enforce",
			OnError:  "deny",
			Paths:    Paths{EscapedSlash: "refuse", Semicolon: "refuse"},
		}},
		Audit:     Audit{File: Text{Value: "stdout", Line: 1, Key: "File"}, Mode: "async", Queue: 65536},
		Cache:     Cache{Tokens: 100_000, Bytes: 128 << 20, TTL: 5 * time.Minute},
		Telemetry: Telemetry{Subject: "hash"},
	}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreUnexported(Config{}), cmpopts.IgnoreFields(Config{}, "Revision")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every key arrives where it belongs, as its type, with its place.
func TestFull(t *testing.T) {
	c := full(t)
	r := c.Routes[1]
	for _, tt := range []struct{ what, got, want any }{
		{"drain", c.Server.Drain, time.Hour},
		{"client names", c.Server.GRPC.TLS.ClientNames, []string{"spiffe://mesh.example/ns/ingress/sa/envoy"}},
		{"relative file", c.Server.GRPC.TLS.Certificate, File{Path: "testdata/tls/server.crt", Written: "tls/server.crt", Line: 6, Key: "server.grpc.tls.certificate"}},
		{"absolute file", c.Server.GRPC.TLS.Key.Path, "/etc/tls/server.key"},
		{"default name", c.Issuers[1].Name, "id.example.com"},
		{"leeway", c.Issuers[0].Leeway, time.Duration(0)},
		{"algorithms", c.Issuers[0].Algorithms, []string{"Ed25519"}},
		{"no roles", len(c.Issuers[0].Claims.Roles), 0},
		{"header in lower case", c.Credentials[1], Credential{Header: "x-token"}},
		{"bytes", c.Cache.Bytes, int64(1536 << 10)},
		{"default name of a route", c.Routes[0].Name, "GET /healthz"},
		{"no issuers under token none", len(c.Routes[0].Issuers), 0},
		{"default issuers", c.Routes[2].Issuers, []string{"corp", "id.example.com"}},
		{"default of onError", c.Routes[2].OnError, "envoy"},
		{"sections", r.Sections, Sections{R: "r2", P: "p2", E: "e2", M: "m10"}},
		{"matching", c.Policies[0].Matching, []Matching{
			{Place: Place{Key: "policies.orders.matching.g", Line: 42}, Name: "g", Role: "keyMatch2", Domain: "keyMatch"},
			{Place: Place{Key: "policies.orders.matching.g2", Line: 42}, Name: "g2", Domain: "globMatch"},
		}},
		{"hosts", r.Hosts, []Text{{Value: "*.example.com", Line: 49, Key: "routes[1].hosts[0]"}, {Value: "api.*", Line: 49, Key: "routes[1].hosts[1]"}}},
		{"match", r.Match, []Text{{Value: "GET /v1/orders/{order}", Line: 50, Key: "routes[1].match"}}},
		{"expressions of any scalar", r.Enforce[3:], []Entry{{"hour", Text{"5", 58, "routes[1].enforce.hour"}}, {"yes", Text{"true", 58, "routes[1].enforce.yes"}}}},
		{"expression of many lines", r.OnAllow.RequestHeaders.Set, []Entry{
			{"x-user", Text{"subject.sub", 67, "routes[1].onAllow.requestHeaders.set.X-User"}},
			{"x-roles", Text{"subject.roles\n  .join(\",\")\n", 68, "routes[1].onAllow.requestHeaders.set.x-roles"}},
		}},
		{"removed", r.OnAllow.RequestHeaders.Remove, []string{"cookie", "x-debug"}},
		{"line of a key", c.Line("routes[1].stepUp.maxAge"), 55},
		{"line of a missing key", c.Line("routes[2].onAllow.metadata"), 80},
		{"line of a missing section", c.Line("nothing.of.the.kind"), 2},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.what, diff)
		}
	}
	want := []string{"full.yaml", "tls/server.crt", "/etc/tls/server.key", "tls/ca.crt", "tls/issuer-ca.crt", "keys/partner.json",
		"revoked.yaml", "policies/orders/model.conf", "policies/orders/policy.csv", "policies/orders/*.test.yaml", "/etc/more.test.yaml", "m", "r", "secrets/hash"}
	for i, f := range want {
		if !filepath.IsAbs(f) {
			want[i] = filepath.Join("testdata", f)
		}
	}
	if diff := cmp.Diff(want, c.Files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// testdata/full.yaml has every key, so that the tests that use it leave none
// out.
func TestFullIsFull(t *testing.T) {
	c := full(t)
	for _, k := range grammar() {
		if k.doc == "" {
			t.Errorf("%s has no comment", k.path)
		}
		if k.path == "server.grpc.plaintext" {
			continue // contradicts tls
		}
		path := strings.Replace(strings.Replace(k.path, "matching.NAME", "matching.g", 1), "NAME", "orders", 1)
		if !slices.ContainsFunc([]string{"[0]", "[1]", "[2]"}, func(i string) bool {
			return c.lines[strings.Replace(path, "[]", i, 1)] > 0
		}) {
			t.Errorf("testdata/full.yaml lacks %s", k.path)
		}
	}
}

func TestPrint(t *testing.T) {
	minimal := mustParse(t, "testdata/minimal.yaml", withGood(""))
	for _, c := range []*Config{full(t), minimal} {
		var b bytes.Buffer
		if err := c.Print(&b); err != nil {
			t.Fatal(err)
		}
		again := mustParse(t, c.File, b.String())
		if diff := cmp.Diff(c, again, same); diff != "" {
			t.Errorf("%s printed means something else (-want +got):\n%s\n%s", c.File, diff, b.String())
		}
	}
	var b bytes.Buffer
	if err := minimal.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n  deadline: 150ms\n", "\n  drain: 10s\n", "\n    maxLifetime: 24h\n", "\n      refresh: 5m\n", "\n  bytes: 128MiB\n", "\n  - name: /\n", "\n    onError: deny\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("printed configuration lacks %q:\n%s", want, b.String())
		}
	}
}

// Whatever is parsed, nothing panics, the problems are the same every time and
// in order, and a configuration without problems survives printing.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"full.yaml", "mistakes.txtar"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		for part := range strings.SplitSeq(string(data), "\n-- ") {
			f.Add([]byte(part[strings.IndexByte(part, '\n')+1:]))
		}
		f.Add(data)
	}
	for _, s := range []string{"", withGood(""), "a: &a [*a]\nroutes: *a\n", "routes:\n- &r {match: *r}\n", "? ? : :\n", "!!int a: !!bool b\n", "version: !!int \"a\\nb\"\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, ps := Parse("dir/s.yaml", data)
		_, again := Parse("dir/s.yaml", data)
		if diff := cmp.Diff(ps, again); diff != "" {
			t.Fatalf("problems differ: %s", diff)
		}
		for i, p := range ps {
			if s := p.String(); strings.ContainsAny(s, "\n\r") || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
				t.Errorf("problem %q is not one line", s)
			}
			if i > 0 && p.Line < ps[i-1].Line {
				t.Errorf("problem %q is out of order", p)
			}
			if c != nil && p.Line == 0 {
				t.Errorf("problem %q has no line", p)
			}
		}
		if c == nil || len(ps) > 0 {
			if len(ps) == 0 {
				t.Error("neither a Config nor problems")
			}
			return
		}
		var b bytes.Buffer
		if err := c.Print(&b); err != nil {
			t.Fatal(err)
		}
		printed, ps := Parse("dir/s.yaml", b.Bytes())
		if err := ps.Err(); err != nil {
			t.Fatalf("printed configuration: %v\n%s", err, b.String())
		}
		if diff := cmp.Diff(c, printed, same); diff != "" {
			t.Fatalf("printed configuration means something else (-want +got):\n%s\n%s", diff, b.String())
		}
	})
}
