package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// A Process is a child of this one.
type Process struct {
	Name string
	Log  *Log // stdout and stderr

	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; read after done
}

// Start runs a program with exactly this environment. Its output goes to
// logfile.
func Start(name, logfile string, env []string, program string, args ...string) (*Process, error) {
	log, err := newLog(logfile)
	if err != nil {
		return nil, err
	}
	p := &Process{Name: name, Log: log, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, log, log
	p.cmd.SysProcAttr = attributes()
	// Output that a grandchild holds open does not keep us waiting.
	p.cmd.WaitDelay = time.Second

	started := make(chan error)
	go func() {
		// The kernel watches the thread that started the child, not the
		// process, so this thread must stay (golang.org/issue/27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			log.end()
			return
		}
		p.err = p.cmd.Wait()
		log.end()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode waits for the end, and returns the exit status; -1 if a signal was
// the end.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal. A process that has ended takes none.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the process to end, and kills it if it has not after grace. An end
// that was not asked for is an error, and so is an exit status that is not 0.
func (p *Process) Stop(grace time.Duration) error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended by itself (%v): %s", p.Name, p.cmd.ProcessState, p.Log.Tail(5))
	default:
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	select {
	case <-p.done:
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s did not end within %s and was killed", p.Name, grace)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w: %s", p.Name, p.err, p.Log.Tail(5))
	}
	return nil
}

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	<-p.done
}
