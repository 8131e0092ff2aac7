package extauthz_test

import (
	"bytes"
	"context"
	"testing"
	"time"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

// Whatever bytes arrive: nothing panics, the answer marshals, and it allows
// only where the decider did.
func FuzzCheckRequest(f *testing.F) {
	merged := get()
	merged.Attributes.Request.Http.HeaderMap = nil
	merged.Attributes.Request.Http.Headers = map[string]string{":path": "/", "accept": "text/html;q=0.9,*/*", "x-forwarded-for": "1.2.3.4,[::1]:5,"}
	for _, m := range []*authv3.CheckRequest{
		{}, get(), merged,
		{Attributes: &authv3.AttributeContext{Source: &authv3.AttributeContext_Peer{Address: socket("::ffff:192.0.2.7")}}},
		get("content-type: application/grpc+proto", "x-request-id: \xff", "x-forwarded-for: a,,b"),
		get("accept: text/html", "via: x", "x-user: eve", "content-type: application/grpc"),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		for hops := range uint8(3) {
			f.Add(b, hops, hops == 0)
		}
	}
	body := "sorry"
	worlds := map[bool]*world{}
	for _, permit := range []bool{false, true} {
		worlds[permit] = &world{
			challenge: "Bearer",
			allow: authz.Answer{
				Set: []authz.Header{hdr("x-user", "ada")}, Append: []authz.Header{hdr("via", "x")}, Remove: []string{"cookie"},
				QuerySet: []authz.Param{{Name: "a", Value: "1"}}, QueryRemove: []string{"debug"},
			},
			denied: authz.Answer{Body: &body, Redirect: "/login"},
		}
	}
	worlds[false].deny = authz.Refuse(authz.NoCredential, "", nil)
	pipelines := map[bool]*authz.Pipeline{false: worlds[false].pipeline(f), true: worlds[true].pipeline(f)}
	var permit, allowed bool // of the one check at a time
	servers := map[uint8]*extauthz.Server{}
	for hops := range uint8(3) {
		s, err := extauthz.NewServer(decider(func(ctx context.Context, r *authz.Request) authz.Decision {
			worlds[permit].records = nil
			d := pipelines[permit].Decide(ctx, r)
			allowed = d.Allowed()
			return d
		}), extauthz.WithTrustedHops(int(hops)), extauthz.WithDeadline(time.Minute))
		if err != nil {
			f.Fatal(err)
		}
		servers[hops] = s
	}
	f.Fuzz(func(t *testing.T, b []byte, hops uint8, permitted bool) {
		m := new(authv3.CheckRequest)
		if proto.Unmarshal(b, m) != nil {
			return // TestUndecodableMessages covers what does not decode
		}
		permit = permitted
		resp, err := servers[hops%3].Check(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if allowed && !permitted {
			t.Fatal("allowed what the policy does not permit")
		}
		if reasonOf(resp) == authz.Internal {
			t.Fatalf("a message made the check fail: %v", resp)
		}
		sound(t, resp, allowed)
	})
}

// Whatever a route computes: the answer marshals, holds no control character
// and no forbidden name, sets or removes the header, never both, and a refusal
// stays one.
func FuzzRender(f *testing.F) {
	f.Add("x-user", "ada", "text/html", "/login", uint8(4))
	f.Add("Host", "a\r\nx-inj: 1", "*/*", "https://a/\r\nx", uint8(0))
	f.Add("x-envoy-x", "\xff", "text/html;q=0.5,application/json", "\x00", uint8(9))
	f.Add("grpc-status", "0", "application/grpc", "é", uint8(5))
	f.Add("set-cookie", "a\u0085", ",;q=", "", uint8(200))
	f.Fuzz(func(t *testing.T, name, value, accept, redirect string, reason uint8) {
		h := []authz.Header{hdr(name, value)}
		w := &world{
			challenge: value, asError: reason%2 == 0, subject: &authz.Subject{ID: value},
			allow: authz.Answer{
				Set: h, Append: append(h, hdr("via", value)), Remove: []string{name, "via"}, Response: h,
				QuerySet: []authz.Param{{Name: name, Value: value}}, QueryRemove: []string{name, value},
				Metadata: map[string]any{name: value, "list": []any{value, map[string]any{value: name}}},
			},
			denied: authz.Answer{Response: h, Body: &value, Redirect: redirect},
		}
		r := &authz.Request{Target: "/?" + name + "=" + value, Headers: []authz.Header{hdr("accept", accept), hdr("content-type", accept), hdr(name, value)}}
		if n := int(reason); n < len(authz.Reasons()) {
			w.deny = authz.Refuse(authz.Reasons()[n], "", nil)
		}
		d := w.decide(t, r)
		resp, err := extauthz.Render(r, d)
		if err != nil {
			t.Fatal(err) // nothing here is large
		}
		sound(t, resp, d.Allowed())
		ok := resp.GetOkResponse()
		hs := append(append(ok.GetHeaders(), ok.GetResponseHeadersToAdd()...), denial(resp).GetHeaders()...)
		for _, h := range hs {
			k, v := h.GetHeader().GetKey(), h.GetHeader().GetValue()
			if k == "" || k[0] == ':' || k == "host" || bytes.ContainsAny([]byte(k), " \r\n\x00") || bytes.ContainsAny([]byte(v), "\r\n\x00\x7f") || !utf8.ValidString(v) {
				t.Errorf("header %q: %q", k, v)
			}
		}
		for _, h := range ok.GetHeaders() {
			for _, removed := range ok.GetHeadersToRemove() {
				if h.GetHeader().GetKey() == removed {
					t.Errorf("%q is set and removed", removed)
				}
			}
		}
		if d.Allowed() != (d.Reason() == authz.Allowed) {
			t.Errorf("reason %s", d.Reason())
		}
	})
}
