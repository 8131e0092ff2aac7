package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// These variables tell a test that it runs in a process of its own, which may
// be killed and whose world may be made small.
const (
	childFolder = "SALLYPORT_AUDIT_TEST_FOLDER"
	childDisk   = "SALLYPORT_AUDIT_TEST_DISK"
)

// child returns the command that runs this test alone in a process of its own.
func child(t *testing.T, folder, disk string, attr *syscall.SysProcAttr) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childFolder+"="+folder, childDisk+"="+disk)
	cmd.SysProcAttr = attr
	return cmd
}

// A disk is small, full at times, and can be given room.
type disk struct {
	name string
	// setUp makes the folder small, for this process only.
	setUp func(folder string) error
	// room makes as much of it as one record needs, and more.
	room func(folder string) error
	full error // what a write says
}

const small = 64 << 10

var disks = []disk{
	{
		name: "tmpfs",
		setUp: func(folder string) error {
			if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := syscall.Mount("audit", folder, "tmpfs", 0, fmt.Sprintf("size=%d", small)); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(folder, "ballast"), make([]byte, small/2), 0o600)
		},
		room: func(folder string) error { return os.Remove(filepath.Join(folder, "ballast")) },
		full: syscall.ENOSPC,
	},
	{
		name:  "limit",
		setUp: func(string) error { return limitFiles(small / 2) },
		room:  func(string) error { return limitFiles(small) },
		full:  syscall.EFBIG,
	},
}

// limitFiles bounds the size of the files that this process may write.
func limitFiles(size uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		return err
	}
	l.Cur = size
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l)
}

// A process of its own may mount as root, or else as the root of a user
// namespace of its own, unless the kernel is told otherwise.
var mayMount = []*syscall.SysProcAttr{
	{Cloneflags: syscall.CLONE_NEWNS},
	{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	},
}

// A full disk costs answers where records are required and records where they
// are not, and with room again everything is as before, without a restart. The
// file has whole lines at any time.
func TestFullDisk(t *testing.T) {
	if name := os.Getenv(childDisk); name != "" {
		for _, d := range disks {
			if d.name == name {
				onFullDisk(t, d, os.Getenv(childFolder))
			}
		}
		return
	}
	for _, d := range disks {
		attrs := []*syscall.SysProcAttr{nil}
		if d.name == "tmpfs" {
			attrs = mayMount
		}
		ran := false
		for _, attr := range attrs {
			out, err := child(t, t.TempDir(), d.name, attr).CombinedOutput()
			var exit *exec.ExitError
			switch {
			case err != nil && !errors.As(err, &exit), strings.Contains(string(out), cannotMount):
				continue // the process did not start, or may do no more than its parent
			case err != nil:
				t.Errorf("%s: %v\n%s", d.name, err, out)
			case !strings.Contains(string(out), passed):
				t.Errorf("%s: the test did not run:\n%s", d.name, out)
			}
			ran = true
			break
		}
		// A size limit is the same to a writer: a write that stops half way,
		// then none. It needs no permission, so one of the two always ran.
		if !ran && d.name == "tmpfs" {
			t.Log("this kernel lets nobody here mount a small disk: the file size limit stands in for it")
		} else if !ran {
			t.Errorf("%s: did not run", d.name)
		}
	}
}

const (
	cannotMount = "cannot mount here"
	passed      = "everything was recorded that fits"
)

