package policy_test

import (
	"testing"

	"github.com/sallyport-authz/sallyport/policy"
)

// load loads a model and rules, and fails the test if they do not load.
func load(t testing.TB, model, rules string, opts ...policy.Option) *policy.Snapshot {
	t.Helper()
	s, fs := loadAll(model, rules, opts...)
	if s == nil {
		t.Fatalf("the policy does not load: %v\nmodel:\n%s\nrules:\n%s", fs, model, rules)
	}
	return s
}

func loadAll(model, rules string, opts ...policy.Option) (*policy.Snapshot, []policy.Finding) {
	return policy.Compile(&policy.Text{ModelFile: "model.conf", Model: model, RulesFile: "policy.csv", Rules: rules}, opts...)
}
