package harness

import (
	"bufio"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Mirror is an HTTP/1.1 upstream that sends back the very bytes it received,
// and repairs nothing: what an HTTP library hides (two lines of one name, a
// line break in a value, bytes that are no text) is there to be seen.
//
// The body of its answer is the head of the request, and its body. Each header
// line x-answer of the request becomes a line of the answer. CONNECT and
// upgrades are accepted: then the head is in x-head, as base64, and what comes
// afterwards is sent back; a request with x-end has the connection end there.
type Mirror struct {
	Addr string

	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
	heads []string
}

const (
	maxHead = 1 << 20 // bytes
	patient = 30 * time.Second
)

// ServeMirror starts a Mirror on a free port of 127.0.0.1.
func ServeMirror() (*Mirror, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Mirror{Addr: l.Addr().String(), listener: l, conns: map[net.Conn]bool{}}
	s.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			s.running.Go(func() { s.serve(conn) })
		}
	})
	return s, nil
}

// Close ends every connection.
func (s *Mirror) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.Close() // whoever it is, it ends
	}
	s.conns = nil
	s.mu.Unlock()
	s.running.Wait()
	return err
}

// Heads returns the heads of all requests that hold text, in the order in
// which they came.
func (s *Mirror) Heads(text string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, head := range s.heads {
		if strings.Contains(head, text) {
			found = append(found, head)
		}
	}
	return found
}

func (s *Mirror) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	s.mu.Lock()
	closed := s.conns == nil
	if !closed {
		s.conns[conn] = true
	}
	s.mu.Unlock()
	if closed {
		return
	}
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	r := bufio.NewReader(conn)
	for s.answer(conn, r) == nil {
	}
}

// answer takes one request.
func (s *Mirror) answer(conn net.Conn, r *bufio.Reader) error {
	_ = conn.SetDeadline(time.Now().Add(patient)) // an error shows at the next read
	head, err := readHead(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.heads = append(s.heads, head)
	s.mu.Unlock()
	upgrade := HeaderLines(head, "upgrade")
	connect := strings.HasPrefix(head, "CONNECT ")
	if len(upgrade) > 0 || connect {
		status := "200 OK\r\n"
		if !connect {
			status = "101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: " + upgrade[0] + "\r\n"
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 "+status+"x-head: "+base64.StdEncoding.EncodeToString([]byte(head))+"\r\n\r\n"); err != nil {
			return err
		}
		if len(HeaderLines(head, "x-end")) == 0 {
			_, err = io.Copy(conn, r)
		}
		return errors.Join(err, io.EOF)
	}
	body, err := readBody(r, head)
	if err != nil {
		return err
	}
	payload := head + body
	out := "HTTP/1.1 200 OK\r\nx-upstream: mirror\r\ncontent-length: " + strconv.Itoa(len(payload)) + "\r\n"
	for _, line := range HeaderLines(head, "x-answer") {
		out += line + "\r\n"
	}
	out += "\r\n"
	if !strings.HasPrefix(head, "HEAD ") {
		out += payload
	}
	_, err = io.WriteString(conn, out)
	return err
}

// readHead returns the bytes up to the empty line, and that.
func readHead(r *bufio.Reader) (string, error) {
	var head strings.Builder
	for head.Len() < maxHead {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return "", err
		}
		if line == "\r\n" {
			return head.String(), nil
		}
	}
	return "", errors.New("head is too long")
}

func readBody(r *bufio.Reader, head string) (string, error) {
	if te := HeaderLines(head, "transfer-encoding"); len(te) > 0 {
		b, err := io.ReadAll(io.LimitReader(httputil.NewChunkedReader(r), maxBody))
		if err != nil {
			return "", err
		}
		_, err = textproto.NewReader(r).ReadMIMEHeader() // trailers
		return string(b), err
	}
	length := HeaderLines(head, "content-length")
	if len(length) == 0 {
		return "", nil
	}
	n, err := strconv.Atoi(length[0])
	if err != nil || n < 0 || n > maxBody {
		return "", errors.New("content-length is no length")
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

// HeaderLines returns the value of each line of this name in the head of a
// message, without the space after the colon. name is lower case.
func HeaderLines(head, name string) (values []string) {
	for line := range strings.SplitSeq(head, "\r\n") {
		n, value, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(n, name) {
			values = append(values, strings.TrimPrefix(value, " "))
		}
	}
	return values
}
