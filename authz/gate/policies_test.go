package gate_test

import (
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz/gate"
)

// What the configuration asks of a policy that it does not have is said where
// it is asked, and every missing file at once.
func TestPoliciesAsConfigured(t *testing.T) {
	f := newFolder(t)
	for _, c := range []struct{ policies, want string }{
		{"policies: {api: {model: gone.conf, rules: gone.csv}}\nroutes: [{match: /, token: none, policy: api}]\n",
			"s.yaml:1: policies.api.model: gone.conf: no such file or directory\ns.yaml:1: policies.api.rules: gone.csv: no such file or directory"},
		{"policies:\n  api: {model: model.conf, rules: policy.csv, matching: {g3: {role: keyMatch}}}\nroutes: [{match: /, token: none, policy: api}]\n",
			`s.yaml:2: policies.api.matching: matching is configured for "g3", which is no role definition of the model`},
		{"policies:\n  api: {model: model.conf, rules: policy.csv, matching: {g: {domain: keyMatch}}}\nroutes: [{match: /, token: none, policy: api}]\n",
			"s.yaml:2: policies.api.matching: g has no domains to match"},
		{"policies: {api: {model: model.conf, rules: policy.csv}}\nroutes:\n  - {match: /, token: none, policy: api, sections: {m: m2}}\n",
			"s.yaml:3: routes[0].sections: the model does not define m2"},
		{"policies: {api: {model: model.conf, rules: policy.csv}}\nroutes: [{match: /, allow: true}]\nissuers:\n  - {issuer: 'https://a', audiences: a, ca: gone.pem}\n",
			"s.yaml:4: issuers[0].ca: gone.pem: no such file or directory"},
		{"routes: [{match: /, allow: true}]\nissuers: [{issuer: 'https://a', audiences: a}]\nrevocations: {file: gone.yaml}\n",
			"s.yaml:3: revocations.file: gone.yaml: no such file or directory"},
	} {
		got := strings.ReplaceAll(problems(t, f.write("s.yaml", c.policies)), f.dir+"/", "")
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.policies, got, c.want)
		}
	}
}

// A model whose matcher reads no rule needs none.
func TestPolicyWithoutRules(t *testing.T) {
	f := newFolder(t)
	f.write("owner.conf", ownerModel)
	path := f.write("s.yaml", "policies: {own: {model: owner.conf}}\nroutes: [{match: '/a/{account}', token: none, policy: own, enforce: {sub: subject, obj: request}}]\n")
	if _, err := gate.Check(path); err != nil {
		t.Error(err)
	}
}
