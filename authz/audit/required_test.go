package audit

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// withSync replaces what makes a file durable, before the first record.
func withSync(l *Log, sync func(*os.File) error) { l.out.sync = sync }

// Many that record at once share a sync, and none waits longer than for the
// sync before its own and its own.
func TestGroups(t *testing.T) {
	const callers, each, slow = 64, 20, 2 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		l := newLog(t, File(path), WithRequired())
		var syncs, synced atomic.Int64
		withSync(l, func(f *os.File) error {
			info, err := f.Stat()
			time.Sleep(slow)
			syncs.Add(1)
			synced.Store(info.Size())
			return err
		})
		w, r := ada()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					d := w.decide(t, r)
					start := time.Now()
					if err := l.Record(context.Background(), r, d); err != nil {
						t.Error(err)
					}
					if waited := time.Since(start); waited > 2*slow {
						t.Errorf("waited %v for syncs of %v", waited, slow)
					}
				}
			})
		}
		wg.Wait()
		if n := syncs.Load(); n > 2*each+1 {
			t.Errorf("%d syncs for %d records", n, callers*each)
		}
		if got := len(linesOf(t, path)); got != callers*each {
			t.Errorf("%d lines, want %d", got, callers*each)
		}
		if info, err := os.Stat(path); err != nil || info.Size() != synced.Load() {
			t.Errorf("%d bytes were synced of %v, %v", synced.Load(), info.Size(), err)
		}
		mustClose(t, l)
	})
}

// Record does not return before its sync does.
func TestRecordIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t, File(filepath.Join(t.TempDir(), "a")), WithRequired())
		sync := make(chan error)
		withSync(l, func(*os.File) error { return <-sync })
		w, r := ada()
		returned := make(chan error, 1)
		go func() { returned <- l.Record(context.Background(), r, w.decide(t, r)) }()
		synctest.Wait()
		select {
		case err := <-returned:
			t.Fatalf("returned before the sync: %v", err)
		default:
		}
		sync <- nil
		if err := <-returned; err != nil {
			t.Error(err)
		}
		close(sync)
		mustClose(t, l)
	})
}

// A sync that fails refuses all who waited for it and leaves no record of
// them; the next one is tried again.
func TestFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		var lost counter
		l := newLog(t, File(path), WithRequired(), WithDropped(lost.add))
		failure := error(nil)
		withSync(l, func(*os.File) error { time.Sleep(time.Millisecond); return failure })
		w, r := ada()
		record := func(n int) (errs []error) {
			errs = make([]error, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { errs[i] = l.Record(context.Background(), r, w.decide(t, r)) })
			}
			wg.Wait()
			return errs
		}
		if err := errors.Join(record(3)...); err != nil {
			t.Fatal(err)
		}
		failure = syscall.EIO
		for _, err := range record(5) {
			refused(t, err, authz.WriteFailed)
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("%v does not say why", err)
			}
		}
		if lost.count() != 5 {
			t.Errorf("%d dropped, want 5", lost.count())
		}
		if got := len(linesOf(t, path)); got != 3 {
			t.Errorf("%d lines after the failure, want 3", got)
		}
		refused(t, l.Changed(Change{Event: Policy, Name: "shop"}), authz.WriteFailed)
		failure = nil
		if err := errors.Join(record(2)...); err != nil {
			t.Error(err)
		}
		mustClose(t, l)
		if got := len(linesOf(t, path)); got != 5 {
			t.Errorf("%d lines, want 5", got)
		}
	})
}

// Another writer's lines are never cut off.
func TestUndoSparesOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := newLog(t, File(path), WithRequired())
	withSync(l, func(*os.File) error {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("{\"other\":true}\n")
		return errors.Join(err, f.Close(), syscall.EIO)
	})
	w, r := ada()
	refused(t, l.Record(t.Context(), r, w.decide(t, r)), authz.WriteFailed)
	if got := linesOf(t, path); len(got) != 2 || got[1] != `{"other":true}` {
		t.Errorf("got %q", got)
	}
}

// A disk that hangs ends the wait of those who are there, then answers the
// others at once, and is used again when it is back.
func TestStuckDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		l := newLog(t, File(path), WithRequired(), WithWait(300*time.Millisecond), WithQueue(5))
		release := make(chan struct{})
		withSync(l, func(*os.File) error { <-release; return nil })
		w, r := ada()
		var wg sync.WaitGroup
		var full atomic.Int64
		start := time.Now()
		for range 8 {
			wg.Go(func() {
				err := l.Record(context.Background(), r, w.decide(t, r))
				switch waited := time.Since(start); {
				case authz.DetailOf(err) == authz.QueueFull && waited == 0:
					full.Add(1)
				default:
					refused(t, err, authz.TimedOut)
					if waited != 300*time.Millisecond {
						t.Errorf("waited %v", waited)
					}
				}
			})
		}
		wg.Wait()
		if full.Load() != 3 {
			t.Errorf("%d found the queue full, want 3", full.Load())
		}
		time.Sleep(time.Millisecond)
		start = time.Now()
		refused(t, l.Record(context.Background(), r, w.decide(t, r)), authz.TimedOut)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v behind a disk that hangs", waited)
		}
		close(release)
		synctest.Wait()
		if err := l.Record(context.Background(), r, w.decide(t, r)); err != nil {
			t.Errorf("after the disk is back: %v", err)
		}
		mustClose(t, l)
		if got := len(linesOf(t, path)); got != 6 { // those that were slow, and the last
			t.Errorf("%d lines, want 6", got)
		}
	})
}

