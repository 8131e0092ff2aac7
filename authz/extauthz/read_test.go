package extauthz_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

var sameAddr = cmpopts.EquateComparable(netip.Addr{})

func TestReadRaw(t *testing.T) {
	m := get("accept: */*", "x-a: 1", "X-B: \xff\xfe", "x-a: 2", "x-request-id: 6e4c", "x-envoy-auth-partial-body: false", "cookie: a=1", "cookie: b=2")
	m.Attributes.ContextExtensions = map[string]string{"sallyport.route": "orders"}
	m.Attributes.Source.Address = socket("::ffff:192.0.2.7")
	want := &authz.Request{
		Method: "GET", Target: "/v1/orders/7?debug=1", Authority: "Api.example.com:8443", Scheme: "https", Protocol: "HTTP/2",
		ID: "6e4c", Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
		Headers: []authz.Header{
			{Name: "accept", Value: "*/*"}, {Name: "x-a", Value: "1"}, {Name: "x-b", Value: "\xff\xfe"}, {Name: "x-a", Value: "2"},
			{Name: "x-request-id", Value: "6e4c"}, {Name: "cookie", Value: "a=1"}, {Name: "cookie", Value: "b=2"},
		},
		Source:  authz.Source{Address: netip.MustParseAddr("192.0.2.7"), Principal: "spiffe://mesh.example/ns/ingress/sa/envoy"},
		Context: map[string]string{"sallyport.route": "orders"},
	}
	got := extauthz.Read(m, 0)
	if diff := cmp.Diff(want, got, sameAddr); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// Nothing of the message is shared with what was read.
	m.Attributes.ContextExtensions["sallyport.route"] = "other"
	for _, h := range m.Attributes.Request.Http.HeaderMap.Headers {
		clear(h.RawValue)
	}
	if diff := cmp.Diff(want, got, sameAddr); diff != "" {
		t.Errorf("after the message changed: -want +got\n%s", diff)
	}
}

// gRPC as a client of the protocol writes value for text and raw_value for
// binary headers, in one list.
func TestReadValueWhereThereIsNoRawValue(t *testing.T) {
	m := get("x-bin: \x00\xff")
	m.Attributes.Request.Http.HeaderMap.Headers = append(m.Attributes.Request.Http.HeaderMap.Headers,
		&corev3.HeaderValue{Key: "x-text", Value: "text"},
		&corev3.HeaderValue{Key: "x-both", Value: "text", RawValue: []byte("raw")},
		&corev3.HeaderValue{Key: "x-none"},
		nil)
	want := []authz.Header{{Name: "x-bin", Value: "\x00\xff"}, {Name: "x-text", Value: "text"}, {Name: "x-both", Value: "raw"}, {Name: "x-none", Value: ""}}
	if got := extauthz.Read(m, 0).Headers; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadMerged(t *testing.T) {
	m := get()
	http := m.Attributes.Request.Http
	http.HeaderMap = nil
	http.Headers = map[string]string{
		":authority": "api.example.com", ":path": "/", ":method": "GET", ":scheme": "https", "": "x",
		"x-b": "b1,b2", "accept": "*/*", "cookie": "a=1,b=2", "X-A": "1", "x-a": "0", "x-envoy-auth-partial-body": "true",
	}
	want := []authz.Header{{Name: "accept", Value: "*/*"}, {Name: "cookie", Value: "a=1,b=2"}, {Name: "x-a", Value: "0"}, {Name: "x-a", Value: "1"}, {Name: "x-b", Value: "b1,b2"}}
	for range 20 {
		r := extauthz.Read(m, 0)
		if !slices.Equal(r.Headers, want) {
			t.Fatalf("got %q, want %q", r.Headers, want)
		}
		if r.ID != "9223372036854775809" {
			t.Fatalf("id %q, want the stream id where there is no x-request-id", r.ID)
		}
	}
}

// Envoy fills the HTTP request on every HTTP check, and never on a TCP check.
func TestReadTCP(t *testing.T) {
	var nilAttrs *authv3.AttributeContext
	for name, m := range map[string]*authv3.CheckRequest{
		"nil message":    nil,
		"empty message":  {},
		"nil attributes": {Attributes: nilAttrs},
		"no request":     {Attributes: &authv3.AttributeContext{Source: &authv3.AttributeContext_Peer{Address: socket("192.0.2.7")}}},
		"no http":        {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}},
	} {
		t.Run(name, func(t *testing.T) {
			before := time.Now()
			r := extauthz.Read(m, 1)
			if !r.TCP || r.Malformed != nil || r.Method != "" || r.Target != "" || r.Headers != nil {
				t.Errorf("got %+v, want a TCP check", r)
			}
			if r.Time.Before(before) {
				t.Errorf("time %v, want now where Envoy gave none", r.Time)
			}
			if want := m.GetAttributes().GetSource() != nil; r.Source.Address.IsValid() != want {
				t.Errorf("address %v", r.Source.Address)
			}
		})
	}
}

