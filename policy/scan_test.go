package policy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/casbin/casbin/v2/util"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
	"github.com/sallyport-authz/sallyport/policy/index"
)

var objectMatchers = []string{
	"r.sub.dep == p.sub && keyMatch2(r.obj.path, p.obj) && r.act == p.act",
	"r.act == p.act && r.sub.level > r.obj.level && g(r.sub.id, p.sub)",
	"eval(p.rule) && r.act == p.act && g(r.sub.id, p.sub)",
	"g(r.sub.id, p.sub) && eval(p.rule) && keyMatch(r.obj.path, p.obj)",
	"ipMatch(r.ip, p.ip) && r.act == p.act || r.sub.dep == p.sub",
	"r.act == p.act && ipMatch(r.ip, p.ip)",
	"(r.act == p.act || p.act == '*') && g(r.sub.id, p.sub) && keyMatch3(r.obj.path, p.obj)",
	"(r.sub.dep == p.sub || r.obj.path == p.obj) && r.act == p.act && g(r.sub.id, p.sub)",
	"r.sub.dep != p.sub && r.obj.path == p.obj && r.act == p.act",
	"r.sub.level >= 2 && r.act == p.act",
	"r.sub.id == r.obj.owner || g(r.sub.id, p.sub) && r.act == p.act",
	"r.act in ('GET', 'PUT') && r.sub.id in r.obj.readers && keyMatch2(r.obj.path, p.obj)",
	"!(r.sub.dep == p.sub) && r.act == p.act",
}

// TestIndexAgainstScan holds the index to the plain loop over all rules, also
// for requests with values that are missing or of the wrong type, where stock
// Casbin fails as a whole.
func TestIndexAgainstScan(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	details := map[authz.Detail]int{}
	for round := range 260 {
		model := "[request_definition]\nr = sub, obj, act, ip\n[policy_definition]\np = sub, obj, act, ip, rule, eft\n[role_definition]\ng = _, _\n[policy_effect]\ne = " +
			someEffects[round%4] + "\n[matchers]\nm = " + objectMatchers[round%len(objectMatchers)] + "\n"
		var b strings.Builder
		for range 1 + rng.IntN(120) {
			fmt.Fprintf(&b, "p, %s, %s, %s, %s, %q, %s\n", pick(rng, append(roles, subjects...)), pick(rng, []string{"/a/:id", "/a/*", "/a/1", "/b/{id}", "/b", "/a/:id/c", "/v1.0"}), pick(rng, acts),
				pick(rng, []string{"10.0.0.0/8", "10.0.0.1", "::1"}), pick(rng, []string{"r.sub.level > 1", "true", "r.obj.path == p.obj", "r.sub.dep == 'x'", "r.sub.none == 'x'"}), pick(rng, []string{"allow", "allow", "deny"}))
		}
		for range rng.IntN(8) {
			fmt.Fprintf(&b, "g, %s, %s\n", pick(rng, append(roles, subjects...)), pick(rng, roles))
		}
		s := load(t, model, b.String())
		for range 60 {
			id := pick(rng, subjects)
			q := &policy.Query{Subject: id, Args: []any{
				some(rng, map[string]any{"id": id, "dep": pick(rng, append(roles, "x")), "level": float64(rng.IntN(4))}),
				some(rng, map[string]any{"path": pick(rng, []string{"/a/1", "/a/", "/b/2", "/b", "/a/1/c", "/v1/0"}), "level": float64(rng.IntN(4)), "owner": pick(rng, subjects), "readers": []any{"user:a", id}}),
				pick(rng, acts), pick(rng, []string{"10.0.0.1", "10.2.3.4", "::1", "", "x"}),
			}}
			if rng.IntN(3) == 0 {
				q.Roles = []string{"r1", "r4"}
			}
			gotRule, got := s.Decide(q)
			wantRule, want := s.DecideByScan(q)
			if gotRule != wantRule || authz.DetailOf(got) != authz.DetailOf(want) || (got == nil) != (want == nil) {
				t.Fatalf("index: %v %v\nscan: %v %v\nrequest: %#v\n%s\n%s", gotRule, got, wantRule, want, q, model, b.String())
			}
			details[authz.DetailOf(got)]++
		}
	}
	for _, d := range []authz.Detail{"", authz.NoRuleMatched, authz.DeniedByRule, authz.RuleUnevaluable} {
		if details[d] < 200 {
			t.Errorf("detail %q came up %d times: the worlds are too tame", d, details[d])
		}
	}
}

// some drops or spoils a member now and then.
func some(rng *rand.Rand, m map[string]any) any {
	switch rng.IntN(12) {
	case 0:
		return "text"
	case 1:
		delete(m, "level")
	case 2:
		delete(m, "dep")
		delete(m, "path")
	case 3:
		m["id"], m["path"], m["level"] = 1.0, true, "2"
	}
	return m
}

// TestPathOperators holds our operators to Casbin's, and the labels of the
// index to the operators: what matches is always found.
func TestPathOperators(t *testing.T) {
	stockOps := map[string]func(string, string) bool{
		"keyMatch": util.KeyMatch, "keyMatch2": util.KeyMatch2, "keyMatch3": util.KeyMatch3, "keyMatch4": util.KeyMatch4, "keyMatch5": util.KeyMatch5,
		"globMatch": func(v, p string) bool { ok, _ := util.GlobMatch(v, p); return ok },
	}
	rng := rand.New(rand.NewPCG(9, 9))
	pieces := []string{"/", "/", "a", "b", ":id", "{x}", "*", ".", "?", "(", ")", "|", "+", "{2}", "é", "[ab]", `\`, "^", "$", "{", "}", ":", "**", "\xff", "x"}
	values := []string{"/", "/", "a", "b", "1", "x", ".", "é", "\n", "\xff", "?", "{x}", ":", "\ufffd", "*"}
	text := func(from []string, n int) string {
		var b strings.Builder
		for range rng.IntN(n) {
			b.WriteString(pick(rng, from))
		}
		return b.String()
	}
	matched := 0
	for range 20_000 {
		pattern := text(pieces, 8)
		if rng.IntN(2) == 0 {
			pattern = pick(rng, objects)
		}
		value := text(values, 8)
		switch rng.IntN(3) {
		case 0:
			value = pick(rng, paths)
		case 1:
			value = strings.NewReplacer(":id", "1", "{x}", "b", "*", "a/b", "?", "").Replace(pattern)
		}
		for op, want := range stockOps {
			got, valid := policy.Match(op, value, pattern)
			if !valid {
				continue
			}
			if got != want(value, pattern) {
				t.Fatalf("%s(%q, %q) is %v, Casbin's is %v", op, value, pattern, got, !got)
			}
			if !got {
				continue
			}
			matched++
			segments := policy.SegmentLabels(nil, op, value)
			for depth := 0; ; depth++ {
				l := policy.PatternLabel(op, pattern, depth)
				if l == index.Rest || l == index.End && depth == len(segments) {
					break
				}
				if depth == len(segments) || l != index.Param && l != segments[depth] {
					t.Fatalf("%s(%q, %q) matches and the index does not find it at depth %d", op, value, pattern, depth)
				}
			}
		}
	}
	if matched < 2000 {
		t.Errorf("only %d matches", matched)
	}
}
