package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-authz/sallyport/authz"
)

// A world is what a pipeline decides from: one route, and how it ends.
type world struct {
	route   authz.Route
	subject *authz.Subject // nil: no authenticator
	rule    authz.Rule
	refusal error
	noRoute error
}

func (w *world) Route(*authz.Request) (*authz.Route, error) {
	if w.noRoute != nil {
		return nil, w.noRoute
	}
	r := w.route
	r.Authorizer = w
	if w.subject != nil {
		r.Authenticator = w
	}
	return &r, nil
}

func (w *world) Authenticate(context.Context, *authz.Request) (*authz.Subject, authz.CacheOutcome, error) {
	return w.subject, authz.CacheMiss, nil
}

func (w *world) Authorize(context.Context, *authz.Request, *authz.Subject) (authz.Rule, error) {
	return w.rule, w.refusal
}

// deaf records nothing: tests record the decision themselves.
type deaf struct{}

func (deaf) Record(context.Context, *authz.Request, *authz.Decision) error { return nil }

// decide returns the decision on r in this world. Only a pipeline makes one.
func (w *world) decide(t testing.TB, r *authz.Request) *authz.Decision {
	t.Helper()
	p, err := authz.New(w, deaf{})
	if err != nil {
		t.Fatal(err)
	}
	d := p.Decide(context.Background(), r)
	return &d
}

// ada asks for an order and is allowed.
func ada() (*world, *authz.Request) {
	w := &world{
		route:   authz.Route{Name: "orders", Policy: "shop", Revision: "9f2c"},
		subject: &authz.Subject{ID: "user:corp/ada", Kind: authz.User, Issuer: "corp", Sub: "ada"},
		rule:    authz.Rule{File: "policy.csv", Line: 12},
	}
	r := &authz.Request{
		Method: "GET", Target: "/v1/orders/7?page=2", Authority: "API.example.com:443", Host: "api.example.com", Path: "/v1/orders/7",
		Query: "page=2", Source: authz.Source{Address: netip.MustParseAddr("192.0.2.7"), Principal: "spiffe://a/b"},
	}
	return w, r
}

var (
	noon    = time.Date(2026, 11, 22, 13, 0, 0, 120_000_000, time.FixedZone("CET", 3600))
	traceID = trace.TraceID{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36}
)

// traced returns a context within a trace.
func traced(t testing.TB) context.Context {
	return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: trace.SpanID{1}}))
}

func newLog(t testing.TB, sink Sink, opts ...Option) *Log {
	t.Helper()
	l, err := New(sink, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) }) // most tests closed it and looked at the error
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// lineOf returns the one line that a Log with these options writes.
func lineOf(t testing.TB, r *authz.Request, d *authz.Decision, opts ...Option) string {
	t.Helper()
	var out bytes.Buffer
	l := newLog(t, Writer(&out), opts...)
	if err := l.Record(traced(t), r, d); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	line, rest, _ := strings.Cut(out.String(), "\n")
	if line == "" || rest != "" {
		t.Fatalf("got %q, want one line", out.String())
	}
	return line
}

func object(t testing.TB, line string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return m
}

// linesOf returns the lines of a file, each of which must be whole.
func linesOf(t testing.TB, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 {
		return nil
	}
	whole, ok := strings.CutSuffix(string(text), "\n")
	if !ok {
		t.Errorf("%s ends within a line", path)
	}
	lines := strings.Split(whole, "\n")
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s: %q is no JSON", path, line)
		}
	}
	return lines
}

// refused fails the test unless err is a refusal for this detail.
func refused(t testing.TB, err error, detail authz.Detail) {
	t.Helper()
	if authz.ReasonOf(err) != authz.AuditUnavailable || authz.DetailOf(err) != detail {
		t.Errorf("got %v, want audit_unavailable (%s)", err, detail)
	}
}

