package extauthz

import (
	"context"
	"sync"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// health implements grpc.health.v1 for the server as a whole and for the
// Authorization service, which are one. It differs from grpc-go's own in that
// a drain ends the watches: one open watch would otherwise hold a graceful
// stop until its limit.
type health struct {
	healthpb.UnimplementedHealthServer

	mu       sync.Mutex
	serving  bool
	draining bool
	changed  chan struct{} // closed at the next change
}

func newHealth() *health { return &health{changed: make(chan struct{})} }

// set changes the state, unless a drain has begun.
func (h *health) set(serving bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining || h.serving == serving {
		return
	}
	h.serving = serving
	h.tell()
}

// drain says NOT_SERVING from now on.
func (h *health) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return
	}
	h.serving, h.draining = false, true
	h.tell()
}

func (h *health) tell() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// state returns what to say, and what closes when that changes.
func (h *health) state() (s healthpb.HealthCheckResponse_ServingStatus, draining bool, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s = healthpb.HealthCheckResponse_NOT_SERVING
	if h.serving {
		s = healthpb.HealthCheckResponse_SERVING
	}
	return s, h.draining, h.changed
}

func known(service string) bool {
	return service == "" || service == authv3.Authorization_ServiceDesc.ServiceName
}

// Check implements grpc.health.v1.
func (h *health) Check(_ context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if !known(req.GetService()) {
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	s, _, _ := h.state()
	return &healthpb.HealthCheckResponse{Status: s}, nil
}

// List implements grpc.health.v1.
func (h *health) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	s, _, _ := h.state()
	return &healthpb.HealthListResponse{Statuses: map[string]*healthpb.HealthCheckResponse{
		"": {Status: s},
		authv3.Authorization_ServiceDesc.ServiceName: {Status: s},
	}}, nil
}

// Watch implements grpc.health.v1. An unknown service is not an error here but
// a status, as the protocol has it.
func (h *health) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	last := healthpb.HealthCheckResponse_UNKNOWN
	for {
		s, draining, changed := h.state()
		if !known(req.GetService()) {
			s = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
		}
		if s != last {
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: s}); err != nil {
				return err
			}
			last = s
		}
		if draining {
			return status.Error(codes.Unavailable, "server is draining")
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}
