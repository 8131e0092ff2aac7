package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lay writes files into a folder and returns its path.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func orders(t *testing.T, test string) string {
	t.Helper()
	return lay(t, map[string]string{
		"model.conf": `[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act
`,
		"policy.csv": "p, role:clerk, /orders, GET\np, role:manager, /orders/:order, DELETE\n",
		"sallyport.yaml": `issuers: [{name: corp, issuer: "https://id.example.com", audiences: api}]
policies:
  orders: {model: model.conf, rules: policy.csv, tests: orders.test.yaml}
routes:
  - {name: orders, match: [/orders, "/orders/{order}"], policy: orders, onAllow: {requestHeaders: {set: {x-user: subject.sub}, remove: [authorization]}, responseHeaders: {set: {x-policy: decision.policy}}, query: {set: {by: subject.sub}, remove: [debug]}}}
`,
		"orders.test.yaml": "subjects: {bob: {sub: bob, roles: clerk}}\ntests:\n  - {request: GET https://a/orders, subject: bob, expect: allow}\n" + test,
		"bob.json":         `{"iss": "https://id.example.com", "sub": "bob", "roles": ["clerk"]}`,
		"broken.json":      `{"iss"`,
		"audit.jsonl":      `{"time":"2026-11-25T17:36:27.242366982Z","decision_id":"63284b6a2bb31fea829b4cf29e792f9e","decision":"deny","reason":"not_permitted","detail":"no_rule_matched","route":"orders","policy":"","revision":"","rule":"","subject":"user:corp/bob","method":"DELETE","host":"a","path":"/orders/7","source":{"address":"192.0.2.1","principal":""},"trace_id":"","duration":0.001}` + "\n",
	})
}

// The commands of policies keep to the exit statuses and the streams of the
// contract.
func TestPolicyCommands(t *testing.T) {
	good := orders(t, "")
	failing := orders(t, "  - {request: GET https://a/orders, subject: bob, expect: deny}\n")
	broken := orders(t, "  - {request: GET https://a/orders, subject: bop, expect: deny}\n")
	for _, c := range []struct {
		dir, args      string
		status         int
		stdout, stderr string // each must contain this; empty: must be empty
	}{
		{good, "check -c sallyport.yaml", 0, ": ok (", ""},
		{failing, "check -c sallyport.yaml", 1, "", "orders.test.yaml:4: test failed: bob GET https://a/orders: want deny, got allow by policy.csv:1"},
		{broken, "check -c sallyport.yaml", 2, "", `orders.test.yaml:4: tests[1].subject: there is no subject "bop" (did you mean bob)`},
		{failing, "serve -c sallyport.yaml", 2, "", "orders.test.yaml:4: test failed: "},
		{good, "test -c sallyport.yaml", 0, "1 passed, 0 failed\nrules that no test reached:\n  orders: policy.csv:2: p, role:manager, /orders/:order, DELETE\n", ""},
		{good, "test -c sallyport.yaml orders.test.yaml", 0, "1 passed, 0 failed\n", ""},
		{failing, "test -c sallyport.yaml", 1, "FAIL orders.test.yaml:4: bob GET https://a/orders: want deny", ""},
		{broken, "test -c sallyport.yaml", 2, "", "orders.test.yaml:4: tests[1].subject: "},
		{good, "test -c sallyport.yaml gone.yaml", 2, "", "gone.yaml: cannot be read: no such file or directory"},
		{good, "test -c sallyport.yaml -o xml", 2, "", `-o "xml" is not text, json or junit`},
		{good, "test", 2, "", "test needs a configuration: -c FILE"},
		{good, "explain GET https://a/", 2, "", "explain needs a configuration: -c FILE"},
		{good, "explain -c sallyport.yaml --claims bob.json GET https://a/orders", 0, "rule      policy.csv:1: p, role:clerk, /orders, GET\ndecision  allow\n", ""},
		{good, "explain -c sallyport.yaml --claims bob.json DELETE https://a/orders/7", 1, "decision  deny: not_permitted (no_rule_matched)\nnearest   policy.csv:2: p, role:manager, /orders/:order, DELETE\n", ""},
		{good, "explain -c sallyport.yaml GET https://a/orders", 1, "decision  deny: no_credential\n", ""},
		{good, "explain -c sallyport.yaml --header nocolon GET https://a/orders", 2, "", "header 1 is not NAME:VALUE"},
		{good, "explain -c sallyport.yaml --claims broken.json GET https://a/orders", 2, "", "token: "},
		{good, "explain -c sallyport.yaml --claims gone.json GET https://a/orders", 2, "", "--claims: open gone.json: no such file or directory"},
		{good, "explain -c sallyport.yaml --claims bob.json --token-file bob.json GET https://a/orders", 2, "", "none of the others can be"},
		{good, "explain -c sallyport.yaml GET /orders", 2, "", `"/orders" is not an absolute URL`},
		{good, "explain -c sallyport.yaml GET", 2, "", "explain takes METHOD URL"},
		{good, "explain -c sallyport.yaml --decision 63284b6a2bb31fea829b4cf29e792f9e --audit audit.jsonl", 1, "decision  deny: not_permitted (no_rule_matched)\nask again sallyport explain -c sallyport.yaml --claims CLAIMS.json -- DELETE https://a/orders/7\n", ""},
		{good, "explain -c sallyport.yaml --decision 00000000000000000000000000000000 --audit audit.jsonl", 2, "", "no record of this decision"},
		{good, "explain -c sallyport.yaml --decision 63284b6a2bb31fea829b4cf29e792f9e", 2, "", "missing [audit]"},
		{good, "explain -c sallyport.yaml --decision 63284b6a2bb31fea829b4cf29e792f9e --audit audit.jsonl GET https://a/", 2, "", "is one too many"},
		{broken, "explain -c sallyport.yaml GET https://a/orders", 2, "", "orders.test.yaml:4: tests[1].subject: "},
	} {
		t.Chdir(c.dir)
		status, stdout, stderr := execute(t.Context(), strings.Fields(c.args)...)
		if status != c.status {
			t.Errorf("%s: exit status %d, want %d; stderr %s", c.args, status, c.status, stderr)
		}
		for stream, got := range map[string][2]string{"stdout": {stdout, c.stdout}, "stderr": {stderr, c.stderr}} {
			if got[1] == "" && got[0] != "" || !strings.Contains(got[0], got[1]) {
				t.Errorf("%s: %s is %.400q, want %q in it", c.args, stream, got[0], got[1])
			}
		}
	}
}

