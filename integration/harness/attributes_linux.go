package harness

import "syscall"

// attributes puts a child into a process group of its own, so that Ctrl-C
// reaches the parent alone, which then stops its children in order; and lets
// the kernel kill it when the parent is killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
