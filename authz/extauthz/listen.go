package extauthz

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// socketMode lets the owner and the group connect: Envoy runs as another user.
const socketMode = 0o660

// Listen opens host:port, or unix:///ABS/PATH. A Unix socket has mode 0660,
// replaces one that nobody listens on, and disappears when it is closed; one
// that somebody listens on, and a file that is no socket, are errors.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix://")
	if !ok {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("extauthz: listen on %s: %w", addr, err)
		}
		return l, nil
	}
	l, err := listenUnix(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("extauthz: listen on %s: %w", addr, err)
	}
	return l, nil
}

func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("path %q is not absolute", path)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// On Linux the file gets the mode that the socket has when it is
		// bound, less the umask: it is never wider than that, not even
		// before Chmod. Elsewhere this may fail, and Chmod is all there is.
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), socketMode) })
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that a process left behind. Only a refused
// connection proves that nobody listens.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("a file is there that is not a socket")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close() // it was only to see who is there
		return errors.New("another process listens there")
	case errors.Is(err, fs.ErrNotExist):
		return nil // its owner just removed it
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("another process may listen there: %w", err)
	}
	return os.Remove(path)
}
