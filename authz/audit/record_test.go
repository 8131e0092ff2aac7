package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sallyport-authz/sallyport/authz"
	sallyportv1 "github.com/sallyport-authz/sallyport/proto/sallyport/v1"
)

// always are the keys that every record has, in this order.
var always = []string{
	"time", "decision_id", "decision", "reason", "detail", "route", "policy", "revision", "rule",
	"subject", "method", "host", "path", "source", "trace_id", "duration",
}

// keysOf returns the keys of the outermost object, in order and as often as
// they stand there.
func keysOf(t testing.TB, line string) []string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(line))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		t.Fatalf("%q is no object: %v", line, err)
	}
	var names []string
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// strict reads a line as the schema has it, and refuses what that does not
// name.
func strict(t testing.TB, line string) *sallyportv1.DecisionRecord {
	t.Helper()
	rec := &sallyportv1.DecisionRecord{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: false}).Unmarshal([]byte(line), rec); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return rec
}

func TestRecord(t *testing.T) {
	w, r := ada()
	d := w.decide(t, r)
	line := lineOf(t, r, d, WithClock(func() time.Time { return noon }))
	if got := keysOf(t, line); !slices.Equal(got, always) {
		t.Errorf("keys %q, want %q", got, always)
	}
	want := map[string]any{
		"time": "2026-11-22T12:00:00.120000000Z", "decision_id": d.ID(), "decision": "allow", "reason": "allowed", "detail": "",
		"route": "orders", "policy": "shop", "revision": "9f2c", "rule": "policy.csv:12", "subject": "user:corp/ada",
		"method": "GET", "host": "api.example.com", "path": "/v1/orders/7",
		"source":   map[string]any{"address": "192.0.2.7", "principal": "spiffe://a/b"},
		"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "duration": d.Duration().Seconds(),
	}
	if diff := cmp.Diff(want, object(t, line)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Whatever happened, a record has every key and fits the schema.
func TestEveryPathOut(t *testing.T) {
	w, r := ada()
	early := &authz.Request{Method: "GET", Target: "/a//b?token=x", Authority: "user:pass@evil.example:80"}
	refusal := authz.Refusal(authz.Refuse(authz.Overloaded, authz.InFlight, nil))
	for _, tt := range []struct {
		name string
		r    *authz.Request
		d    *authz.Decision
		want map[string]string
	}{
		{"allow", r, w.decide(t, r), map[string]string{"decision": "allow", "reason": "allowed", "rule": "policy.csv:12"}},
		{
			"not permitted", r, (&world{route: w.route, subject: w.subject, refusal: authz.Refuse(authz.NotPermitted, authz.NoRuleMatched, errors.New("secret"))}).decide(t, r),
			map[string]string{"decision": "deny", "reason": "not_permitted", "detail": "no_rule_matched", "rule": "", "subject": "user:corp/ada", "policy": "shop"},
		},
		{
			"denied by a rule", r,
			(&world{route: w.route, refusal: &authz.Denial{Reason: authz.NotPermitted, Detail: authz.DeniedByRule, Rule: authz.Rule{File: "deny.csv", Line: 3}}}).decide(t, r),
			map[string]string{"decision": "deny", "rule": "deny.csv:3", "subject": "anonymous"},
		},
		{
			"malformed", early, (&world{noRoute: authz.Refuse(authz.MalformedRequest, authz.BadPath, nil)}).decide(t, early),
			map[string]string{"decision": "deny", "reason": "malformed_request", "detail": "bad_path", "path": "/a//b", "host": "evil.example:80", "route": "", "subject": ""},
		},
		{"unplanned", r, (&world{noRoute: errors.New("boom")}).decide(t, r), map[string]string{"reason": "internal", "path": "/v1/orders/7"}},
		{"no request", nil, &refusal, map[string]string{"decision": "deny", "reason": "overloaded", "detail": "in_flight", "method": ""}},
		{"zero decision", &authz.Request{TCP: true}, &authz.Decision{}, map[string]string{"decision": "deny", "reason": "internal", "decision_id": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			line := lineOf(t, tt.r, tt.d)
			strict(t, line)
			if got := keysOf(t, line); !slices.Equal(got, always) {
				t.Errorf("keys %q, want %q", got, always)
			}
			m := object(t, line)
			for k, want := range tt.want {
				if m[k] != want {
					t.Errorf("%s is %q, want %q", k, m[k], want)
				}
			}
		})
	}
}

func TestSchema(t *testing.T) {
	w, r := ada()
	d := w.decide(t, r)
	rec := strict(t, lineOf(t, r, d, WithClock(func() time.Time { return noon }), WithFields([]Field{
		{"region", func(*authz.Request, *authz.Decision) (any, bool) { return "eu", true }},
	})))
	if !rec.GetTime().AsTime().Equal(noon) || rec.GetDecisionId() != d.ID() || rec.GetSource().GetAddress() != "192.0.2.7" ||
		rec.GetDuration() != d.Duration().Seconds() || rec.GetFields().AsMap()["region"] != "eu" || rec.GetTraceId() != traceID.String() {
		t.Errorf("got %v", rec)
	}
	// The schema names nothing that records do not have.
	extra := []string{"shadow", "fields"}
	fields := rec.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		name := string(fields.Get(i).Name())
		if !slices.Contains(always, name) && !slices.Contains(extra, name) {
			t.Errorf("the schema has %s, records do not", name)
		}
	}
	change := &sallyportv1.ChangeRecord{}
	f := &format{}
	if err := protojson.Unmarshal(f.change(nil, noon, Change{Keys, "corp", "a", "b", "c"}), change); err != nil {
		t.Error(err)
	}
	if change.GetEvent() != "keys" || change.GetName() != "corp" || change.GetOldRevision() != "a" || change.GetNewRevision() != "b" || change.GetSummary() != "c" {
		t.Errorf("got %v", change)
	}
}

func TestMask(t *testing.T) {
	w, r := ada()
	d := w.decide(t, r)
	plain := object(t, lineOf(t, r, d))
	for _, name := range Maskable() {
		m := object(t, lineOf(t, r, d, WithMask([]string{name})))
		want := object(t, lineOf(t, r, d))
		if outer, inner, ok := strings.Cut(name, "."); ok {
			want[outer].(map[string]any)[inner] = "***"
		} else if name == "source" {
			want[name] = map[string]any{"address": "***", "principal": "***"}
		} else {
			want[name] = "***"
		}
		m["time"], want["time"] = plain["time"], plain["time"]
		if diff := cmp.Diff(want, m); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	// What is masked does not tell that it is empty.
	line := lineOf(t, nil, &authz.Decision{}, WithMask(Maskable()))
	strict(t, line)
	if got := strings.Count(line, `"***"`); got != int(keys) {
		t.Errorf("%d values are masked, want %d: %s", got, int(keys), line)
	}
}

func TestSubject(t *testing.T) {
	w, r := ada()
	hash := WithSubject(func(s *authz.Subject) string { return "hash:" + strings.ToUpper(s.Sub) })
	nobody := &world{route: w.route}
	for _, tt := range []struct {
		d    *authz.Decision
		opts []Option
		want string
	}{
		{w.decide(t, r), nil, "user:corp/ada"},
		{w.decide(t, r), []Option{hash}, "hash:ADA"},
		{w.decide(t, r), []Option{hash, WithMask([]string{"subject"})}, "***"},
		{nobody.decide(t, r), []Option{hash}, "anonymous"},
		{&authz.Decision{}, []Option{hash}, ""},
	} {
		if got := object(t, lineOf(t, r, tt.d, tt.opts...))["subject"]; got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestAddress(t *testing.T) {
	w, r := ada()
	for _, tt := range []struct {
		address netip.Addr
		want    string
	}{
		{netip.Addr{}, ""},
		{netip.MustParseAddr("2001:db8::1"), "2001:db8::1"},
		{netip.MustParseAddr("fe80::1%eth0"), "fe80::1%eth0"},
		{netip.MustParseAddr("fe80::1").WithZone("\",\"x\":\"\n"), "fe80::1%\",\"x\":\"\n"},
	} {
		r.Source.Address = tt.address
		m := object(t, lineOf(t, r, w.decide(t, r)))
		if got := m["source"].(map[string]any)["address"]; got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// What shadow mode lets pass is recorded as the refusal that it is.
func TestShadow(t *testing.T) {
	w, r := ada()
	w.route.Shadow = true
	allow := strict(t, lineOf(t, r, w.decide(t, r)))
	if allow.GetDecision() != "allow" || allow.GetShadow() {
		t.Errorf("got %v", allow)
	}
	w.refusal = authz.Refuse(authz.NotPermitted, authz.NoRuleMatched, nil)
	line := lineOf(t, r, w.decide(t, r))
	deny := strict(t, line)
	if deny.GetDecision() != "deny" || deny.GetReason() != "not_permitted" || deny.GetDetail() != "no_rule_matched" || !deny.GetShadow() {
		t.Errorf("got %v", deny)
	}
	if got := keysOf(t, line); !slices.Equal(got, append(slices.Clone(always), "shadow")) {
		t.Errorf("keys %q", got)
	}
	w.route.Shadow = false
	if m := object(t, lineOf(t, r, w.decide(t, r))); m["shadow"] != nil {
		t.Errorf("a refusal that was enforced says shadow: %v", m)
	}
}

func TestFields(t *testing.T) {
	w, r := ada()
	d := w.decide(t, r)
	long, deep, deepMap, deepest := strings.Repeat("x", maxField), any("deep"), any("deep"), any("deep")
	for i := range maxDepth + 1 {
		deep, deepMap = []any{deep}, map[string]any{"k": deepMap}
		if i > 0 {
			deepest = []any{deepest}
		}
	}
	big := map[string]any{}
	for i := range 300 {
		big[strings.Repeat("k", 1+i%7)+string(rune('a'+i%26))+strings.Repeat("z", i/26)] = float64(i)
	}
	for _, tt := range []struct {
		name string
		in   any
		want any
	}{
		{"null", nil, nil},
		{"bool", true, true},
		{"string", "a\u2028\"b", "a\u2028\"b"},
		{"int", int64(42), 42.0},
		{"float", 0.25, 0.25},
		{"tiny", 1e-7, 1e-7},
		{"huge", 1e21, 1e21},
		{"million", 1e6, 1e6},
		{"negative zero", math.Copysign(0, -1), 0.0},
		{"time", noon, "2026-11-22T12:00:00.120000000Z"},
		{"list", []any{"a", int64(1), nil, []any{}}, []any{"a", 1.0, nil, []any{}}},
		{"map", map[string]any{"b": true, "a\n": map[string]any{}}, map[string]any{"b": true, "a\n": map[string]any{}}},
		{"long string", long, long[:maxField-2-len(cut)] + cut},
		{"long list", []any{long}, cut},
		{"list of much", slices.Repeat([]any{int64(1)}, maxField/2), cut},
		{"list of nearly as much", slices.Repeat([]any{int64(1)}, maxField/2-1), slices.Repeat([]any{1.0}, maxField/2-1)},
		{"long map", big, cut},
		{"long key", map[string]any{long: 1.0}, cut},
		{"deep", deep, cut},
		{"deep map", deepMap, cut},
		{"as deep as allowed", deepest, deepest},
		{"no number", math.NaN(), cut},
		{"infinite in a list", []any{math.Inf(1)}, cut},
		{"no UTF-8 in a key", map[string]any{"\xff": 1.0, "\xfe": 2.0}, cut},
		{"no UTF-8", "\xff", "\ufffd"},
		{"no JSON", make(chan int), cut},
	} {
		t.Run(tt.name, func(t *testing.T) {
			line := lineOf(t, r, d, WithFields([]Field{
				{"x", func(*authz.Request, *authz.Decision) (any, bool) { return tt.in, true }},
				{"missing", func(*authz.Request, *authz.Decision) (any, bool) { return "x", false }},
				{"last", func(r *authz.Request, d *authz.Decision) (any, bool) { return r.Method + d.Route(), true }},
			}))
			strict(t, line)
			want := map[string]any{"x": tt.want, "last": "GETorders"}
			if diff := cmp.Diff(any(want), object(t, line)["fields"]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	none := object(t, lineOf(t, r, d, WithFields([]Field{{"x", func(*authz.Request, *authz.Decision) (any, bool) { return nil, false }}})))
	if diff := cmp.Diff(any(map[string]any{}), none["fields"]); diff != "" {
		t.Errorf("fields configured and missing: -want +got:\n%s", diff)
	}
}

func TestText(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 8, ""},
		{"plain", 8, "plain"},
		{"exactly8", 8, "exactly8"},
		{"nine long", 8, "...[cut]"},
		{"twelve bytes", 11, "twe...[cut]"},
		{`a"b\c`, 99, `a\"b\\c`},
		{"\r\n\t\x00\x1b[31m\x7f", 99, `\u000d\u000a\u0009\u0000\u001b[31m\u007f`},
		{"\u2028\u2029\u00e9", 99, `\u2028\u2029\u00e9`},
		{"\U0001F600", 99, `\ud83d\ude00`},
		{"\xff\xc3(", 99, `\ufffd\ufffd(`},
		{"\xed\xa0\x80", 99, `\ufffd\ufffd\ufffd`},            // a surrogate on its own
		{"\ufffd", 99, `\ufffd`},                              // a replacement that the client sent
		{"ab\U0001F600cdefgh", 19, `ab...[cut]`},              // not within a pair
		{strings.Repeat("\n", 4), 20, `\u000a\u000a...[cut]`}, // nor within an escape
		{"</script>&", 99, "</script>&"},
	} {
		if got := string(appendText(nil, tt.in, tt.limit)); got != tt.want {
			t.Errorf("%q within %d: got %s, want %s", tt.in, tt.limit, got, tt.want)
		}
	}
}

// The longest of everything stays within the bounds, on which the queue
// relies.
func TestRecordIsBounded(t *testing.T) {
	wide := strings.Repeat("\U0001F600", 1<<16)
	w := &world{
		route:   authz.Route{Name: wide, Policy: wide, Revision: wide},
		subject: &authz.Subject{ID: wide, Kind: authz.User},
		rule:    authz.Rule{File: wide, Line: math.MaxInt},
	}
	r := &authz.Request{Method: wide, Host: wide, Path: wide, Source: authz.Source{Address: netip.MustParseAddr("fe80::1").WithZone(wide), Principal: wide}}
	var fields []Field
	for i := range maxExtras {
		name := strings.Repeat("n", 62) + string(rune('a'+i%26)) + string(rune('a'+i/26))
		fields = append(fields, Field{name, func(*authz.Request, *authz.Decision) (any, bool) { return wide, true }})
	}
	line := lineOf(t, r, w.decide(t, r), WithFields(fields))
	strict(t, line)
	if len(line) >= maxRecord || len(line) < maxRecord/2 {
		t.Errorf("%d bytes, want at most %d", len(line), maxRecord)
	}
	m := object(t, line)
	for _, k := range []string{"route", "policy", "revision", "subject", "method", "host", "path"} {
		if !strings.HasSuffix(m[k].(string), cut) {
			t.Errorf("%s is not marked as cut", k)
		}
	}
	if got := len(m["fields"].(map[string]any)); got != maxExtras {
		t.Errorf("%d fields, want %d", got, maxExtras)
	}
}

// README.md lists the keys of a record, all and only those, in order.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		got = append(got, m[1])
	}
	want := slices.Concat(always, []string{"shadow", "fields"}, keysOf(t, string((&format{}).change(nil, noon, Change{}))))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("README.md: -want +got:\n%s", diff)
	}
	for _, name := range Maskable() {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("README.md does not say that %s can be masked", name)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, tt := range []struct {
		in   float64
		want string
	}{
		{0, "0"}, {1e-6, "0.000001"}, {9.9e-7, "9.9e-07"}, {1e20, "100000000000000000000"}, {1e21, "1e+21"}, {-2.5, "-2.5"}, {-1e-9, "-1e-09"},
	} {
		if got, ok := appendNumber(nil, tt.in); string(got) != tt.want || !ok {
			t.Errorf("%v: got %s, %v, want %s", tt.in, got, ok, tt.want)
		}
	}
}

func TestWithoutTrace(t *testing.T) {
	w, r := ada()
	var out bytes.Buffer
	l := newLog(t, Writer(&out))
	_ = l.Record(t.Context(), r, w.decide(t, r))
	mustClose(t, l)
	if got := object(t, out.String())["trace_id"]; got != "" {
		t.Errorf("got %q", got)
	}
}
