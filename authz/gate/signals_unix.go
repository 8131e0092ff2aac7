//go:build unix

package gate

import (
	"os"
	"syscall"
)

// survived are signals that say that a write failed: to a pipe that nobody
// reads, or past a limit on the size of files. The audit log deals with the
// error; the signal would end the process.
var survived = []os.Signal{syscall.SIGPIPE, syscall.SIGXFSZ}
