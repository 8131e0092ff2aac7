package extauthz_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const service = "envoy.service.auth.v3.Authorization"

func TestHealthCheck(t *testing.T) {
	s, conn := serve(t, (&world{}).pipeline(t))
	client := healthpb.NewHealthClient(conn)
	want := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, name := range []string{"", service} {
			resp, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
			if err != nil || resp.GetStatus() != want {
				t.Errorf("%q: got %v, %v, want %v", name, resp, err, want)
			}
		}
		list, err := client.List(t.Context(), &healthpb.HealthListRequest{})
		if err != nil || len(list.GetStatuses()) != 2 || list.GetStatuses()[""].GetStatus() != want || list.GetStatuses()[service].GetStatus() != want {
			t.Errorf("list: got %v, %v, want %v", list, err, want)
		}
	}
	want(healthpb.HealthCheckResponse_NOT_SERVING)
	s.SetServing(true)
	want(healthpb.HealthCheckResponse_SERVING)
	s.SetServing(true)
	want(healthpb.HealthCheckResponse_SERVING)
	s.SetServing(false)
	want(healthpb.HealthCheckResponse_NOT_SERVING)
	for _, name := range []string{"other", "grpc.health.v1.Health", service + "/Check"} {
		if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name}); status.Code(err) != codes.NotFound {
			t.Errorf("%q: got %v, want NOT_FOUND", name, err)
		}
	}
}

func TestHealthWatch(t *testing.T) {
	s, conn := serve(t, (&world{}).pipeline(t))
	client := healthpb.NewHealthClient(conn)
	next := func(stream healthpb.Health_WatchClient, want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if resp, err := stream.Recv(); err != nil || resp.GetStatus() != want {
			t.Fatalf("got %v, %v, want %v", resp, err, want)
		}
	}
	var streams []healthpb.Health_WatchClient
	for _, name := range []string{"", service, "other"} {
		stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	for _, stream := range streams[:2] {
		next(stream, healthpb.HealthCheckResponse_NOT_SERVING)
	}
	next(streams[2], healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
	s.SetServing(true)
	for _, stream := range streams[:2] {
		next(stream, healthpb.HealthCheckResponse_SERVING)
	}
	if err := s.Shutdown(t.Context()); err != nil { // returns only when the watches have ended
		t.Fatal(err)
	}
	for _, stream := range streams[:2] {
		next(stream, healthpb.HealthCheckResponse_NOT_SERVING)
	}
	for _, stream := range streams {
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want the end of the watch", err)
		}
	}
}