// Through the pipeline: no record, no allow.
func TestPipelineRefuses(t *testing.T) {
	l := newLog(t, File(filepath.Join(t.TempDir(), "a")), WithRequired())
	withSync(l, func(*os.File) error { return syscall.ENOSPC })
	w, r := ada()
	p, err := authz.New(w, l)
	if err != nil {
		t.Fatal(err)
	}
	d := p.Decide(t.Context(), r)
	if d.Allowed() || d.Reason() != authz.AuditUnavailable || d.Detail() != authz.WriteFailed {
		t.Errorf("got %v (%v)", d.Reason(), d.Detail())
	}
	withSync(l, datasync)
	if d := p.Decide(t.Context(), r); !d.Allowed() {
		t.Errorf("with room again: %v (%v)", d.Reason(), d.Err())
	}
}

// Whoever rotates by renaming loses no line and splits none, in either mode.
func TestRotation(t *testing.T) {
	for name, opts := range map[string][]Option{"async": nil, "required": {WithRequired()}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			var lost counter
			l := newLog(t, File(path), append(opts, WithDropped(lost.add))...)
			w, r := ada()
			var ids sync.Map
			stop := make(chan struct{})
			var recorded atomic.Int64
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						d := w.decide(t, r)
						if err := l.Record(context.Background(), r, d); err != nil {
							t.Error(err)
							return
						}
						ids.Store(d.ID(), true)
						recorded.Add(1)
					}
				})
			}
			const rotations = 10
			sizes := make(map[string]int64) // of old files, once Reopen returned
			for i := range rotations {
				for before := recorded.Load(); recorded.Load() < before+50; {
					time.Sleep(time.Millisecond)
				}
				old := path + "." + string(rune('a'+i))
				if err := os.Rename(path, old); err != nil {
					t.Fatal(err)
				}
				if err := l.Reopen(); err != nil {
					t.Fatal(err)
				}
				info, err := os.Stat(old)
				if err != nil {
					t.Fatal(err)
				}
				sizes[old] = info.Size()
			}
			close(stop)
			wg.Wait()
			mustClose(t, l)
			files, err := filepath.Glob(path + "*")
			if err != nil || len(files) != rotations+1 {
				t.Fatalf("files %q, %v", files, err)
			}
			n, want := 0, int(recorded.Load())-lost.count()
			for _, f := range files {
				if info, err := os.Stat(f); err != nil || f != path && info.Size() != sizes[f] {
					t.Errorf("%s grew after Reopen: %v", f, err)
				}
				for _, line := range linesOf(t, f) {
					n++
					if _, ok := ids.LoadAndDelete(strict(t, line).GetDecisionId()); !ok {
						t.Fatalf("%s: twice, or never recorded: %s", f, line)
					}
				}
			}
			if n != want || name == "required" && lost.count() > 0 {
				t.Errorf("%d records, want %d; %d dropped", n, want, lost.count())
			}
		})
	}
}

// A file that cannot be opened anew is no reason to stop writing to the old
// one.
func TestReopenFails(t *testing.T) {
	for _, opts := range [][]Option{nil, {WithRequired()}} {
		dir := t.TempDir()
		path := filepath.Join(dir, "audit.jsonl")
		l := newLog(t, File(path), opts...)
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err == nil || !strings.Contains(err.Error(), "is a folder, not a file") {
			t.Errorf("got %v", err)
		}
		w, r := ada()
		if err := l.Record(t.Context(), r, w.decide(t, r)); err != nil {
			t.Error(err)
		}
		mustClose(t, l)
		if got := len(linesOf(t, path+".1")); got != 1 {
			t.Errorf("%d lines in the old file, want 1", got)
		}
	}
}

// Reopening without a rotation, as a SIGHUP for a reload does, changes
// nothing.
func TestReopenInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := newLog(t, File(path), WithRequired())
	w, r := ada()
	for range 3 {
		old := l.out.file
		if err := errors.Join(l.Record(t.Context(), r, w.decide(t, r)), l.Reopen()); err != nil {
			t.Fatal(err)
		}
		if err := old.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the old file was still open: %v", err)
		}
	}
	mustClose(t, l)
	if got := len(linesOf(t, path)); got != 3 {
		t.Errorf("%d lines, want 3", got)
	}
}

// In either mode, what Close wrote is durable, or it says why not.
func TestCloseSyncs(t *testing.T) {
	for _, opts := range [][]Option{nil, {WithRequired()}} {
		l := newLog(t, File(filepath.Join(t.TempDir(), "a")), opts...)
		withSync(l, func(*os.File) error { return syscall.EIO })
		if err := l.Close(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
	}
}

func TestReopenOfWriter(t *testing.T) {
	if err := newLog(t, Writer(io.Discard)).Reopen(); err != nil {
		t.Error(err)
	}
}

func BenchmarkRequired(b *testing.B) {
	w, r := ada()
	d := w.decide(b, r)
	l := newLog(b, File(filepath.Join(b.TempDir(), "audit.jsonl")), WithRequired())
	var syncs atomic.Int64
	withSync(l, func(f *os.File) error { syncs.Add(1); return datasync(f) })
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Record(context.Background(), r, d); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/float64(max(syncs.Load(), 1)), "records/sync")
}
