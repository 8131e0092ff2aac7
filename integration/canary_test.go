package integration

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// A planting is one request with a word in one of its fields that stands
// nowhere else. The places where the word may be found are those that the
// contract names for the field, and it must be found there.
type planting struct {
	name    string
	method  string // default: GET
	target  string // default: /orders
	host    string // default: api.example.com
	headers [][2]string
	body    string
	more    func(*authv3.CheckRequest) // what HTTP cannot say; such a request goes by Envoy
	direct  bool                       // so does one that Envoy refuses by itself, or cleans
	secrets []string                   // what else of it must be found nowhere
	found   []string
}

// word is what case n plants: letters and digits in lower case, so that no
// encoding of a URL, header or JSON changes it.
func word(n int) string { return fmt.Sprintf("canary%02dq7zkx3vw9mjh2", n) }

// segments are the parts of a token, each of which tells enough of it.
func segments(token string) []string {
	return slices.DeleteFunc(strings.Split(strings.TrimPrefix(token, "Bearer "), "."), func(s string) bool { return len(s) < 20 })
}

// plantings makes all cases. Each plant is called with a word of its own.
func plantings(w *world) (all []planting) {
	plant := func(make func(c string) planting) {
		p := make(word(len(all)))
		p.target, p.host, p.method = cmp.Or(p.target, "/orders"), cmp.Or(p.host, "api.example.com"), cmp.Or(p.method, "GET")
		all = append(all, p)
	}
	auth := func(value string) [2]string { return [2]string{"authorization", value} }
	bob := auth(w.token("bob", "clerk"))
	signed := func(name string, found []string, claims func(c string) map[string]any, opts ...authztest.MintOption) {
		plant(func(c string) planting {
			token := w.issuer.Mint(claims(c), opts...)
			return planting{name: name, headers: [][2]string{auth("Bearer " + token)}, secrets: segments(token), found: found}
		})
	}

	// A token that is good, and what it claims.
	signed("claims", nil, func(c string) map[string]any {
		return map[string]any{"sub": "bob", "roles": []string{"clerk", c}, "scope": c, "jti": c, "client_id": c, "tid": c, "email": c + "@example.com",
			"acr": c, "amr": []string{c}, "sid": c, "department": map[string]any{c: []any{c}}}
	})
	signed("a claim that records ask for", []string{"audit fields.tier"}, func(c string) map[string]any {
		return map[string]any{"sub": "bob", "roles": []string{"clerk"}, "tier": c}
	})
	signed("subject", nil, func(c string) map[string]any { return map[string]any{"sub": c, "roles": []string{"clerk"}} })
	signed("subject and client", nil, func(c string) map[string]any { return map[string]any{"sub": c, "client_id": c} })

	// Tokens that are refused, each for its own reason.
	for _, claim := range []string{"aud", "exp", "iat", "nbf", "roles", "sub", "jti", "nonce", "cnf"} {
		signed("claim "+claim+" of a token that may be refused", nil, func(c string) map[string]any {
			v := any(c)
			if claim == "sub" || claim == "jti" {
				v = c + "\n"
			}
			return map[string]any{claim: v}
		})
	}
	signed("issuer", nil, func(c string) map[string]any { return map[string]any{"iss": "https://" + c + ".example.com"} })
	for _, member := range []string{"alg", "kid", "typ", "crit", "jku"} {
		plant(func(c string) planting {
			token := w.issuer.Mint(nil, authztest.Header(member, c))
			return planting{name: "token header " + member, headers: [][2]string{auth("Bearer " + token)}, secrets: segments(token)}
		})
	}
	plant(func(c string) planting {
		token := w.issuer.Mint(map[string]any{"sub": c}, authztest.Signature(func([]byte) []byte { return []byte(c + c + c) }))
		return planting{name: "forged token", headers: [][2]string{auth("Bearer " + token)}, secrets: segments(token)}
	})
	plant(func(c string) planting {
		token := w.issuer.Mint(nil, authztest.RawClaims(`{"iss":"`+w.issuer.URL()+`","sub":"`+c+`","`+c+`":1,"`+c+`":2}`))
		return planting{name: "claim that is there twice", headers: [][2]string{auth("Bearer " + token)}, secrets: segments(token)}
	})
	for name, value := range map[string]string{
		"no token68": "Bearer C!", "two words": "Bearer C C", "opaque": "Bearer C", "dots": "Bearer C.C.C", "DPoP": "DPoP C",
		"no scheme": "C", "unknown scheme": "C abc", "Basic": "Basic " + base64.StdEncoding.EncodeToString([]byte("C")),
		"joined": bob[1] + ", Bearer C", "empty scheme": "Bearer  C", "too long": "Bearer " + strings.Repeat("C", 900),
	} {
		plant(func(c string) planting {
			value := strings.ReplaceAll(value, "C", c)
			p := planting{name: "authorization, " + name, headers: [][2]string{auth(value)}}
			if name == "Basic" {
				p.headers[0][1] = "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+c))
				p.secrets = []string{p.headers[0][1][len("Basic "):]}
			}
			return p
		})
	}
	plant(func(c string) planting {
		return planting{name: "second authorization", headers: [][2]string{bob, auth("Bearer " + c)}}
	})
	plant(func(c string) planting {
		return planting{name: "token in a cookie", headers: [][2]string{{"cookie", "a=1; __Host-session=" + c}}}
	})
	plant(func(c string) planting {
		return planting{name: "other cookie", headers: [][2]string{bob, {"cookie", c + "=" + c}}}
	})
	plant(func(c string) planting {
		return planting{name: "two cookies", headers: [][2]string{{"cookie", "__Host-session=" + c + "; __Host-session=" + c}}}
	})

	// Every other header that somebody reads, or might.
	for _, name := range []string{
		"x-request-id", "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "uber-trace-id", "x-cloud-trace-context", "user-agent", "referer", "accept",
		"accept-language", "content-type", "origin", "x-forwarded-for", "x-forwarded-client-cert", "x-forwarded-proto", "forwarded", "x-real-ip",
		"x-original-url", "x-http-method-override", "x-api-key", "x-auth-token", "proxy-authorization", "dpop", "x-user", "x-roles", "connection",
		"x-csrf-token", "if-none-match", "access-control-request-method", "access-control-request-headers", "x-envoy-original-path",
	} {
		plant(func(c string) planting { return planting{name: "header " + name, headers: [][2]string{bob, {name, c}}} })
		plant(func(c string) planting {
			return planting{name: "header " + name + ", by Envoy", headers: [][2]string{bob, {name, c}}, direct: true}
		})
	}
	plant(func(c string) planting {
		return planting{name: "baggage and traceparent", headers: [][2]string{bob,
			{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {"baggage", "user=" + c}}}
	})
	plant(func(c string) planting {
		return planting{name: "name of a header", headers: [][2]string{bob, {"x-" + c, "1"}}}
	})
	plant(func(c string) planting {
		return planting{name: "header that shadows one of ours", headers: [][2]string{bob, {"x_user", c}}, direct: true}
	})
	plant(func(c string) planting {
		return planting{name: "an answer that Envoy would not take", target: "/swollen", headers: [][2]string{{"x-big", strings.Repeat(c, 300)}}}
	})

	// The request line. A path and a host are not secret, what follows the
	// question mark is.
	for _, target := range []string{"/orders?access_token=C", "/orders?a=1&access_token=C", "/orders?q=C", "/orders?C", "/orders?C=1", "/orders/7?a?C", "/elsewhere?C",
		"/orders;a=1?token=C", "/orders%zz?token=C", "//orders?token=C", "/orders/%00?token=C", "?C"} {
		plant(func(c string) planting {
			return planting{name: "query of " + target, target: strings.ReplaceAll(target, "C", c), headers: [][2]string{bob}}
		})
	}
	plant(func(c string) planting {
		return planting{name: "fragment", target: "/orders#access_token=" + c, headers: [][2]string{bob}, direct: true}
	})
	plant(func(c string) planting {
		return planting{name: "path", target: "/orders/" + c, headers: [][2]string{bob}, found: []string{"audit path", "span url.path"}}
	})
	plant(func(c string) planting {
		return planting{name: "path that is not allowed", target: "/orders/" + c + "/", found: []string{"audit path", "span url.path"}}
	})
	// A parameter is a part of its path, for a route that keeps semicolons
	// and in what is told of a request that is refused for them.
	plant(func(c string) planting {
		return planting{name: "parameter within a path", target: "/orders;access_token=" + c, found: []string{"audit path", "span url.path"}}
	})
	plant(func(c string) planting {
		return planting{name: "host", host: c + ".example.com", headers: [][2]string{bob}, found: []string{"audit host"}}
	})
	plant(func(c string) planting {
		return planting{name: "password in a host", host: "user:" + c + "@api.example.com", headers: [][2]string{bob}, direct: true}
	})
	plant(func(c string) planting {
		return planting{name: "method", method: strings.ToUpper(c), headers: [][2]string{bob}, direct: true, found: []string{"audit method"}}
	})
	plant(func(c string) planting {
		return planting{name: "body", method: "POST", headers: [][2]string{bob, {"content-type", "application/x-www-form-urlencoded"}}, body: "access_token=" + c}
	})

	// What Envoy says beside the request.
	for name, edit := range map[string]func(a *authv3.AttributeContext, c string){
		"body":              func(a *authv3.AttributeContext, c string) { a.Request.Http.Body = c },
		"raw body":          func(a *authv3.AttributeContext, c string) { a.Request.Http.RawBody = []byte(c) },
		"request id":        func(a *authv3.AttributeContext, c string) { a.Request.Http.Id = c },
		"scheme":            func(a *authv3.AttributeContext, c string) { a.Request.Http.Scheme = c },
		"protocol":          func(a *authv3.AttributeContext, c string) { a.Request.Http.Protocol = c },
		"query field":       func(a *authv3.AttributeContext, c string) { a.Request.Http.Query = c },
		"fragment field":    func(a *authv3.AttributeContext, c string) { a.Request.Http.Fragment = c },
		"context extension": func(a *authv3.AttributeContext, c string) { a.ContextExtensions = map[string]string{c: c} },
		"route by context": func(a *authv3.AttributeContext, c string) {
			a.ContextExtensions = map[string]string{"sallyport.route": c}
		},
		"certificate": func(a *authv3.AttributeContext, c string) { a.Source.Certificate = c },
		"service":     func(a *authv3.AttributeContext, c string) { a.Source.Service = c },
		"label":       func(a *authv3.AttributeContext, c string) { a.Source.Labels = map[string]string{c: c} },
		"SNI":         func(a *authv3.AttributeContext, c string) { a.TlsSession = &authv3.AttributeContext_TLSSession{Sni: c} },
		"destination": func(a *authv3.AttributeContext, c string) {
			a.Destination = &authv3.AttributeContext_Peer{Principal: c}
		},
		"metadata": func(a *authv3.AttributeContext, c string) {
			a.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{c: {Fields: map[string]*structpb.Value{c: structpb.NewStringValue(c)}}}}
		},
		"address":   func(a *authv3.AttributeContext, c string) { a.Source.Address = address(c) },
		"principal": func(a *authv3.AttributeContext, c string) { a.Source.Principal = c },
	} {
		plant(func(c string) planting {
			p := planting{name: "message, " + name, headers: [][2]string{bob}, direct: true, more: func(m *authv3.CheckRequest) { edit(m.Attributes, c) }}
			if name == "principal" {
				p.found = []string{"audit source.principal"}
			}
			return p
		})
	}

	// Everything at once, with a token that is good and with one that is not.
	for name, value := range map[string]string{"good": "", "forged": "Bearer C.C.C", "malformed": "Bearer C C"} {
		plant(func(c string) planting {
			token := w.issuer.Mint(map[string]any{"sub": c, "roles": []string{"clerk", c}, "jti": c, "email": c})
			p := planting{
				name: "everything, " + name + " token", target: "/orders/" + c + "?q=" + c + "&" + c, host: c + ".example.com", body: c, method: "POST",
				secrets: segments(token), found: []string{"audit host", "audit path", "span url.path"},
				headers: [][2]string{auth(cmp.Or(strings.ReplaceAll(value, "C", c), "Bearer "+token)), {"cookie", "a=" + c}, {"x-" + c, c}},
			}
			for _, h := range []string{"user-agent", "x-request-id", "baggage", "traceparent", "referer", "x-forwarded-for", "x-api-key", "x-user", "accept"} {
				p.headers = append(p.headers, [2]string{h, c})
			}
			return p
		})
	}
	return all
}

