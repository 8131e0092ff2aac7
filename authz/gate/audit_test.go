package gate_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport-authz/sallyport/authz/gate"
)

// records returns the records in an audit file.
func (s *server) records(name string) []map[string]any {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return nil
	}
	var all []map[string]any
	for line := range bytes.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			s.t.Fatalf("%v in %s", err, line)
		}
		all = append(all, m)
	}
	return all
}

// having returns the records in which a key has this value.
func having(records []map[string]any, key string, value any) []map[string]any {
	return slices.DeleteFunc(slices.Clone(records), func(m map[string]any) bool { return m[key] != value })
}

// audited is the configuration of these tests with an audit log.
func audited(s *server, log, more string) string {
	return strings.ReplaceAll(config, "ISSUER", s.issuer.URL()) + more + "audit: " + log + "\ntelemetry: {subject: id}\n"
}

// Every decision has its record, on every path out, and so has every change.
func TestAudit(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.write("sallyport.yaml", audited(s, `{file: audit.jsonl, mode: required, mask: [source], fields: {sub: subject.sub, tier: subject.claims.tier}}`, ""))
	s.start()
	s.awaitReady()
	_, resp := s.ask("GET", "/orders?secret=1", s.token("bob", "clerk"))
	id := resp.DynamicMetadata.Fields["decision_id"].GetStringValue()
	got := having(s.records("audit.jsonl"), "decision_id", id)
	if len(got) != 1 {
		t.Fatalf("%d records of decision %s: the answer came before its record", len(got), id)
	}
	for key, want := range map[string]any{
		"decision": "allow", "reason": "allowed", "detail": "", "route": "orders", "policy": "api", "rule": "policy.csv:1",
		"subject": "user:corp/bob", "method": "GET", "host": "api.example.com", "path": "/orders",
	} {
		if got[0][key] != want {
			t.Errorf("%s is %v, want %v", key, got[0][key], want)
		}
	}
	if source := got[0]["source"].(map[string]any); source["address"] != "***" {
		t.Errorf("source is %v, want it masked", source)
	}
	if fields := got[0]["fields"].(map[string]any); len(fields) != 1 || fields["sub"] != "bob" {
		t.Errorf("fields are %v: what is missing is left out", fields)
	}
	for path, reason := range map[string]string{"/nothing": "no_route", "//orders": "malformed_request", "/orders": "no_credential"} {
		s.ask("GET", path, "")
		if n := len(having(s.records("audit.jsonl"), "reason", reason)); n != 1 {
			t.Errorf("%d records of %s", n, reason)
		}
	}

	s.write("policy.csv", rules+"p, role:clerk, /orders, POST\n")
	s.eventually("a changed policy is recorded", func() bool { return len(having(s.records("audit.jsonl"), "event", "policy")) == 2 })
	changes := having(s.records("audit.jsonl"), "event", "policy")
	if c := changes[1]; c["name"] != "api" || c["old_revision"] != changes[0]["new_revision"] || c["new_revision"] == c["old_revision"] ||
		c["summary"] != "3 rules, 1 added, 0 removed; added p, role:clerk, /orders, POST" {
		t.Errorf("change of a policy: %v", c)
	}
	if c := having(s.records("audit.jsonl"), "event", "keys"); len(c) != 1 || c[0]["name"] != "corp" || !strings.HasPrefix(c[0]["summary"].(string), "1 keys: added ") {
		t.Errorf("change of keys: %v", c)
	}
	s.write("policy.csv", "p, role:clerk\n")
	s.eventually("a refused reload is recorded", func() bool {
		c := having(s.records("audit.jsonl"), "event", "configuration")
		return len(c) == 2 && c[1]["new_revision"] == "" && strings.HasPrefix(c[1]["summary"].(string), "refused, 1 problems: ")
	})
}

