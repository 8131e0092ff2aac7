package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-authz/sallyport/envoy"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// tree is a part of an Envoy configuration.
type tree = map[string]any

// A variant is one more listener of an edge, named after it, which differs
// from that of envoy.yaml as edit says.
type variant struct {
	name string
	edit func(listener, manager, filter tree)
}

// An edge is one Envoy in front of an upstream that shows what it received.
type edge struct {
	t         *testing.T
	envoy     *harness.Envoy
	upstream  *harness.Mirror
	listeners map[string]string // HOST:PORT by name; "ingress" is that of envoy.yaml, as it stands
}

// newEdge starts an Envoy that asks authz, with envoy.yaml's listener and one
// more for each variant. All of them wait for a check longer than envoy.yaml
// does, which a machine with much else to do may need. more adds to the whole
// bootstrap; it may be nil.
func newEdge(t *testing.T, authz string, more func(bootstrap tree), variants ...variant) *edge {
	t.Helper()
	e := &edge{t: t, listeners: map[string]string{}}
	var err error
	if e.upstream, err = harness.ServeMirror(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.upstream.Close() })
	text, err := envoy.Bootstrap(envoy.Addresses{
		Listener: "127.0.0.1:0", Admin: "127.0.0.1:0",
		Clusters: map[string][]string{"authz": {authz}, "upstream": {e.upstream.Addr}, "otel": {"127.0.0.1:9"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	bootstrap := parse(t, text)
	patience(bootstrap, "20s")
	for _, v := range variants {
		original := parse(t, text)
		patience(original, "20s")
		listener := within(original, "static_resources", "listeners", "0").(tree)
		listener["name"] = v.name
		manager := within(listener, "filter_chains", "0", "filters", "0", "typed_config").(tree)
		manager["stat_prefix"] = v.name
		v.edit(listener, manager, within(manager, "http_filters", "0", "typed_config").(tree))
		resources := bootstrap["static_resources"].(tree)
		resources["listeners"] = append(resources["listeners"].([]any), listener)
	}
	if more != nil {
		more(bootstrap)
	}
	if text, err = yaml.Marshal(bootstrap); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if e.envoy, err = harness.StartEnvoy(ctx, envoyBinary(t), text, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("envoy said:\n%s", e.envoy.Log.Tail(20))
		}
		e.envoy.Kill()
	})
	e.find(ctx)
	return e
}

// find asks Envoy where its listeners are.
func (e *edge) find(ctx context.Context) {
	e.t.Helper()
	text, err := e.envoy.Get(ctx, "/listeners?format=json")
	if err != nil {
		e.t.Fatal(err)
	}
	var listeners struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal([]byte(text), &listeners); err != nil {
		e.t.Fatal(err)
	}
	for _, l := range listeners.Statuses {
		e.listeners[l.Name] = net.JoinHostPort(l.Address.Socket.Address, strconv.Itoa(l.Address.Socket.Port))
	}
}

// patience says how long the first listener of a bootstrap waits for a check,
// and for a connection to ask over.
func patience(bootstrap tree, limit string) {
	within(bootstrap, "static_resources", "clusters", "0").(tree)["connect_timeout"] = limit
	manager := within(bootstrap, "static_resources", "listeners", "0", "filter_chains", "0", "filters", "0", "typed_config")
	service := within(manager, "http_filters", "0", "typed_config", "grpc_service").(tree)
	service["timeout"] = limit
	within(service, "retry_policy", "retry_back_off").(tree)["max_interval"] = limit
}

func parse(t *testing.T, text []byte) (root tree) {
	t.Helper()
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	return root
}

// within walks into maps, and into lists by number.
func within(v any, keys ...string) any {
	for _, key := range keys {
		if list, ok := v.([]any); ok {
			n, _ := strconv.Atoi(key)
			v = list[n]
		} else {
			v = v.(tree)[key]
		}
	}
	return v
}

// generated takes away what neither Istio nor Envoy Gateway generate around
// ext_authz: raw headers, and every check of what an answer does. Paths are
// not normalised either, which is less than both do.
func generated(_, manager, filter tree) {
	for _, key := range []string{"encode_raw_headers", "validate_mutations", "decoder_header_mutation_rules", "status_on_error", "max_denied_response_body_bytes"} {
		delete(filter, key)
	}
	for _, key := range []string{"normalize_path", "merge_slashes", "path_with_escaped_slashes_action", "early_header_mutation_extensions", "common_http_protocol_options", "use_remote_address"} {
		delete(manager, key)
	}
}

// failsOpen is generated, and lets pass what no answer came for.
func failsOpen(listener, manager, filter tree) {
	generated(listener, manager, filter)
	filter["failure_mode_allow"] = true
	filter["failure_mode_allow_header_add"] = true
}

// routes returns the list of routes, for more of them in front.
func routes(manager tree) (list []any, set func([]any)) {
	host := within(manager, "route_config", "virtual_hosts", "0").(tree)
	return host["routes"].([]any), func(l []any) { host["routes"] = l }
}

// A call is one request to an edge.
type call struct {
	listener string // default: ingress
	method   string // default: GET
	target   string // default: /
	host     string // default: edge.test
	headers  [][2]string
	body     string
}

// A reply is what the caller received, and what the upstream had.
type reply struct {
	status   int
	header   http.Header
	body     string
	upstream string // the head that the upstream received; empty where none did
	raw      string // the bytes of the answer, where the caller speaks HTTP/1.1
}

// upstreamLines returns the values of a header as the upstream received them.
func (r *reply) upstreamLines(name string) []string { return harness.HeaderLines(r.upstream, name) }

// target returns what the upstream was asked for.
func (r *reply) target() string {
	line, _, _ := strings.Cut(r.upstream, "\r\n")
	_, target, _ := strings.Cut(line, " ")
	target, _, _ = strings.Cut(target, " ")
	return target
}

// show splits the body of an answer that came from the upstream.
func (r *reply) show() {
	if r.header.Get("x-upstream") == "" {
		return
	}
	if head, body, ok := strings.Cut(r.body, "\r\n\r\n"); ok {
		r.upstream, r.body = head+"\r\n\r\n", body
	}
}

func (e *edge) addr(c *call) string {
	if c.listener == "" {
		c.listener = "ingress"
	}
	addr, ok := e.listeners[c.listener]
	if !ok {
		e.t.Fatalf("no listener %q", c.listener)
	}
	return addr
}

func (c *call) defaults() {
	for _, d := range []struct {
		field *string
		value string
	}{{&c.method, "GET"}, {&c.target, "/"}, {&c.host, "edge.test"}} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
}

// h1 asks over HTTP/1.1, byte by byte as the call says.
func (e *edge) h1(c call) *reply {
	e.t.Helper()
	addr := e.addr(&c)
	c.defaults()
	return e.bytes(addr, c.method, c.text())
}

// text is the call as HTTP/1.1.
func (c *call) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", c.method, c.target, c.host)
	for _, h := range c.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	if c.body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(c.body))
	}
	return b.String() + "\r\n" + c.body
}

