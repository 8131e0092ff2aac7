package admin_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz/admin"
)

func TestHandler(t *testing.T) {
	ready := false
	h := admin.Handler(admin.Source{
		Ready:   func() bool { return ready },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
		Version: map[string]string{"version": "1.2.3"},
	})
	for _, c := range []struct {
		method, path string
		ready        bool
		status       int
		body         string
	}{
		{"GET", "/livez", false, 200, "ok"},
		{"GET", "/readyz", false, 503, "not ready"},
		{"GET", "/readyz", true, 200, "ok"},
		{"GET", "/metrics", false, 200, "metrics"},
		{"GET", "/version", false, 200, `{"version":"1.2.3"}`},
		{"HEAD", "/livez", false, 200, ""},
		{"POST", "/livez", false, 405, "Method Not Allowed"},
		{"GET", "/", false, 404, "404 page not found"},
		{"GET", "/debug/pprof/", false, 404, "404 page not found"},
	} {
		ready = c.ready
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(c.method, c.path, nil))
		body := strings.TrimSpace(rec.Body.String())
		if c.method == "HEAD" {
			body = ""
		}
		if rec.Code != c.status || body != c.body {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, rec.Code, body, c.status, c.body)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- admin.Serve(ctx, ln, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	}()
	resp, err := http.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("still listens")
	}
}
