// Package authztest has fakes with behaviour.
//
// An [Issuer] is an OpenID provider in this process: it serves discovery and
// keys, mints tokens of any shape, right and wrong, rotates and withdraws its
// keys, and can be broken in the ways in which real ones break. The demo uses
// it, and so does every test that needs a token.
//
// Nothing here protects anything: whoever holds an Issuer mints what it likes.
// It listens on loopback addresses only. Keys live as long as the process.
//
// A new way to break is a [Fault] with its case in fault.go; a new shape of
// token is a [MintOption] in mint.go.
package authztest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Where an Issuer serves what. Everything else is 404.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/keys"
)

// An Issuer is an OpenID provider. It is an [http.Handler], safe for
// concurrent use.
type Issuer struct {
	now      func() time.Time
	audience string
	lifetime time.Duration

	mu        sync.Mutex
	url       string
	keys      []*Key            // every key ever made, newest last
	extra     []json.RawMessage // JWKs that are no key of ours
	rawKeys   []byte            // instead of the key set, where set
	metadata  map[string]any    // laid over the discovery document
	faults    map[string]Fault  // by path
	fetches   map[string]int    // by path
	requests  int
	unchanged int
	healed    chan struct{} // closed when faults end, so that hanging answers let go
	server    *http.Server
	served    chan struct{}
}

// An Option tunes an Issuer.
type Option func(*options)

type options struct {
	url, audience string
	algorithms    []string
	now           func() time.Time
	lifetime      time.Duration
}

// WithURL sets the issuer identifier. Default: the address that Listen took.
func WithURL(url string) Option { return func(o *options) { o.url = url } }

// WithAudience sets the default audience of minted tokens. Default:
// https://api.example.com.
func WithAudience(aud string) Option { return func(o *options) { o.audience = aud } }

// WithAlgorithms sets which keys an Issuer starts with; the first is what Mint
// signs with unless told otherwise. Default: RS256, ES256, EdDSA.
func WithAlgorithms(algs ...string) Option { return func(o *options) { o.algorithms = algs } }

// WithClock sets what iat and exp are counted from. Default: time.Now.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// WithLifetime sets how long minted tokens live. Default: five minutes.
func WithLifetime(d time.Duration) Option { return func(o *options) { o.lifetime = d } }

// NewIssuer returns an Issuer with one fresh key for each algorithm. It panics
// on an algorithm it does not know: that is a mistake in the caller's source.
func NewIssuer(opts ...Option) *Issuer {
	o := options{
		audience:   "https://api.example.com",
		algorithms: []string{"RS256", "ES256", "EdDSA"},
		now:        time.Now,
		lifetime:   5 * time.Minute,
	}
	for _, opt := range opts {
		opt(&o)
	}
	i := &Issuer{
		now: o.now, audience: o.audience, lifetime: o.lifetime, url: o.url,
		faults: map[string]Fault{}, fetches: map[string]int{}, metadata: map[string]any{},
		healed: make(chan struct{}),
	}
	for n, alg := range o.algorithms {
		i.keys = append(i.keys, newKey(alg, fmt.Sprintf("%s-%d", strings.ToLower(alg), n+1)))
	}
	return i
}

// Listen serves on a loopback address until Close; empty means 127.0.0.1 and
// a free port. Without WithURL the issuer identifier is that address.
func (i *Issuer) Listen(addr string) error {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	host, err := netip.ParseAddrPort(addr)
	if err != nil || !host.Addr().IsLoopback() {
		return fmt.Errorf("authztest: address %q is not a loopback address with a port", addr)
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return fmt.Errorf("authztest: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.server != nil {
		return errors.Join(errors.New("authztest: listens already"), ln.Close())
	}
	if i.url == "" {
		i.url = "http://" + ln.Addr().String()
	}
	i.server = &http.Server{Handler: i, ReadHeaderTimeout: 5 * time.Second}
	i.served = make(chan struct{})
	go func(s *http.Server, done chan struct{}) {
		defer close(done)
		_ = s.Serve(ln) // ErrServerClosed, by Close
	}(i.server, i.served)
	return nil
}

// Close ends Listen and every answer that hangs. It may be called twice.
func (i *Issuer) Close() error {
	i.Heal()
	i.mu.Lock()
	server, served := i.server, i.served
	i.server = nil
	i.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Close()
	<-served
	return err
}

// URL returns the issuer identifier.
func (i *Issuer) URL() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.url
}

// SetURL changes the issuer identifier, for an Issuer behind somebody else's
// listener.
func (i *Issuer) SetURL(url string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.url = url
}

// KeysURL returns where the key set is.
func (i *Issuer) KeysURL() string { return strings.TrimSuffix(i.URL(), "/") + KeysPath }

// SetMetadata lays a member over the discovery document; [Absent] removes it.
func (i *Issuer) SetMetadata(name string, value any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.metadata[name] = value
}

// Fetches returns how often the key set was asked for.
func (i *Issuer) Fetches() int { return i.count(KeysPath) }

// Discoveries returns how often the discovery document was asked for.
func (i *Issuer) Discoveries() int { return i.count(DiscoveryPath) }

func (i *Issuer) count(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches[path]
}

// Requests returns how many requests of any kind came.
func (i *Issuer) Requests() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests
}

// NotModified returns how many fetches of the key set were answered with 304.
func (i *Issuer) NotModified() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.unchanged
}

// ServeHTTP serves discovery and the key set, or the fault that is set.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	path := i.path(r.URL.Path)
	i.requests++
	i.fetches[path]++
	fault, healed := i.faults[path], i.healed
	var body []byte
	switch path {
	case DiscoveryPath:
		body = i.discovery()
	case KeysPath:
		body = i.keySet()
	}
	i.mu.Unlock()

	if fault.Kind != Healthy {
		fault.serve(w, r, body, healed)
		return
	}
	if body == nil {
		http.NotFound(w, r)
		return
	}
	tag := fmt.Sprintf(`"%x"`, digest(body))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		i.mu.Lock()
		i.unchanged++
		i.mu.Unlock()
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(body) // the client may be gone
}

// path cuts the issuer's own path, where it has one, so that an issuer
// https://host/realms/a serves below /realms/a.
func (i *Issuer) path(path string) string {
	for _, known := range []string{DiscoveryPath, KeysPath} {
		if strings.HasSuffix(path, known) && strings.HasSuffix(strings.TrimSuffix(i.url, "/"), strings.TrimSuffix(path, known)) {
			return known
		}
	}
	return path
}

// discovery returns the discovery document. The caller holds mu.
func (i *Issuer) discovery() []byte {
	base := strings.TrimSuffix(i.url, "/")
	doc := map[string]any{
		"issuer":                                i.url,
		"jwks_uri":                              base + KeysPath,
		"authorization_endpoint":                base + "/authorize",
		"token_endpoint":                        base + "/token",
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "EdDSA"},
	}
	overlay(doc, i.metadata)
	return mustJSON(doc)
}

// absent is the type of Absent.
type absent struct{}

// Absent as the value of a member takes the member away.
var Absent any = absent{}

// overlay lays members over a document.
func overlay(doc, members map[string]any) {
	for _, name := range slices.Collect(maps.Keys(members)) {
		if members[name] == Absent {
			delete(doc, name)
			continue
		}
		doc[name] = members[name]
	}
}

// mustJSON panics on what JSON cannot say: a mistake in the caller's source.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("authztest: %v", err))
	}
	return b
}
