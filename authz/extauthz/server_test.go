package extauthz_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

// reasonOf reads the reason out of an answer.
func reasonOf(resp *authv3.CheckResponse) authz.Reason {
	return authz.Reason(resp.GetDynamicMetadata().GetFields()["reason"].GetStringValue())
}

func check(t *testing.T, conn *grpc.ClientConn, m *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	resp, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), m)
	if err != nil {
		t.Fatalf("check failed, which Envoy's failure mode decides: %v", err)
	}
	return resp
}

func TestNewServerNamesEveryMistake(t *testing.T) {
	_, err := extauthz.NewServer(nil, extauthz.WithDeadline(0), extauthz.WithMaxInFlight(-1), extauthz.WithTrustedHops(-2))
	want := "extauthz: no decider\ndeadline 0s is not positive\nlimit of -1 checks in flight is not positive\n-2 trusted hops"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCheckOverTheWire(t *testing.T) {
	w := &world{allow: authz.Answer{Set: []authz.Header{hdr("x-user", "ada")}}}
	_, conn := serve(t, w.pipeline(t), extauthz.WithTrustedHops(1))
	resp := check(t, conn, get("x-forwarded-for: 198.51.100.1,192.0.2.8"))
	sound(t, resp, true)
	if got := values(resp.GetOkResponse().GetHeaders(), "x-user"); len(got) != 1 || got[0] != "ada" {
		t.Errorf("x-user %q", got)
	}
	if got := w.recorded(); len(got) != 1 || got[0].reason != authz.Allowed || got[0].req.Source.Address.String() != "198.51.100.1" {
		t.Errorf("recorded %+v", got)
	}
	sound(t, check(t, conn, &authv3.CheckRequest{}), true) // this world has no TCP rules of its own
}

// The methods are also called in process, with whatever a caller has.
func TestCheckOfNil(t *testing.T) {
	w := &world{noRoute: true}
	s, err := extauthz.NewServer(w.pipeline(t))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Check(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, resp, false)
	if reasonOf(resp) != authz.NoRoute || resp.GetStatus().GetCode() != 7 {
		t.Errorf("got %v", resp)
	}
}

// rawBytes sends what a test gives it as the message.
type rawBytes struct{ encoding.Codec }

func (rawBytes) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawBytes) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }
func (rawBytes) Name() string                    { return "proto" }

func sendBytes(t *testing.T, conn *grpc.ClientConn, b []byte) (*authv3.CheckResponse, error) {
	t.Helper()
	resp := new(authv3.CheckResponse)
	err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, b, resp, grpc.ForceCodec(rawBytes{}))
	return resp, err
}

// A message that does not decode is answered: an RPC error would let Envoy's
// failure mode decide.
func TestUndecodableMessages(t *testing.T) {
	good, err := proto.Marshal(get("x-a: marker"))
	if err != nil {
		t.Fatal(err)
	}
	notUTF8 := []byte(strings.Replace(string(good), "/v1/orders/7?debug=1", "/v1/orders/7?debug=\xff", 1))
	cases := map[string][]byte{
		"garbage":             []byte("\xff\xff\xff\xff"),
		"path not UTF-8":      notUTF8,
		"cut off":             good[:len(good)-1],
		"wrong wire type":     {0x08, 0x01, 0x0b},
		"length past the end": {0x0a, 0xff, 0xff, 0xff, 0x7f},
	}
	w := &world{}
	_, conn := serve(t, w.pipeline(t))
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			resp, err := sendBytes(t, conn, b)
			if err != nil {
				t.Fatalf("check failed, which Envoy's failure mode decides: %v", err)
			}
			sound(t, resp, false)
			if reasonOf(resp) != authz.MalformedRequest || resp.GetDeniedResponse().GetStatus().GetCode() != 400 {
				t.Errorf("got %v", resp)
			}
		})
	}
	for _, r := range w.recorded() {
		if r.reason != authz.MalformedRequest || r.detail != authz.BadMessage {
			t.Errorf("recorded %s (%s), want malformed_request (bad_message)", r.reason, r.detail)
		}
	}
	if n := len(w.recorded()); n != len(cases) {
		t.Errorf("recorded %d, want %d", n, len(cases))
	}
	if resp, err := sendBytes(t, conn, good); err != nil || reasonOf(resp) != authz.Allowed {
		t.Errorf("the connection does not survive: %v, %v", resp, err)
	}
}

