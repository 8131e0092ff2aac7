package extauthz

import (
	"net/netip"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
)

// forwarded returns the entry of x-forwarded-for left of the hops rightmost,
// which our own proxies added, or peer where there are too few. All lines
// count, in order, as one list. An entry that is not an address gives none:
// the peer would then be a proxy of ours, and any other entry the client's
// choice.
func forwarded(headers []authz.Header, hops int, peer netip.Addr) netip.Addr {
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i].Name != "x-forwarded-for" {
			continue
		}
		for rest, more := headers[i].Value, true; more; hops-- {
			comma := strings.LastIndexByte(rest, ',')
			if hops == 0 {
				return entry(rest[comma+1:])
			}
			more = comma >= 0
			rest = rest[:max(comma, 0)]
		}
	}
	return peer
}

// entry reads one address. Some load balancers write a port behind it, and
// then brackets around IPv6.
func entry(s string) netip.Addr {
	s = strings.Trim(s, " \t")
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.Addr{}
		}
		s = inner
	}
	return bareIP(s)
}
