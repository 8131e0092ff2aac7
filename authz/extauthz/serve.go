package extauthz

import (
	"context"
	"fmt"
	"math"
	"net"
	"runtime"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"
)

// What one connection may cost, and how long it lives.
const (
	maxMessage    = 8 << 20  // bytes; grpc-go's own 4 MiB is below what with_request_body can send
	maxHeaderList = 64 << 10 // bytes of gRPC metadata; Envoy sends a few hundred
	minStreams    = 1024     // Envoy's own default; fewer make it queue, and fail on fresh connections
	handshake     = 10 * time.Second

	// Envoy balances per connection: it must come back for a new one now
	// and then. grpc-go spreads the age by a tenth.
	maxAge      = 15 * time.Minute
	maxAgeGrace = 30 * time.Second

	pingEvery = 30 * time.Second
	pingWait  = 10 * time.Second
	// Envoy's connection_keepalive is often 30s; by default grpc-go hangs up
	// on pings more frequent than every five minutes.
	pingMin = 10 * time.Second
)

// build makes the gRPC server.
func (s *Server) build() error {
	opts := []grpc.ServerOption{
		grpc.StatsHandler(otelgrpc.NewServerHandler(
			otelgrpc.WithTracerProvider(s.tracers),
			otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()),
			otelgrpc.WithPropagators(s.propagators),
			otelgrpc.WithFilter(func(i *stats.RPCTagInfo) bool {
				return i.FullMethodName == authv3.Authorization_Check_FullMethodName
			}),
		)),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaderList),
		// Above the limit of checks in flight, so that one connection can
		// be told that we are overloaded rather than wait.
		grpc.MaxConcurrentStreams(uint32(min(max(minStreams, 2*s.maxInFlight), math.MaxInt32))),
		grpc.ConnectionTimeout(handshake),
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))), //nolint:gosec // G115: a count of processors
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMin, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: maxAge, MaxConnectionAgeGrace: maxAgeGrace,
			Time: pingEvery, Timeout: pingWait,
		}),
	}
	if s.tlsFiles != nil {
		config, err := serverTLS(*s.tlsFiles, s.log)
		if err != nil {
			return err
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
	}
	s.grpc = grpc.NewServer(opts...)
	s.grpc.RegisterService(&service, s)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	if s.reflection {
		reflection.Register(s.grpc)
	}
	return nil
}

// service is the generated description, with a handler that answers a message
// that does not decode; see codec.
var service = grpc.ServiceDesc{
	ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
	HandlerType: (*authv3.AuthorizationServer)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Check",
		Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			s, e := srv.(*Server), new(envelope)
			if err := decode(e); err != nil {
				return nil, err // larger than maxMessage, or the client is gone
			}
			if e.err != nil {
				return s.undecodable(ctx, e.err), nil
			}
			return s.Check(ctx, &e.message)
		},
	}},
	Metadata: authv3.Authorization_ServiceDesc.Metadata,
}

// Serve accepts connections on l until Shutdown, and then returns nil. It owns
// l and may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(&limited{Listener: l, open: &s.connections, most: maxConnections}); err != nil {
		return fmt.Errorf("extauthz: %w", err)
	}
	return nil
}

// Shutdown drains: health says NOT_SERVING, connections are told to go away,
// no new ones are taken, and checks in flight are answered. When ctx ends
// first, what is left is cut off and that is the error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.health.drain()
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(drained)
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		return fmt.Errorf("extauthz: drain: %w", context.Cause(ctx))
	}
}
