package gate_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz/audit"
	"github.com/sallyport-authz/sallyport/authz/gate"
)

// What was recorded is told again, with what is still known of it.
func TestRecall(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.write("sallyport.yaml", audited(s, "{file: audit.jsonl, mode: required}", ""))
	s.start()
	s.awaitReady()
	ask := func(method, token string) string {
		_, resp := s.ask(method, "/orders", token)
		return resp.DynamicMetadata.Fields["decision_id"].GetStringValue()
	}
	allowed, denied, nobody := ask("GET", s.token("bob", "clerk")), ask("POST", s.token("bob", "clerk")), ask("GET", "")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	path, file := filepath.Join(s.dir, "sallyport.yaml"), filepath.Join(s.dir, "audit.jsonl")
	recall := func(id string, want ...string) {
		t.Helper()
		x, err := gate.Recall(path, file, id)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s is not in\n%s", w, text)
			}
		}
	}
	again := `"ask_again":"sallyport explain -c ` + path
	recall(allowed, `"decision":"allow"`, `"rule":"policy.csv:1","rule_text":"p, role:clerk, /orders, GET"`, `"id":"user:corp/bob"`, `"since":""`,
		again+` --claims CLAIMS.json -- GET https://api.example.com/orders"`, `"id":"`+allowed+`"`)
	recall(denied, `"decision":"deny","reason":"not_permitted","detail":"no_rule_matched","route":"orders","policy":"api"`, `"rule":""`)
	recall(nobody, `"reason":"no_credential"`, again+` -- GET https://api.example.com/orders"`)

	s.write("policy.csv", "# moved\n"+rules)
	recall(allowed, `"since":"policy api has changed since: it was revision `, `"rule":"policy.csv:1"`)
	s.write("sallyport.yaml", strings.ReplaceAll(strings.ReplaceAll(audited(s, "{file: none}", ""), "api: {model", "other: {model"), "policy: api", "policy: other"))
	recall(allowed, `"since":"policy api is no longer there"`)

	if _, err := gate.Recall(path, file, strings.Repeat("0", 32)); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("an unknown id: %v", err)
	}
	if _, err := gate.Recall(path, file+".gone", allowed); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
