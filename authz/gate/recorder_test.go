package gate

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/audit"
)

type told []authz.Reason

func (t *told) Record(_ context.Context, _ *authz.Request, d *authz.Decision) error {
	*t = append(*t, d.Reason())
	return nil
}

// What the server refuses by itself needs its record too; where that cannot be
// had, telemetry hears of the refusal that the caller gets.
func TestRefusalsOfTheServerAreRecorded(t *testing.T) {
	log, err := audit.New(audit.File(filepath.Join(t.TempDir(), "audit.jsonl")), audit.WithRequired())
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{}
	g.current.Store(&generation{audit: &auditLog{Log: log}})
	heard := &told{}
	overloaded := authz.Refusal(authz.Refuse(authz.Overloaded, authz.InFlight, nil))
	ask := func() error { return recorder{g, heard}.Record(t.Context(), &authz.Request{}, &overloaded) }
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ask(); authz.ReasonOf(err) != authz.AuditUnavailable || authz.DetailOf(err) != authz.LogClosed {
		t.Errorf("without a record: %v", err)
	}
	if got := *heard; len(got) != 2 || got[0] != authz.Overloaded || got[1] != authz.AuditUnavailable {
		t.Errorf("telemetry heard %v", got)
	}
}
