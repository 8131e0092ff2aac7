package gate

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz/telemetry"
)

// A file that changes after it was read and before anybody watches is not
// taken for seen: a revocation in that moment must not be lost.
func TestChangeBeforeTheWatchIsNotLost(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sallyport.yaml")
	write := func(name string) {
		t.Helper()
		text := "routes: [{name: " + name + ", match: /, token: none, allow: true}]\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	tel, err := telemetry.Start(t.Context(), "test", log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	g := &Gate{path: path, log: log, tel: tel, parts: parts{ring: newOfflineKeyring()}}
	write("before")
	server, b, problems := g.open()
	if server == nil {
		t.Fatal(problems)
	}
	g.take(b.gen)
	t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	write("after") // and only now does anybody look

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.watch(ctx, b.files(), b.seen, nil) }()
	t.Cleanup(func() { cancel(); <-done })
	for end := time.Now().Add(5 * time.Second); g.current.Load().cfg.Routes[0].Name != "after"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the change was lost")
		}
	}
}
