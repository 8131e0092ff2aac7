package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/casbin/casbin/v2"
	"golang.org/x/tools/txtar"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

// comparisons is how many decisions one run compares with stock Casbin, in
// models made up at random. The seed is fixed: a failure repeats.
const comparisons = 200_000

// same compares one decision with stock Casbin's. It returns false where the
// two are known to differ:
//
//   - stock fails the whole request when one rule cannot be evaluated; here
//     the rule does not match, or refuses (contract, Casbin);
//   - stock names the first rule of the file when a matcher that reads no
//     rules allows; here no rule is named.
func same(t *testing.T, e *casbin.Enforcer, s *policy.Snapshot, q *policy.Query, model, rules string, context ...any) bool {
	t.Helper()
	ok, why, err := e.EnforceEx(append(slices.Clone(context), q.Args...)...)
	rule, denial := s.Decide(q)
	if err != nil {
		return false
	}
	got := ruleAt(rules, rule.Line)
	want := strings.Join(why, "|")
	if ok != (denial == nil) || got != want && (rule.Line != 0 || readsRules(model)) {
		t.Fatalf("stock says %v by %q, we say %v by %q\nrequest: %#v\nmodel:\n%s\nrules:\n%s", ok, want, denial, got, q, model, rules)
	}
	if denial != nil && authz.ReasonOf(denial) != authz.NotPermitted {
		t.Fatalf("refused for %v: %v", authz.ReasonOf(denial), denial)
	}
	return true
}

func readsRules(model string) bool {
	_, matchers, _ := strings.Cut(model, "[matchers]")
	return strings.Contains(matchers, "p.") || strings.Contains(matchers, "p2.")
}

// refused are the example models that do not load here, and why.
var refused = map[string]string{
	"temporal":               "conditional roles",
	"different_types":        "conditional roles",
	"keymatch_custom":        "unknown function",
	"object_conditions":      "= is no operator",
	"priority_indeterminate": "not allow or deny",
}

// chosen are the sections used for examples that have several.
var chosen = map[string][]policy.Sections{
	"multiple_definitions": {{}, {R: "r2", P: "p2", M: "m2"}},
	"priority_context":     {{}, {R: "r2", M: "m2"}},
}

func TestCasbinExamples(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/casbin.txtar")
	if err != nil {
		t.Fatal(err)
	}
	compared, examples := 0, 0
	for i := 0; i < len(archive.Files); i += 2 {
		name := strings.TrimSuffix(archive.Files[i].Name, ".conf")
		model, rules := string(archive.Files[i].Data), string(archive.Files[i+1].Data)
		if why := refused[name]; why != "" {
			s, fs := loadAll(model, rules)
			if s != nil || !slices.ContainsFunc(fs, func(f policy.Finding) bool { return strings.Contains(f.Message, why) }) {
				t.Errorf("%s: want a finding with %q, got %v", name, why, fs)
			}
			continue
		}
		examples++
		sets := chosen[name]
		if sets == nil {
			sets = []policy.Sections{{}}
		}
		for _, set := range sets {
			s := load(t, model, rules, policy.WithSections(set))
			e := stock(t, model, rules)
			var context []any
			if set != (policy.Sections{}) {
				or := func(s, d string) string {
					if s == "" {
						return d
					}
					return s
				}
				context = []any{casbin.EnforceContext{RType: or(set.R, "r"), PType: or(set.P, "p"), EType: "e", MType: or(set.M, "m")}}
			}
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			pool := words(rules)
			for range 300 {
				args := make([]any, len(s.Fields()))
				for j := range args {
					args[j] = value(rng, pool)
				}
				if same(t, e, s, &policy.Query{Args: args}, model, rules, context...) {
					compared++
				}
			}
		}
	}
	t.Logf("%d examples, %d decisions", examples, compared)
	if examples < 40 || compared < 8000 {
		t.Errorf("only %d examples and %d decisions were compared", examples, compared)
	}
}