// An explanation as people read it, whole.
func TestExplainText(t *testing.T) {
	t.Chdir(orders(t, ""))
	_, got, stderr := execute(t.Context(), "explain", "-c", "sallyport.yaml", "--claims", "bob.json", "GET", "https://a/orders?debug=1&x=2")
	want := `request   GET a/orders
route     orders, policy orders, revision REVISION
subject   user:corp/bob
          roles: clerk
enforce   sub: subject.id = "user:corp/bob"
          obj: request.path = "/orders"
          act: request.method = "GET"
roles     role:clerk
rule      policy.csv:1: p, role:clerk, /orders, GET
decision  allow
answer    OK
          set x-user: bob
          remove authorization
          set query by=bob
          remove query debug
          to the caller x-policy: orders
`
	_, rest, _ := strings.Cut(got, "revision ")
	revision, _, _ := strings.Cut(rest, "\n")
	if want = strings.Replace(want, "REVISION", revision, 1); got != want || stderr != "" {
		t.Errorf("got\n%s\nwant\n%s\nstderr %s", got, want, stderr)
	}
}

// What machines read can be read by machines.
func TestPolicyCommandsForMachines(t *testing.T) {
	t.Chdir(orders(t, "  - {name: 'a <b> \"c\"', request: GET https://a/orders, subject: bob, expect: deny}\n"))
	_, stdout, _ := execute(t.Context(), "test", "-c", "sallyport.yaml", "-o", "junit")
	var suites struct {
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(stdout), &suites); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if cases := suites.Suites[0].Cases; suites.Failures != 1 || len(cases) != 2 || cases[0].Failure != nil ||
		cases[1].Name != `a <b> "c"` || !strings.HasPrefix(cases[1].Failure.Message, "want deny, got allow") {
		t.Errorf("got %s", stdout)
	}
	_, stdout, _ = execute(t.Context(), "test", "-c", "sallyport.yaml", "-o", "json")
	var report struct {
		Tests []struct {
			Name, File, Policy, Message string
			Line                        int
			Passed                      bool
		}
		Passed, Failed int
		Unreached      []struct{ Policy, Rule, Text string }
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if report.Passed != 1 || report.Failed != 1 || report.Tests[1].Line != 4 || report.Tests[1].Policy != "orders" ||
		len(report.Unreached) != 1 || report.Unreached[0].Rule != "policy.csv:2" {
		t.Errorf("got %s", stdout)
	}
	_, stdout, _ = execute(t.Context(), "explain", "-c", "sallyport.yaml", "-o", "json", "GET", "https://a/orders")
	var x map[string]any
	if err := json.Unmarshal([]byte(stdout), &x); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	for _, key := range []string{"decision", "reason", "detail", "route", "policy", "revision", "rule", "request", "response"} {
		if _, ok := x[key]; !ok {
			t.Errorf("%s is not in %s", key, stdout)
		}
	}
}
