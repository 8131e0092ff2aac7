package extauthz

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// Above the limit a connection is closed at once, those that are there stay,
// and room that is given back is used again.
func TestConnectionLimit(t *testing.T) {
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open atomic.Int64
	l := &limited{Listener: inner, open: &open, most: 2}
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 8)
	ended := make(chan error, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		return conn
	}
	refused := func(conn net.Conn) {
		t.Helper()
		_, err := conn.Read(make([]byte, 1))
		if timeout, ok := errors.AsType[net.Error](err); err == nil || ok && timeout.Timeout() {
			t.Errorf("a connection above the limit: %v, want its end", err)
		}
	}
	dial()
	first := <-accepted
	second := dial()
	echo := <-accepted
	refused(dial())
	refused(dial())

	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	_ = first.Close() // twice gives no room twice
	dial()
	<-accepted
	refused(dial())
	if n := open.Load(); n != 2 {
		t.Errorf("%d connections are counted, want 2", n)
	}
	if _, err := io.WriteString(echo, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Read(make([]byte, 1)); err != nil {
		t.Errorf("a connection below the limit: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v, want the listener's own error", err)
	}
}

// nobody may do anything.
type nobody struct{}

func (nobody) Decide(context.Context, *authz.Request) authz.Decision { return authz.Decision{} }

// serveForTest returns the address of a server.
func serveForTest(t *testing.T, opts ...Option) (*Server, string) {
	t.Helper()
	s, err := NewServer(nobody{}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.grpc.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// settings returns what a server says first on a connection (RFC 9113 section
// 6.5), or nothing where it hangs up.
func settings(t *testing.T, addr string) map[uint16]uint32 {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00") // it may have hung up
	var head [9]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil
	}
	payload := make([]byte, int(head[1])<<8|int(head[2]))
	if _, err := io.ReadFull(conn, payload); err != nil || head[3] != 4 {
		t.Fatalf("frame of type %d, %v", head[3], err)
	}
	all := map[uint16]uint32{}
	for ; len(payload) >= 6; payload = payload[6:] {
		all[binary.BigEndian.Uint16(payload)] = binary.BigEndian.Uint32(payload[2:])
	}
	return all
}

// A connection may have more checks under way than the server decides at once,
// so that it is told of an overload, and never fewer than Envoy expects.
func TestStreamLimit(t *testing.T) {
	const maxConcurrentStreams, maxHeaderListSize = 3, 6
	for inFlight, streams := range map[int]uint32{1: 1024, 512: 1024, 4096: 8192, 1 << 40: math.MaxInt32} {
		_, addr := serveForTest(t, WithMaxInFlight(inFlight))
		got := settings(t, addr)
		if got[maxConcurrentStreams] != streams || got[maxHeaderListSize] != maxHeaderList {
			t.Errorf("%d checks at once: settings %v, want %d streams and %d bytes of headers", inFlight, got, streams, maxHeaderList)
		}
	}
}

func TestServerHasConnectionLimit(t *testing.T) {
	s, addr := serveForTest(t)
	s.connections.Store(maxConnections)
	if got := settings(t, addr); got != nil {
		t.Errorf("a connection above the limit is served: %v", got)
	}
	s.connections.Store(maxConnections - 1)
	if got := settings(t, addr); got == nil {
		t.Error("the last connection is refused")
	}
}
