package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
)

// keep is how many lines of output a Log remembers.
const keep = 4096

// A Log takes the output of a process: it writes it to a file and remembers
// the last lines, so that somebody can wait for one. It is safe for concurrent
// use.
type Log struct {
	file *os.File

	mu      sync.Mutex
	partial []byte
	lines   []string
	dropped int
	more    chan struct{} // closed when lines come, or the end
	ended   bool
}

// newLog creates the file.
func newLog(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &Log{file: f, more: make(chan struct{})}, nil
}

// Path returns where the file is.
func (l *Log) Path() string { return l.file.Name() }

// Write takes output. It never fails: a full disk must not stop the process
// that writes.
func (l *Log) Write(p []byte) (int, error) {
	_, _ = l.file.Write(p) // see above
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, ok := bytes.Cut(l.partial, []byte("\n"))
		if !ok {
			break
		}
		l.lines = append(l.lines, string(line))
		l.partial = rest
	}
	if n := len(l.lines) - keep; n > 0 {
		l.lines = append([]string(nil), l.lines[n:]...)
		l.dropped += n
	}
	l.wake()
	return len(p), nil
}

// end says that no more output comes.
func (l *Log) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.wake()
	_ = l.file.Close() // what is written is written
}

// wake wakes who waits. The caller holds mu.
func (l *Log) wake() {
	close(l.more)
	l.more = make(chan struct{})
}

// Await returns the first line that match accepts, of those remembered or yet
// to come. It fails when ctx ends or the process does.
func (l *Log) Await(ctx context.Context, match func(line string) bool) (string, error) {
	seen := 0
	for {
		l.mu.Lock()
		lines, dropped, more, ended := l.lines, l.dropped, l.more, l.ended
		l.mu.Unlock()
		for i := max(0, seen-dropped); i < len(lines); i++ {
			if match(lines[i]) {
				return lines[i], nil
			}
		}
		seen = dropped + len(lines)
		if ended {
			return "", fmt.Errorf("it ended; its last output: %s", l.Tail(5))
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", fmt.Errorf("%w; its last output: %s", context.Cause(ctx), l.Tail(5))
		}
	}
}

// Lines returns the lines that are remembered.
func (l *Log) Lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// Tail returns the last n lines.
func (l *Log) Tail(n int) string {
	lines := l.Lines()
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
