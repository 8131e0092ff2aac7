package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
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

// A gate is a writer that is stuck until it is opened.
type gate struct {
	open chan struct{}
	bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(p)
}

// A writer that is stuck costs records, each of which is counted, and no
// decision any time.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost counter
		var logs buffer
		g := &gate{open: make(chan struct{})}
		l := newLog(t, Writer(g), WithQueue(10), WithDropped(lost.add), WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
		w, r := ada()
		var ids []string
		start := time.Now()
		for range 30 {
			d := w.decide(t, r)
			ids = append(ids, d.ID())
			if err := l.Record(t.Context(), r, d); err != nil {
				t.Error(err)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("records were waited for: %v", waited)
		}
		if lost.count() != 20 {
			t.Errorf("%d dropped, want 20", lost.count())
		}
		synctest.Wait() // the first line is out
		refused(t, l.Changed(Change{Event: Policy}), authz.QueueFull)
		synctest.Wait()
		if got := strings.Count(logs.String(), "audit records are lost"); got != 1 {
			t.Errorf("%d lines about it, want 1: %s", got, logs.String())
		}
		time.Sleep(quiet)
		_ = l.Record(t.Context(), r, w.decide(t, r))
		synctest.Wait()
		if got := strings.Count(logs.String(), "the queue is full"); got != 2 {
			t.Errorf("%d lines after a while, want 2: %s", got, logs.String())
		}

		// Close gives up in time and can be asked again.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := l.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "10 records are not written") {
			t.Errorf("got %v", err)
		}
		close(g.open)
		mustClose(t, l)
		lines := strings.Split(strings.TrimSuffix(g.String(), "\n"), "\n")
		if len(lines) != 10 {
			t.Fatalf("%d lines, want 10", len(lines))
		}
		for i, line := range lines {
			if got := object(t, line)["decision_id"]; got != ids[i] {
				t.Errorf("line %d is of %v, want %v", i, got, ids[i])
			}
		}
	})
}

// Long records fill the queue by their bytes.
func TestQueueIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost counter
		g := &gate{open: make(chan struct{})}
		l := newLog(t, Writer(g), WithQueue(100), WithDropped(lost.add))
		w, r := ada()
		r.Path = strings.Repeat("\n", 3000)
		for range 100 {
			_ = l.Record(t.Context(), r, w.decide(t, r))
		}
		close(g.open)
		mustClose(t, l)
		if got := g.Len(); got > 100*meanRecord || got < 80*meanRecord {
			t.Errorf("%d bytes were queued, want nearly %d", got, 100*meanRecord)
		}
		if got := strings.Count(g.String(), "\n"); got+lost.count() != 100 {
			t.Errorf("%d written, %d dropped of 100", got, lost.count())
		}
	})
}

// Records gather for a moment, so that a write carries many.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var writes atomic.Int64
		l := newLog(t, Writer(writer(func(p []byte) (int, error) {
			writes.Add(1)
			if p[len(p)-1] != '\n' || len(p) > chunkSize {
				t.Errorf("a write of %d bytes ends with %q", len(p), p[len(p)-1])
			}
			return len(p), nil
		})))
		w, r := ada()
		for range 1000 {
			_ = l.Record(t.Context(), r, w.decide(t, r))
		}
		mustClose(t, l)
		if n := writes.Load(); n > 15 {
			t.Errorf("%d writes for 1000 records", n)
		}
		// The one that nobody follows does not wait for company.
		l = newLog(t, Writer(writer(func(p []byte) (int, error) { writes.Store(-1); return len(p), nil })))
		_ = l.Record(t.Context(), r, w.decide(t, r))
		time.Sleep(linger)
		synctest.Wait()
		if writes.Load() != -1 {
			t.Errorf("not written after %v", linger)
		}
		mustClose(t, l)
	})
}

type writer func([]byte) (int, error)

func (f writer) Write(p []byte) (int, error) { return f(p) }

// A write that stops half way loses its records, and the next record begins on
// a new line.
func TestShortWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var lost counter
		room := 0 // bytes that fit, then there is no more
		l := newLog(t, Writer(writer(func(p []byte) (int, error) {
			n, _ := out.Write(p[:min(room, len(p))])
			room -= n
			if n < len(p) {
				return n, syscall.ENOSPC
			}
			return n, nil
		})), WithDropped(lost.add))
		w, r := ada()
		length := 0
		record := func(n int) {
			for range n {
				_ = l.Record(t.Context(), r, w.decide(t, r))
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		room = plenty
		record(1)
		length = out.Len()
		room = 2*length + length/2 // two records and a half
		record(5)
		if lost.count() != 3 {
			t.Errorf("%d dropped, want 3", lost.count())
		}
		room = 1 // the line can be closed off, and no more than that
		record(1)
		room = 0
		record(1)
		room = plenty
		record(2)
		mustClose(t, l)
		if lost.count() != 5 {
			t.Errorf("%d dropped, want 5", lost.count())
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		broken := 0
		for _, line := range lines {
			if !strings.HasSuffix(line, "}") {
				broken++
				continue
			}
			strict(t, line)
		}
		if len(lines) != 6 || broken != 1 {
			t.Errorf("%d lines, %d of them broken, want 6 and 1: %s", len(lines), broken, out.String())
		}
	})
}

