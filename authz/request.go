package authz

import (
	"net/netip"
	"strings"
	"time"
)

// A Header is one header line or one value of an answer. Names are lower
// case. Values are bytes as Envoy gave them: they may be invalid UTF-8.
type Header struct {
	Name, Value string
}

// A Param is a value that a route's pattern captured, decoded, or a query
// parameter of an answer.
type Param struct {
	Name, Value string
}

// A Request is what Envoy asked about, copied out of its message. The adapter
// fills the first group; the [Router] adds the second, from the first alone,
// so that every later stage sees one reading. After routing nobody writes.
type Request struct {
	TCP       bool              // a network check: no HTTP request, and Method to Headers are empty
	Method    string            // as it came: methods are case-sensitive
	Target    string            // path and query as Envoy gave them, before any reading
	Authority string            // host and port as Envoy gave them, before any reading
	Scheme    string            // as Envoy set it
	Protocol  string            // HTTP/1.1, HTTP/2, ...
	ID        string            // x-request-id, else Envoy's stream id
	Time      time.Time         // when Envoy saw the request
	Headers   []Header          // in order, without pseudo-headers
	Source    Source            // the peer
	Context   map[string]string // Envoy's context extensions: operator-owned
	Malformed *Denial           // set by an adapter that could not read its message in exactly one way

	Host   string  // canonical: lower case, without port and final dot
	Path   string  // canonical; empty for CONNECT, "*" for OPTIONS *
	Query  string  // raw, without the question mark
	Params []Param // what the route's pattern captured
}

// A Source is where a request came from.
type Source struct {
	Address   netip.Addr // TCP peer, or the client behind our own proxies; zero if unknown
	Principal string     // the TLS peer that Envoy verified, for example a SPIFFE ID
}

// Header returns the first value of a header and how many lines carry it.
// name is lower case.
func (r *Request) Header(name string) (value string, n int) {
	for i := range r.Headers {
		if r.Headers[i].Name == name {
			if n == 0 {
				value = r.Headers[i].Value
			}
			n++
		}
	}
	return value, n
}

// Param returns what the route's pattern captured under name.
func (r *Request) Param(name string) (string, bool) {
	for _, p := range r.Params {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// GRPC reports whether the caller speaks gRPC, by the same test as Envoy:
// content-type application/grpc, alone or followed by a plus.
func (r *Request) GRPC() bool {
	ct, n := r.Header("content-type")
	if n != 1 {
		return false
	}
	rest, ok := strings.CutPrefix(ct, "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}
