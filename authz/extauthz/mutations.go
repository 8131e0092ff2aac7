package extauthz

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/sallyport-authz/sallyport/authz"
)

// maxValue bounds a header value, in bytes.
const maxValue = 8 << 10

// Envoy does not check what it is told unless validate_mutations is on, which
// neither Istio nor Envoy Gateway turn on: a line break in a denial's header
// is written to the caller as it stands. With it on, or with mutation rules,
// one bad entry turns an allow into a 500. So nothing leaves that either
// setting would object to.

// mutableName returns the lower-case name of a header that answers may touch.
// The others steer Envoy and the connection: pseudo-headers, host, framing,
// and x-envoy-*, which Envoy's mutation rules refuse.
func mutableName(name string) (string, bool) {
	if name == "" || len(name) > 256 {
		return "", false
	}
	for i := range len(name) {
		if !tokenByte(name[i]) {
			return "", false
		}
	}
	name = strings.ToLower(name)
	switch name {
	case "host", "content-length", "transfer-encoding", "connection":
		return "", false
	}
	return name, !strings.HasPrefix(name, "x-envoy-")
}

// settableName is mutableName without the headers of one connection (RFC 9113
// section 8.2.2), which HTTP/2 refuses: a request to such an upstream, or the
// answer to such a caller, would end there. An upgrade that the client did not
// ask for would even switch an upstream of HTTP/1.1 to another protocol.
func settableName(name string) (string, bool) {
	name, ok := mutableName(name)
	switch name {
	case "keep-alive", "proxy-connection", "te", "upgrade":
		return "", false
	}
	return name, ok
}

// tokenByte reports a character of a token, RFC 9110 section 5.6.2.
func tokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// validValue refuses control characters, and what is not UTF-8: Go cannot
// marshal a message with it, and the RPC would fail. Spaces around a value are
// no part of it to whoever reads it (RFC 9110 section 5.5), so that a user
// called " ada" would arrive as ada.
func validValue(s string) bool {
	if len(s) > maxValue || !utf8.ValidString(s) || strings.Trim(s, " ") != s {
		return false
	}
	for _, c := range s {
		if unicode.IsControl(c) {
			return false
		}
	}
	return true
}

// A mutation is what happens to the headers of an allowed request.
type mutation struct {
	headers []*corev3.HeaderValueOption
	remove  []string // never a name in headers: Envoy removes after it sets
}

// requestMutations renders Set, Append and Remove. A header that should have
// been set and has no valid value is removed, so that the client's copy cannot
// stand in for it.
func requestMutations(r *authz.Request, a *authz.Answer) mutation {
	set := validHeaders(a.Set)
	add := validHeaders(a.Append)
	var m mutation
	if n := len(set) + len(add); n > 0 {
		m.headers = make([]*corev3.HeaderValueOption, 0, n)
	}
	sets := func(name string) bool {
		return slices.ContainsFunc(m.headers, func(h *corev3.HeaderValueOption) bool { return h.Header.Key == name })
	}
	for _, h := range set {
		m.headers = append(m.headers, overwrite(h))
	}
	for _, h := range add {
		// Envoy drops an append where there is nothing to append to. A
		// name that is to be removed as well means: without the client's.
		_, n := r.Header(h.Name)
		if sets(h.Name) || n > 0 && !slices.Contains(a.Remove, h.Name) {
			m.headers = append(m.headers, appendTo(h))
		} else {
			m.headers = append(m.headers, overwrite(h))
		}
	}
	remove := func(name string) {
		name, ok := mutableName(name)
		if ok && !sets(name) {
			m.remove = append(m.remove, name)
		}
	}
	for _, name := range a.Remove {
		remove(name)
	}
	if len(set) < len(a.Set) {
		for _, h := range a.Set {
			remove(h.Name)
		}
	}
	slices.Sort(m.remove)
	m.remove = slices.Compact(m.remove)
	return m
}