func TestReadSpecialRequests(t *testing.T) {
	connect := get()
	connect.Attributes.Request.Http.HeaderMap.Headers = []*corev3.HeaderValue{
		{Key: ":authority", RawValue: []byte("db.test:5432")}, {Key: ":method", RawValue: []byte("CONNECT")},
	}
	connect.Attributes.Request.Http.Method, connect.Attributes.Request.Http.Path, connect.Attributes.Request.Http.Host = "CONNECT", "", "db.test:5432"
	if r := extauthz.Read(connect, 0); r.TCP || r.Malformed != nil || r.Method != "CONNECT" || r.Target != "" || r.Authority != "db.test:5432" {
		t.Errorf("CONNECT: %+v", r)
	}
	empty := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Time: &timestamppb.Timestamp{Nanos: -1}, Http: &authv3.AttributeContext_HttpRequest{},
	}}}
	if r := extauthz.Read(empty, 3); r.TCP || r.Malformed != nil || len(r.Headers) != 0 || time.Since(r.Time) > time.Minute {
		t.Errorf("empty HTTP request: %+v", r)
	}
	invalid := extauthz.Read(get("x-request-id: a\xffb"), 0)
	if invalid.ID != "a\uFFFDb" {
		t.Errorf("id %q, want valid UTF-8", invalid.ID)
	}
}

func TestReadMalformed(t *testing.T) {
	both := get("x-a: 1")
	both.Attributes.Request.Http.Headers = map[string]string{"x-a": "2"}
	many := get()
	for i := range 1000 {
		many.Attributes.Request.Http.HeaderMap.Headers = append(many.Attributes.Request.Http.HeaderMap.Headers, &corev3.HeaderValue{Key: fmt.Sprint("x-", i)})
	}
	manyMerged := get()
	manyMerged.Attributes.Request.Http.HeaderMap = nil
	manyMerged.Attributes.Request.Http.Headers = map[string]string{}
	for i := range 1001 {
		manyMerged.Attributes.Request.Http.Headers[fmt.Sprint("x-", i)] = ""
	}
	large := strings.Repeat("a", 1<<20)
	longPath := get()
	longPath.Attributes.Request.Http.Path = "/" + large
	largeMerged := get()
	largeMerged.Attributes.Request.Http.HeaderMap = nil
	largeMerged.Attributes.Request.Http.Headers = map[string]string{"x-a": large}

	// As Envoy shows a path that is not UTF-8 over HTTP/2, and lies of the
	// same kind.
	differs := func(key, raw, value string) *authv3.CheckRequest {
		m := get("x-a: 1")
		for _, h := range m.Attributes.Request.Http.HeaderMap.Headers {
			if h.Key == key {
				h.RawValue, h.Value = []byte(raw), value
			}
		}
		return m
	}

	for name, m := range map[string]*authv3.CheckRequest{
		"lossy path": differs(":path", "/v1/orders/7?debug=\xff", ""), "another host": differs(":authority", "api.example.com", ""),
		"another method": differs(":method", "POST", ""), "another path as text": differs(":path", "", "/"), "empty path": differs(":path", "", ""),
		"both containers": both, "1003 raw headers": many, "1001 merged headers": manyMerged,
		"1 MiB path": longPath, "1 MiB raw header": get("x-a: " + large), "1 MiB merged header": largeMerged,
	} {
		t.Run(name, func(t *testing.T) {
			r := extauthz.Read(m, 0)
			if r.Malformed == nil || r.Malformed.Reason != authz.MalformedRequest || r.Malformed.Detail != authz.BadMessage {
				t.Fatalf("got %v, want malformed_request (bad_message)", r.Malformed)
			}
			if r.TCP || r.Headers != nil || r.Target != "" {
				t.Errorf("a malformed message was read: %+v", r)
			}
			if !r.Source.Address.IsValid() {
				t.Error("the record misses who asked")
			}
		})
	}
	if r := extauthz.Read(get("x-a: "+strings.Repeat("a", 60<<10)), 0); r.Malformed != nil {
		t.Errorf("what Envoy accepts by default was refused: %v", r.Malformed)
	}
	if r := extauthz.Read(differs(":path", "", "/v1/orders/7?debug=1"), 0); r.Malformed != nil {
		t.Errorf("a path as text was refused: %v", r.Malformed)
	}
}

