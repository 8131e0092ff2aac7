package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

// pathRoutes are the same routes that edgeRoutes gives to Envoy, and each
// tells the upstream what Sallyport decided on.
const pathRoutes = `
  - name: root
    match: /
    token: none
    allow: true
    onAllow: &tell {requestHeaders: {set: {x-canonical: request.path, x-canonical-host: request.host, x-route: route.name}}}
  - {name: a, match: /a/, token: none, allow: true, onAllow: *tell}
  - {name: deep, match: /a/b/, token: none, allow: true, onAllow: *tell}
  - {name: b, match: /b, token: none, allow: true, onAllow: *tell}
  - {name: b-tree, match: /b/, token: none, allow: true, onAllow: *tell}
  - {name: item, match: "/ab/{x}", token: none, allow: true, onAllow: *tell}
  - {name: exact, hosts: [x.test], match: /, token: none, allow: true, onAllow: *tell}
  - {name: suffix, hosts: ["*.y.test"], match: /, token: none, allow: true, onAllow: *tell}
  - {name: longer, hosts: ["*.x.y.test"], match: /, token: none, allow: true, onAllow: *tell}
  - {name: prefix, hosts: ["z.*"], match: /, token: none, allow: true, onAllow: *tell}
`

// edgeRoutes gives Envoy the routes of pathRoutes. Each tells the upstream
// that it is the one that matched.
func edgeRoutes() object {
	route := func(name string, match object) any {
		return object{"match": match, "route": object{"cluster": "upstream"}, "request_headers_to_add": []any{object{
			"header": object{"key": "x-edge-route", "value": name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
		}}}
	}
	host := func(name, domain string, routes ...any) any {
		return object{"name": name, "domains": []any{domain}, "routes": routes}
	}
	all := object{"prefix": "/"}
	return object{
		"name": "ingress",
		// As Sallyport's hosts, which are compared without port.
		"ignore_port_in_host_matching": true,
		"virtual_hosts": []any{
			host("exact", "x.test", route("exact", all)),
			host("suffix", "*.y.test", route("suffix", all)),
			host("longer", "*.x.y.test", route("longer", all)),
			host("prefix", "z.*", route("prefix", all)),
			host("any", "*", // Envoy takes the first that matches
				route("deep", object{"prefix": "/a/b/"}),
				route("a", object{"prefix": "/a/"}),
				route("b", object{"path": "/b"}),
				route("b-tree", object{"prefix": "/b/"}),
				route("item", object{"safe_regex": object{"regex": "/ab/[^/]+"}}),
				route("root", all)),
		},
	}
}

// Envoy and Sallyport take no request that passes for two different ones: the
// path and the host that Sallyport decided on are what the upstream gets, but
// for the escapes and the case that the contract evens out, and both pick the
// same route. Where Envoy normalises, and where it does not.
func TestPathsAgainstEnvoy(t *testing.T) {
	t.Parallel()
	seed, requests := setting(t, "SALLYPORT_SEED", 1), setting(t, "SALLYPORT_REQUESTS", 3000)
	t.Logf("seed %d, %d requests at each edge; SALLYPORT_SEED and SALLYPORT_REQUESTS say otherwise", seed, requests)

	w := &world{t: t, dir: t.TempDir()}
	w.issuer = authztest.NewIssuer()
	if err := w.issuer.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.issuer.Close() })
	w.start(setup{routes: pathRoutes, noEnvoy: true})

	for i, k := range edgeKinds {
		if k.name != "ours" && k.name != "bare" {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			d := difference{decodes: k.name == "ours"}
			up, err := harness.Record(d.arrive)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = up.Close() })
			e := startEdge(t, w.GRPC, up.Addr, func(bootstrap, manager, filter object) {
				k.change(bootstrap, manager, filter)
				manager["route_config"] = edgeRoutes()
				// Sallyport takes no final dot for part of a name either.
				manager["strip_trailing_host_dot"] = true
				delete(manager, "access_log")
			})
			ours, envoys := d.send(t, e.Listener, requests, rand.New(rand.NewPCG(uint64(seed), uint64(i))))
			d.mu.Lock()
			defer d.mu.Unlock()
			t.Logf("%d requests: %d passed, of %d spellings that change; Sallyport refused %d, Envoy %d", requests, d.passed, d.changed, ours, envoys)
			for _, s := range d.found {
				t.Error(s)
			}
			// Requests that nobody lets pass would show nothing.
			if d.passed < requests/4 || d.changed < requests/20 {
				t.Errorf("%d of %d requests passed, and %d changed: too few", d.passed, requests, d.changed)
			}
		})
	}
}

// setting reads a positive number from the environment.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s is %q, not a positive number", name, text)
	}
	return n
}

// A difference counts what arrives, and notes where Envoy and Sallyport
// disagree.
type difference struct {
	decodes bool // Envoy decodes a path before it looks for a route

	mu      sync.Mutex
	passed  int
	changed int // of those that passed, paths that are not canonical
	found   []string
}

func (d *difference) arrive(a *harness.Arrival) {
	path, _, _ := strings.Cut(a.Target, "?")
	want, host := evenPath(path), evenHost(a.Get("host"))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passed++
	if path != want {
		d.changed++
	}
	if got := a.Get("x-canonical"); got != want {
		d.add("target %q: Sallyport decided on %q, want %q", a.Target, got, want)
	}
	if got := a.Get("x-canonical-host"); got != host {
		d.add("host %q: Sallyport decided on %q, want %q", a.Get("host"), got, host)
	}
	// Envoy looks for a route with the path and the host that it passes on.
	// Where the contract reads those otherwise, so may the routes differ: it
	// decodes a path that Envoy leaves alone, and drops the second of two
	// final dots after Envoy dropped the first.
	comparable := (path == want || d.decodes) && !strings.HasSuffix(strings.TrimRight(a.Get("host"), ":0123456789"), ".")
	if got, edge := a.Get("x-route"), a.Get("x-edge-route"); comparable && got != edge {
		d.add("target %q on %q: Sallyport took the route %q, Envoy %q", a.Target, a.Get("host"), got, edge)
	}
}

