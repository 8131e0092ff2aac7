package route

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxHost is the longest host name in text, without the final dot (RFC 1035
// section 2.3.4 counts 255 octets on the wire).
const maxHost = 253

// canonicalHost returns the host of an authority in lower case, without port
// and final dot; empty for an empty one. Anything but one host name or
// address with an optional port is an error: Envoy picks its virtual host by
// h and passes h,evil and h:80@evil on.
func canonicalHost(authority string) (string, error) {
	if authority == "" {
		return "", nil
	}
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("host %q %s", clip(authority), why)
	}
	if len(authority) > maxHost+len(".:65535") {
		return bad("is too long")
	}

	if authority[0] == '[' {
		end := strings.IndexByte(authority, ']')
		if end < 0 || !isIPv6(authority[1:end]) {
			return bad("is not an IPv6 address in brackets")
		}
		if port := authority[end+1:]; port != "" && (port[0] != ':' || !isPort(port[1:])) {
			return bad("has something other than a port after its brackets")
		}
		return strings.ToLower(authority[:end+1]), nil
	}

	host, port, found := strings.Cut(authority, ":")
	if found && !isPort(port) {
		return bad("has a port that is not a number up to 65535")
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > maxHost {
		return bad("is too long")
	}
	if !isHostName(host) {
		return bad("is not a host name")
	}
	return strings.ToLower(host), nil
}

func isPort(s string) bool {
	if s == "" || len(s) > 5 {
		return false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n <= 65535
}

func isIPv6(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Is6() && addr.Zone() == ""
}

// isHostName reports whether s is made of labels. Underscores are not of the
// standard, but in use.
func isHostName(s string) bool {
	for i := range len(s) {
		if s[i] == '.' && (i == 0 || s[i-1] == '.') || !hostBytes[s[i]] {
			return false
		}
	}
	return s != "" && s[len(s)-1] != '.'
}

var hostBytes = byteSet("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