func onFullDisk(t *testing.T, d disk, folder string) {
	if err := d.setUp(folder); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Fatalf("%s: %v", cannotMount, err)
	} else if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "audit.jsonl")
	w, r := ada()
	var lost counter
	required := newLog(t, File(path), WithRequired(), WithDropped(lost.add))
	ids := make(map[string]bool)
	record := func() error {
		dec := w.decide(t, r)
		err := required.Record(context.Background(), r, dec)
		if err == nil {
			ids[dec.ID()] = true
		}
		return err
	}
	whole := func(when string) {
		lines := linesOf(t, path)
		if len(lines) != len(ids) {
			t.Errorf("%s: %d lines, want %d", when, len(lines), len(ids))
		}
		for _, line := range lines {
			if !ids[strict(t, line).GetDecisionId()] {
				t.Errorf("%s: a record of a decision that was refused: %s", when, line)
			}
		}
	}
	var err error
	for range 1000 {
		if err = record(); err != nil {
			break
		}
	}
	if len(ids) < 10 {
		t.Fatalf("only %d records: %v", len(ids), err)
	}
	start := time.Now()
	refused(t, err, authz.WriteFailed)
	if !errors.Is(err, d.full) {
		t.Errorf("got %v, want %v in it", err, d.full)
	}
	for range 20 {
		refused(t, record(), authz.WriteFailed)
	}
	if waited := time.Since(start); waited > time.Second { // the limit of one wait is 2 s
		t.Errorf("20 refusals took %v", waited)
	}
	if lost.count() != 21 {
		t.Errorf("%d dropped, want 21", lost.count())
	}
	whole("while full")

	// Another Log that is not required drops, and leaves whole lines too.
	var dropped counter
	async := newLog(t, File(path), WithDropped(dropped.add))
	for range 10 {
		if err := async.Record(t.Context(), r, w.decide(t, r)); err != nil {
			t.Errorf("async: %v", err)
		}
	}
	mustClose(t, async)
	if dropped.count() != 10 {
		t.Errorf("async: %d dropped, want 10", dropped.count())
	}
	whole("async, while full")

	if err := d.room(folder); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := record(); err != nil {
			t.Errorf("with room again: %v", err)
		}
	}
	whole("with room again")
	async = newLog(t, File(path), WithDropped(dropped.add))
	for range 1000 { // more than there is room for: what fits is kept
		_ = async.Record(t.Context(), r, w.decide(t, r))
	}
	mustClose(t, async)
	if got, want := len(linesOf(t, path))-len(ids), 1010-dropped.count(); got != want || got < 10 || got == 1000 {
		t.Errorf("async: %d lines, want %d", got, want)
	}
	if !t.Failed() {
		fmt.Println(passed)
	}
}

// A process that is killed has lost no record for which Record returned nil.
func TestKill(t *testing.T) {
	if folder := os.Getenv(childFolder); folder != "" {
		recordForEver(t, filepath.Join(folder, "audit.jsonl"))
		return
	}
	folder := t.TempDir()
	cmd := child(t, folder, "", nil)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(stdout)
	var promised []string
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "durable "); ok {
			promised = append(promised, id)
		}
		if len(promised) == 500 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %v", err)
	}
	if len(promised) < 500 {
		t.Fatalf("only %d records", len(promised))
	}
	text, err := os.ReadFile(filepath.Join(folder, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if strings.HasSuffix(line, "\n") {
			there[strict(t, line).GetDecisionId()] = true
		}
	}
	for _, id := range promised {
		if !there[id] {
			t.Errorf("%s was promised and is not there", id)
		}
	}
	// Whoever comes next goes on where this one was stopped.
	l := newLog(t, File(filepath.Join(folder, "audit.jsonl")), WithRequired())
	w, r := ada()
	d := w.decide(t, r)
	if err := l.Record(t.Context(), r, d); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	f, err := os.Open(filepath.Join(folder, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, _, err := Find(f, d.ID()); err != nil {
		t.Error(err)
	}
}

// recordForEver records until it is killed, and says of each record that it is
// durable once Record said so.
func recordForEver(t *testing.T, path string) {
	l := newLog(t, File(path), WithRequired())
	w, r := ada()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				d := w.decide(t, r)
				if err := l.Record(context.Background(), r, d); err != nil {
					t.Error(err)
					return
				}
				if _, err := fmt.Fprintf(os.Stdout, "durable %s\n", d.ID()); err != nil {
					return // nobody reads any more
				}
			}
		})
	}
	wg.Wait()
}