const plenty = 1 << 30

// A writer that says less than it wrote and no error is not believed.
func TestSilentShortWrite(t *testing.T) {
	var lost counter
	l := newLog(t, Writer(writer(func(p []byte) (int, error) { return len(p) - 1, nil })), WithDropped(lost.add))
	w, r := ada()
	_ = l.Record(t.Context(), r, w.decide(t, r))
	mustClose(t, l)
	if lost.count() != 1 {
		t.Errorf("%d dropped, want 1", lost.count())
	}
}

// A log that is stuck as well holds up nobody, and is not told more until it
// took the last line.
func TestStuckLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := &stuckHandler{release: release}
		l := newLog(t, Writer(&gate{open: release}), WithQueue(1), WithLogger(slog.New(stuck)))
		w, r := ada()
		for range 2 {
			start := time.Now()
			for range 100 {
				_ = l.Record(t.Context(), r, w.decide(t, r))
			}
			if waited := time.Since(start); waited != 0 {
				t.Errorf("records were waited for: %v", waited)
			}
			time.Sleep(quiet)
		}
		if n := stuck.lines.Load(); n != 1 {
			t.Errorf("%d lines are stuck, want 1", n)
		}
		close(release)
		mustClose(t, l)
	})
}

// A stuckHandler takes no line before it is released.
type stuckHandler struct {
	release chan struct{}
	lines   atomic.Int64
}

func (h *stuckHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *stuckHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *stuckHandler) WithGroup(string) slog.Handler            { return h }

func (h *stuckHandler) Handle(context.Context, slog.Record) error {
	h.lines.Add(1)
	<-h.release
	return nil
}

// Everything that many record at once is there, once.
func TestConcurrentRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := newLog(t, File(path))
	w, r := ada()
	var ids sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				d := w.decide(t, r)
				ids.Store(d.ID(), true)
				_ = l.Record(context.Background(), r, d)
			}
		})
	}
	wg.Wait()
	mustClose(t, l)
	lines := linesOf(t, path)
	if len(lines) != 1600 {
		t.Errorf("%d lines, want 1600", len(lines))
	}
	for _, line := range lines {
		if _, ok := ids.LoadAndDelete(object(t, line)["decision_id"]); !ok {
			t.Fatalf("twice, or never recorded: %s", line)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	w, r := ada()
	d := w.decide(b, r)
	for _, bench := range []struct {
		name string
		sink Sink
	}{
		{"discard", Writer(io.Discard)},
		{"file", File(filepath.Join(b.TempDir(), "audit.jsonl"))},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var lost counter
			l := newLog(b, bench.sink, WithDropped(lost.add))
			ctx := traced(b)
			b.ReportAllocs()
			for b.Loop() {
				_ = l.Record(ctx, r, d)
			}
			mustClose(b, l)
			b.ReportMetric(float64(lost.count())/float64(b.N), "lost/op")
		})
	}
}

// A short queue is written before it is full, without a wait for company.
func TestHalfFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		l := newLog(t, Writer(&out), WithQueue(10))
		w, r := ada()
		start := time.Now()
		for n := 1; n <= 5; n++ {
			_ = l.Record(t.Context(), r, w.decide(t, r))
			synctest.Wait()
			want := 0
			if n == 5 {
				want = 5
			}
			if got := strings.Count(out.String(), "\n"); got != want {
				t.Errorf("%d lines after %d records, want %d", got, n, want)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("it took %v", waited)
		}
		mustClose(t, l)
	})
}

func TestQueue(t *testing.T) {
	q := newQueue(10, false)
	if b, last := q.take(); b != nil || last {
		t.Errorf("empty: got %v, %v", b, last)
	}
	put := func() *batch {
		b, err := q.put([]byte("x\n"), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := put()
	b, last := q.take()
	if b != first || last || q.pending() != 1 {
		t.Errorf("got %v, %v, %d pending", b, last, q.pending())
	}
	chunk := &b.chunks[0][0]
	q.release(b)
	if q.pending() != 0 {
		t.Errorf("%d pending after release", q.pending())
	}
	if again := put(); &again.chunks[0][0] != chunk || string(again.chunks[0]) != "x\n" {
		t.Error("a chunk is not used again")
	}
	q.close()
	if _, err := q.put(nil, 0); !errors.Is(err, errClosed) {
		t.Errorf("closed: got %v", err)
	}
	if b, last := q.take(); b == nil || !last {
		t.Errorf("closed: got %v, %v", b, last)
	}
	if b, last := q.take(); b != nil || !last {
		t.Errorf("closed and empty: got %v, %v", b, last)
	}
}
