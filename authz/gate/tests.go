package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/config"
)

// maxUnreached bounds how many rules a report lists that no test reached.
const maxUnreached = 1000

// A TestResult is what became of one policy test.
type TestResult struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Name    string `json:"name"`
	Policy  string `json:"policy"`
	Passed  bool   `json:"passed"`
	Message string `json:"message,omitempty"` // why it failed
}

// An Unreached rule is one that decided no test.
type Unreached struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule"` // FILE:LINE
	Text   string `json:"text"`
}

// A TestReport is what became of all policy tests.
type TestReport struct {
	Tests     []TestResult `json:"tests"`
	Passed    int          `json:"passed"`
	Failed    int          `json:"failed"`
	Unreached []Unreached  `json:"unreached"`            // of all policies, or of those that given files reach; the first thousand
	More      int          `json:"more_unreached_rules"` // beyond those
}

// Test runs the policy tests of a configuration, without network: those that
// its policies name, or those of files. Its error is of type
// [config.Problems], where something does not load.
func Test(ctx context.Context, path string, files []string) (*TestReport, error) {
	b := load(path, parts{ring: newOfflineKeyring(), recorder: discard{}})
	if b.gen == nil {
		return nil, b.problems
	}
	cases := b.gen.tests
	if len(files) > 0 {
		cases = nil
		for _, file := range files {
			cases = append(cases, b.cases(file, "")...)
		}
	}
	if len(b.problems) > 0 {
		b.problems.Sort()
		return nil, b.problems
	}
	report, reached := b.gen.test(ctx, cases)
	for i := range b.cfg.Policies {
		name := b.cfg.Policies[i].Name
		if rules, tested := reached[name]; tested || len(files) == 0 {
			b.gen.policies[name].unreached(name, rules, report)
		}
	}
	return report, nil
}

// failures returns what is wrong with a generation by its own tests.
func (g *generation) failures(ctx context.Context) config.Problems {
	var failed config.Problems
	report, _ := g.test(ctx, g.tests)
	for _, r := range report.Tests {
		if !r.Passed {
			failed = append(failed, config.Problem{File: r.File, Line: r.Line, Message: "test failed: " + r.Name + ": " + r.Message})
		}
	}
	return failed
}

// test runs tests. It returns the rules that decided any, for each policy that
// was tested.
func (g *generation) test(ctx context.Context, cases []testCase) (report *TestReport, reached map[string]map[authz.Rule]bool) {
	report = &TestReport{Tests: []TestResult{}, Unreached: []Unreached{}}
	reached = map[string]map[authz.Rule]bool{}
	for _, c := range cases {
		d, message := g.try(ctx, &c)
		policy := c.policy
		if policy == "" {
			policy = d.Policy()
		}
		if policy != "" && reached[policy] == nil {
			reached[policy] = map[authz.Rule]bool{}
		}
		if d.Policy() != "" && d.Policy() == policy {
			reached[policy][d.Rule()] = true
		}
		report.Tests = append(report.Tests, TestResult{
			File: c.file, Line: c.line, Name: c.name, Policy: policy, Passed: message == "", Message: message,
		})
		if message == "" {
			report.Passed++
		} else {
			report.Failed++
		}
	}
	return report, reached
}

// unreached lists the rules that no test reached.
func (p *policyOf) unreached(name string, reached map[authz.Rule]bool, report *TestReport) {
	for rule, text := range p.rules() {
		switch {
		case reached[rule]:
		case len(report.Unreached) >= maxUnreached:
			report.More++
		default:
			report.Unreached = append(report.Unreached, Unreached{name, rule.String(), text})
		}
	}
}

// try runs one test and says why it failed, or nothing.
func (g *generation) try(ctx context.Context, c *testCase) (authz.Decision, string) {
	r := *c.request
	d := g.rehearsal.Decide(as(ctx, c.who), &r)
	got := describe(&d)
	switch {
	case c.policy != "" && d.Policy() != "" && d.Policy() != c.policy:
		return d, fmt.Sprintf("the request lands on route %q, which is of policy %q, not of %q", d.Route(), d.Policy(), c.policy)
	case c.allow && !d.Allowed():
		return d, "want allow, got " + got + g.nearest(&r, &d)
	case !c.allow && d.Allowed():
		return d, "want deny, got " + got
	case c.reason != "" && d.Reason() != c.reason:
		return d, fmt.Sprintf("want reason %s, got %s", c.reason, got)
	}
	if d.Allowed() {
		return d, missed(c.upstream, upstream(&r, d.Answer()))
	}
	return d, ""
}

// describe says what was decided, and by which rule.
func describe(d *authz.Decision) string {
	s := "allow"
	if !d.Allowed() {
		s = "deny: " + string(d.Reason())
		if d.Detail() != "" {
			s += " (" + string(d.Detail()) + ")"
		}
	}
	if rule := d.Rule().String(); rule != "" {
		s += " by " + rule
	}
	if d.Route() != "" {
		s += fmt.Sprintf(" on route %q", d.Route())
	}
	return s
}

// nearest names the rule that came nearest to allowing, if no rule decided.
func (g *generation) nearest(r *authz.Request, d *authz.Decision) string {
	enf, q := g.question(r, d)
	if enf == nil {
		return ""
	}
	misses := enf.policy.Explain(&q).Misses
	if len(misses) == 0 {
		return ""
	}
	m := misses[0]
	return fmt.Sprintf("; nearest %s: %s", m.Rule, strings.Join(m.Failed, ", "))
}

// upstream returns the headers that the upstream gets. Envoy sets, then
// appends, then removes.
func upstream(r *authz.Request, a *authz.Answer) map[string][]string {
	got := map[string][]string{}
	for _, h := range r.Headers {
		got[h.Name] = append(got[h.Name], h.Value)
	}
	for _, h := range a.Set {
		got[h.Name] = []string{h.Value}
	}
	for _, h := range a.Append {
		got[h.Name] = append(got[h.Name], h.Value)
	}
	for _, name := range a.Remove {
		delete(got, name)
	}
	return got
}

// missed says which header the upstream does not get as it should.
func missed(want []config.Value, got map[string][]string) string {
	for _, w := range want {
		values := make([]string, len(w.Words))
		for i, text := range w.Words {
			values[i] = text.Value
		}
		if have := got[strings.ToLower(w.Name)]; !slices.Equal(values, have) {
			return fmt.Sprintf("want upstream %s: %s, got %s", w.Name, list(values), list(have))
		}
	}
	return ""
}

func list(values []string) string {
	if len(values) == 0 {
		return "none"
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = fmt.Sprintf("%q", clip(v))
	}
	return strings.Join(quoted, ", ")
}
