package harness

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
)

// An Echo is what the upstream got.
type Echo struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"` // with query
	Host    string              `json:"host"`
	Headers map[string][]string `json:"headers"` // lower-case names, a value for each line
}

// ServeEcho answers every request with what it got, as JSON.
func ServeEcho(w http.ResponseWriter, r *http.Request) {
	e := Echo{Method: r.Method, Path: r.RequestURI, Host: r.Host, Headers: map[string][]string{}}
	for name, values := range r.Header {
		e.Headers[strings.ToLower(name)] = values
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(e) // the client may be gone
}

// A Server serves HTTP on a free port of 127.0.0.1.
type Server struct {
	Addr string

	http   *http.Server
	served chan struct{}
}

// Serve starts a Server.
func Serve(h http.Handler) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{
		Addr:   l.Addr().String(),
		http:   &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second},
		served: make(chan struct{}),
	}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // a loopback listener of our own does not fail
		}
	}()
	return s, nil
}

// Close stops serving and closes every connection.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.served
	return err
}