// words returns what a request for these rules could hold.
func words(rules string) []string {
	out := []string{"", "root", "x", "alice", "data1", "/book/1", "GET", "10.0.0.1"}
	for line := range strings.Lines(rules) {
		for f := range strings.SplitSeq(strings.TrimSpace(line), ",") {
			f = strings.TrimSpace(f)
			out = append(out, f, strings.NewReplacer(":id", "7", ":resource", "age", "*", "a/b", "{id}", "3", "0/24", "9", "(", "", ")", "").Replace(f))
		}
	}
	return out
}

// value returns a text, or now and then an object or a number.
func value(rng *rand.Rand, pool []string) any {
	switch rng.IntN(8) {
	case 0:
		return map[string]any{"Owner": pick(rng, pool), "Age": float64(rng.IntN(100)), "Name": pick(rng, pool), "Role": "admin", "Type": pick(rng, []string{"doc", "video"})}
	case 1:
		return float64(rng.IntN(4))
	}
	return pick(rng, pool)
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// A shape is a kind of model to make up. Placeholders in the matcher are the
// fields of the definitions.
type shape struct {
	request, policy, roles, matcher string
}

var shapes = []shape{
	{"sub, obj, act", "sub, obj, act", "", "r.sub == p.sub && r.obj == p.obj && r.act == p.act"},
	{"sub, obj, act", "sub, obj, act", "", `r.sub == p.sub && r.obj == p.obj && r.act == p.act || r.sub == "root"`},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "r.act == p.act && g(r.sub, p.sub) && keyMatch2(r.obj, p.obj)"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && (r.act == p.act || p.act == '*')"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "g(r.sub, p.sub) && r.act == p.act && keyMatch3(r.obj, p.obj)"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "g(r.sub, p.sub) && r.act == p.act && keyMatch4(r.obj, p.obj)"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "r.act == p.act && keyMatch5(r.obj, p.obj) && g(r.sub, p.sub)"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "g(r.sub, p.sub) && regexMatch(r.obj, p.obj) && r.act == p.act"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "g(r.sub, p.sub) && globMatch(r.obj, p.obj) && r.act == p.act"},
	{"sub, dom, obj, act", "sub, dom, obj, act", "g = _, _, _", "g(r.sub, p.sub, r.dom) && r.dom == p.dom && keyMatch2(r.obj, p.obj) && r.act == p.act"},
	{"sub, dom, obj, act", "sub, dom, obj, act", "g = _, _, _", "g(r.sub, p.sub, p.dom) && r.dom == p.dom && r.act == p.act"},
	{"sub, dom, obj, act", "sub, dom, obj, act", "g = _, _, _", "g(r.sub, p.sub, r.dom) && keyMatch(r.dom, p.dom) && keyMatch2(r.obj, p.obj) && r.act == p.act"},
	{"sub, obj, act", "sub, obj, act", "g = _, _\ng2 = _, _", "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "g(r.sub, p.sub) && r.act == p.act && (keyMatch2(r.obj, p.obj) || r.obj in ('/x', '/y'))"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "(g(r.sub, p.sub) || r.act == 'GET') && r.obj == p.obj"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "!g(r.sub, p.sub) && r.act == p.act"},
	{"sub, obj, act", "rule, obj, act", "g = _, _", "r.act == p.act && eval(p.rule) && keyMatch2(r.obj, p.obj)"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "g(r.sub, p.sub) && r.act == p.act || r.obj == p.obj && r.act == 'PUT'"},
	{"sub, obj, act", "sub, obj, act", "g = _, _", "r.act != p.act && g(r.sub, p.sub) ? r.obj == p.obj : r.obj != p.obj"},
}

var someEffects = []string{
	"some(where (p.eft == allow))",
	"!some(where (p.eft == deny))",
	"some(where (p.eft == allow)) && !some(where (p.eft == deny))",
	"priority(p.eft) || deny",
}

var (
	subjects = []string{"user:a", "user:b", "user:c", "root", "anonymous"}
	roles    = []string{"role:r1", "role:r2", "role:r3", "role:r4", "role:r5"}
	domains  = []string{"d1", "d2", "*", "d3"}
	acts     = []string{"GET", "PUT", "*", "GETX"}
	objects  = []string{"/x", "/y", "/a/:id", "/a/*", "/a*", "/a/:id/b", "/v1.0/x", "/{p}/{p}", "/a/{id}", "{p}/{q}", "/a|/b", "/a/(b|c)", "", "/", "*/b", "/a/*/b", "/a/b:c", "/A.*", "^/a", "/a/?b", "/:a/:b", "/{a}-{b}", "/a/b+", "/é/:id", "x"}
	paths    = []string{"/x", "/y", "/a/1", "/a/1/b", "/a/", "/a", "/ab", "/v1.0/x", "/v1a0/x", "/a/a", "/b/c", "/a/b", "/a/b\n", "/a/\n", "", "/", "/zzz/b", "/a/x?y=/b", "/é/1", "/a/bb", "/a//b", "/a/\xff", "/1-2", "x", "/zx/b"}
	texts    = []string{"r.sub == 'user:a'", "r.obj == p.obj", "true", "r.act == 'GET' && g(r.sub, 'role:r1')", "keyMatch(r.obj, p.obj) || r.sub == 'root'", "r.sub in ('user:b', 'user:c')"}
)

// world is one random model with rules and the stock enforcer for them.
func world(t *testing.T, rng *rand.Rand) (model, rules string, sh shape) {
	sh = pick(rng, shapes)
	eft := pick(rng, someEffects)
	pdef := sh.policy
	withEft := rng.IntN(4) > 0 || eft == someEffects[1]
	if withEft {
		pdef += ", eft"
	}
	priority := rng.IntN(5) == 0
	if priority {
		pdef = "priority, " + pdef
	}
	model = "[request_definition]\nr = " + sh.request + "\n[policy_definition]\np = " + pdef
	if sh.roles != "" {
		model += "\n[role_definition]\n" + sh.roles
	}
	model += "\n[policy_effect]\ne = " + eft + "\n[matchers]\nm = " + sh.matcher + "\n"
	var b strings.Builder
	n := 1 + rng.IntN(8)
	if rng.IntN(8) == 0 {
		n = 40 // enough for the index to branch
	}
	for range n {
		b.WriteString("p")
		for f := range strings.SplitSeq(pdef, ", ") {
			b.WriteString(", ")
			switch f {
			case "sub":
				b.WriteString(pick(rng, append(roles, subjects...)))
			case "dom":
				b.WriteString(pick(rng, domains))
			case "obj":
				b.WriteString(pick(rng, objects))
			case "act":
				b.WriteString(pick(rng, acts))
			case "rule":
				b.WriteString(`"` + pick(rng, texts) + `"`)
			case "eft":
				b.WriteString(pick(rng, []string{"allow", "allow", "deny"}))
			case "priority":
				fmt.Fprint(&b, rng.IntN(4))
			}
		}
		b.WriteString("\n")
	}
	if sh.roles == "" {
		return model, b.String(), sh
	}
	for range rng.IntN(8) {
		fmt.Fprintf(&b, "g, %s, %s", pick(rng, append(roles, subjects...)), pick(rng, roles))
		if strings.Contains(sh.roles, "g = _, _, _") {
			b.WriteString(", " + pick(rng, domains))
		}
		b.WriteString("\n")
	}
	if strings.Contains(sh.roles, "g2") {
		for range rng.IntN(5) {
			fmt.Fprintf(&b, "g2, %s, %s\n", pick(rng, paths[:4]), pick(rng, objects))
		}
	}
	return model, b.String(), sh
}

func TestDifferential(t *testing.T) {
	const shards = 8
	counts := make([]int, shards)
	t.Run("shards", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				counts[shard] = differential(t, rand.New(rand.NewPCG(20, uint64(shard))), comparisons/shards)
			})
		}
	})
	total := 0
	for _, n := range counts {
		total += n
	}
	t.Logf("%d decisions compared", total)
	if total < comparisons {
		t.Errorf("only %d decisions were compared, want %d", total, comparisons)
	}
}

