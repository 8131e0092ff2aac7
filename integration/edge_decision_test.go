package integration

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

// What Envoy makes of each thing that an authorization server can return. The
// first four are why Sallyport never leaves a status out, and the errors why
// it never returns one: with failure_mode_allow they let the request pass.
//
// Each is asked over HTTP/1.1, HTTP/2 and gRPC, of a filter as Istio generates
// it (closed), of one that fails open, and of that of envoy.yaml.
func TestWhatEnvoyMakesOfAnswers(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	hurried := func(edit func(_, _, _ tree)) func(_, _, _ tree) {
		return func(listener, manager, filter tree) {
			edit(listener, manager, filter)
			filter["grpc_service"].(tree)["timeout"] = "0.2s"
		}
	}
	e := newEdge(t, s.addr, nil, variant{"closed", generated}, variant{"open", failsOpen},
		variant{"hurried", hurried(generated)}, variant{"hurried and open", hurried(failsOpen)}, variant{"hurried as envoy.yaml", hurried(asItStands)})
	s.on("late", func(ctx context.Context) (*authv3.CheckResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})

	denied := &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 401}}}
	failed := func(status int) *authv3.CheckResponse_ErrorResponse {
		r := &authv3.DeniedHttpResponse{Body: "failed"}
		if status != 0 {
			r.Status = &typev3.HttpStatus{Code: typev3.StatusCode(status)}
		}
		return &authv3.CheckResponse_ErrorResponse{ErrorResponse: r}
	}
	ok := &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}
	code := func(c int32) *rpcstatus.Status { return &rpcstatus.Status{Code: c} }
	rpcError := func(c codes.Code) answer {
		return func(context.Context) (*authv3.CheckResponse, error) { return nil, grpcstatus.Error(c, "no") }
	}
	// The status for a caller of HTTP, by listener; 200 is an allow.
	type outcome struct{ closed, open, ingress int }
	everywhere := func(status int) outcome { return outcome{status, status, status} }
	ofErrors := func(o outcome) outcome {
		if !knowsErrors(t) {
			return everywhere(403)
		}
		return o
	}
	for _, c := range []struct {
		name   string
		answer answer
		want   outcome
	}{
		{"nothing at all", always(&authv3.CheckResponse{}), everywhere(200)},
		{"nil without an error", always(nil), everywhere(200)},
		{"no status, denied", always(&authv3.CheckResponse{HttpResponse: denied}), everywhere(200)},
		{"no status, failed", always(&authv3.CheckResponse{HttpResponse: failed(503)}), everywhere(200)},
		{"code 0, denied", always(&authv3.CheckResponse{Status: code(0), HttpResponse: denied}), everywhere(200)},
		{"code 0, ok", always(&authv3.CheckResponse{Status: code(0), HttpResponse: ok}), everywhere(200)},

		{"code 7, denied", always(&authv3.CheckResponse{Status: code(7), HttpResponse: denied}), everywhere(401)},
		{"code 99, denied", always(&authv3.CheckResponse{Status: code(99), HttpResponse: denied}), everywhere(401)},
		{"code -1, denied", always(&authv3.CheckResponse{Status: code(-1), HttpResponse: denied}), everywhere(401)},
		{"code 7, denied without a status", always(refused(0, "")), everywhere(403)},
		{"code 7, ok", always(&authv3.CheckResponse{Status: code(7), HttpResponse: ok}), everywhere(403)},
		{"code 7, nothing", always(&authv3.CheckResponse{Status: code(7)}), everywhere(403)},

		{"failed", always(&authv3.CheckResponse{Status: code(14), HttpResponse: failed(503)}), ofErrors(outcome{503, 200, 503})},
		{"failed with 401", always(&authv3.CheckResponse{Status: code(14), HttpResponse: failed(401)}), ofErrors(outcome{401, 200, 401})},
		{"failed without a status", always(&authv3.CheckResponse{Status: code(14), HttpResponse: failed(0)}), ofErrors(outcome{403, 200, 503})},

		{"error permission denied", rpcError(codes.PermissionDenied), outcome{403, 200, 503}},
		{"error unauthenticated", rpcError(codes.Unauthenticated), outcome{403, 200, 503}},
		{"error unavailable", rpcError(codes.Unavailable), outcome{403, 200, 503}},
		{"error internal", rpcError(codes.Internal), outcome{403, 200, 503}},
		{"not UTF-8, so that it does not marshal", always(refused(401, "\xff")), outcome{403, 200, 503}},
	} {
		name := "decision " + c.name
		s.on(name, c.answer)
		for listener, want := range map[string]int{"closed": c.want.closed, "open": c.want.open, "ingress": c.want.ingress} {
			ask := call{listener: listener, target: "/x", headers: [][2]string{{"x-case", name}}}
			for protocol, got := range map[string]*reply{"HTTP/1.1": e.h1(ask), "HTTP/2": e.h2(ask)} {
				if got.status != want || (got.upstream != "") != (want == 200) {
					t.Errorf("%s, %s, %s: %d %q, want %d", c.name, listener, protocol, got.status, got.body, want)
				}
			}
			got := e.grpc(ask)
			wantCode := map[int]string{200: "", 401: "16", 403: "7", 503: "14"}[want]
			if got.status != 200 || got.header.Get("grpc-status") != wantCode || (got.upstream != "") != (want == 200) {
				t.Errorf("%s, %s, gRPC: %d, grpc-status %q, want %q", c.name, listener, got.status, got.header.Get("grpc-status"), wantCode)
			}
		}
		if s.check(name) == nil {
			t.Errorf("%s: nobody was asked", c.name)
		}
	}

	// No answer in time, once each.
	for listener, want := range map[string]int{"hurried": 403, "hurried and open": 200, "hurried as envoy.yaml": 503} {
		if got := e.h1(call{listener: listener, headers: [][2]string{{"x-case", "late"}}}); got.status != want {
			t.Errorf("no answer in time, %s: %d, want %d", listener, got.status, want)
		}
	}

	// What failed open says so upstream, and a client can say it too: that
	// is why the early mutation of envoy.yaml is there.
	s.on("open", rpcError(codes.Internal))
	flag := "x-envoy-auth-failure-mode-allowed"
	if got := e.h1(call{listener: "open", headers: [][2]string{{"x-case", "open"}}}); fmt.Sprint(got.upstreamLines(flag)) != "[true]" {
		t.Errorf("failing open says %q", got.upstreamLines(flag))
	}
	forged := [][2]string{{flag, "true"}}
	if got := e.h1(call{listener: "closed", headers: forged}); fmt.Sprint(got.upstreamLines(flag)) != "[true]" {
		t.Errorf("a client's own %s: %q", flag, got.upstreamLines(flag))
	}
	if got := e.h1(call{headers: forged}); got.status != 200 || got.upstreamLines(flag) != nil {
		t.Errorf("a client's own %s with envoy.yaml: %d, %q", flag, got.status, got.upstreamLines(flag))
	}
}

