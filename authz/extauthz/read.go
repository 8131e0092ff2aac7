package extauthz

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/sallyport-authz/sallyport/authz"
)

// Envoy accepts 100 headers and 60 KiB unless configured otherwise. These
// bounds are far above what anybody configures, and keep one message from
// costing much.
const (
	maxHeaders = 1000
	maxBytes   = 1 << 20 // method, scheme, host, path and headers together
)

// partialBody is the header that Envoy adds to the check, not to the request,
// when it sends a body along. A client's own copy never reaches the check.
const partialBody = "x-envoy-auth-partial-body"

// Read copies out of a CheckRequest what a decision needs. Every part of the
// message may be missing; without an HTTP request it is a TCP check, as
// Envoy's network filter sends it. A message that Envoy does not send is
// marked as malformed and carries neither method nor headers.
//
// With trustedHops N above zero the source address is the entry left of the N
// rightmost of x-forwarded-for, see [authz.Source].
func Read(m *authv3.CheckRequest, trustedHops int) *authz.Request {
	attrs := m.GetAttributes()
	r := &authz.Request{
		Time: time.Now(),
		Source: authz.Source{
			Address:   peer(attrs.GetSource().GetAddress()),
			Principal: attrs.GetSource().GetPrincipal(),
		},
		Context: maps.Clone(attrs.GetContextExtensions()),
	}
	if t := attrs.GetRequest().GetTime(); t.CheckValid() == nil {
		r.Time = t.AsTime()
	}
	http := attrs.GetRequest().GetHttp()
	if http == nil {
		r.TCP = true
		return r
	}
	r.ID = http.GetId()
	if err := acceptable(http); err != nil {
		r.Malformed = authz.Refuse(authz.MalformedRequest, authz.BadMessage, err)
		return r
	}
	r.Method = http.GetMethod()
	r.Target = http.GetPath()
	r.Authority = http.GetHost()
	r.Scheme = http.GetScheme()
	r.Protocol = http.GetProtocol()
	if raw := http.GetHeaderMap().GetHeaders(); len(raw) > 0 {
		r.Headers = rawHeaders(raw)
	} else {
		r.Headers = mergedHeaders(http.GetHeaders())
	}
	// http.id is Envoy's stream id, whatever its documentation says; the
	// header is what other logs know the request by.
	if id, _ := r.Header("x-request-id"); id != "" {
		r.ID = strings.ToValidUTF8(id, "\uFFFD")
	}
	if trustedHops > 0 {
		r.Source.Address = forwarded(r.Headers, trustedHops, r.Source.Address)
	}
	return r
}

// acceptable refuses messages out of bounds, and those with two readings.
// Envoy fills either the map or the list (encode_raw_headers), never both. In
// a field it writes ! for a byte that is not UTF-8, which an HTTP/2 path may
// hold where nothing normalises it, and the upstream gets the byte itself: the
// list has it as it is, so that a field must be what the list says. The map is
// as lossy as the fields.
func acceptable(http *authv3.AttributeContext_HttpRequest) error {
	raw, merged := http.GetHeaderMap().GetHeaders(), http.GetHeaders()
	if len(raw) > 0 && len(merged) > 0 {
		return fmt.Errorf("headers and header_map are both filled")
	}
	if n := len(raw) + len(merged); n > maxHeaders {
		return fmt.Errorf("%d headers, at most %d are read", n, maxHeaders)
	}
	size := len(http.GetMethod()) + len(http.GetScheme()) + len(http.GetHost()) + len(http.GetPath()) + len(http.GetProtocol()) + len(http.GetId())
	for _, h := range raw {
		size += len(h.GetKey()) + len(h.GetRawValue()) + len(h.GetValue())
		if field, ok := pseudo(http, h.GetKey()); ok && !says(h, field) {
			return fmt.Errorf("header %s differs from the field that stands for it", h.GetKey())
		}
	}
	for k, v := range merged {
		size += len(k) + len(v)
	}
	if size > maxBytes {
		return fmt.Errorf("request line and headers of %d bytes, at most %d are read", size, maxBytes)
	}
	return nil
}

// rawHeaders keeps the order. Envoy sends raw_value; gRPC as a client sends
// value for text. The values share one allocation.
func rawHeaders(raw []*corev3.HeaderValue) []authz.Header {
	var size int
	for _, h := range raw {
		size += len(h.GetRawValue())
	}
	var values strings.Builder
	values.Grow(size)
	for _, h := range raw {
		values.Write(h.GetRawValue())
	}
	rest := values.String()
	headers := make([]authz.Header, 0, len(raw))
	for _, h := range raw {
		value := h.GetValue()
		if n := len(h.GetRawValue()); n > 0 {
			value, rest = rest[:n], rest[n:]
		}
		if name, ok := headerName(h.GetKey()); ok {
			headers = append(headers, authz.Header{Name: name, Value: value})
		}
	}
	return headers
}

// says reports whether a header has this value.
func says(h *corev3.HeaderValue, value string) bool {
	if len(h.GetRawValue()) > 0 {
		return string(h.GetRawValue()) == value
	}
	return h.GetValue() == value
}

// pseudo returns the field that a pseudo-header stands for.
func pseudo(http *authv3.AttributeContext_HttpRequest, key string) (field string, ok bool) {
	switch key {
	case ":path":
		return http.GetPath(), true
	case ":authority":
		return http.GetHost(), true
	case ":method":
		return http.GetMethod(), true
	}
	return "", false
}

// mergedHeaders sorts by name: a map has no order, and equal requests must
// read equally. Envoy has joined repeated headers with commas.
func mergedHeaders(merged map[string]string) []authz.Header {
	headers := make([]authz.Header, 0, len(merged))
	for key, value := range merged {
		if name, ok := headerName(key); ok {
			headers = append(headers, authz.Header{Name: name, Value: value})
		}
	}
	slices.SortFunc(headers, func(a, b authz.Header) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Value, b.Value) // names that differed in case
	})
	return headers
}

// headerName leaves out pseudo-headers, which stand in fields of their own,
// and what Envoy put there for us.
func headerName(key string) (string, bool) {
	if key == "" || key[0] == ':' {
		return "", false
	}
	name := strings.ToLower(key)
	return name, name != partialBody
}

// peer is the address of the TCP connection. Pipes and Envoy's internal
// listeners have none.
func peer(a *corev3.Address) netip.Addr {
	return bareIP(a.GetSocketAddress().GetAddress())
}

// bareIP returns the zero address for what is not an IP address.
func bareIP(s string) netip.Addr {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}