func differential(t *testing.T, rng *rand.Rand, want int) (compared int) {
	worlds, unloadable := 0, 0
	for compared < want+shardsSlack {
		model, rules, sh := world(t, rng)
		worlds++
		s, fs := loadAll(model, rules)
		if s == nil {
			unloadable++ // a pattern that the operator cannot compile
			if !slices.ContainsFunc(fs, func(f policy.Finding) bool { return strings.Contains(f.Message, "is no pattern") }) {
				t.Fatalf("does not load: %v\n%s\n%s", fs, model, rules)
			}
			continue
		}
		for range 4 {
			sub := pick(rng, subjects)
			q := &policy.Query{Subject: sub}
			withLinks := rules
			domain := pick(rng, domains)
			if strings.Contains(sh.matcher, "keyMatch(r.dom") && domain == "*" {
				domain = "d1" // a tenant is a name; stock takes the link's for a pattern
			}
			if sh.roles != "" && rng.IntN(2) == 0 {
				q.Tenant = domain
				for _, r := range roles[:1+rng.IntN(2)] {
					q.Roles = append(q.Roles, strings.TrimPrefix(r, "role:"))
					withLinks += "g, " + sub + ", " + r
					if strings.Contains(sh.roles, "g = _, _, _") {
						withLinks += ", " + domain
					}
					withLinks += "\n"
				}
			}
			e := stock(t, model, withLinks)
			for range 16 {
				q.Args = nil
				for f := range strings.SplitSeq(sh.request, ", ") {
					switch f {
					case "sub":
						q.Args = append(q.Args, sub)
					case "dom":
						q.Args = append(q.Args, pick(rng, domains))
					case "obj":
						q.Args = append(q.Args, pick(rng, paths))
					case "act":
						q.Args = append(q.Args, pick(rng, acts))
					}
				}
				if same(t, e, s, q, model, rules) {
					compared++
				}
			}
		}
	}
	if 2*unloadable > worlds {
		t.Errorf("%d of %d models did not load", unloadable, worlds)
	}
	return compared
}

