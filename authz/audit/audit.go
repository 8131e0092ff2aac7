// Package audit writes one record for each decision, and one for each change
// of what decisions are made from.
//
// A [Log] is an [authz.Recorder]. Each record is one line of printable ASCII,
// a JSON object of the form that proto/sallyport/v1/decision.proto defines:
// no byte of a request can end the line, forge a key or reach a terminal as a
// control character. A record holds what its table in README.md lists and
// nothing else: never a token, a header, a cookie, a query string or a claim
// that a [Field] did not ask for. Every value, every record and the queue are
// bounded.
//
// A Log loses records before it delays a decision, and says how many
// ([WithDropped]). [WithRequired] turns that round: Record returns once its
// record is durable, and refuses with [authz.AuditUnavailable] where it cannot
// be. A file that fails is tried again with the next record, so room on a full
// disk means service again.
//
// Limits: a required Log may hold a record of a decision whose caller was told
// audit_unavailable (see [Log.Record]), never the reverse. A file belongs to
// one process. Records are not signed.
//
// What a record says is in record.go, how it becomes ASCII in json.go, the
// bound on what waits in queue.go, and the file with its repairs in output.go.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-authz/sallyport/authz"
)

// linger is how long records that nobody waits for gather before they are
// written: a write for each would cost more than the record.
const linger = 10 * time.Millisecond

// A Log writes records. It is safe for concurrent use. [New] makes one; the
// zero value is not ready for use.
type Log struct {
	format   format
	out      *output // nil: no records are kept
	queue    *queue
	required bool
	patience time.Duration
	now      func() time.Time
	dropped  func(n int)
	log      complaints
	lines    sync.Pool     // of *[]byte
	stopped  chan struct{} // closed when the writer is done
}

// New returns a Log that writes to sink. It opens the file, and starts the one
// goroutine that writes; [Log.Close] ends it.
func New(sink Sink, opts ...Option) (*Log, error) {
	s := settings{
		queue:    65536,
		patience: 2 * time.Second,
		now:      time.Now,
		dropped:  func(int) {},
		logger:   slog.New(slog.DiscardHandler),
		subject:  func(s *authz.Subject) string { return s.ID },
	}
	for _, opt := range opts {
		opt(&s)
	}
	f, err := s.check(sink)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	l := &Log{
		format: f, required: s.required, patience: s.patience, now: s.now, dropped: s.dropped,
		log:     complaints{log: s.logger},
		lines:   sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }},
		stopped: make(chan struct{}),
	}
	if sink.none {
		close(l.stopped)
		return l, nil
	}
	if l.out, err = newOutput(sink, s.required); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	l.queue = newQueue(s.queue, s.required)
	go l.run()
	return l, nil
}

// Record implements [authz.Recorder].
//
// By default it only puts the record into the queue, and returns nil even
// where the queue is full. With [WithRequired] it returns once the record is
// durable; its error is then a Denial for [authz.AuditUnavailable] whose
// detail says what failed. In two cases the record may be found in the file
// all the same, and says what was decided before the refusal: where the wait
// ended and the disk was only slow, and where a record that could not be made
// durable cannot be cut off either. So the file may name an allow that became
// a 503, but misses no answer that was given.
func (l *Log) Record(ctx context.Context, r *authz.Request, d *authz.Decision) error {
	if l.out == nil {
		return nil
	}
	buf := l.lines.Get().(*[]byte)
	*buf = l.format.decision((*buf)[:0], l.now(), trace.SpanContextFromContext(ctx).TraceID(), r, d)
	err := l.put(*buf)
	l.lines.Put(buf)
	if !l.required {
		return nil
	}
	return err
}

// Changed records a change. It waits as Record does, and returns an error in
// either mode where the record is known to be lost.
func (l *Log) Changed(c Change) error {
	if l.out == nil {
		return nil
	}
	if err := l.put(l.format.change(nil, l.now(), c)); err != nil {
		return fmt.Errorf("audit: change of %s %q: %w", c.Event, c.Name, err)
	}
	return nil
}

// put queues a line and, where records are required, waits until it is
// durable.
func (l *Log) put(line []byte) error {
	b, err := l.queue.put(line, l.patience)
	if err != nil {
		l.drop(1, err)
		return authz.Refuse(authz.AuditUnavailable, detailOf(err), err)
	}
	if !l.required {
		return nil
	}
	t := time.NewTimer(l.patience)
	defer t.Stop()
	select {
	case <-b.done:
		if b.err != nil {
			return authz.Refuse(authz.AuditUnavailable, authz.WriteFailed, b.err)
		}
		return nil
	case <-t.C:
		return authz.Refuse(authz.AuditUnavailable, authz.TimedOut, fmt.Errorf("not durable within %v", l.patience))
	}
}

func detailOf(err error) authz.Detail {
	switch {
	case errors.Is(err, errStuck):
		return authz.TimedOut
	case errors.Is(err, errClosed):
		return authz.LogClosed
	}
	return authz.QueueFull
}

// run writes batches until the queue is closed and empty. A batch takes in
// what comes while the one before it is written, so that under load one sync
// serves many records, and a lone record waits for nobody.
func (l *Log) run() {
	defer close(l.stopped)
	for closed := false; !closed; {
		<-l.queue.wake
		if !l.required {
			l.queue.gather(linger)
		}
		var b *batch
		if b, closed = l.queue.take(); b != nil {
			l.write(b)
		}
	}
}

// write writes a batch, makes room for others, and tells who waits for it.
func (l *Log) write(b *batch) {
	written, err := l.out.write(b.chunks)
	if err != nil {
		l.drop(b.records-written, err)
	}
	l.queue.release(b)
	if b.done != nil {
		b.err = err
		close(b.done)
	}
}

// drop counts records that are not written.
func (l *Log) drop(n int, err error) {
	l.dropped(n)
	l.log.complain(l.now(), err)
}

// Reopen opens the file anew under its path, for those who rotate it. Once it
// returns nil, the old file is complete and closed. Where the file cannot be
// opened, the old one stays in use and the error says why. Reopen waits for a
// write that is under way, as long as the disk takes. Without a file there is
// nothing to do.
func (l *Log) Reopen() error {
	if l.out == nil {
		return nil
	}
	if err := l.out.reopen(); err != nil {
		return fmt.Errorf("audit: reopen: %w", err)
	}
	return nil
}

// Close writes what is queued, syncs and closes the file, and stops the Log.
// When ctx ends before that, it returns an error that says how many records
// were left; Close may then be called again. Records that come later are
// dropped or, where they are required, refused.
func (l *Log) Close(ctx context.Context) error {
	if l.out == nil {
		return nil
	}
	l.queue.close()
	select {
	case <-l.stopped:
	case <-ctx.Done():
		return fmt.Errorf("audit: close: %d records are not written: %w", l.queue.pending(), ctx.Err())
	}
	if err := l.out.close(); err != nil {
		return fmt.Errorf("audit: close: %w", err)
	}
	return nil
}
