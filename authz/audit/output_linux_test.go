package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// /dev/full has no room, ever.
func TestDeviceWithoutRoom(t *testing.T) {
	var lost counter
	var logs buffer
	l := newLog(t, File("/dev/full"), WithDropped(lost.add), WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
	w, r := ada()
	for range 5 {
		if err := l.Record(t.Context(), r, w.decide(t, r)); err != nil {
			t.Error(err)
		}
	}
	mustClose(t, l)
	if lost.count() != 5 {
		t.Errorf("%d dropped, want 5", lost.count())
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(logs.String(), syscall.ENOSPC.Error()); {
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say why: %q", logs.String())
		}
		time.Sleep(time.Millisecond)
	}
}

// A pipe that nobody reads is an error, not a process that hangs at the start.
func TestPipeWithoutReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(File(path)); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("got %v", err)
	}
}

// The folder of /proc/self/fd/N cannot be synced, as on some network file
// systems, and need not be.
func TestFolderThatCannotBeSynced(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	w, r := ada()
	l := newLog(t, File(fmt.Sprintf("/proc/self/fd/%d", f.Fd())), WithRequired())
	if err := l.Record(t.Context(), r, w.decide(t, r)); err != nil {
		t.Error(err)
	}
	mustClose(t, l)
	if got := linesOf(t, f.Name()); len(got) != 1 || !strings.HasPrefix(got[0], `{"time"`) {
		t.Errorf("got %q", got)
	}
}
