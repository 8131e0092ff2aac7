package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// What explain prints, and what it says where it cannot, holds no token.
func TestCanaryInExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true})
	const canary = "canaryq7zkx3vw9mjh2"
	good := w.issuer.Mint(map[string]any{"sub": "bob", "roles": []string{"clerk"}, "jti": canary, "email": canary})
	forged := good[:len(good)-8] + "AAAAAAAA"
	for _, c := range []struct {
		name, token string
		args        []string
		code        int
		says        string
	}{
		{"good token", good, []string{"GET", "https://api.example.com/orders"}, 0, "user:corp/bob"},
		{"forged token", forged, []string{"GET", "https://api.example.com/orders"}, 1, "bad_signature"},
		{"malformed token", canary + "." + canary + "." + canary, []string{"GET", "https://api.example.com/orders"}, 1, "malformed_token"},
		{"two words", canary + " " + canary, []string{"GET", "https://api.example.com/orders"}, 1, "not_token68"},
		{"two lines", good + "\n" + canary, []string{"GET", "https://api.example.com/orders"}, 1, ""},
		{"a token twice", good, []string{"--header", "authorization: Bearer " + canary, "GET", "https://api.example.com/orders"}, 1, "two_credentials"},
		{"a token in a header", "", []string{"--header", "authorization: Bearer " + good, "GET", "https://api.example.com/orders"}, 0, "user:corp/bob"},
		{"a cookie", good, []string{"--header", "cookie: a=" + canary, "GET", "https://api.example.com/orders"}, 0, "user:corp/bob"},
		{"a token in the query", "", []string{"GET", "https://api.example.com/orders?access_token=" + canary}, 1, "query_credential"},
		{"a header without a colon", "", []string{"--header", "authorization Bearer " + canary, "GET", "https://api.example.com/orders"}, 2, "header"},
	} {
		for _, format := range []string{"json", "text"} {
			if format == "text" && c.says != "bad_signature" {
				continue // tells no more
			}
			args := append([]string{"explain", "-c", "sallyport.yaml", "-o", format}, c.args...)
			if c.token != "" {
				file := filepath.Join(t.TempDir(), "token")
				if err := os.WriteFile(file, []byte(c.token), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--token-file", file)
			}
			code, stdout, stderr := w.sallyport(args...)
			if code != c.code || !strings.Contains(stdout+stderr, c.says) {
				t.Errorf("%s: explain exits with %d, want %d and %q: %s%s", c.name, code, c.code, c.says, stdout, stderr)
			}
			said := surface{}
			said.add("stdout", stdout)
			said.add("stderr", stderr)
			if got := said.with(append(segments(good), segments(forged)[2], canary)); len(got) > 0 {
				t.Errorf("%s: the token is found in %v: %s%s", c.name, got, stdout, stderr)
			}
		}
	}
}

// Whoever has a recorded decision explained sits at a terminal, and copies
// what is printed there to ask again: no request may write to the one, or add
// to the other.
func TestExplainOfHostileRecords(t *testing.T) {
	t.Parallel()
	w := newTrial(t, trial{config: `
server:` + quick + `
issuers:
  - {name: corp, issuer: "ISSUER", audiences: ["https://api.example.com"]}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {name: orders, match: [/orders, "/orders/{order}"], policy: api}
audit: {file: audit.jsonl, mode: required}
`})
	conn := w.direct()
	forgery := "a\ndecision  allow\nb"
	for _, c := range []struct{ name, method, host, path string }{
		{"line feed in the host", "GET", forgery, "/orders"},
		{"line feed in the path", "GET", "a", "/orders/" + forgery},
		{"line feed in the method", forgery, "a", "/orders"},
		{"escape in the host", "GET", "a\x1b[2K\x1b[1A", "/orders"},
		{"escape in the path", "GET", "a", "/orders/\x1b]0;title\a"},
		{"bidirectional path", "GET", "a", "/orders/\u202eevil\u2066"},
	} {
		p := &planting{method: c.method, host: c.host, target: c.path}
		resp := w.check(conn, p.message())
		id := resp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue()
		code, stdout, stderr := w.sallyport("explain", "-c", "sallyport.yaml", "--decision", id, "--audit", "audit.jsonl")
		if code != 1 || stderr != "" {
			t.Errorf("%s: explain exits with %d: %s%s", c.name, code, stdout, stderr)
		}
		verdicts := 0
		for line := range strings.Lines(stdout) {
			if strings.HasPrefix(line, "decision ") {
				verdicts++
			}
			if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !strconv.IsPrint(r) }); i >= 0 {
				t.Errorf("%s: explain writes what the request said, as it came: %q", c.name, line)
			}
		}
		if verdicts != 1 {
			t.Errorf("%s: explain says %d times what was decided:\n%s", c.name, verdicts, stdout)
		}
	}

	// Envoy takes all of these for hosts or paths.
	for _, c := range []struct{ host, path string }{
		{"a;id", "/orders"}, {"a$(id)", "/orders"}, {"a&id", "/orders"}, {"a'b", "/orders"}, {"a", "/orders/$(id)"}, {"a", "/orders/';id;'"}, {"a", "/orders/;id"},
	} {
		p := &planting{method: "GET", host: c.host, target: c.path}
		answers, err := harness.RawHTTP1(t.Context(), w.envoy.Listener, p.raw(), 1)
		if err != nil || len(answers) != 1 {
			t.Fatalf("%s%s: %v", c.host, c.path, err)
		}
		var problem struct{ Decision string }
		if err := json.Unmarshal([]byte(answers[0].Body), &problem); err != nil {
			t.Errorf("%s%s: %d %s", c.host, c.path, answers[0].Status, answers[0].Body)
			continue
		}
		_, stdout, _ := w.sallyport("explain", "-c", "sallyport.yaml", "--decision", problem.Decision, "--audit", "audit.jsonl", "-o", "json")
		var told struct {
			Record struct {
				Again string `json:"ask_again"`
			}
		}
		if err := json.Unmarshal([]byte(stdout), &told); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		// A shell must see one more word after the method, and no command.
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "sallyport() { printf '%s\\n' \"$@\"; }\n"+told.Record.Again).CombinedOutput()
		words := strings.Split(strings.TrimSpace(string(out)), "\n")
		if last := words[len(words)-1]; err != nil || len(words) != 6 || last[:min(len(last), 8)] != "https://" || strings.ContainsAny(last, " ") || !strings.HasPrefix(last, "https://"+c.host+"/") {
			t.Errorf("host %s, path %s: copied to a shell, %s does %q (%v)", c.host, c.path, told.Record.Again, out, err)
		}
	}
}
