package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	sallyportv1 "github.com/sallyport-authz/sallyport/proto/sallyport/v1"
)

// A trial is what one test of evidence runs.
type trial struct {
	config string            // sallyport.yaml; ISSUER stands for the URL of the issuer
	files  map[string]string // more files, or others in place of model and rules
	env    []string          // for sallyport
	otel   string            // Envoy's collector
	run    string            // lines of a shell, of which the last runs "$@"; default: exec "$@"
	answer http.Handler      // the upstream; default: the echo
	ready  func(*world)      // before sallyport starts
}

// quick are the members of server: that every trial has.
const quick = `
  grpc: {listen: "127.0.0.1:0"}
  admin: {listen: "127.0.0.1:0"}
  deadline: 2s
`

// newTrial is newWorld for a configuration that the test writes whole, and for
// a sallyport that may run in a world that was made smaller for it.
func newTrial(t *testing.T, tr trial) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.issuer = authztest.NewIssuer(authztest.WithAlgorithms("ES256"), authztest.WithAudience("https://api.example.com"))
	if err := w.issuer.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.issuer.Close() })
	if tr.run == "" {
		tr.run = `exec "$@"`
	}
	w.write("run", "#!/bin/sh\nset -e\nset -- '"+sallyportBinary+"' \"$@\" --log-level debug\n"+tr.run+"\n")
	if err := os.Chmod(w.path("run"), 0o700); err != nil {
		t.Fatal(err)
	}
	return w.start(setup{
		whole: tr.config, files: tr.files, env: tr.env, otel: tr.otel, answer: tr.answer, ready: tr.ready, binary: w.path("run"),
	})
}

// direct returns a connection to sallyport that goes by Envoy.
func (w *world) direct() *grpc.ClientConn {
	w.t.Helper()
	conn, err := grpc.NewClient(w.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// check asks sallyport itself.
func (w *world) check(conn *grpc.ClientConn, m *authv3.CheckRequest) *authv3.CheckResponse {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	resp, err := authv3.NewAuthorizationClient(conn).Check(ctx, m)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp
}

// A fact is one line of an audit log.
type fact struct {
	*sallyportv1.DecisionRecord // nil where it is a change
	line                        string
}

// facts reads audit files. Every line must be whole, printable ASCII, and a
// record of one of the two kinds without a key that the schema does not have.
func facts(t *testing.T, paths ...string) (decisions []fact, changes int) {
	t.Helper()
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			t.Errorf("%s ends within a line: %q", path, text[max(0, len(text)-100):])
		}
		for line := range bytes.Lines(text) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			if i := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
				t.Errorf("byte %d is not printable ASCII in %q", i, line)
			}
			rec := &sallyportv1.DecisionRecord{}
			if protojson.Unmarshal(line, &sallyportv1.ChangeRecord{}) == nil {
				changes++
			} else if err := protojson.Unmarshal(line, rec); err != nil {
				t.Errorf("%v in %s", err, line)
			} else {
				decisions = append(decisions, fact{rec, string(line)})
			}
		}
	}
	return decisions, changes
}

// byID indexes records, of which there must be one a decision.
func byID(t *testing.T, decisions []fact) map[string]fact {
	t.Helper()
	ids := make(map[string]fact, len(decisions))
	for _, f := range decisions {
		if _, twice := ids[f.GetDecisionId()]; twice || len(f.GetDecisionId()) != 32 {
			t.Errorf("decision %q has a second record, or no id: %s", f.GetDecisionId(), f.line)
		}
		ids[f.GetDecisionId()] = f
	}
	return ids
}

// decisionOf returns the id that an answer names: an allow in a header that
// routes of these tests set, a refusal in its problem.
func decisionOf(resp *http.Response, body string) string {
	if id := resp.Header.Get("x-decision"); id != "" {
		return id
	}
	var problem struct{ Decision string }
	_ = json.Unmarshal([]byte(body), &problem) // no problem, no id
	return problem.Decision
}

// sallyport runs a command with the configuration of this world.
func (w *world) sallyport(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), sallyportBinary, args...)
	cmd.Dir = w.dir
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// counted sums the series of a counter in a scrape.
func (w *world) counted(name string, labels ...string) (sum float64) {
	w.t.Helper()
series:
	for series, v := range seriesOf(w.scrape("text/plain")) {
		if base, _, _ := strings.Cut(series, "{"); base != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(series, label) {
				continue series
			}
		}
		sum += v
	}
	return sum
}
