package route

import (
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
)

func TestGuard(t *testing.T) {
	table := newTable(t, Guard{
		Owned:       []string{"x-user", "X-Role-List", "x_legacy", strings.Repeat("x-", 50) + "y"},
		Credentials: []string{"authorization", "x-api-key", "cookie"},
	}, spec("all", "", "/"))
	for _, tt := range []struct{ name, value, want string }{
		{"x-user", "eve", "all"}, // ownership deals with it
		{"X-User", "eve", "all"},
		{"xuser", "eve", "all"},
		{"x-user-", "eve", "all"},
		{"x_user", "eve", badHeader},
		{"X_USER", "eve", badHeader},
		{"x-role_list", "", badHeader},
		{"x_role-list", "", badHeader},
		{"x-role-list", "", "all"},
		{"x-legacy", "", badHeader},
		{"x_legacy", "", "all"},
		{"x_api_key", "k", badHeader},
		{"x-api-key", "k", "all"},
		{"authorization", "Bearer x", "all"},
		{"other_header", "", "all"},
		{"", "", "all"},
		{strings.Repeat("x_", 50) + "y", "", badHeader},
		{strings.Repeat("x_", 50) + "z", "", "all"},
		{strings.Repeat("x_", 5000), "", "all"},

		{"connection", "keep-alive, Upgrade", "all"},
		{"connection", "x-user", badHeader},
		{"Connection", "Upgrade, X-User", badHeader},
		{"connection", "close,x-role-list", badHeader},
		{"connection", "close ,\t X-ROLE-LIST\t, te", badHeader},
		{"connection", ",,x-user,", badHeader},
		{"connection", "x_user", badHeader},
		{"connection", `"x-user"`, badHeader},
		{"connection", "x-users, x-use", "all"},
		{"connection", "x-api-key", "all"}, // a credential, which nobody sets
		{"connection", "", "all"},
		{"proxy-connection", "x-user", "all"},
	} {
		r := get("GET h /")
		r.Headers = []authz.Header{{Name: "accept", Value: "x_user"}, {Name: "connection", Value: "close"}, {Name: tt.name, Value: tt.value}}
		if got := outcome(table, r); got != tt.want {
			t.Errorf("%.20s: %s: got %s, want %s", tt.name, tt.value, got, tt.want)
		}
	}

	// First of all, and without a route too.
	for _, line := range []string{"GET a,b //", "GET h /", "CONNECT h "} {
		r := get(line)
		r.Headers = []authz.Header{{Name: "x_user"}}
		if got := outcome(table, r); got != badHeader {
			t.Errorf("%s: got %s, want %s", line, got, badHeader)
		}
	}
	r := get("GET h /")
	r.Headers = []authz.Header{{Name: "x_user"}}
	if got := outcome(newTable(t, Guard{}, spec("all", "", "/")), r); got != "all" {
		t.Errorf("nothing to guard: got %s", got)
	}
}