// bytes sends bytes and reads one answer.
func (e *edge) bytes(addr, method, request string) *reply {
	e.t.Helper()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(e.t.Context(), "tcp", addr)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return e.exchange(conn, method, request)
}

func (e *edge) exchange(conn net.Conn, method, request string) *reply {
	e.t.Helper()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	go func() { _, _ = io.WriteString(conn, request) }() // a refusal may come before its end
	var raw bytes.Buffer
	in := bufio.NewReader(io.TeeReader(conn, &raw))
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(in, &http.Request{Method: method})
	}
	if err != nil {
		e.t.Fatalf("%.80q: %v; got %q", request, err, raw.String())
	}
	if resp.StatusCode == http.StatusSwitchingProtocols || method == http.MethodConnect && resp.StatusCode == http.StatusOK {
		return &reply{status: resp.StatusCode, header: resp.Header, raw: raw.String()}
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		e.t.Fatalf("%.80q: body: %v", request, err)
	}
	r := &reply{status: resp.StatusCode, header: resp.Header, body: string(body), raw: raw.String()}
	r.show()
	return r
}

// h2 asks over HTTP/2. The target goes out as it is, whatever its bytes.
func (e *edge) h2(c call) *reply {
	e.t.Helper()
	addr := e.addr(&c)
	c.defaults()
	req := (&http.Request{
		Method: c.method, Host: c.host, Header: http.Header{},
		URL: &url.URL{Scheme: "http", Host: addr, Opaque: c.target},
	}).WithContext(e.t.Context())
	for _, h := range c.headers {
		req.Header.Add(h[0], h[1])
	}
	if c.body != "" {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(c.body)), int64(len(c.body))
	}
	resp, err := http2Client.Do(req)
	if err != nil {
		e.t.Fatalf("%s %q: %v", c.method, c.target, err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		e.t.Fatalf("%s %q: body: %v", c.method, c.target, err)
	}
	r := &reply{status: resp.StatusCode, header: resp.Header, body: string(body)}
	r.show()
	return r
}

// grpc asks as a gRPC client does, but for the frames in the body.
func (e *edge) grpc(c call) *reply {
	e.t.Helper()
	c.method = http.MethodPost
	c.headers = append(c.headers, [2]string{"content-type", "application/grpc"}, [2]string{"te", "trailers"})
	return e.h2(c)
}

// http2Client speaks HTTP/2 without TLS and follows no redirects.
var http2Client = func() *http.Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{
		Transport:     &http.Transport{Protocols: &protocols, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
}()

// logged waits for an entry of Envoy's access log.
func (e *edge) logged(match func(entry tree) bool) tree {
	e.t.Helper()
	var found tree
	eventually(e.t, "entry of the access log", func() bool {
		for _, line := range e.envoy.Log.Lines() {
			var m tree
			if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &m) == nil && match(m) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// knowsErrors reports whether this Envoy knows error_response. To those before
// 1.37 it is a refusal without any part, 403 whatever the failure mode.
func knowsErrors(t *testing.T) bool {
	t.Helper()
	return envoyMinor(t) >= 37
}

// envoyMinor is 40 for Envoy 1.40.
func envoyMinor(t *testing.T) int {
	t.Helper()
	n, err := harness.EnvoyMinor(t.Context(), envoyBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