func TestSourceAddress(t *testing.T) {
	pipe := &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/run/x.sock"}}}
	internal := &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{}}}
	cases := []struct {
		name string
		peer *corev3.Address
		hops int
		xff  []string
		want string // empty for none
	}{
		{"peer", socket("192.0.2.7"), 0, nil, "192.0.2.7"},
		{"forwarded headers are believed for nothing", socket("192.0.2.7"), 0, []string{"198.51.100.1"}, "192.0.2.7"},
		{"mapped peer", socket("::ffff:192.0.2.7"), 0, nil, "192.0.2.7"},
		{"v6 peer", socket("2001:db8::7"), 0, nil, "2001:db8::7"},
		{"peer with a zone", socket("fe80::1%eth0"), 0, nil, "fe80::1"},
		{"peer that is a name", socket("localhost"), 0, nil, ""},
		{"pipe", pipe, 0, nil, ""},
		{"internal listener", internal, 0, nil, ""},
		{"no peer", nil, 0, nil, ""},

		{"one hop", socket("192.0.2.7"), 1, []string{"198.51.100.1, 192.0.2.8"}, "198.51.100.1"},
		{"one hop, forged entries before", socket("192.0.2.7"), 1, []string{"10.0.0.1,evil,198.51.100.1,192.0.2.8"}, "198.51.100.1"},
		{"two hops", socket("192.0.2.7"), 2, []string{"198.51.100.1,192.0.2.8,192.0.2.9"}, "198.51.100.1"},
		{"several lines are one list", socket("192.0.2.7"), 2, []string{"10.0.0.1,198.51.100.1", "192.0.2.8", "192.0.2.9"}, "198.51.100.1"},
		{"too few", socket("192.0.2.7"), 1, []string{"192.0.2.8"}, "192.0.2.7"},
		{"far too few", socket("192.0.2.7"), 9, []string{"192.0.2.8", "192.0.2.9"}, "192.0.2.7"},
		{"none", socket("192.0.2.7"), 1, nil, "192.0.2.7"},
		{"too few behind a pipe", pipe, 1, nil, ""},
		{"invalid entry", socket("192.0.2.7"), 1, []string{"198.51.100.1,evil,192.0.2.8"}, ""},
		{"empty entry", socket("192.0.2.7"), 1, []string{"198.51.100.1,,192.0.2.8"}, ""},
		{"empty first entry", socket("192.0.2.7"), 1, []string{",192.0.2.8"}, ""},
		{"spaces and tabs", socket("192.0.2.7"), 1, []string{"198.51.100.1 \t,\t192.0.2.8"}, "198.51.100.1"},
		{"port", socket("192.0.2.7"), 1, []string{"198.51.100.1:4711,192.0.2.8"}, "198.51.100.1"},
		{"v6", socket("192.0.2.7"), 1, []string{"2001:db8::1,192.0.2.8"}, "2001:db8::1"},
		{"v6 in brackets", socket("192.0.2.7"), 1, []string{"[2001:db8::1],192.0.2.8"}, "2001:db8::1"},
		{"v6 with a port", socket("192.0.2.7"), 1, []string{"[2001:db8::1]:443,192.0.2.8"}, "2001:db8::1"},
		{"v6 with a bracket missing", socket("192.0.2.7"), 1, []string{"[2001:db8::1,192.0.2.8"}, ""},
		{"v6 with a zone", socket("192.0.2.7"), 1, []string{"fe80::1%25evil,192.0.2.8"}, "fe80::1"},
		{"mapped", socket("192.0.2.7"), 1, []string{"::ffff:198.51.100.1,192.0.2.8"}, "198.51.100.1"},
		{"octal", socket("192.0.2.7"), 1, []string{"010.0.0.1,192.0.2.8"}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := get("x_forwarded_for: 203.0.113.1,203.0.113.2")
			m.Attributes.Source.Address = c.peer
			for _, v := range c.xff {
				m.Attributes.Request.Http.HeaderMap.Headers = append(m.Attributes.Request.Http.HeaderMap.Headers,
					&corev3.HeaderValue{Key: "x-forwarded-for", RawValue: []byte(v)})
			}
			got := extauthz.Read(m, c.hops).Source.Address
			want, _ := netip.ParseAddr(c.want)
			if got != want {
				t.Errorf("got %v, want %q", got, c.want)
			}
		})
	}
}
