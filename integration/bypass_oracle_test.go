package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// A handler is what an upstream does for a request, as far as the policy
// tells one from another.
type handler struct {
	route string // the route of Sallyport that guards it; empty: nobody does
	owner string // of an account
	class string // collection or item, of orders
}

// handlerOf is the upstream's own routing: it knows nothing of Sallyport.
func handlerOf(host, path string) handler {
	switch host {
	case "admin.test":
		return handler{route: "backoffice"}
	case "secret.tenant.test":
		return handler{route: "secret"}
	}
	segments := strings.Split(path, "/")
	if len(segments) < 2 || segments[0] != "" {
		return handler{}
	}
	switch segments[1] {
	case "admin", "internal", "robots":
		return handler{route: segments[1]}
	case "orders":
		if len(segments) == 2 || segments[2] == "" {
			return handler{route: "orders", class: "collection"}
		}
		return handler{route: "orders", class: "item"}
	case "accounts":
		if len(segments) > 2 && slices.Contains([]string{"ada", "max", "bob"}, segments[2]) {
			return handler{route: "accounts", owner: segments[2]}
		}
	}
	return handler{} // 404, or nothing to protect
}

// permitted is the policy of testdata/bypass/sallyport.yaml, said again in
// other words. Everybody who calls is on a machine that is not 10.0.0.1 and
// shows no certificate.
func permitted(caller, method string, h handler) bool {
	director := caller == "ada"
	manager := director || caller == "max"
	clerk := manager || caller == "bob"
	switch h.route {
	case "":
		return true
	case "admin", "backoffice", "secret":
		return director
	case "accounts":
		return director || h.owner == caller
	case "orders":
		switch {
		case method == "GET":
			return clerk
		case method == "POST" && h.class == "collection":
			return manager
		case method == "DELETE" && h.class == "item":
			return director
		}
	}
	return false
}

// judge returns what is wrong with a request that reached the upstream: under
// some reading it gets to a protected handler which the caller may not use, or
// which another route was asked about; or it says that somebody else calls.
func judge(caller string, a *harness.Arrival) (wrong []string) {
	asked := values(a, "x-route")
	seen := make(map[string]bool)
	say := func(format string, args ...any) {
		if s := fmt.Sprintf(format, args...); !seen[s] {
			seen[s] = true
			wrong = append(wrong, s)
		}
	}
	methods, paths := methodReadings(a), pathReadings(a)
	preflight := slices.Equal(methods, []string{"OPTIONS"}) // the route of orders lets them pass
	for _, host := range hostReadings(a) {
		for _, path := range paths {
			h := handlerOf(host, path)
			if h.route == "" || h.route == "orders" && preflight {
				continue
			}
			if len(asked) != 1 || asked[0] != h.route {
				say("reaches %+v (as %q on %q), and the route that allowed it is %q", h, path, host, asked)
			}
			for _, method := range methods {
				if !permitted(caller, method, h) {
					say("reaches %+v with %s (as %q on %q), which %q may not", h, method, path, host, caller)
				}
			}
		}
	}
	for _, user := range values(a, "x-user") {
		if user != caller {
			say("says that the user is %q, not %q", user, caller)
		}
	}
	return wrong
}