// Denials: what of their status, headers and body arrives, at each kind of
// caller.
func TestWhatEnvoyMakesOfDenials(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	e := newEdge(t, s.addr, nil, variant{"closed", generated})
	ask := func(listener, name string, resp *authv3.CheckResponse) call {
		s.on(name, always(resp))
		return call{listener: listener, target: "/x", headers: [][2]string{{"x-case", name}}}
	}

	for _, status := range []int{200, 204, 302, 400, 401, 403, 418, 429, 500, 503, 599} {
		c := ask("ingress", "status "+strconv.Itoa(status), refused(status, "", entry("location", "/login", unset)))
		for protocol, got := range map[string]*reply{"HTTP/1.1": e.h1(c), "HTTP/2": e.h2(c)} {
			if got.status != status || got.header.Get("location") != "/login" {
				t.Errorf("%d over %s: %d %v", status, protocol, got.status, got.header)
			}
		}
		want := map[int]string{400: "13", 401: "16", 403: "7", 404: "12", 429: "14", 503: "14"}[status]
		if want == "" {
			want = "2"
		}
		if got := e.grpc(c); got.status != 200 || got.header.Get("grpc-status") != want || got.body != "" {
			t.Errorf("%d to a gRPC caller: %d, grpc-status %q, want %q", status, got.status, got.header.Get("grpc-status"), want)
		}
	}

	// Repeated names are kept, entries with append are lost.
	c := ask("ingress", "headers", refused(401, "sorry", entry("set-cookie", "a=1", unset), entry("set-cookie", "b=2", unset),
		entry("www-authenticate", "Bearer", replace), entry("www-authenticate", "DPoP", replace), entry("x-lost", "1", extend),
		entry("content-type", "application/problem+json", unset), entry("content-length", "1", unset), entry("connection", "keep-alive", unset)))
	for protocol, got := range map[string]*reply{"HTTP/1.1": e.h1(c), "HTTP/2": e.h2(c)} {
		for name, want := range map[string]string{
			"set-cookie": "[a=1 b=2]", "www-authenticate": "[Bearer DPoP]", "x-lost": "[]",
			"content-type": "[application/problem+json]", "content-length": "[5]",
		} {
			if values := fmt.Sprint(got.header.Values(name)); values != want || got.body != "sorry" {
				t.Errorf("%s over %s: %s, want %s; body %q", name, protocol, values, want, got.body)
			}
		}
	}
	// Without a body there is no type; without a type there is one.
	c = ask("ingress", "empty", refused(403, "", entry("content-type", "text/html", unset)))
	if got := e.h1(c); got.header.Get("content-type") != "" || got.header.Get("content-length") != "0" {
		t.Errorf("no body: %v", got.header)
	}
	c = ask("ingress", "typeless", refused(403, "sorry"))
	if got := e.h1(c); got.header.Get("content-type") != "text/plain" {
		t.Errorf("no type: %v", got.header)
	}
	// HEAD has the length of the body that it does not have.
	c.method = "HEAD"
	if got := e.h1(c); got.status != 403 || got.header.Get("content-length") != "5" || got.body != "" {
		t.Errorf("HEAD: %d %v %q", got.status, got.header, got.body)
	}
	// envoy.yaml cuts bodies at 16 KiB, in bytes.
	c = ask("ingress", "long", refused(403, string(make([]byte, 20<<10))))
	if got := e.h1(c); len(got.body) != 16<<10 {
		t.Errorf("a body of 20 KiB arrives with %d bytes", len(got.body))
	}

	// gRPC: our status wins; our message only without a body.
	c = ask("ingress", "grpc", refused(400, "", entry("grpc-status", "3", unset), entry("grpc-message", "mine", unset), entry("x-more", "1", unset)))
	if got := e.grpc(c); got.header.Get("grpc-status") != "3" || got.header.Get("grpc-message") != "mine" || got.header.Get("x-more") != "1" {
		t.Errorf("gRPC without a body: %v", got.header)
	}
	c = ask("ingress", "grpc body", refused(400, "a b\n%", entry("grpc-message", "mine", unset)))
	if got := e.grpc(c); got.header.Get("grpc-message") != "a b%0A%25" || got.header.Get("grpc-status") != "13" {
		t.Errorf("gRPC with a body: %v", got.header)
	}
	for contentType, isGRPC := range map[string]bool{
		"application/grpc+proto": true, "application/grpc;charset=utf-8": false, "Application/gRPC": false, "application/grpc-web": false, "application/json": false,
	} {
		c := ask("ingress", "type "+contentType, refused(401, ""))
		c.headers = append(c.headers, [2]string{"content-type", contentType})
		for protocol, got := range map[string]*reply{"HTTP/1.1": e.h1(c), "HTTP/2": e.h2(c)} {
			if (got.status == 200) != isGRPC || (got.header.Get("grpc-status") == "16") != isGRPC {
				t.Errorf("%s over %s: %d %v", contentType, protocol, got.status, got.header)
			}
		}
	}

	// Without validate_mutations a line break in a denial is written to the
	// caller as it stands; with it the answer is a 500, which is not ours.
	split := refused(403, "", entry("x-t", "a\r\nx-injected: 1", unset))
	if got := e.h1(ask("closed", "split", split)); got.header.Get("x-injected") != "1" {
		t.Errorf("without validation: %q", got.raw)
	}
	if got := e.h1(ask("ingress", "split", split)); got.status != 500 || got.header.Get("x-injected") != "" {
		t.Errorf("with validation: %q", got.raw)
	}
	// A status that is none is not stopped either.
	if got := e.h1(ask("ingress", "status 999", refused(999, ""))); got.status != 999 {
		t.Errorf("999: %d", got.status)
	}
	if heads := e.upstream.Heads("/x"); len(heads) > 0 {
		t.Errorf("a refused request arrived: %q", heads)
	}
}
