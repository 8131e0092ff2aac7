package integration

import (
	"context"
	"net"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A script is an authorization server that answers as a test says, to see what
// Envoy makes of it. Nothing of Sallyport is in it.
type script struct {
	authv3.UnimplementedAuthorizationServer
	addr string

	mu      sync.Mutex
	answers map[string]answer // by x-case, or by the path where there is none
	seen    map[string]*authv3.CheckRequest
}

// An answer is what a handler returns.
type answer func(ctx context.Context) (*authv3.CheckResponse, error)

func newScript(t *testing.T) *script {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{addr: l.Addr().String(), answers: map[string]answer{}, seen: map[string]*authv3.CheckRequest{}}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, s)
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }() // until Stop
	t.Cleanup(server.Stop)
	return s
}

// on says what the answer to a case is.
func (s *script) on(name string, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[name] = a
}

// check returns what Envoy last asked in a case, or nil where it did not ask.
func (s *script) check(name string) *authv3.CheckRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[name]
}

// headerOf returns a header of a check, raw or merged.
func headerOf(m *authv3.CheckRequest, name string) (values []string) {
	http := m.GetAttributes().GetRequest().GetHttp()
	for _, h := range http.GetHeaderMap().GetHeaders() {
		if h.GetKey() == name {
			values = append(values, string(h.GetRawValue()))
		}
	}
	if v, ok := http.GetHeaders()[name]; ok {
		values = append(values, v)
	}
	return values
}

// Check answers. A case that nobody announced is allowed.
func (s *script) Check(ctx context.Context, m *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	name := m.GetAttributes().GetRequest().GetHttp().GetPath()
	if x := headerOf(m, "x-case"); len(x) > 0 {
		name = x[0]
	}
	s.mu.Lock()
	s.seen[name] = proto.CloneOf(m)
	a := s.answers[name]
	s.mu.Unlock()
	if a == nil {
		return allowed(nil), nil
	}
	return a(ctx)
}

// allowed is an allow with these mutations.
func allowed(ok *authv3.OkHttpResponse) *authv3.CheckResponse {
	if ok == nil {
		ok = &authv3.OkHttpResponse{}
	}
	return &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}}
}

// refused is a denial with these parts.
func refused(status int, body string, headers ...*corev3.HeaderValueOption) *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: 7},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode(status)}, Body: body, Headers: headers,
		}},
	}
}

// always answers the same.
func always(resp *authv3.CheckResponse) answer {
	return func(context.Context) (*authv3.CheckResponse, error) { return resp, nil }
}

// How an entry says what it does to a header that is there.
const (
	unset   = "unset"
	replace = "replace"
	extend  = "extend"
)

// entry is one header of an answer; action is the zero value unless given.
func entry(name, value, how string, action ...corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	h := &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}}
	switch how {
	case replace:
		h.Append = wrapperspb.Bool(false)
	case extend:
		h.Append = wrapperspb.Bool(true)
	}
	if len(action) > 0 {
		h.AppendAction = action[0]
	}
	return h
}
