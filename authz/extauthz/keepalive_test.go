package extauthz_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

// inMemory runs do against a server without a network, in time that costs
// nothing. dials counts connections.
func inMemory(t *testing.T, do func(t *testing.T, dial func(context.Context) (net.Conn, error), dials *atomic.Int64)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := extauthz.NewServer((&world{}).pipeline(t))
		if err != nil {
			t.Fatal(err)
		}
		l := bufconn.Listen(1 << 20)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		var dials atomic.Int64
		do(t, func(ctx context.Context) (net.Conn, error) {
			dials.Add(1)
			return l.DialContext(ctx)
		}, &dials)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// client is what a test knows of a client of its own.
func client(t *testing.T, dial func(context.Context) (net.Conn, error), opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///memory", append(opts,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0), grpc.WithDisableRetry())...)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// A connection ends at a quarter of an hour, so that clients balance again, and
// no check is lost by that.
func TestConnectionAge(t *testing.T) {
	inMemory(t, func(t *testing.T, dial func(context.Context) (net.Conn, error), dials *atomic.Int64) {
		conn := client(t, dial)
		defer func() { _ = conn.Close() }()
		for minute := range 120 {
			resp, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), get())
			if err != nil || reasonOf(resp) != authz.Allowed {
				t.Fatalf("minute %d: %v, %v", minute, resp, err)
			}
			if minute == 12 && dials.Load() != 1 {
				t.Errorf("%d connections in the first twelve minutes", dials.Load())
			}
			time.Sleep(time.Minute)
		}
		if n := dials.Load(); n < 7 || n > 10 {
			t.Errorf("%d connections in two hours, want about eight", n)
		}
	})
}

// Pings as often as Envoy's connection_keepalive sends them are taken, with no
// check under way either.
func TestFrequentPings(t *testing.T) {
	inMemory(t, func(t *testing.T, dial func(context.Context) (net.Conn, error), dials *atomic.Int64) {
		conn := client(t, dial, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}))
		defer func() { _ = conn.Close() }()
		check(t, conn, get())
		time.Sleep(13 * time.Minute)
		check(t, conn, get())
		if n := dials.Load(); n != 1 {
			t.Errorf("%d connections, want one that lives", n)
		}
	})
}

// A peer that has gone without a word is found out, and so is one that never
// says what it wants.
func TestSilentPeers(t *testing.T) {
	for name, c := range map[string]struct {
		says  string
		limit time.Duration
	}{
		"nothing":              {"", 11 * time.Second},
		"half of a preface":    {"PRI * HTTP/2.0\r\n", 11 * time.Second},
		"preface and settings": {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 45 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, dial func(context.Context) (net.Conn, error), _ *atomic.Int64) {
				conn, err := dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				start := time.Now()
				if _, err := io.WriteString(conn, c.says); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, conn) // until the server hangs up
				if d := time.Since(start); d > c.limit {
					t.Errorf("it was held for %v, want at most %v", d, c.limit)
				}
			})
		})
	}
}
