package gate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// newRequest returns the request that a client would send for METHOD URL. The
// URL is absolute, or a path where there is a host. Nothing in it is repaired:
// how it is read is what explanations and tests are about.
func newRequest(method, url, host string) (*authz.Request, error) {
	r := &authz.Request{Method: method, Scheme: "https", Authority: host, Target: url, Protocol: "HTTP/1.1", Time: time.Now()}
	if method == "" || url == "" {
		return nil, errors.New("a request is METHOD URL")
	}
	if strings.ContainsAny(host, "/?#@ ") {
		return nil, fmt.Errorf("host %q is not HOST or HOST:PORT", clip(host))
	}
	if !strings.HasPrefix(url, "/") || host == "" {
		scheme, rest, ok := strings.Cut(url, "://")
		scheme = strings.ToLower(scheme) // RFC 3986 section 3.1
		if !ok || scheme != "http" && scheme != "https" {
			return nil, fmt.Errorf("%q is not an absolute URL (https://HOST/PATH)", clip(url))
		}
		r.Scheme = scheme
		end := strings.IndexAny(rest+"/", "/?#")
		r.Authority, r.Target = rest[:end], rest[end:]
		if !strings.HasPrefix(r.Target, "/") {
			r.Target = "/" + r.Target
		}
	}
	if strings.Contains(r.Target, "#") {
		return nil, fmt.Errorf("%q has a fragment, which no client sends", clip(url))
	}
	if method == "CONNECT" {
		r.Target = ""
	}
	return r, nil
}

// clip shortens what a message repeats.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
