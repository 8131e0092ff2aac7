package audit

import (
	"errors"
	"sync"
	"time"
)

const (
	// chunkSize is what one write takes; it holds the longest record twice.
	chunkSize = 2 * maxRecord

	// meanRecord is what a record in the queue may hold on average, in bytes.
	// Most take 600; without a second bound, long paths would make the queue
	// thirty times as large as an operator planned for.
	meanRecord = 1 << 10

	// maxFree bounds how many chunks are kept for later.
	maxFree = 16
)

// Why a record is not taken into the queue.
var (
	errFull   = errors.New("the queue is full")
	errStuck  = errors.New("the file has not answered for too long")
	errClosed = errors.New("the log is closed")
)

// A batch is what is written together: whole lines, in chunks that hold no
// part of a line.
type batch struct {
	chunks  [][]byte
	records int
	bytes   int
	done    chan struct{} // closed once err is set; nil where nobody waits
	err     error
}

// A queue holds the records that are accepted and not yet written, those in
// the writer's hands included.
type queue struct {
	maxRecords, maxBytes int
	waited               bool          // somebody waits for each batch
	wake                 chan struct{} // tells the writer, holds one message

	mu             sync.Mutex
	filling        *batch
	records, bytes int
	busy           time.Time // since when the writer holds a batch; zero: it holds none
	free           [][]byte
	closed         bool
}

func newQueue(records int, waited bool) *queue {
	q := &queue{
		maxRecords: records,
		maxBytes:   max(records*meanRecord, maxRecord),
		waited:     waited,
		wake:       make(chan struct{}, 1),
	}
	q.filling = q.newBatch()
	return q
}

func (q *queue) newBatch() *batch {
	b := &batch{}
	if q.waited {
		b.done = make(chan struct{})
	}
	return b
}

// put copies line into the batch that is being filled, and returns that. It
// blocks for no longer than that takes. Where records are waited for, it
// refuses those that would wait behind a write that has taken longer than
// patience already.
func (q *queue) put(line []byte, patience time.Duration) (*batch, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return nil, errClosed
	case q.waited && !q.busy.IsZero() && time.Since(q.busy) > patience:
		return nil, errStuck
	case q.records >= q.maxRecords || q.bytes+len(line) > q.maxBytes:
		return nil, errFull
	}
	b := q.filling
	last := len(b.chunks) - 1
	if last < 0 || len(b.chunks[last])+len(line) > chunkSize {
		b.chunks = append(b.chunks, q.chunk())
		last++
		q.signal() // the first record wakes the writer, a full chunk ends its wait for more
	}
	b.chunks[last] = append(b.chunks[last], line...)
	b.records++
	b.bytes += len(line)
	q.records++
	q.bytes += len(line)
	if 2*q.records >= q.maxRecords {
		q.signal() // and so does a short queue
	}
	return b, nil
}

// chunk returns an empty chunk. The caller holds the lock.
func (q *queue) chunk() []byte {
	if n := len(q.free); n > 0 {
		c := q.free[n-1]
		q.free = q.free[:n-1]
		return c
	}
	return make([]byte, 0, chunkSize)
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // the writer has a message that it did not read yet
	}
}

// gather lets records come together, for d or until a chunk is full, the queue
// is half full or closed.
func (q *queue) gather(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-q.wake:
	}
}

// take returns the batch that was being filled, or nil where it is empty, and
// whether it is the last. Each batch that is not taken has a message in wake.
func (q *queue) take() (b *batch, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.filling.records == 0 {
		return nil, q.closed
	}
	b = q.filling
	q.filling = q.newBatch()
	q.busy = time.Now()
	return b, q.closed
}

// release makes room for what b held.
func (q *queue) release(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy = time.Time{}
	q.records -= b.records
	q.bytes -= b.bytes
	for _, c := range b.chunks {
		if len(q.free) < maxFree {
			q.free = append(q.free, c[:0])
		}
	}
}

// close refuses what comes from now on. The writer takes what is there.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) pending() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records
}
