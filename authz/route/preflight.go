package route

import (
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
)

// Preflight reports whether r is a CORS preflight: OPTIONS for a path, with
// one origin and one method in access-control-request-method. Anything else
// that looks like one is a plain OPTIONS.
func Preflight(r *authz.Request) bool {
	_, ok := preflightMethod(r)
	return ok
}

// preflightMethod returns the method that a preflight asks for, by which it
// is routed.
func preflightMethod(r *authz.Request) (string, bool) {
	if r.TCP || r.Method != "OPTIONS" || r.Target == "*" {
		return "", false
	}
	method, n := r.Header("access-control-request-method")
	if n != 1 || !isToken(method) {
		return "", false
	}
	// Envoy joins two lines of origin with a comma.
	origin, n := r.Header("origin")
	if n != 1 || origin == "" || strings.ContainsAny(origin, ", \t") {
		return "", false
	}
	return method, true
}