// shardsSlack makes up for the rounding of comparisons per shard.
const shardsSlack = 1

// TestSubjectPriorityAgainstStock: rules by how deep their subject is in a
// tree of roles, also where the first link comes from the token.
func TestSubjectPriorityAgainstStock(t *testing.T) {
	model := strings.Replace(denyModel, "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "subjectPriority(p.eft) || deny", 1)
	rng := rand.New(rand.NewPCG(4, 4))
	compared, details := 0, map[authz.Detail]int{}
	for range 250 {
		var b strings.Builder
		for range 1 + rng.IntN(10) {
			fmt.Fprintf(&b, "p, %s, %s, %s, %s\n", pick(rng, append(roles, subjects[:3]...)), pick(rng, []string{"/x", "/a/:id", "/*"}), pick(rng, acts[:2]), pick(rng, []string{"allow", "deny"}))
		}
		for i, r := range roles { // a tree: each has one role, of those before it
			if i > 0 && rng.IntN(3) > 0 {
				fmt.Fprintf(&b, "g, %s, %s\n", r, roles[rng.IntN(i)])
			}
		}
		if rng.IntN(2) == 0 {
			fmt.Fprintf(&b, "g, user:b, %s\n", pick(rng, roles))
		}
		rules := b.String()
		q, links := &policy.Query{Subject: "user:a"}, rules
		if rng.IntN(2) == 0 {
			role := pick(rng, roles)
			q.Roles = []string{strings.TrimPrefix(role, "role:")}
			links += "g, user:a, " + role + "\n"
		}
		s, e := load(t, model, rules), stock(t, model, links)
		for range 20 {
			q.Args = []any{pick(rng, append(subjects[:3:3], "role:r1")), pick(rng, []string{"/x", "/a/1", "/y"}), pick(rng, acts[:2])}
			if same(t, e, s, q, model, links) {
				compared++
				_, err := s.Decide(q)
				details[authz.DetailOf(err)]++
			}
		}
	}
	if compared != 5000 || details[""] < 500 || details[authz.DeniedByRule] < 500 {
		t.Errorf("%d compared, %v", compared, details)
	}
}
