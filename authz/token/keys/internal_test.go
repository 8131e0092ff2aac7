package keys

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-authz/sallyport/authz"
)

// answers is a network in which every GET is answered with one document.
type answers string

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}

// Discovery somewhere else may not lead to this machine; on this machine it
// may lead anywhere.
func TestDiscoveryLeadsAway(t *testing.T) {
	for _, c := range []struct {
		issuer, jwks string
		says         string // empty: taken
	}{
		{"https://id.example.com", "https://id.example.com/keys", ""},
		{"https://id.example.com", "https://keys.example.net/keys", ""},
		{"https://id.example.com", "https://127.0.0.1/keys", "is on this machine"},
		{"https://id.example.com", "http://127.0.0.1:8080/keys", "is on this machine"},
		{"https://id.example.com", "https://[::1]/keys", "is on this machine"},
		{"https://id.example.com", "https://[::ffff:127.0.0.1]/keys", "is on this machine"},
		{"https://id.example.com", "https://LocalHost/keys", "is on this machine"},
		{"https://id.example.com", "http://id.example.com/keys", "is not an https URL"},
		{"http://127.0.0.1:5556", "http://127.0.0.1:5556/keys", ""},
		{"http://localhost:5556", "https://[::1]/keys", ""},
		{"http://localhost:5556", "https://keys.example.net/keys", ""},
	} {
		s, err := New(Config{Issuer: c.issuer})
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: answers(fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, c.issuer, c.jwks)), Timeout: s.cfg.Timeout}
		var f fetcher
		err = s.discover(t.Context(), client, &f)
		if c.says == "" {
			if err != nil || f.uri != c.jwks {
				t.Errorf("%s to %s: %q, %v", c.issuer, c.jwks, f.uri, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || f.uri != "" {
			t.Errorf("%s to %s: %q, %v, want %q", c.issuer, c.jwks, f.uri, err, c.says)
		}
	}
}

// While an issuer hangs, so many requests wait for it and no more: whether a
// token asked for the refresh, or it was time for one. After it there is
// nothing to wait for until the cooldown has passed.
func TestWaitersAreBounded(t *testing.T) {
	for _, due := range []bool{false, true} {
		now := time.Unix(1_790_000_000, 0)
		s, err := New(Config{Issuer: "https://id.example.com"}, WithClock(func() time.Time { return now }))
		if err != nil {
			t.Fatal(err)
		}
		s.setRunning(true)
		var fl *flight
		if due {
			fl = s.depart()
		}
		for n := range maxWaiting {
			got := s.ask(trace.SpanContext{})
			if fl == nil {
				fl = got
			}
			if got == nil || got != fl {
				t.Fatalf("due %v: request %d waits for %p, want %p", due, n+1, got, fl)
			}
		}
		if s.ask(trace.SpanContext{}) != nil {
			t.Errorf("due %v: one more than %d requests wait", due, maxWaiting)
		}
		if s.depart() != fl {
			t.Errorf("due %v: the refresh is another", due)
		}
		s.arrive()
		select {
		case <-fl.done:
		default:
			t.Errorf("due %v: the refresh let nobody go", due)
		}
		select {
		case <-s.kick:
			t.Errorf("due %v: a refresh that was made is asked for", due)
		default:
		}
		if got := s.ask(trace.SpanContext{}); (got != nil) != due { // what was due was not forced
			t.Errorf("due %v: after it %p is waited for", due, got)
		}
		s.arrive()
		now = now.Add(s.cfg.Cooldown - 1)
		if s.ask(trace.SpanContext{}) != nil {
			t.Errorf("due %v: asked for within the cooldown", due)
		}
		now = now.Add(1)
		if s.ask(trace.SpanContext{}) == nil {
			t.Errorf("due %v: not asked for after the cooldown", due)
		}
	}
}

// Keys are good up to MaxAge, and no longer.
func TestMaxAgeToTheInstant(t *testing.T) {
	at := time.Unix(1_790_000_000, 0)
	now := at
	s, err := New(Config{Issuer: "https://id.example.com"}, WithClock(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	s.current.Store(&state{snapshot: &snapshot{}, at: at})
	now = at.Add(s.cfg.MaxAge)
	if _, err := s.state(); err != nil {
		t.Errorf("at MaxAge: %v", err)
	}
	now = now.Add(1)
	if _, err := s.state(); authz.ReasonOf(err) != authz.IssuerUnavailable || authz.DetailOf(err) != authz.KeysStale {
		t.Errorf("after MaxAge: %v", err)
	}
}

// Whoever waits for a refresh that will not come is let go when Run ends.
func TestEndOfRunLetsGo(t *testing.T) {
	s, err := New(Config{Issuer: "https://id.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	s.setRunning(true)
	fl := s.ask(trace.SpanContext{}) // Run has not got to it
	s.setRunning(false)
	select {
	case <-fl.done:
	default:
		t.Error("still waiting")
	}
	if s.ask(trace.SpanContext{}) != nil {
		t.Error("something to wait for, and nobody runs")
	}
}

// A file is looked at far more often than a network is asked.
func TestPauseBetweenLooksAtAFile(t *testing.T) {
	file := Set{cfg: Config{Refresh: 5 * time.Minute, JWKSFile: "keys.json"}}
	network := Set{cfg: Config{Refresh: 5 * time.Minute}}
	for range 20 {
		if got := file.pause(0); got > filePoll+filePoll/10+1 {
			t.Errorf("a file is looked at again after %v", got)
		}
		if got := network.pause(0); got < 4*time.Minute {
			t.Errorf("the network is asked again after %v", got)
		}
	}
}
