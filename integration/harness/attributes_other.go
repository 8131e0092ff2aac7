//go:build !linux

package harness

import "syscall"

// attributes puts a child into a process group of its own, so that Ctrl-C
// reaches the parent alone, which then stops its children in order.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
