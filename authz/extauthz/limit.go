package extauthz

import (
	"net"
	"sync"
	"sync/atomic"
)

// maxConnections bounds the connections of a server, each of which costs some
// 100 KiB. Envoy has one for each of its workers, seldom more.
const maxConnections = 8192

// A limited listener closes a connection above the limit at once, as a check
// above its limit is refused at once: whoever asks can then ask another
// replica, rather than wait in a queue that nobody reads.
type limited struct {
	net.Listener
	open *atomic.Int64
	most int64
}

// Accept implements [net.Listener].
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leave := sync.OnceFunc(func() { l.open.Add(-1) })
		if l.open.Add(1) <= l.most {
			return &counted{Conn: conn, leave: leave}, nil
		}
		leave()
		_ = conn.Close() // nothing was said on it
	}
}

// A counted connection gives its room back when it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close implements [net.Conn].
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
