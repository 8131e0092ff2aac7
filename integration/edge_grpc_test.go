package integration

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A gRPC client and a gRPC service with Envoy between them: calls and streams
// pass, and a refusal is a status that the client's library understands.
func TestGRPCClientAndService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true,
		routes: `
  - name: health
    match: ["POST /grpc.health.v1.Health/{method}"]
    policy: api
    onAllow: {requestHeaders: {set: {x-user: subject.sub}}}
    onDeny: {body: '"a body that a gRPC caller does not get"', redirect: '"/login"'}
`,
		files: map[string]string{"policy.csv": "p, role:clerk, /grpc.health.v1.Health/Check, POST\np, role:watcher, /grpc.health.v1.Health/Watch, POST\n"}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	users := make(chan []string, 16)
	note := func(ctx context.Context) {
		md, _ := metadata.FromIncomingContext(ctx)
		users <- md.Get("x-user")
	}
	service := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			note(ctx)
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			note(stream.Context())
			return next(srv, stream)
		}))
	states := health.NewServer()
	healthpb.RegisterHealthServer(service, states)
	go func() { _ = service.Serve(l) }() // until Stop
	t.Cleanup(service.Stop)
	e := newEdge(t, w.GRPC, addHTTP2(l.Addr().String()), variant{"service", toHTTP2}, variant{"generated", func(l, m, f tree) { generated(l, m, f); toHTTP2(l, m, f) }})

	for _, listener := range []string{"service", "generated"} {
		conn, err := grpc.NewClient(e.listeners[listener], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		client := healthpb.NewHealthClient(conn)
		as := func(token string) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			t.Cleanup(cancel)
			if token != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", token, "x-user", "root")
			}
			return ctx
		}
		passed := func(name string, err error) {
			t.Helper()
			if err != nil {
				t.Errorf("%s, %s: %v", listener, name, err)
				return
			}
			if user := <-users; len(user) != 1 || user[0] != "bob" {
				t.Errorf("%s, %s: x-user %q", listener, name, user)
			}
		}
		refused := func(name string, err error, code codes.Code, reason string) {
			t.Helper()
			if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), "("+reason+", decision ") {
				t.Errorf("%s, %s: %v, want %v, %s", listener, name, err, code, reason)
			}
		}
		watch := func(token string) error {
			stream, err := client.Watch(as(token), &healthpb.HealthCheckRequest{})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		}
		_, err = client.Check(as(w.token("bob", "clerk")), &healthpb.HealthCheckRequest{})
		passed("call", err)
		passed("stream", watch(w.token("bob", "watcher")))
		_, err = client.Check(as(w.token("bob", "watcher")), &healthpb.HealthCheckRequest{})
		refused("call of another", err, codes.PermissionDenied, "not_permitted")
		refused("stream of another", watch(w.token("bob", "clerk")), codes.PermissionDenied, "not_permitted")
		_, err = client.Check(as(""), &healthpb.HealthCheckRequest{})
		refused("call of nobody", err, codes.Unauthenticated, "no_credential")
		refused("stream of nobody", watch(""), codes.Unauthenticated, "no_credential")
		_, err = client.Check(as("Bearer a b"), &healthpb.HealthCheckRequest{})
		refused("call with an odd credential", err, codes.InvalidArgument, "malformed_credential")
		_, err = client.List(as(w.token("bob", "clerk")), &healthpb.HealthListRequest{})
		refused("another method", err, codes.PermissionDenied, "not_permitted")
	}
	if n := len(users); n > 0 {
		t.Errorf("%d refused calls arrived", n)
	}
}

// A deadline that has passed refuses, at any filter: it is a denial.
func TestDeadlineThroughEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{noEnvoy: true})
	w.write("sallyport.yaml", strings.Replace(w.config(setup{}), "deadline: 2s", "deadline: 1ns", 1))
	if err := w.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	(&replica{world: w}).again() // server: is read at the start only
	e := newEdge(t, w.GRPC, nil, variant{"generated", generated}, variant{"open", failsOpen})
	for _, listener := range []string{"ingress", "generated", "open"} {
		for protocol, ask := range e.protocols() {
			got := ask(call{listener: listener, target: "/healthz", headers: [][2]string{{"x-user", "root"}}})
			text, want := got.body, 503
			if protocol == "gRPC" {
				text, want = got.header.Get("grpc-status")+got.header.Get("grpc-message"), 200
			}
			if got.status != want || got.upstream != "" {
				t.Errorf("%s over %s: %d %q", listener, protocol, got.status, text)
			}
			if protocol == "gRPC" && strings.HasPrefix(text, "7") && strings.Contains(text, "no_route") {
				continue // POST has no route, which is said sooner
			}
			if !strings.Contains(text, "deadline") || got.header.Get("retry-after") == "" {
				t.Errorf("%s over %s: %q %v, want deadline", listener, protocol, text, got.header)
			}
		}
	}
}
