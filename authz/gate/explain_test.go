package gate_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/gate"
)

// Each step of a decision is told as far as the decision went.
func TestExplain(t *testing.T) {
	f := newFolder(t)
	path := f.write("sallyport.yaml", strings.Replace(tested, `, tests: "*.test.yaml"`, "", 1))
	const ada = `{"iss":"https://id.example.com","sub":"ada","realm_access":{"roles":["manager"]},"tid":"blue"}`
	for _, c := range []struct {
		what string
		q    gate.Question
		want []string // each stands in the JSON of the explanation
		not  []string
	}{
		{"an allow", gate.Question{Method: "POST", URL: "https://a/orders", Claims: []byte(ada)}, []string{
			`"decision":"allow","reason":"allowed","detail":"","route":"orders","policy":"api"`, `"rule":"policy.csv:2","rule_text":"p, role:manager, /orders, POST"`,
			`{"field":"sub","expression":"subject.id","value":"user:corp/ada"}`, `{"field":"act","expression":"request.method","value":"POST"}`,
			`"roles":["role:manager"]`, `"key":"x-user","value":"ada"`, `"key":"x-tenant","value":"blue"`, `"okResponse"`,
		}, []string{"near_misses"}},
		{"a near miss", gate.Question{Method: "GET", URL: "https://a/orders", Claims: []byte(ada)}, []string{
			`"decision":"deny","reason":"not_permitted","detail":"no_rule_matched"`, `"near_misses":[{"rule":"policy.csv:`, `does not have \"role:clerk\"`, `"code":"Forbidden"`,
		}, nil},
		{"nobody", gate.Question{Method: "GET", URL: "https://a/orders"}, []string{`"reason":"no_credential"`, `"route":"orders"`, `Bearer realm=`}, []string{"arguments", "subject\":{"}},
		{"no route", gate.Question{Method: "GET", URL: "http://a/none?q=1"}, []string{`"reason":"no_route"`, `"route":""`, `"host":"a","path":"/none","query":"q=1"`, `"scheme":"http"`}, nil},
		{"a malformed path", gate.Question{Method: "GET", URL: "https://a//orders"}, []string{`"reason":"malformed_request"`, `"path":"//orders"`}, nil},
		{"another issuer's", gate.Question{Method: "GET", URL: "https://a/orders", Claims: []byte(strings.Replace(ada, "id.example", "partner.example", 1))},
			[]string{`"reason":"invalid_token","detail":"unknown_issuer"`, "route does not take the issuer's tokens"}, nil},
		{"another audience", gate.Question{Method: "GET", URL: "https://a/orders", Claims: []byte(strings.Replace(ada, `"sub"`, `"aud":"elsewhere","sub"`, 1))},
			[]string{`"reason":"invalid_token","detail":"wrong_audience"`}, nil},
		{"a strange issuer", gate.Question{Method: "GET", URL: "https://a/orders", Claims: []byte(`{"iss":"https://evil","sub":"ada"}`)},
			[]string{`"reason":"invalid_token","detail":"unknown_issuer"`}, []string{"evil"}},
		{"a name that no token may have", gate.Question{Method: "GET", URL: "https://a/orders", Claims: []byte(`{"iss":"https://id.example.com","sub":"a\u0000b"}`)},
			[]string{`"reason":"invalid_token","detail":"bad_claim"`, "control character"}, nil},
		{"a token in the query", gate.Question{Method: "GET", URL: "https://a/orders?x=1&access_token=c2VjcmV0", Claims: []byte(ada)},
			[]string{`"reason":"malformed_credential"`, `"query":"x=1\u0026access_token=***"`}, []string{"c2VjcmV0"}},
		{"a missing attribute", gate.Question{Method: "GET", URL: "https://a/source", Claims: []byte(ada)}, []string{`"reason":"attribute_missing"`, "enforce.act: "}, nil},
		{"secrets", gate.Question{Method: "GET", URL: "https://a/healthz", Headers: []string{"Authorization: Basic c2VjcmV0", "cookie:a=c2VjcmV0", "x-a: b"}},
			[]string{`"authorization":["***"]`, `"cookie":["***"]`, `"x-a":["b"]`, `"decision":"allow"`, `"rule":""`}, []string{"c2VjcmV0"}},
	} {
		x, err := gate.Explain(t.Context(), path, c.q)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		text, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: %s is not in\n%s", c.what, want, text)
			}
		}
		for _, not := range c.not {
			if strings.Contains(string(text), not) {
				t.Errorf("%s: %s is in\n%s", c.what, not, text)
			}
		}
	}
}