// A rotated file is opened anew on SIGHUP, and a changed section takes effect
// without a restart; no record is lost between the two.
func TestAuditFileMoves(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.write("sallyport.yaml", audited(s, "{file: audit.jsonl, mode: required}", ""))
	s.start()
	s.awaitReady()
	if err := os.Rename(filepath.Join(s.dir, "audit.jsonl"), filepath.Join(s.dir, "old.jsonl")); err != nil {
		t.Fatal(err)
	}
	asked := 0
	ask := func() { s.ask("GET", "/nothing", ""); asked++ }
	ask()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.eventually("the file is there again", func() bool { ask(); return len(s.records("audit.jsonl")) > 0 })
	s.write("sallyport.yaml", audited(s, "{file: other.jsonl, mode: required}", ""))
	s.eventually("the other file is written", func() bool { ask(); return len(having(s.records("other.jsonl"), "reason", "no_route")) > 0 })
	total := 0
	for _, name := range []string{"old.jsonl", "audit.jsonl", "other.jsonl"} {
		total += len(having(s.records(name), "reason", "no_route"))
	}
	if total != asked {
		t.Errorf("%d records of %d decisions", total, asked)
	}
	// A section that cannot be had is refused like any other mistake.
	s.write("sallyport.yaml", audited(s, "{file: gone/audit.jsonl}", ""))
	s.eventually("a file that cannot be opened is refused", func() bool {
		line := s.log.find("reload refused, the last good generation stays")
		return line != nil && strings.Contains(line["problem"].(string), "audit.file: ") && strings.Contains(line["problem"].(string), "no such file or directory")
	})
}

// A route in shadow mode decides and records, and lets pass; the upstream gets
// nothing that the client might have forged.
func TestShadowMode(t *testing.T) {
	s := newServer(t, newIssuer(t))
	s.write("sallyport.yaml", audited(s, "{file: audit.jsonl, mode: required}", "  - {name: watched, match: /watched, policy: api, mode: shadow}\n"))
	s.start()
	s.awaitReady()
	resp := s.answer(httpCheck("GET", "/watched", "x-user", "forged"))
	meta := resp.DynamicMetadata.Fields
	if resp.GetStatus().GetCode() != 0 || meta["reason"].GetStringValue() != "no_credential" {
		t.Errorf("got %v", resp)
	}
	if got := resp.GetOkResponse().GetHeadersToRemove(); !slices.Equal(got, []string{"x-tenant", "x-user"}) {
		t.Errorf("removed %v", got)
	}
	r := having(s.records("audit.jsonl"), "decision_id", meta["decision_id"].GetStringValue())
	if len(r) != 1 || r[0]["decision"] != "deny" || r[0]["reason"] != "no_credential" || r[0]["shadow"] != true {
		t.Errorf("recorded %v", r)
	}
	if _, body := s.get("/metrics"); !strings.Contains(body, `authz_decisions_total{decision="deny",reason="no_credential",route="watched"} 1`) {
		t.Error("the refusal is not counted")
	}
	if resp := s.answer(httpCheck("GET", "/watched", "authorization", "Bearer a", "authorization", "Bearer b")); resp.GetStatus().GetCode() != 3 {
		t.Errorf("a request with two readings passes: %v", resp)
	}
}

// What a check can know of an audit log without opening it.
func TestCheckAudit(t *testing.T) {
	f := newFolder(t)
	for section, want := range map[string]string{
		"{file: gone/audit.jsonl}":             "audit.file: " + f.dir + "/gone: there is no such folder",
		"{mask: [subjects]}":                   `audit.mask: records have no field "subjects" that can be masked`,
		"{fields: {a: subject.rolse}}":         "audit.fields.a: ",
		"{fields: {'a b': subject.sub}}":       `audit.fields: field "a b": not a name`,
		"{mode: required}":                     "audit.mode: required needs a file",
		"{file: audit.jsonl, mode: required}":  "",
		"{file: .}":                            "audit.file: " + f.dir + " is a folder",
		"{file: none}":                         "",
		"{mask: [subject, source], queue: 10}": "",
	} {
		path := f.write("sallyport.yaml", "routes: [{match: /, token: none, allow: true}]\naudit: "+section+"\n")
		_, err := gate.Check(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), path+":2: "+want)) {
			t.Errorf("%s: got %v, want %s", section, err, want)
		}
		if _, err := os.Stat(filepath.Join(f.dir, "audit.jsonl")); err == nil {
			t.Errorf("%s: a check made the file", section)
		}
	}
}
