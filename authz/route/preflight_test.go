package route

import (
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
)

func TestPreflight(t *testing.T) {
	table := newTable(t, Guard{}, spec("get", "", "GET /x", "OPTIONS *"), spec("put", "", "PUT /x"), spec("options", "", "OPTIONS /x"))
	for _, tt := range []struct {
		line, headers string
		preflight     bool
		want          string
	}{
		{"OPTIONS h /x", "origin=https://a.test access-control-request-method=GET", true, "get"},
		{"OPTIONS h /x", "origin=null access-control-request-method=HEAD", true, "get"},
		{"OPTIONS h /x", "access-control-request-method=PUT origin=https://a.test", true, "put"},
		{"OPTIONS h /x", "origin=https://a.test access-control-request-method=OPTIONS", true, "options"},
		{"OPTIONS h /x", "origin=https://a.test access-control-request-method=DELETE", true, noMatch},
		{"OPTIONS h /x", "origin=https://a.test access-control-request-method=CONNECT", true, noMatch},
		{"OPTIONS h /x", "", false, "options"},
		{"OPTIONS h /x", "origin=https://a.test", false, "options"},
		{"OPTIONS h /x", "access-control-request-method=PUT", false, "options"},
		{"OPTIONS h /x", "origin=https://a.test access-control-request-method=GET,PUT", false, "options"},
		{"OPTIONS h /x", "origin=https://a.test access-control-request-method=", false, "options"},
		{"OPTIONS h /x", "origin= access-control-request-method=PUT", false, "options"},
		{"OPTIONS h /x", "origin=https://a.test,https://b.test access-control-request-method=PUT", false, "options"},
		{"OPTIONS h /x", "origin=https://a.test origin=https://b.test access-control-request-method=PUT", false, "options"},
		{"OPTIONS h /x", "origin=https://a.test access-control-request-method=PUT access-control-request-method=PUT", false, "options"},
		{"OPTIONS h *", "origin=https://a.test access-control-request-method=PUT", false, "get"},
		{"GET h /x", "origin=https://a.test access-control-request-method=PUT", false, "get"},
	} {
		r := get(tt.line)
		for _, h := range strings.Fields(tt.headers) {
			name, value, _ := strings.Cut(h, "=")
			r.Headers = append(r.Headers, authz.Header{Name: name, Value: value})
		}
		if got := Preflight(r); got != tt.preflight {
			t.Errorf("%s %s: preflight %v", tt.line, tt.headers, got)
		}
		if got := outcome(table, r); got != tt.want || r.Method != strings.Fields(tt.line)[0] {
			t.Errorf("%s %s: got %s as %s, want %s", tt.line, tt.headers, got, r.Method, tt.want)
		}
	}
}
