package extauthz_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

// Draining under load loses no answer: every check that was sent is answered
// or never reached us.
func TestDrainUnderLoad(t *testing.T) {
	w := &world{authorize: func(context.Context, *authz.Request) error { return nil }}
	s, err := extauthz.NewServer(w.pipeline(t))
	if err != nil {
		t.Fatal(err)
	}
	l, err := extauthz.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, l)
	var answered, refused, lost atomic.Int64
	var wg sync.WaitGroup
	warm := make(chan struct{}, 8)
	for range 8 {
		conn := dial(t, l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
		wg.Go(func() {
			for i := 0; ; i++ {
				resp, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), get())
				switch {
				case err == nil && reasonOf(resp) == authz.Allowed:
					answered.Add(1)
				case status.Code(err) == codes.Unavailable:
					refused.Add(1) // nobody listens any more
					return
				default:
					lost.Add(1)
					t.Errorf("got %v, %v", resp, err)
					return
				}
				if i == 20 {
					warm <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-warm
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if n := int64(len(w.recorded())); n != answered.Load() {
		t.Errorf("%d decided, %d answered, %d not taken, %d lost", n, answered.Load(), refused.Load(), lost.Load())
	}
}

// A check in flight is answered after the drain began; one that never ends
// does not hold it beyond its limit.
func TestDrain(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	w := &world{authorize: func(context.Context, *authz.Request) error {
		entered <- struct{}{}
		<-release
		return nil
	}}
	t.Run("in flight", func(t *testing.T) {
		s, conn := serve(t, w.pipeline(t), extauthz.WithDeadline(time.Minute))
		s.SetServing(true)
		watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := watch.Recv(); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("got %v, %v", resp, err)
		}
		answer := make(chan *authv3.CheckResponse, 1)
		go func() {
			resp, _ := authv3.NewAuthorizationClient(conn).Check(t.Context(), get())
			answer <- resp
		}()
		<-entered
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		if resp, err := watch.Recv(); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health in a drain: %v, %v", resp, err)
		}
		if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("the watch does not end: %v", err)
		}
		select {
		case err := <-done:
			t.Fatalf("drained with a check in flight: %v", err)
		default:
		}
		close(release)
		if resp := <-answer; reasonOf(resp) != authz.Allowed {
			t.Errorf("got %v", resp)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.SetServing(true) // comes too late to have an effect
	})
	t.Run("limit", func(t *testing.T) {
		entered := make(chan struct{})
		w := &world{authorize: func(ctx context.Context, _ *authz.Request) error { close(entered); <-ctx.Done(); return ctx.Err() }}
		s, conn := serve(t, w.pipeline(t), extauthz.WithDeadline(time.Hour))
		go func() { _, _ = authv3.NewAuthorizationClient(conn).Check(t.Context(), get()) }()
		<-entered
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline of the drain", err)
		}
	})
}