// A body of 8 MiB less a little is below the limit; above it the RPC fails, as
// grpc-go has not read the message.
func TestLargeMessage(t *testing.T) {
	w := &world{}
	_, conn := serve(t, w.pipeline(t))
	m := get()
	m.Attributes.Request.Http.RawBody = make([]byte, 8<<20-4096)
	if resp := check(t, conn, m); reasonOf(resp) != authz.Allowed {
		t.Errorf("got %v", resp)
	}
	m.Attributes.Request.Http.RawBody = make([]byte, 8<<20)
	if _, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), m); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v, want RESOURCE_EXHAUSTED", err)
	}
}

func TestPanics(t *testing.T) {
	logged := new(strings.Builder)
	log := slog.New(slog.NewTextHandler(logged, nil))
	w := &world{}
	panics := decider(func(context.Context, *authz.Request) authz.Decision { panic("secret of the request") })
	_, conn := serve(t, panics, extauthz.WithRecorder(w), extauthz.WithLogger(log), extauthz.WithOverloadAsError())
	resp := check(t, conn, get("authorization: Bearer x"))
	sound(t, resp, false)
	if reasonOf(resp) != authz.Internal || resp.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("got %v, want a denial for internal", resp)
	}
	if got := w.recorded(); len(got) != 1 || got[0].reason != authz.Internal || got[0].detail != authz.Panicked || len(got[0].req.Headers) > 0 {
		t.Errorf("recorded %+v, want internal (panicked) without the request", got)
	}
	if s := logged.String(); strings.Contains(s, "secret") || !strings.Contains(s, "panic=string") || !strings.Contains(s, "server_test.go") {
		t.Errorf("log %s", s)
	}
}

// panicRecorder fails in the worst way.
type panicRecorder struct{}

func (panicRecorder) Record(context.Context, *authz.Request, *authz.Decision) error { panic("boom") }

func TestPanicInTheRecorder(t *testing.T) {
	s, err := extauthz.NewServer(decider(func(context.Context, *authz.Request) authz.Decision { panic("boom") }), extauthz.WithRecorder(panicRecorder{}))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Check(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	sound(t, resp, false)
	if reasonOf(resp) != authz.Internal {
		t.Errorf("got %v", resp)
	}
}

// Where the record of the server's own refusal is required and impossible, the
// answer says that.
func TestOwnRefusalIsRecorded(t *testing.T) {
	w := &world{fail: authz.Refuse(authz.AuditUnavailable, "", errBoom)}
	s, err := extauthz.NewServer(decider(func(context.Context, *authz.Request) authz.Decision { panic("boom") }), extauthz.WithRecorder(w))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Check(t.Context(), get())
	if err != nil || reasonOf(resp) != authz.AuditUnavailable {
		t.Errorf("got %v, %v", resp, err)
	}
}

// An allow that cannot be delivered is refused, and recorded as refused; never
// as an error that Envoy may let pass.
func TestUndeliverableAllow(t *testing.T) {
	w := &world{asError: true}
	for i := range 5 {
		w.allow.Set = append(w.allow.Set, hdr(fmt.Sprint("x-", i), strings.Repeat("a", 8<<10)))
	}
	s, err := extauthz.NewServer(w.pipeline(t), extauthz.WithRecorder(w), extauthz.WithOverloadAsError())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Check(t.Context(), get())
	if err != nil {
		t.Fatal(err)
	}
	sound(t, resp, false)
	if reasonOf(resp) != authz.Internal || resp.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("got %v", resp)
	}
	got := w.recorded()
	if len(got) != 2 || got[0].reason != authz.Allowed || got[1].reason != authz.Internal || got[1].detail != authz.Undeliverable || got[1].id != resp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue() {
		t.Errorf("recorded %+v, want the allow and then the refusal that was sent", got)
	}
}

func TestZeroDecisionOfADecider(t *testing.T) {
	_, conn := serve(t, decider(func(context.Context, *authz.Request) authz.Decision { return authz.Decision{} }))
	resp := check(t, conn, get())
	sound(t, resp, false)
	if reasonOf(resp) != authz.Internal {
		t.Errorf("got %v", resp)
	}
}