func (d *difference) add(format string, args ...any) {
	if len(d.found) < 20 {
		d.found = append(d.found, fmt.Sprintf(format, args...))
	}
}

// A question is what one request asks for.
type question struct {
	target, host string
	h2           bool
}

// send sends requests over some connections and returns how many Sallyport
// and Envoy refused.
func (d *difference) send(t *testing.T, addr string, n int, random *rand.Rand) (ours, envoys int) {
	t.Helper()
	todo := make(chan question)
	var wait sync.WaitGroup
	var mu sync.Mutex
	for range 8 {
		wait.Go(func() {
			c := &caller{addr: addr}
			defer c.close()
			for q := range todo {
				answer, err := c.ask(t.Context(), q)
				mu.Lock()
				switch {
				case err != nil:
					t.Errorf("%+v: %v", q, err)
				case answer == harness.RecorderBody:
				case strings.Contains(answer, `"reason":"malformed_request"`), strings.Contains(answer, `"reason":"no_route"`):
					ours++
				case strings.Contains(answer, `"reason"`):
					t.Errorf("%+v: %s", q, answer)
				default:
					envoys++
				}
				mu.Unlock()
			}
		})
	}
	for range n {
		q := question{"/" + awkwardPath(random), "c.test", random.IntN(10) == 0}
		if random.IntN(4) == 0 {
			q.host = pick(random, hostPieces, 4)
		}
		todo <- q
	}
	close(todo)
	wait.Wait()
	return ours, envoys
}

// A caller keeps a connection as long as the peer does.
type caller struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// ask returns the body of the answer, which is empty where none came.
func (c *caller) ask(ctx context.Context, q question) (string, error) {
	if q.h2 {
		answer, err := harness.RawHTTP2(ctx, c.addr, []harness.Field{
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"},
			{Name: ":authority", Value: q.host}, {Name: ":path", Value: q.target},
		}, "")
		if errors.Is(err, harness.ErrReset) {
			return "", nil
		}
		return answer.Body, err
	}
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.addr, 10*time.Second)
		if err != nil {
			return "", err
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c.conn, "GET "+q.target+" HTTP/1.1\r\nHost: "+q.host+"\r\n\r\n"); err != nil {
		c.close()
		return "", err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.close()
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.Close {
		c.close()
	}
	return string(body), err
}

// What awkward paths and hosts are made of.
var (
	pathPieces = strings.Fields(`/ / / / a a b b ab b/c c . .. ... %2e %2E %2e%2e .%2e %2f %2F %5c \ // ; ;x=1 %3b %25 %252e %2561
		%61 %41 %42 A %7e ~ - _ %2D %5F : @ ! $ & ' ( ) * + , = %3a %40 %21 %24 %26 %27 %28 %29 %2a %2B %2c %3D
		" < > | ^ { } [ ] ` + "`" + ` %22 %3c %7C %5e %7b %5B %60 %20 %23 %3f ?x=/../y ? ?a=%2f #f
		%c3%a9 %E2%82%ac %ff %FE %e0%a0%80 %c0%ae %e0%80%ae %00 %0a %7f %zz %4 %`)
	rarePieces = []string{"\xc3\xa9", "\xff", "\x01", "\x7f", "\t"}
	hostPieces = strings.Fields(`x.test X.TEST y.test .y.test x.y.test a.x.y.test Z. z. z.test c.test . .. a A - _ % , @ / : :80 :080 :65536 :x [::1] [::FFFF:1] 127.0.0.1 é`)
)

// awkwardPath returns what may follow the first slash.
func awkwardPath(random *rand.Rand) string {
	path := pick(random, pathPieces, 8)
	if random.IntN(20) == 0 {
		path += pick(random, rarePieces, 1) + "x"
	}
	if random.IntN(3) == 0 { // so that every route is tried often
		path = pick(random, []string{"a/", "a/b/", "b", "b/", "ab/", "ab", "%61/", "a/%62/"}, 1) + path
	}
	return path
}

// pick joins one to most pieces.
func pick(random *rand.Rand, pieces []string, most int) string {
	var b strings.Builder
	for range 1 + random.IntN(most) {
		b.WriteString(pieces[random.IntN(len(pieces))])
	}
	return b.String()
}

var (
	escapeOrByte = regexp.MustCompile(`%[0-9A-Fa-f]{2}|.`)
	plainInPath  = regexp.MustCompile(`^[A-Za-z0-9._~:@!$&'()*+,=-]$`)
	portAndDot   = regexp.MustCompile(`\.?(:[0-9]+)?$`)
)

// evenPath is what the contract adds to a path that Envoy normalised: it
// decodes what needs no escape, writes other escapes in upper case, and
// escapes what RFC 3986 does not allow. Nothing of it is Sallyport's code.
func evenPath(path string) string {
	return escapeOrByte.ReplaceAllStringFunc(path, func(s string) string {
		c := s
		if len(s) == 3 {
			c = unescapeOne(s)
		}
		if plainInPath.MatchString(c) || s == "/" || s == ";" {
			return c
		}
		return fmt.Sprintf("%%%02X", c[0])
	})
}

// evenHost is what the contract adds to a host.
func evenHost(host string) string { return strings.ToLower(portAndDot.ReplaceAllString(host, "")) }