func TestExplainRefusesQuestions(t *testing.T) {
	f := newFolder(t)
	path := f.write("sallyport.yaml", strings.Replace(tested, `, tests: "*.test.yaml"`, "", 1))
	for _, c := range []struct {
		q    gate.Question
		want string
	}{
		{gate.Question{Method: "GET", URL: "/orders"}, `"/orders" is not an absolute URL (https://HOST/PATH)`},
		{gate.Question{Method: "GET", URL: "https://a/orders#x"}, "has a fragment, which no client sends"},
		{gate.Question{Method: "GET", URL: "https://a/", Claims: []byte(`{"iss":"https://id.example.com","sub":"a","sub":"b"}`)}, "token: "},
		{gate.Question{Method: "GET", URL: "https://a/", Claims: []byte(`[]`)}, "token: "},
	} {
		if x, err := gate.Explain(t.Context(), path, c.q); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, %v, want %s", c.q, x, err, c.want)
		}
	}
}

// A token is verified with the keys of its issuer, which are fetched.
func TestExplainVerifiesTokens(t *testing.T) {
	s := newServer(t, newIssuer(t))
	path := s.dir + "/sallyport.yaml"
	explain := func(token string) *gate.Explanation {
		t.Helper()
		x, err := gate.Explain(t.Context(), path, gate.Question{Method: "GET", URL: "https://a/orders", Token: token})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	bob := s.token("bob", "clerk")
	if x := explain(bob); x.Decision != "allow" || x.Subject.ID != "user:corp/bob" || x.Rule != "policy.csv:1" {
		t.Errorf("got %+v", x)
	}
	if x := explain(bob[:len(bob)-8] + "AAAAAAAA"); x.Reason != authz.InvalidToken || x.Detail != authz.BadSignature {
		t.Errorf("a forged token: %s, %s (%s)", x.Reason, x.Detail, x.Cause)
	}
	if x := explain(s.issuer.Mint(map[string]any{"sub": "bob", "exp": time.Now().Add(-time.Hour).Unix()})); x.Detail != authz.Expired {
		t.Errorf("an expired token: %s, %s", x.Reason, x.Detail)
	}
}

// Routes of one policy may use different definitions of its model, and a
// change of how names are matched takes effect though no file of the policy
// changed.
func TestSectionsAndMatching(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.write("model.conf", model+`
[request_definition]
r2 = sub, ip
[policy_definition]
p2 = sub, ip
[policy_effect]
e2 = some(where (p.eft == allow))
[matchers]
m2 = g(r2.sub, p2.sub) && r2.ip == p2.ip
`)
	s.write("policy.csv", "p, role:clerk, /orders, GET\np2, role:clerk, office\ng, user:corp/:anyone, role:clerk\n")
	config := strings.ReplaceAll(config, "ISSUER", s.issuer.URL()) +
		"  - {match: /office, policy: api, sections: {r: r2, p: p2, e: e2, m: m2}, enforce: {ip: '\"office\"'}}\n"
	s.write("sallyport.yaml", config)
	s.start()
	s.awaitReady()
	ada := s.token("ada")
	get := func(path string) string { got, _ := s.ask("GET", path, ada); return got }
	if a, b := get("/orders"), get("/office"); a != "not_permitted" || b != "not_permitted" {
		t.Fatalf("without matching: %s, %s", a, b)
	}
	s.write("sallyport.yaml", strings.Replace(config, "rules: policy.csv", "rules: policy.csv, matching: {g: {role: keyMatch2}}", 1))
	s.eventually("matching takes effect", func() bool { return get("/orders") == "allowed" && get("/office") == "allowed" })
	_, resp := s.ask("GET", "/office", ada)
	_, other := s.ask("GET", "/orders", ada)
	if a, b := resp.DynamicMetadata.Fields["revision"].GetStringValue(), other.DynamicMetadata.Fields["revision"].GetStringValue(); a != b || a == "" {
		t.Errorf("one policy has two revisions: %q, %q", a, b)
	}
	s.write("sallyport.yaml", strings.Replace(config, "m: m2", "m: m3", 1))
	s.eventually("a definition that is not there is refused", func() bool {
		line := s.log.find("reload refused, the last good generation stays")
		return line != nil && strings.Contains(line["problem"].(string), "the model does not define m3")
	})
}
