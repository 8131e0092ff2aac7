package extauthz_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// world is a pipeline's router, authenticator, authorizer, obligations and
// recorder, whose behaviour a test sets. The zero world allows.
type world struct {
	deny      error // what the authorizer says
	authorize func(ctx context.Context, r *authz.Request) error
	allow     authz.Answer
	denied    authz.Answer
	challenge string
	asError   bool
	noRoute   bool
	subject   *authz.Subject

	mu      sync.Mutex
	records []record
	fail    error // what the recorder returns
}

type record struct {
	reason authz.Reason
	detail authz.Detail
	id     string
	req    *authz.Request
}

func (w *world) Route(*authz.Request) (*authz.Route, error) {
	if w.noRoute {
		return nil, authz.Refuse(authz.NoRoute, authz.NothingMatched, nil)
	}
	challenges := map[authz.Reason]string{}
	for _, r := range authz.Reasons() {
		challenges[r] = w.challenge
	}
	route := &authz.Route{
		Name: "orders", Policy: "api", Revision: "r1",
		Authorizer: w, Obligations: w, Challenges: challenges, AsError: w.asError,
	}
	if w.subject != nil {
		route.Authenticator = w
	}
	return route, nil
}

func (w *world) Authenticate(context.Context, *authz.Request) (*authz.Subject, authz.CacheOutcome, error) {
	return w.subject, authz.CacheOff, nil
}

func (w *world) Authorize(ctx context.Context, r *authz.Request, _ *authz.Subject) (authz.Rule, error) {
	if w.authorize != nil {
		return authz.Rule{}, w.authorize(ctx, r)
	}
	return authz.Rule{File: "policy.csv", Line: 3}, w.deny
}

func (w *world) OnAllow(*authz.Request, *authz.Decision) authz.Answer { return w.allow }

func (w *world) OnDeny(*authz.Request, *authz.Decision) authz.Answer { return w.denied }

func (w *world) Record(_ context.Context, r *authz.Request, d *authz.Decision) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = append(w.records, record{d.Reason(), d.Detail(), d.ID(), r})
	return w.fail
}

func (w *world) recorded() []record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.records)
}

func (w *world) pipeline(t testing.TB) *authz.Pipeline {
	t.Helper()
	p, err := authz.New(w, w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// decide returns the decision of this world.
func (w *world) decide(t testing.TB, r *authz.Request) *authz.Decision {
	t.Helper()
	d := w.pipeline(t).Decide(t.Context(), r)
	return &d
}

// render decides and renders, and holds what is true of every answer.
func (w *world) render(t testing.TB, r *authz.Request) *authv3.CheckResponse {
	t.Helper()
	d := w.decide(t, r)
	resp, err := extauthz.Render(r, d)
	if err != nil {
		t.Fatalf("render: %v", err)
	}
	sound(t, resp, d.Allowed())
	return resp
}

// sound holds that Envoy reads the answer as the decision meant it.
func sound(t testing.TB, resp *authv3.CheckResponse, allowed bool) {
	t.Helper()
	if resp.GetStatus() == nil {
		t.Fatal("an answer without a status is an allow")
	}
	if got := resp.GetStatus().GetCode() == 0; got != allowed {
		t.Fatalf("code %d, allowed %v", resp.GetStatus().GetCode(), allowed)
	}
	if allowed != (resp.GetOkResponse() != nil) {
		t.Fatalf("allowed %v with %T", allowed, resp.GetHttpResponse())
	}
	if _, err := proto.Marshal(resp); err != nil {
		t.Fatalf("answer does not marshal: %v", err)
	}
}

func golden(t *testing.T, name string, m proto.Message) {
	t.Helper()
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, raw, "", "  "); err != nil { // protojson's own spacing is not stable
		t.Fatal(err)
	}
	got := buf.String() + "\n"
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

// steady replaces what differs between two runs.
func steady(t testing.TB, resp *authv3.CheckResponse) *authv3.CheckResponse {
	t.Helper()
	id := resp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue()
	if len(id) != 32 {
		t.Fatalf("decision id %q", id)
	}
	raw, err := protojson.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	out := new(authv3.CheckResponse)
	if err := protojson.Unmarshal(bytes.ReplaceAll(raw, []byte(id), []byte("DECISION")), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func denial(resp *authv3.CheckResponse) *authv3.DeniedHttpResponse {
	if e := resp.GetErrorResponse(); e != nil {
		return e
	}
	return resp.GetDeniedResponse()
}

// values returns what the answer gives under a name, in order.
func values(hs []*corev3.HeaderValueOption, name string) (out []string) {
	for _, h := range hs {
		if h.GetHeader().GetKey() == name {
			out = append(out, h.GetHeader().GetValue())
		}
	}
	return out
}

// get is a check as Envoy sends it, with encode_raw_headers.
func get(headers ...string) *authv3.CheckRequest {
	m := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{
			Address:   socket("192.0.2.7"),
			Principal: "spiffe://mesh.example/ns/ingress/sa/envoy",
		},
		Request: &authv3.AttributeContext_Request{
			Time: timestamppb.New(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)),
			Http: &authv3.AttributeContext_HttpRequest{
				Id: "9223372036854775809", Method: "GET", Path: "/v1/orders/7?debug=1", Host: "Api.example.com:8443",
				Scheme: "https", Protocol: "HTTP/2", HeaderMap: &corev3.HeaderMap{},
			},
		},
	}}
	for _, h := range append([]string{":authority: Api.example.com:8443", ":method: GET", ":path: /v1/orders/7?debug=1"}, headers...) {
		i := strings.Index(h[1:], ":") + 1
		m.Attributes.Request.Http.HeaderMap.Headers = append(m.Attributes.Request.Http.HeaderMap.Headers,
			&corev3.HeaderValue{Key: h[:i], RawValue: []byte(strings.TrimPrefix(h[i+1:], " "))})
	}
	return m
}

func socket(addr string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: addr, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 51234},
	}}}
}

// serve starts a server on loopback and returns a connection to it.
func serve(t *testing.T, d extauthz.Decider, opts ...extauthz.Option) (*extauthz.Server, *grpc.ClientConn) {
	t.Helper()
	s, err := extauthz.NewServer(d, opts...)
	if err != nil {
		t.Fatal(err)
	}
	l, err := extauthz.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, l)
	return s, dial(t, l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// run serves until the test ends, and fails it where Serve does.
func run(t *testing.T, s *extauthz.Server, l net.Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // a test that cares asks itself
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func dial(t *testing.T, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// decider is a function as a Decider.
type decider func(ctx context.Context, r *authz.Request) authz.Decision

func (f decider) Decide(ctx context.Context, r *authz.Request) authz.Decision { return f(ctx, r) }

var (
	yes = wrapperspb.Bool(true)
	no  = wrapperspb.Bool(false)
)

func nan() float64 { return math.NaN() }
