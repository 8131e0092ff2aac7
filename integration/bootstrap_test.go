package integration

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sallyport-authz/sallyport/envoy"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// A slowAuthz allows everything, after a while.
type slowAuthz struct {
	authv3.UnimplementedAuthorizationServer
	wait   time.Duration
	checks atomic.Int64
}

func (s *slowAuthz) Check(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	s.checks.Add(1)
	select {
	case <-time.After(s.wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return &authv3.CheckResponse{Status: &rpcstatus.Status{}}, nil
}

// Envoy waits longer for a check than Sallyport takes for one at most, at the
// first try: its limit for one try is max_interval of the back-off, which no
// name says.
func TestEnvoyOutwaitsTheDeadline(t *testing.T) {
	t.Parallel()
	authz := &slowAuthz{wait: 200 * time.Millisecond} // Sallyport's limit is 150 ms
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, authz)
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(ln) }() // until Stop
	t.Cleanup(server.Stop)
	up, err := harness.Serve(http.HandlerFunc(harness.ServeEcho))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	bootstrap, err := envoy.Bootstrap(envoy.Addresses{
		Listener: "127.0.0.1:0", Admin: "127.0.0.1:0",
		Clusters: map[string][]string{"authz": {ln.Addr().String()}, "upstream": {up.Addr}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	e, err := harness.StartEnvoy(ctx, envoyBinary(t), bootstrap, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	resp, err := client.Get("http://" + e.Listener + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Errorf("%d %s, want the answer that came after %v", resp.StatusCode, body, authz.wait)
	}
	if n := authz.checks.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}
