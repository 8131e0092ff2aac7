package audit

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// patchy writes to a file what a script allows: how many bytes of each write,
// or all of them where the script has ended.
type patchy struct {
	f      *os.File
	script []int
}

func (p *patchy) Write(b []byte) (int, error) {
	if len(p.script) == 0 {
		return p.f.Write(b)
	}
	n := min(p.script[0], len(b))
	p.script = p.script[1:]
	if n, err := p.f.Write(b[:n]); err != nil {
		return n, err
	}
	if n == len(b) {
		return n, nil
	}
	return n, syscall.ENOSPC
}

// patched returns an output to a file that begins with content, and allows
// what the script does.
func patched(t *testing.T, durable bool, content string, script ...int) (*output, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := newOutput(File(path), durable)
	if err != nil {
		t.Fatal(err)
	}
	o.w = &patchy{f: o.file, script: script}
	t.Cleanup(func() {
		if err := o.close(); err != nil {
			t.Error(err)
		}
	})
	return o, path
}

// A failed write leaves whole lines and, where records are durable, none of
// its own. The next one goes on as if nothing had been.
func TestOutputRepairs(t *testing.T) {
	const lines = "11\n22\n33\n"
	for _, tt := range []struct {
		name       string
		durable    bool
		content    string
		script     []int // of the write that fails
		want       int   // how many lines it says are written
		there      string
		afterwards string
	}{
		{"nothing fits", false, "00\n", []int{0}, 0, "00\n", "00\n44\n"},
		{"a line and a half fit", false, "00\n", []int{4}, 1, "00\n11\n", "00\n11\n44\n"},
		{"two lines fit", false, "00\n", []int{6}, 2, "00\n11\n22\n", "00\n11\n22\n44\n"},
		{"nothing fits after a torn line", false, "0", []int{0}, 0, "0", "0\n44\n"},
		{"only the end of a torn line fits", false, "0", []int{1, 0}, 0, "0\n", "0\n44\n"},
		{"some fits after a torn line", false, "0", []int{1, 4}, 1, "0\n11\n", "0\n11\n44\n"},
		{"durable, nothing fits", true, "00\n", []int{0}, 0, "00\n", "00\n44\n"},
		{"durable, some fits", true, "00\n", []int{4}, 0, "00\n", "00\n44\n"},
		{"durable, some fits after a torn line", true, "0", []int{1, 4}, 0, "0", "0\n44\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, path := patched(t, tt.durable, tt.content, tt.script...)
			n, err := o.write([][]byte{[]byte(lines), []byte("never\n")})
			if n != tt.want || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("got %d, %v, want %d", n, err, tt.want)
			}
			is(t, path, tt.there)
			if n, err := o.write([][]byte{[]byte("44\n")}); n != 1 || err != nil {
				t.Errorf("afterwards: %d, %v", n, err)
			}
			is(t, path, tt.afterwards)
		})
	}
}

// Where the end of a torn line cannot be written, nothing is written after it,
// although that would fit.
func TestNothingFollowsATornLine(t *testing.T) {
	o, path := patched(t, false, "0")
	if err := o.file.Close(); err != nil { // so that the first write fails
		t.Fatal(err)
	}
	broken := o.w
	o.w = writer(func(p []byte) (int, error) {
		if len(p) == 1 {
			return broken.Write(p)
		}
		return len(p), os.WriteFile(path, p, 0o600)
	})
	if n, err := o.write([][]byte{[]byte("11\n")}); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %d, %v", n, err)
	}
	is(t, path, "0")
	o.file = nil
}

// What others wrote is not cut off; the torn line is closed off instead.
func TestUndoLeavesWhatItDoesNotKnow(t *testing.T) {
	for name, others := range map[string]func(path string) error{
		"appended": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("other\n")
			return errors.Join(err, f.Close())
		},
		"emptied": func(path string) error { return os.Truncate(path, 0) },
	} {
		for _, durable := range []bool{false, true} {
			o, path := patched(t, durable, "00\n", 4)
			if err := others(path); err != nil {
				t.Fatal(err)
			}
			if n, err := o.write([][]byte{[]byte("11\n22\n")}); !errors.Is(err, syscall.ENOSPC) || durable && n != 0 {
				t.Errorf("%s: got %d, %v", name, n, err)
			}
			if _, err := o.write([][]byte{[]byte("44\n")}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			is(t, path, map[string]string{"appended": "00\nother\n", "emptied": ""}[name]+"11\n2\n44\n")
		}
	}
}

func is(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("the file is %q, %v, want %q", got, err, want)
	}
}

// A failure to sync is one, whatever made it.
func TestDatasync(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := datasync(w); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a pipe: got %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{w, nil} {
		if err := datasync(f); err == nil {
			t.Errorf("%v: no error", f)
		}
	}
}

// A new file is not durable before its name is.
func TestFolderIsSynced(t *testing.T) {
	folder := t.TempDir()
	o, err := newOutput(File(filepath.Join(folder, "a")), true)
	if err != nil {
		t.Fatal(err)
	}
	var synced []string
	failure := error(nil)
	o.syncFolder = func(name string) error { synced = append(synced, name); return failure }
	if err := o.reopen(); err != nil || len(synced) != 1 || synced[0] != folder {
		t.Errorf("got %v, synced %q", err, synced)
	}
	old := o.file
	failure = syscall.EIO
	if err := o.reopen(); !errors.Is(err, syscall.EIO) || o.file != old {
		t.Errorf("got %v", err)
	}
	if err := o.close(); err != nil {
		t.Error(err)
	}
	if err := syncFolder(filepath.Join(folder, "no")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
	// Where nobody relies on it, no folder is synced.
	if o, err = newOutput(File(filepath.Join(folder, "a")), false); err != nil {
		t.Fatal(err)
	}
	o.syncFolder = func(string) error { return syscall.EIO }
	if err := errors.Join(o.reopen(), o.close()); err != nil {
		t.Error(err)
	}
}
