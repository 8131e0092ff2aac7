package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// A bypass is what the suite runs: one Sallyport, one upstream that believes
// everything, and the tokens of those who call.
type bypass struct {
	*world
	upstream *harness.Recorder
	tokens   map[string]string

	mu      sync.Mutex
	callers map[string]string // by the value of rowHeader
	arrived map[string]int
	wrong   map[string][]string
}

func newBypass(t *testing.T) *bypass {
	t.Helper()
	b := &bypass{
		world:   &world{t: t, dir: t.TempDir()},
		callers: make(map[string]string), arrived: make(map[string]int), wrong: make(map[string][]string),
	}
	b.issuer = authztest.NewIssuer(authztest.WithAlgorithms("ES256"), authztest.WithAudience("https://api.test"))
	if err := b.issuer.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.issuer.Close() })
	files := make(map[string]string)
	for _, pattern := range []string{"*.yaml", "*.conf", "*.csv"} {
		names, err := filepath.Glob("testdata/bypass/" + pattern)
		if err != nil || names == nil {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(name)] = strings.ReplaceAll(string(text), "http://127.0.0.1:9000", b.issuer.URL())
		}
	}
	b.start(setup{files: files, noEnvoy: true})
	b.tokens = map[string]string{"ada": b.token("ada", "director"), "max": b.token("max", "manager"), "bob": b.token("bob", "clerk")}
	var err error
	if b.upstream, err = harness.Record(b.arrive); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.upstream.Close() })
	return b
}

// arrive judges what reaches the upstream. A request that says no row, because
// it was smuggled past the first, is one of nobody.
func (b *bypass) arrive(a *harness.Arrival) {
	row := a.Get(rowHeader)
	b.mu.Lock()
	caller := b.callers[row]
	b.arrived[row]++
	b.mu.Unlock()
	wrong := judge(caller, a)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range wrong {
		b.wrong[row] = append(b.wrong[row], fmt.Sprintf("%s %s %s", a.Method, a.Target, w))
	}
}

// run sends one attack to one edge and returns the answers as the table
// writes them.
func (b *bypass) run(a *attack, edge string, e *harness.Envoy) (string, error) {
	row := edge + "/" + a.id
	b.mu.Lock()
	b.callers[row] = a.caller
	b.mu.Unlock()
	if a.raw == "" {
		fields := append(a.fields[:len(a.fields):len(a.fields)], harness.Field{Name: rowHeader, Value: row})
		if a.caller != "" {
			fields = append(fields, harness.Field{Name: "authorization", Value: b.tokens[a.caller]})
		}
		answer, err := harness.RawHTTP2(b.t.Context(), e.Listener, fields, a.body)
		if errors.Is(err, harness.ErrReset) {
			return "closed", nil
		}
		return describe(answer), err
	}
	own := rowHeader + ": " + row + "\r\n"
	if a.caller != "" {
		own += "Authorization: " + b.tokens[a.caller] + "\r\n"
	}
	text := strings.ReplaceAll(a.raw, "{}", own)
	answers, err := harness.RawHTTP1(b.t.Context(), e.Listener, []byte(text), strings.Count(a.want[edge], "+")+1)
	if err != nil {
		return "", err
	}
	if answers == nil {
		return "closed", nil
	}
	words := make([]string, len(answers))
	for i, answer := range answers {
		words[i] = describe(answer)
	}
	return strings.Join(words, " + "), nil
}

// describe names who answered: the upstream, Sallyport with its reason, or
// Envoy.
func describe(a harness.Answer) string {
	if a.Body == harness.RecorderBody || a.Header.Get(harness.RecorderHeader) != "" {
		return fmt.Sprintf("%d upstream", a.Status)
	}
	var problem struct{ Reason string }
	if json.Unmarshal([]byte(a.Body), &problem) == nil && problem.Reason != "" {
		return fmt.Sprintf("%d %s", a.Status, problem.Reason)
	}
	if a.Header.Get("Content-Type") == "application/problem+json" {
		return fmt.Sprintf("%d sallyport", a.Status) // to HEAD, without a body
	}
	if status := a.Header.Get("grpc-status"); status != "" {
		return fmt.Sprintf("%d grpc-status %s", a.Status, status)
	}
	return fmt.Sprintf("%d envoy", a.Status)
}

// No request reaches a protected handler, however the upstream reads it,
// unless the right policy allowed that very handler; and each has one answer.
func TestBypass(t *testing.T) {
	t.Parallel()
	b := newBypass(t)
	attacks := loadAttacks(t)
	if len(attacks) < 300 {
		t.Errorf("%d attacks, want 300 at least", len(attacks))
	}
	t.Run("at", func(t *testing.T) { // ends when all edges have
		for _, k := range edgeKinds {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				b.attack(t, attacks, k.name, startEdge(t, b.GRPC, b.upstream.Addr, k.change), func(a *attack, got string) {
					if want := a.want[k.name]; got != want {
						t.Errorf("%s: %s at %s: got %s, want %s", a.at, a.id, k.name, got, want)
					}
				})
			})
		}
	})
	_ = b.upstream.Close() // what is still on its way has arrived now, or never will
	b.mu.Lock()
	defer b.mu.Unlock()
	for row, wrong := range b.wrong {
		t.Errorf("%s: %s", row, strings.Join(wrong, "\n"))
	}
	if b.arrived[""] > 0 {
		t.Errorf("%d requests without %s arrived: something was smuggled", b.arrived[""], rowHeader)
	}
	for _, a := range attacks {
		for _, k := range edgeKinds {
			if got, want := b.arrived[k.name+"/"+a.id], strings.Count(a.want[k.name], "upstream"); got != want {
				t.Errorf("%s: %s at %s: %d requests arrived, want %d", a.at, a.id, k.name, got, want)
			}
		}
	}
}

// Without Sallyport most of the attacks succeed: the suite would notice.
func TestBypassWithoutGate(t *testing.T) {
	t.Parallel()
	b := newBypass(t)
	attacks := loadAttacks(t)
	i := slices.IndexFunc(edgeKinds, func(k edgeKind) bool { return k.name == "bare" })
	e := startEdge(t, b.GRPC, b.upstream.Addr, ungated(edgeKinds[i].change))
	b.attack(t, attacks, "bare", e, func(*attack, string) {})
	b.mu.Lock()
	defer b.mu.Unlock()
	hit := 0
	for _, a := range attacks {
		if len(b.wrong["bare/"+a.id]) > 0 {
			hit++
		}
	}
	t.Logf("%d of %d attacks succeed without Sallyport", hit, len(attacks))
	if hit < len(attacks)/2 {
		t.Errorf("%d of %d attacks succeed without Sallyport, want half of them at least", hit, len(attacks))
	}
}

// attack sends every attack to one edge, several at once.
func (b *bypass) attack(t *testing.T, attacks []*attack, edge string, e *harness.Envoy, check func(a *attack, got string)) {
	t.Helper()
	todo := make(chan *attack)
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			for a := range todo {
				got, err := b.run(a, edge, e)
				if err != nil {
					t.Errorf("%s: %s at %s: %v", a.at, a.id, edge, err)
					continue
				}
				check(a, got)
			}
		})
	}
	for _, a := range attacks {
		todo <- a
	}
	close(todo)
	wait.Wait()
}
