package policy_test

import (
	"encoding/csv"
	"errors"
	"strings"
	"testing"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"
	"github.com/casbin/casbin/v2/persist"
)

// text is an adapter that reads rules as Casbin's file adapter does.
type text string

func (a text) LoadPolicy(m model.Model) error {
	for line := range strings.Lines(string(a)) {
		if err := persist.LoadPolicyLine(strings.TrimSpace(line), m); err != nil {
			return err
		}
	}
	return nil
}

var errReadOnly = errors.New("read only")

func (text) SavePolicy(model.Model) error                              { return errReadOnly }
func (text) AddPolicy(string, string, []string) error                  { return errReadOnly }
func (text) RemovePolicy(string, string, []string) error               { return errReadOnly }
func (text) RemoveFilteredPolicy(string, string, int, ...string) error { return errReadOnly }

// stock returns a stock enforcer for the same texts.
func stock(t testing.TB, modelText, rules string) *casbin.Enforcer {
	t.Helper()
	m, err := model.NewModelFromString(modelText)
	if err != nil {
		t.Fatalf("stock model: %v\n%s", err, modelText)
	}
	e, err := casbin.NewEnforcer(m, text(rules))
	if err != nil {
		t.Fatalf("stock rules: %v\n%s", err, rules)
	}
	return e
}

// ruleAt returns the fields of the rule in a line of a rules file, joined.
func ruleAt(rules string, line int) string {
	if line == 0 {
		return ""
	}
	r := csv.NewReader(strings.NewReader(strings.TrimSpace(strings.Split(rules, "\n")[line-1])))
	r.TrimLeadingSpace = true
	fields, err := r.Read()
	if err != nil {
		return err.Error()
	}
	return strings.Join(fields[1:], "|")
}