// A counter counts dropped records.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// A buffer is a log or an output that several goroutines write to.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestNewSaysEveryMistake(t *testing.T) {
	value := func(*authz.Request, *authz.Decision) (any, bool) { return nil, false }
	folder := t.TempDir()
	for _, tt := range []struct {
		name string
		sink Sink
		opts []Option
		want []string
	}{
		{"zero sink", Sink{}, nil, []string{"no sink"}},
		{"no writer", Writer(nil), nil, []string{"no sink"}},
		{"no path", File(""), nil, []string{"no sink"}},
		{"required on a writer", Writer(io.Discard), []Option{WithRequired()}, []string{"mode required needs a file"}},
		{"required of nothing", None(), []Option{WithRequired()}, []string{"mode required needs a file"}},
		{"required on a device", File(os.DevNull), []Option{WithRequired()}, []string{os.DevNull + " is no regular file"}},
		{"a folder", File(folder), nil, []string{folder + " is a folder, not a file"}},
		{"a folder that is not there", File(filepath.Join(folder, "no", "audit.jsonl")), nil, []string{"no such file or directory"}},
		{"all at once", Writer(io.Discard), []Option{
			WithQueue(0), WithWait(-time.Second), WithMask([]string{"subject", "sub", "time"}), WithClock(nil),
			WithFields([]Field{{"a b", value}, {"x", value}, {"x", value}, {"y", nil}, {`q"`, value}, {strings.Repeat("n", 65), value}}),
		}, []string{
			"queue 0 holds no record", "wait -1s is no time", `unknown field "sub" (one of ["detail" "route"`, `unknown field "time"`, "an option is nil",
			`field "a b": not a name`, `field "x": defined twice`, `field "y": no value`, `field "q\"": not a name`, `field "nnnn`,
		}},
		{"no subject", None(), []Option{WithSubject(nil)}, []string{"an option is nil"}},
		{"no count", None(), []Option{WithDropped(nil)}, []string{"an option is nil"}},
		{"no log", None(), []Option{WithLogger(nil)}, []string{"an option is nil"}},
		{"too many fields", None(), []Option{WithFields(make([]Field, 65))}, []string{"65 fields are more than 64"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.sink, tt.opts...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestEveryMaskableNameIsTaken(t *testing.T) {
	if _, err := New(None(), WithMask(Maskable())); err != nil {
		t.Error(err)
	}
}

func TestNoneKeepsNothing(t *testing.T) {
	l := newLog(t, None())
	w, r := ada()
	if err := l.Record(t.Context(), r, w.decide(t, r)); err != nil {
		t.Error(err)
	}
	if err := l.Changed(Change{Event: Policy}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(l.Reopen(), l.Close(t.Context()), l.Close(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestFileIsPrivateAndAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w, r := ada()
	for n := 1; n <= 2; n++ {
		l := newLog(t, File(path))
		_ = l.Record(t.Context(), r, w.decide(t, r))
		mustClose(t, l)
		if got := len(linesOf(t, path)); got != n {
			t.Errorf("got %d lines, want %d", got, n)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may use the file: %v", info.Mode())
	}
}

// A process that died within a line leaves what no reader can use; the next
// record is whole all the same.
func TestTornLineIsClosedOff(t *testing.T) {
	w, r := ada()
	for _, opts := range [][]Option{nil, {WithRequired()}} {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		if err := os.WriteFile(path, []byte("{\"time\":\"x\"}\n{\"ti"), 0o600); err != nil {
			t.Fatal(err)
		}
		l := newLog(t, File(path), opts...)
		d := w.decide(t, r)
		if err := l.Record(t.Context(), r, d); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "{\"time\":\"x\"}\n{\"ti\n{\"time\":") || strings.Count(string(text), "\n") != 3 {
			t.Errorf("got %q", text)
		}
		if _, skipped, err := Find(bytes.NewReader(text), d.ID()); err != nil || skipped != 1 {
			t.Errorf("got %d skipped, %v, want 1, <nil>", skipped, err)
		}
	}
}

func TestClosedLog(t *testing.T) {
	w, r := ada()
	var lost counter
	l := newLog(t, File(filepath.Join(t.TempDir(), "a")), WithDropped(lost.add))
	mustClose(t, l)
	mustClose(t, l)
	if err := l.Record(t.Context(), r, w.decide(t, r)); err != nil {
		t.Errorf("async: %v", err)
	}
	refused(t, l.Changed(Change{Event: Keys}), authz.LogClosed)
	if lost.count() != 2 {
		t.Errorf("%d dropped, want 2", lost.count())
	}
	if err := l.Reopen(); err == nil || !strings.Contains(err.Error(), "the log is closed") {
		t.Errorf("reopen: %v", err)
	}
	l = newLog(t, File(filepath.Join(t.TempDir(), "a")), WithRequired())
	mustClose(t, l)
	refused(t, l.Record(t.Context(), r, w.decide(t, r)), authz.LogClosed)
}

func TestChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := newLog(t, File(path), WithRequired(), WithClock(func() time.Time { return noon }), WithMask(Maskable()))
	if err := l.Changed(Change{Policy, "shop", "9f2c", "a01b", "2 rules added,\n1 removed"}); err != nil {
		t.Fatal(err)
	}
	want := `{"time":"2026-11-22T12:00:00.120000000Z","event":"policy","name":"shop","old_revision":"9f2c","new_revision":"a01b","summary":"2 rules added,\u000a1 removed"}`
	if got := linesOf(t, path); len(got) != 1 || got[0] != want { // before Close: it is durable
		t.Errorf("got %q, want %q", got, want)
	}
	mustClose(t, l)
}

// A token may stand anywhere in a request. It comes into a record from none of
// the places where a token belongs, nor from where it is a query.
func TestCanary(t *testing.T) {
	const canary = "eyJhbGciOi.CANARY.sig"
	var logs, out buffer
	w, r := ada()
	w.subject.Claims = map[string]any{"email": canary, "nested": map[string]any{"x": canary}}
	w.subject.TokenID, w.subject.SessionID, w.subject.Tenant = canary, canary, canary
	w.subject.Roles, w.subject.Scopes, w.subject.ACR = []string{canary}, []string{canary}, canary
	r.Headers = []authz.Header{{Name: "authorization", Value: "Bearer " + canary}, {Name: "cookie", Value: "s=" + canary}, {Name: canary, Value: "1"}}
	r.Target, r.Query, r.Authority = "/v1/orders/7?access_token="+canary, "access_token="+canary, "user:"+canary+"@api.example.com"
	r.Context = map[string]string{"k": canary}
	r.Params = []authz.Param{{Name: "order", Value: canary}}
	r.ID, r.Scheme, r.Protocol = canary, canary, canary
	fails := &failing{err: errors.New("no room"), n: 3}
	l := newLog(t, Writer(io.MultiWriter(fails, &out)), WithLogger(slog.New(slog.NewJSONHandler(&logs, nil))),
		WithFields([]Field{{"one", func(r *authz.Request, _ *authz.Decision) (any, bool) { return len(r.Headers) == 3, true }}}))
	for _, world := range []*world{
		w,
		{route: w.route, subject: w.subject, refusal: authz.Refuse(authz.NotPermitted, authz.NoRuleMatched, errors.New(canary))},
		{noRoute: authz.Refuse(authz.MalformedRequest, authz.BadHost, errors.New(canary))},
		{noRoute: errors.New(canary)},
	} {
		early := *r
		early.Host, early.Path = "", ""
		fragment := early
		fragment.Target = "/v1/orders#" + canary
		for _, r := range []*authz.Request{r, &early, &fragment} {
			for range 4 { // the first ones fail
				if err := l.Record(t.Context(), r, world.decide(t, r)); err != nil {
					t.Fatal(err)
				}
			}
			for l.queue.pending() > 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	mustClose(t, l)
	if got := strings.Count(out.String(), "\n"); got < 12 {
		t.Errorf("%d records, want most of 48", got)
	}
	if !strings.Contains(logs.String(), "no room") {
		t.Errorf("nothing was logged: %q", logs.String())
	}
	for _, text := range []string{out.String(), logs.String()} {
		if strings.Contains(text, "CANARY") {
			t.Errorf("a token got out: %s", text)
		}
	}
}

// failing fails n times.
type failing struct {
	err error
	n   int
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n > 0 {
		f.n--
		return 0, f.err
	}
	return len(p), nil
}
