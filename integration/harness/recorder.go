package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
)

// An Arrival is a request as it came, nothing parsed that need not be: Go's
// own server refuses targets that others serve.
type Arrival struct {
	Method  string
	Target  string
	Headers []Field // names as they came, in order
}

// Get returns the first value of a header; case does not matter.
func (a *Arrival) Get(name string) string {
	for _, h := range a.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// What a Recorder answers with, so that a client knows that its request
// arrived: a body, and where there is none, a header.
const (
	RecorderBody   = "upstream"
	RecorderHeader = "x-upstream"
)

// A Recorder is an upstream that answers every request with 200 and hands it
// to a function first.
type Recorder struct {
	Addr string

	listener net.Listener
	seen     func(*Arrival)
	wait     sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool // nil once closed
}

// Record starts a Recorder. Its function is called by several goroutines.
func Record(seen func(*Arrival)) (*Recorder, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Recorder{Addr: l.Addr().String(), listener: l, seen: seen, conns: make(map[net.Conn]bool)}
	r.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			r.wait.Go(func() { r.serve(conn) })
		}
	})
	return r, nil
}

// Close ends every connection and waits for them.
func (r *Recorder) Close() error {
	err := r.listener.Close()
	r.mu.Lock()
	for conn := range r.conns {
		_ = conn.Close() // serve finds out
	}
	r.conns = nil
	r.mu.Unlock()
	r.wait.Wait()
	return err
}

func (r *Recorder) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r.mu.Lock()
	open := r.conns != nil
	if open {
		r.conns[conn] = true
	}
	r.mu.Unlock()
	if !open {
		return
	}
	defer func() {
		r.mu.Lock()
		delete(r.conns, conn)
		r.mu.Unlock()
	}()
	in := bufio.NewReader(conn)
	for {
		a, err := readArrival(in)
		if err != nil {
			return // the peer is done, or sent what is no HTTP, which Envoy does not
		}
		r.seen(a)
		answer := "HTTP/1.1 200 OK\r\n" + RecorderHeader + ": reached\r\ncontent-length: " + strconv.Itoa(len(RecorderBody)) + "\r\n\r\n"
		switch a.Method {
		case "HEAD":
		case "CONNECT":
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+RecorderHeader+": reached\r\n\r\n") // and the tunnel ends at once
			return
		default:
			answer += RecorderBody
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

func readArrival(in *bufio.Reader) (*Arrival, error) {
	line, err := readLine(in)
	if err != nil {
		return nil, err
	}
	first, last := strings.IndexByte(line, ' '), strings.LastIndexByte(line, ' ')
	if first == last {
		return nil, fmt.Errorf("request line %q", line)
	}
	a := &Arrival{Method: line[:first], Target: line[first+1 : last]}
	for {
		line, err := readLine(in)
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("header line %q", line)
		}
		a.Headers = append(a.Headers, Field{name, strings.Trim(value, " \t")})
	}
	return a, discardBody(in, a)
}

// discardBody reads as far as the next request.
func discardBody(in *bufio.Reader, a *Arrival) error {
	if strings.EqualFold(a.Get("transfer-encoding"), "chunked") {
		if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(in)); err != nil {
			return err
		}
		for { // trailers
			if line, err := readLine(in); err != nil || line == "" {
				return err
			}
		}
	}
	length := a.Get("content-length")
	if length == "" || a.Method == "CONNECT" {
		return nil
	}
	n, err := strconv.ParseInt(length, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("content-length %q", length)
	}
	_, err = io.CopyN(io.Discard, in, n)
	return err
}

// readLine returns a line without its end.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	if len(line) > maxBody {
		return "", errors.New("line is too long")
	}
	return strings.TrimRight(line, "\r\n"), nil
}
