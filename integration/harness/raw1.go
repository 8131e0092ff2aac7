package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// rawTimeout bounds one exchange, so that a peer that says nothing fails a
// test instead of holding it up.
const rawTimeout = 20 * time.Second

// An Answer is one response as a client got it.
type Answer struct {
	Status int
	Header http.Header // what of it was read; RawHTTP2 reads none
	Body   string
}

// RawHTTP1 sends these bytes over a connection of their own, whatever they
// are, and reads want answers. Then it says that it has no more to send, and
// reads what comes until the connection ends: answers that nobody wanted. A
// connection that ends early is no error: then there are fewer answers.
func RawHTTP1(ctx context.Context, addr string, request []byte, want int) ([]Answer, error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	// A peer that refuses the first bytes need not take the others, and what
	// it answered is still there to be read.
	_, _ = conn.Write(request)

	method, _, _ := bytes.Cut(request, []byte(" "))
	in := bufio.NewReader(conn)
	var answers []Answer
	for {
		if len(answers) == want {
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				return answers, nil // the peer closed first
			}
		}
		a, err := readAnswer(in, string(method))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return answers, err
		case err != nil:
			return answers, nil
		case a.Status/100 != 1 || a.Status == http.StatusSwitchingProtocols:
			answers = append(answers, a)
		}
	}
}

func readAnswer(in *bufio.Reader, method string) (Answer, error) {
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if method == http.MethodConnect && resp.StatusCode == http.StatusOK {
		return Answer{Status: resp.StatusCode, Header: resp.Header}, nil // a tunnel follows, no body
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, err
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(rawTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}
