package authztest

import (
	"bytes"
	"io"
	"net/http"
	"time"
)

// A Kind of fault says how an endpoint misbehaves.
type Kind int

// The ways to break.
const (
	Healthy     Kind = iota
	ServerError      // 500 with a body
	Hang             // takes the request and answers when healed
	HTML             // 200 with a page, as a captive portal answers
	EmptyObject      // 200 {}
	NoKeys           // 200 {"keys":[]}: every key is withdrawn
	Redirect         // 307 to Location
	Huge             // 200 with 100 MiB before the end of the document
	SlowLoris        // a byte of the right answer each 20 ms
	Truncated        // half of the right answer, then a closed connection
)

// A Fault is a way to misbehave. The zero value behaves.
type Fault struct {
	Kind     Kind
	Location string // of a Redirect
}

// Break makes discovery and key set misbehave until Heal.
func (i *Issuer) Break(f Fault) {
	i.BreakDiscovery(f)
	i.BreakKeys(f)
}

// BreakDiscovery makes the discovery document misbehave.
func (i *Issuer) BreakDiscovery(f Fault) { i.setFault(DiscoveryPath, f) }

// BreakKeys makes the key set misbehave.
func (i *Issuer) BreakKeys(f Fault) { i.setFault(KeysPath, f) }

func (i *Issuer) setFault(path string, f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.faults[path] = f
}

// Heal ends every fault and lets go of what hangs.
func (i *Issuer) Heal() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.faults)
	close(i.healed)
	i.healed = make(chan struct{})
}

// serve misbehaves. body is the right answer.
func (f Fault) serve(w http.ResponseWriter, r *http.Request, body []byte, healed <-chan struct{}) {
	w.Header().Set("Content-Type", "application/json")
	write := func(b []byte) bool {
		_, err := w.Write(b)
		return err == nil
	}
	switch f.Kind {
	case ServerError:
		http.Error(w, "the database is down", http.StatusInternalServerError)
	case Hang:
		select {
		case <-healed:
		case <-r.Context().Done():
		}
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		write([]byte("<!doctype html><title>Sign in to the network</title>"))
	case EmptyObject:
		write([]byte("{}"))
	case NoKeys:
		write([]byte(`{"keys":[]}`))
	case Redirect:
		http.Redirect(w, r, f.Location, http.StatusTemporaryRedirect)
	case Huge:
		filler := bytes.Repeat([]byte(" "), 1<<20)
		for range 100 {
			if !write(filler) {
				return
			}
		}
		write(body)
	case SlowLoris:
		rc := http.NewResponseController(w)
		for n := range body {
			if !write(body[n:n+1]) || rc.Flush() != nil {
				return
			}
			select {
			case <-healed:
				write(body[n+1:])
				return
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	case Truncated:
		w.Header().Set("Content-Length", "1000000")
		_, _ = io.Copy(w, bytes.NewReader(body[:len(body)/2]))
	}
}
