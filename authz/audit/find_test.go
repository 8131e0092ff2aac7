package audit

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sallyport-authz/sallyport/authz"
)

func TestFind(t *testing.T) {
	w, r := ada()
	d := w.decide(t, r)
	deny := (&world{route: w.route, subject: w.subject, refusal: &authz.Denial{Reason: authz.NotPermitted, Detail: authz.DeniedByRule, Rule: authz.Rule{File: "policy.csv", Line: 3}}}).decide(t, r)
	change := string((&format{}).change(nil, noon, Change{Policy, deny.ID(), "a", "b", deny.ID()})) // names the id, and is no decision
	file := strings.Join([]string{
		lineOf(t, r, d), "", `{"time":"2026-11-`, "no json " + deny.ID(), strings.Repeat("x", 3*chunkSize),
		strings.TrimSuffix(change, "\n"), lineOf(t, r, deny),
	}, "\n")
	for _, tail := range []string{"", "\n", "\n{\"torn"} {
		rec, skipped, err := Find(iotest.OneByteReader(strings.NewReader(file+tail)), deny.ID())
		if err != nil || skipped != 3 || rec.GetRule() != "policy.csv:3" || rec.GetDetail() != "denied_by_rule" || rec.GetDecisionId() != deny.ID() {
			t.Errorf("got %v, %d, %v", rec, skipped, err)
		}
		if rec, skipped, err = Find(strings.NewReader(file+tail), d.ID()); err != nil || skipped != 0 || rec.GetReason() != "allowed" {
			t.Errorf("got %v, %d, %v", rec, skipped, err)
		}
		want := 3
		if strings.HasSuffix(tail, "torn") {
			want = 4
		}
		rec, skipped, err = Find(strings.NewReader(file+tail), strings.Repeat("0", 32))
		if rec != nil || skipped != want || !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"000000`) {
			t.Errorf("got %v, %d, %v", rec, skipped, err)
		}
	}
}

func TestFindWhatIsNotThere(t *testing.T) {
	w, r := ada()
	d := w.decide(t, r)
	line, change := lineOf(t, r, d), string((&format{}).change(nil, noon, Change{}))
	for _, tt := range []struct{ file, id string }{
		{"", d.ID()},
		{line, ""},
		{change, ""},
		{line, d.ID()[:31]},
		{line, "orders"},
		{strings.Repeat("x", 3*chunkSize), d.ID()},
	} {
		if rec, _, err := Find(strings.NewReader(tt.file), tt.id); rec != nil || !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: got %v, %v", tt.id, rec, err)
		}
	}
	if _, _, err := Find(io.MultiReader(strings.NewReader("{}\n"), iotest.ErrReader(io.ErrClosedPipe)), d.ID()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	// A later version may say more.
	if rec, skipped, err := Find(strings.NewReader(`{"new_key":1,`+line[1:]), d.ID()); err != nil || skipped != 0 || rec.GetRoute() != "orders" {
		t.Errorf("got %v, %d, %v", rec, skipped, err)
	}
}

// FuzzFind: no file makes Find panic, run on or return another's record.
func FuzzFind(f *testing.F) {
	w, r := ada()
	d := w.decide(f, r)
	f.Add(lineOf(f, r, d), d.ID())
	f.Add("{}\n{\"decision_id\":\"a\"}\n[", "a")
	f.Add("\n\n\x00\xff", "\x00")
	f.Fuzz(func(t *testing.T, file, id string) {
		rec, skipped, err := Find(strings.NewReader(file), id)
		if (rec == nil) != (err != nil) || rec != nil && rec.GetDecisionId() != id || skipped > strings.Count(file, "\n")+1 {
			t.Errorf("got %v, %d, %v", rec, skipped, err)
		}
	})
}
