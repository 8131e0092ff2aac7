package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// An output is where lines go: a file under a path, or a writer. It keeps what
// it writes a sequence of whole lines, also when a write stops half way.
type output struct {
	path    string // empty for a writer
	durable bool   // each write is synced, and undone where that fails

	sync       func(*os.File) error
	syncFolder func(name string) error

	mu   sync.Mutex // held while lines are written and while files are swapped
	w    io.Writer
	file *os.File // w, where it is a file of ours
	end  int64    // where the file ends if nobody else writes to it
	torn bool     // the last byte that was written ended no line
}

func newOutput(s Sink, durable bool) (*output, error) {
	o := &output{path: s.path, durable: durable, sync: datasync, syncFolder: syncFolder, w: s.w}
	if o.path == "" {
		return o, nil
	}
	return o, o.open()
}

// write appends whole lines, and returns how many of them stand, which is all
// of them or, where they must be durable, none of them if there is an error.
func (o *output) write(chunks [][]byte) (lines int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	start, torn := o.end, o.torn
	for _, c := range chunks {
		var n int
		if n, err = o.append(c); err != nil {
			if !o.durable {
				whole := bytes.LastIndexByte(c[:n], '\n') + 1
				lines += bytes.Count(c[:whole], newline)
				if o.undo(o.end - int64(n-whole)) {
					o.torn = o.torn && n == 0
				}
			}
			break
		}
		lines += bytes.Count(c, newline)
	}
	if !o.durable {
		return lines, err
	}
	if err == nil {
		err = o.sync(o.file)
	}
	if err != nil {
		// The callers are told that there is no record, so there should be
		// none. Also, after a failed sync the kernel may call pages clean that
		// never reached the disk.
		if o.undo(start) {
			o.torn = torn
		}
		return 0, err
	}
	return lines, nil
}

var newline = []byte{'\n'}

// append writes c on a new line, and returns how much of c was written.
func (o *output) append(c []byte) (n int, err error) {
	if o.torn {
		if _, err := o.raw(newline); err != nil {
			return 0, err
		}
	}
	return o.raw(c)
}

func (o *output) raw(c []byte) (n int, err error) {
	n, err = o.w.Write(c)
	if n < len(c) && err == nil {
		err = io.ErrShortWrite
	}
	o.end += int64(n)
	if n > 0 {
		o.torn = c[n-1] != '\n'
	}
	return n, err
}

// undo cuts the file back to the given length, and reports whether it could.
// It touches nothing where the file does not end with our own bytes: another
// process may have appended to it, or emptied it.
func (o *output) undo(end int64) bool {
	info, err := o.file.Stat() // fails where there is no file
	if err != nil || info.Size() != o.end || o.file.Truncate(end) != nil {
		return false
	}
	o.end = end
	return true
}

// open opens the file under the path, in place of the one that is open. On an
// error nothing has changed. The caller holds the lock or is the only one.
func (o *output) open() error {
	// Not blocking, so that a named pipe without a reader is an error at once.
	f, err := os.OpenFile(o.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.EISDIR) {
		return fmt.Errorf("%s is a folder, not a file", o.path)
	}
	if err != nil {
		return err
	}
	end, torn, err := o.examine(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	old := o.file
	o.w, o.file, o.end, o.torn = f, f, end, torn
	if old != nil {
		return old.Close()
	}
	return nil
}

// examine returns where a file ends, and whether within a line: a process may
// have died while it wrote.
func (o *output) examine(f *os.File) (end int64, torn bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, false, err
	}
	if !info.Mode().IsRegular() {
		if o.durable {
			return 0, false, fmt.Errorf("%s is no regular file: its records could not be made durable", o.path)
		}
		return 0, false, nil
	}
	if o.durable {
		if err := o.syncFolder(filepath.Dir(o.path)); err != nil {
			return 0, false, err
		}
	}
	return info.Size(), endsTorn(o.path, info.Size()), nil
}

// endsTorn reports whether the last line of a file has no end. A file that we
// may not read is taken to be whole.
func endsTorn(path string, size int64) bool {
	last := []byte{'\n'}
	if f, err := os.Open(path); err == nil {
		_, _ = f.ReadAt(last, size-1) // reads nothing where it fails
		_ = f.Close()                 // only read from
	}
	return last[0] != '\n'
}

// syncFolder makes the name of a new file as durable as its content. Some
// file systems cannot sync a folder and need not.
func syncFolder(name string) error {
	f, err := os.Open(name) //nolint:gosec // G703: the folder of a file that the operator named
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

func (o *output) reopen() error {
	if o.path == "" {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return errClosed
	}
	return o.open()
}

// close syncs and closes a file of ours. A second close does nothing.
func (o *output) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return nil
	}
	err := o.sync(o.file)
	if errors.Is(err, syscall.EINVAL) { // a device or a pipe
		err = nil
	}
	err = errors.Join(err, o.file.Close())
	o.file = nil
	return err
}