// The oracle finds what it is there to find.
func TestBypassOracle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		caller, method, target string
		headers                []harness.Field // besides host and x-route
		route                  string
		wrong                  string // part of what is said; empty: nothing is wrong
	}{
		{"", "GET", "/public/a", nil, "public", ""},
		{"", "GET", "/public/admin", nil, "public", ""},
		{"", "GET", "/healthz?/admin", nil, "health", ""},
		{"bob", "GET", "/orders/7?x=/../admin", nil, "orders", ""},
		{"", "GET", "/public/.../admin", nil, "public", ""}, // no server goes up for three
		{"bob", "GET", "/accounts/%62ob", nil, "accounts", ""},
		{"ada", "DELETE", "/orders/7", nil, "orders", ""},
		{"bob", "PUT", "/accounts/bob", nil, "accounts", ""},
		{"bob", "GET", "/orders", []harness.Field{{Name: "x-user", Value: "bob"}}, "orders", ""},
		{"", "OPTIONS", "/orders", nil, "", ""},

		{"", "GET", "/admin", nil, "public", "{route:admin"},
		{"", "GET", "/public/../admin", nil, "public", "may not"},
		{"", "GET", "/public/%2e%2E/admin", nil, "public", "may not"},
		{"", "GET", "/public/%252e%252e%252fadmin", nil, "public", "may not"},
		{"", "GET", "/public/%25252e%25252e/admin", nil, "public", "may not"},
		{"", "GET", "/public/..;x/admin", nil, "public", "may not"},
		{"", "GET", "/public;/../admin", nil, "public", "may not"},
		{"", "GET", `/public/..\admin`, nil, "public", "may not"},
		{"", "GET", "/public%5c..%5cadmin", nil, "public", "may not"},
		{"", "GET", "/public/%c0%ae%c0%ae/admin", nil, "public", "may not"},
		{"", "GET", "/public/%c0.%c0./admin", nil, "public", "may not"},
		{"", "GET", "/public/..%c0%2fadmin", nil, "public", "may not"},
		{"", "GET", "/public/..%c1%9cadmin", nil, "public", "may not"},
		{"", "GET", "/public/%e0%80%ae%e0%80%ae/admin", nil, "public", "may not"},
		{"", "GET", "/public%u002f..%u005c%u0061dmin", nil, "public", "may not"},
		{"", "GET", "/public/..\xc0\xafadmin", nil, "public", "may not"},
		{"", "GET", "/public/\xe0\x80\xae\xe0\x80\xae/admin", nil, "public", "may not"},
		{"", "GET", "/public/..%20/admin", nil, "public", "may not"},
		{"", "GET", "/public/..+/admin", nil, "public", "may not"},
		{"", "OPTIONS", "/admin", nil, "", "may not"},
		{"", "OPTIONS", "/orders", []harness.Field{{Name: "X-HTTP-Method", Value: "delete"}}, "", "with DELETE"},
		{"", "GET", "/public/.%0a./admin", nil, "public", "may not"},
		{"", "GET", "//public/admin", nil, "public", "may not"},
		{"", "GET", "/./ADMIN.", nil, "public", "may not"},
		{"", "GET", "/admin%00.png", nil, "public", "may not"},
		{"", "GET", "/admin%3f/x", nil, "public", "may not"},
		{"", "GET", "http://api.test/admin", nil, "public", "may not"},
		{"bob", "GET", "/accounts/bob/../ada", nil, "accounts", "owner:ada"},
		{"bob", "GET", "/accounts/bob%2f..%2fada", nil, "accounts", "owner:ada"},
		{"bob", "DELETE", "/orders/7", nil, "orders", "with DELETE"},
		{"bob", "post", "/orders", nil, "orders", "with POST"},
		{"bob", "GET", "/orders/7?_metho%64=DELETE", nil, "orders", "with DELETE"},
		{"bob", "GET", "/orders/7", []harness.Field{{Name: "X_HTTP_Method_Override", Value: "delete"}}, "orders", "with DELETE"},
		{"", "GET", "/public/a", []harness.Field{{Name: "X-Original-URL", Value: "/admin"}}, "public", "may not"},
		{"", "GET", "/public/a", []harness.Field{{Name: "X-Forwarded-Host", Value: "a, ADMIN.test.:80"}}, "public", "{route:backoffice"},
		{"", "GET", "/public/a", []harness.Field{{Name: "Host", Value: "x@admin.test"}}, "public", "{route:backoffice"},
		{"ada", "GET", "/admin", nil, "public", `the route that allowed it is ["public"]`},
		{"ada", "GET", "/admin", nil, "", "the route that allowed it is []"},
		{"bob", "GET", "/orders", []harness.Field{{Name: "X_User", Value: "ada"}}, "orders", "the user is"},
	} {
		a := &harness.Arrival{Method: c.method, Target: c.target, Headers: append(slices.Clone(c.headers), harness.Field{Name: "host", Value: "api.test"})}
		if c.route != "" {
			a.Headers = append(a.Headers, harness.Field{Name: "x-route", Value: c.route})
		}
		wrong := judge(c.caller, a)
		if c.wrong == "" && wrong != nil {
			t.Errorf("%s %s %s: %q, want nothing", c.caller, c.method, c.target, wrong)
		}
		if c.wrong != "" && !strings.Contains(strings.Join(wrong, "\n"), c.wrong) {
			t.Errorf("%s %s %s %v: %q, want %q", c.caller, c.method, c.target, c.headers, wrong, c.wrong)
		}
	}
}
