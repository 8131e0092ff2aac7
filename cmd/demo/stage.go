package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/envoy"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

const (
	startTime = 30 * time.Second // for everything to be up
	stopTime  = 15 * time.Second // for one process to drain
)

// A stage is everything that runs.
type stage struct {
	folder    string
	binary    string // sallyport's
	traces    traces
	issuer    *authztest.Issuer
	upstream  *harness.Server
	sallyport *harness.Sallyport
	envoy     *harness.Envoy
}

// newStage starts everything. The stage is there to be stopped in any case.
func newStage(ctx context.Context, port int, binary, jaeger string) (*stage, error) {
	s := &stage{binary: binary}
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("not within %s", startTime))
	defer cancel()

	envoyBinary, err := harness.FindEnvoy(".")
	if err != nil {
		return s, err
	}
	if _, err := os.Stat(binary); err != nil {
		return s, fmt.Errorf("no sallyport at %s: build it with make build, or name one with --sallyport", binary)
	}
	if err := free(ctx, port); err != nil {
		return s, err
	}
	if s.folder, err = os.MkdirTemp("", "sallyport-demo-"); err != nil {
		return s, fmt.Errorf("no folder for the demo's files: %w", err)
	}
	s.issuer = newIssuer()
	if err := s.issuer.Listen(""); err != nil {
		return s, err
	}
	if s.upstream, err = harness.Serve(upstream(s.issuer)); err != nil {
		return s, fmt.Errorf("no port for the upstream: %w", err)
	}
	if err := settle(s.folder, s.issuer.URL()); err != nil {
		return s, err
	}
	s.traces = findTraces(ctx, jaeger, usualCollector)
	if s.sallyport, err = harness.StartSallyport(ctx, binary, s.file("sallyport.yaml"), s.folder, append(os.Environ(), s.traces.env...)); err != nil {
		return s, err
	}
	if err := s.sallyport.AwaitReady(ctx); err != nil {
		return s, err
	}
	bootstrap, err := envoy.Bootstrap(envoy.Addresses{
		Listener: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Admin:    "127.0.0.1:0",
		Clusters: map[string][]string{"authz": {s.sallyport.GRPC}, "upstream": {s.upstream.Addr}, "otel": {s.traces.collector}},
	})
	if err != nil {
		return s, err
	}
	s.envoy, err = harness.StartEnvoy(ctx, envoyBinary, bootstrap, s.folder)
	return s, err
}

func (s *stage) file(name string) string { return s.folder + "/" + name }

// free says in a sentence that a port is taken, before Envoy says it in ten.
func free(ctx context.Context, port int) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port %d of 127.0.0.1 cannot be had, name another with --port (make demo PORT=...): %w", port, err)
	}
	return ln.Close()
}

// wait returns nil once the demo is told to stop, and an error when a part
// ends by itself.
func (s *stage) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.sallyport.Done():
		return fmt.Errorf("sallyport ended: %s", s.sallyport.Log.Tail(5))
	case <-s.envoy.Done():
		return fmt.Errorf("envoy ended: %s", s.envoy.Log.Tail(5))
	}
}

// stop ends what runs, the asking before the asked, and removes the folder.
func (s *stage) stop() error {
	var errs []error
	if s.envoy != nil {
		errs = append(errs, s.envoy.Stop(stopTime))
	}
	if s.sallyport != nil {
		errs = append(errs, s.sallyport.Stop(stopTime))
	}
	if s.upstream != nil {
		errs = append(errs, s.upstream.Close())
	}
	if s.issuer != nil {
		errs = append(errs, s.issuer.Close())
	}
	if s.folder != "" {
		errs = append(errs, os.RemoveAll(s.folder))
	}
	return errors.Join(errs...)
}