// The server's own deadline ends a check, and the answer still arrives as a
// refusal within what the client allows.
func TestDeadline(t *testing.T) {
	w := &world{authorize: func(ctx context.Context, _ *authz.Request) error { <-ctx.Done(); return ctx.Err() }}
	_, conn := serve(t, w.pipeline(t), extauthz.WithDeadline(10*time.Millisecond))
	resp := check(t, conn, get())
	sound(t, resp, false)
	if reasonOf(resp) != authz.Deadline || resp.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("got %v", resp)
	}
	if got := w.recorded(); len(got) != 1 || got[0].detail != authz.TimedOut {
		t.Errorf("recorded %+v, want timed_out", got)
	}
}

// The client's own deadline is shorter: nobody reads the answer, and the
// record still says what happened.
func TestClientGone(t *testing.T) {
	entered := make(chan struct{})
	w := &world{authorize: func(ctx context.Context, _ *authz.Request) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}}
	s, conn := serve(t, w.pipeline(t), extauthz.WithDeadline(time.Minute))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := authv3.NewAuthorizationClient(conn).Check(ctx, get()); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil { // waits for the handler
		t.Fatal(err)
	}
	if got := w.recorded(); len(got) != 1 || got[0].reason != authz.Deadline || got[0].detail != authz.Canceled {
		t.Errorf("recorded %+v, want deadline (canceled)", got)
	}
}

// Above the limit a check is refused at once, without asking the decider, and
// room that is freed is used again.
func TestInFlight(t *testing.T) {
	const limit = 3
	for _, asError := range []bool{false, true} {
		t.Run(fmt.Sprintf("as error %v", asError), func(t *testing.T) {
			entered, release := make(chan struct{}), make(chan struct{})
			var asked atomic.Int64
			w := &world{authorize: func(context.Context, *authz.Request) error {
				if asked.Add(1) <= limit {
					entered <- struct{}{}
					<-release
				}
				return nil
			}}
			opts := []extauthz.Option{extauthz.WithMaxInFlight(limit), extauthz.WithDeadline(time.Minute), extauthz.WithRecorder(w)}
			if asError {
				opts = append(opts, extauthz.WithOverloadAsError())
			}
			_, conn := serve(t, w.pipeline(t), opts...)
			var wg sync.WaitGroup
			for range limit {
				wg.Go(func() {
					resp, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), get())
					if err != nil || reasonOf(resp) != authz.Allowed {
						t.Errorf("admitted check: %v, %v", resp, err)
					}
				})
			}
			for range limit {
				<-entered
			}
			for range 50 {
				resp := check(t, conn, get("content-type: application/grpc"))
				sound(t, resp, false)
				if reasonOf(resp) != authz.Overloaded || (resp.GetErrorResponse() != nil) != asError {
					t.Fatalf("got %v", resp)
				}
				if got := values(denial(resp).GetHeaders(), "grpc-status"); len(got) != 1 || got[0] != "14" {
					t.Fatalf("grpc-status %q", got)
				}
			}
			if n := asked.Load(); n != limit {
				t.Errorf("the decider was asked %d times", n)
			}
			overloaded := 0
			for _, r := range w.recorded() {
				if r.reason == authz.Overloaded && r.detail == authz.InFlight && r.req.Method == "GET" {
					overloaded++
				}
			}
			if overloaded != 50 {
				t.Errorf("%d refusals recorded, want 50", overloaded)
			}
			close(release)
			wg.Wait()
			if resp := check(t, conn, get()); reasonOf(resp) != authz.Allowed {
				t.Errorf("room is not given back: %v", resp)
			}
		})
	}
}

// The answer to a request of a thousand headers arrives, and so does that to
// one more.
func TestHeaderBoundOverTheWire(t *testing.T) {
	_, conn := serve(t, (&world{}).pipeline(t))
	m := get()
	for i := len(m.Attributes.Request.Http.HeaderMap.Headers); i < 1000; i++ {
		m.Attributes.Request.Http.HeaderMap.Headers = append(m.Attributes.Request.Http.HeaderMap.Headers, &corev3.HeaderValue{Key: fmt.Sprint("x-", i), RawValue: []byte("v")})
	}
	if resp := check(t, conn, m); reasonOf(resp) != authz.Allowed {
		t.Errorf("got %v", resp)
	}
	m.Attributes.Request.Http.HeaderMap.Headers = append(m.Attributes.Request.Http.HeaderMap.Headers, &corev3.HeaderValue{Key: "x-more"})
	if resp := check(t, conn, m); reasonOf(resp) != authz.MalformedRequest {
		t.Errorf("got %v", resp)
	}
}