func address(ip string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: ip}}}
}

// raw is the request as bytes.
func (p *planting) raw() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: %s\r\n", p.method, p.target, p.host)
	if p.body != "" {
		fmt.Fprintf(&b, "content-length: %d\r\n", len(p.body))
	}
	for _, h := range p.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	return []byte(b.String() + "\r\n" + p.body)
}

// message is the request as Envoy would describe it.
func (p *planting) message() *authv3.CheckRequest {
	m := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: address("192.0.2.7")},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: p.method, Path: p.target, Host: p.host, Body: p.body, HeaderMap: &corev3.HeaderMap{},
		}},
	}}
	for _, h := range p.headers {
		hs := &m.Attributes.Request.Http.HeaderMap.Headers
		*hs = append(*hs, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
	}
	if p.more != nil {
		p.more(m)
	}
	return m
}

// A word that is planted in any field of a request is found in no log line,
// audit record, span, metric or answer, but in the places that the contract
// names for it.
func TestCanary(t *testing.T) {
	t.Parallel()
	s := newSink(t, 0)
	w := newTrial(t, trial{
		config: `
server:` + quick + `
issuers:
  - {name: corp, issuer: "ISSUER", audiences: ["https://api.example.com"], claims: {tenant: tid}}
credentials:
  - {header: authorization, scheme: Bearer}
  - {cookie: __Host-session}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - name: orders
    match: [/orders, "/orders/{order}"]
    policy: api
    onAllow:
      requestHeaders: {set: {x-user: subject.sub, x-roles: 'subject.roles.join(",")'}, remove: [authorization, cookie]}
      responseHeaders: {set: {x-decision: decision.id}}
  - {name: swollen, match: /swollen, token: none, allow: true, onAllow: {requestHeaders: {set: {` + swollen(10) + `}}}}
audit: {file: audit.jsonl, mode: required, fields: {tier: subject.claims.tier}}
`,
		env: traced(s.addr), otel: s.addr,
		answer: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }), // which repeats nothing
	})
	seen := surface{}
	cases := plantings(w)
	conn := w.direct()
	for _, p := range cases {
		if p.direct {
			resp := w.check(conn, p.message())
			seen.add("answer", prototext.Format(resp.GetDeniedResponse())+prototext.Format(resp.GetErrorResponse())+prototext.Format(resp.GetStatus()))
			for _, h := range resp.GetOkResponse().GetResponseHeadersToAdd() {
				seen.add("answer", prototext.Format(h))
			}
			continue
		}
		answers, err := harness.RawHTTP1(t.Context(), w.envoy.Listener, p.raw(), 1)
		if err != nil || len(answers) != 1 {
			t.Fatalf("%s: %v, %d answers", p.name, err, len(answers))
		}
		seen.add("answer", fmt.Sprintf("%d %v %s", answers[0].Status, answers[0].Header, answers[0].Body))
	}

	decisions, _ := facts(t, w.path("audit.jsonl"))
	// A few requests are refused by Envoy itself; all others were decided on.
	if len(decisions) < len(cases)*9/10 || len(decisions) > len(cases) {
		t.Errorf("%d records of %d requests", len(decisions), len(cases))
	}
	for _, rec := range decisions {
		var m map[string]any
		if err := json.Unmarshal([]byte(rec.line), &m); err != nil {
			t.Fatal(err)
		}
		seen.flatten("audit ", m)
	}
	records := byID(t, decisions)
	eventually(t, "a span of each decision", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		there := 0
		for _, span := range s.spans["sallyport"] {
			if _, ok := records[attr(span.GetAttributes(), "authz.decision.id")]; ok {
				there++
			}
		}
		return there >= len(records)
	})
	s.mu.Lock()
	seen.spans(s.spans["sallyport"])
	s.mu.Unlock()
	for _, accept := range []string{"text/plain", "application/openmetrics-text"} {
		seen.add("metrics", w.scrape(accept))
	}
	if err := w.Stop(20 * time.Second); err != nil { // what it says last counts too
		t.Error(err)
	}
	log, err := os.ReadFile(w.Log.Path())
	if err != nil {
		t.Fatal(err)
	}
	seen.add("log", string(log))
	w.said("a decision failed") // so that the log had a chance

	for n, p := range cases {
		if got := seen.with(append(p.secrets, word(n))); !slices.Equal(got, p.found) {
			t.Errorf("%s: %s is found in %q, want %q", p.name, word(n), got, p.found)
		}
	}
}
