// Package keys holds the public keys of issuers.
//
// A [Set] is one issuer's keys. [Set.Run] finds and refreshes them in the
// background; the request path reads what is there and never makes a
// connection. A token with an unknown kid asks for one refresh, at most once in
// a cooldown, and may wait for it as long as its request has time; a bad
// signature never asks. Keys outlive an outage up to a stated age, then nothing
// is verified; a key that the issuer withdraws is gone at the next refresh.
// Issuers share nothing.
//
// Bounded are the size and time of a fetch, the number of keys, their kinds and
// strength, and where redirects lead (nowhere but their own origin). What an
// issuer's host name resolves to is not checked: the operator chose the issuer.
//
// Reading a key set is in jwks.go, one key in key.go, the network in fetch.go,
// the background loop in run.go. What a token's claims mean is package token's.
package keys

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
)

// A Config says where an issuer's keys are and how they are kept. Zero
// durations and an empty list of algorithms mean the default.
type Config struct {
	Issuer     string   // identifier; discovery starts here unless one of the next two is set
	JWKSURI    string   // where the key set is, instead of discovery
	JWKSFile   string   // a file with the key set, instead of the network
	Algorithms []string // what tokens may be signed with. Default: RS256, PS256, ES256, EdDSA
	CAFile     string   // PEM roots for TLS, read at each refresh. Default: the system's

	Refresh  time.Duration // between refreshes, give or take a tenth. Default: 5m
	Cooldown time.Duration // least time between refreshes that tokens ask for. Default: 30s
	MaxAge   time.Duration // how long keys live without a successful refresh. Default: 1h
	Timeout  time.Duration // of one fetch, body included. Default: 5s
}

// DefaultAlgorithms are the signature algorithms of an issuer that names none.
func DefaultAlgorithms() []string { return []string{"RS256", "PS256", "ES256", "EdDSA"} }

// A Set is the keys of one issuer. It outlives configurations: whoever reloads
// reuses a Set whose Config did not change. Safe for concurrent use.
type Set struct {
	cfg     Config
	observe func(result string, err error)
	tracer  trace.Tracer
	now     func() time.Time

	current atomic.Pointer[state] // nil: keys never came

	mu       sync.Mutex
	running  bool
	inFlight *flight
	forced   time.Time     // when a token last asked for a refresh
	kick     chan struct{} // holds one request for a refresh
}

// A state is a key set and when it was last confirmed.
type state struct {
	*snapshot
	at time.Time
}

// A flight is a refresh that somebody may wait for.
type flight struct {
	done    chan struct{}
	waiting int
	span    trace.SpanContext // of the request that asked, where one did
}

// An Option tunes a Set.
type Option func(*Set)

// WithObserver is told the result of each refresh, one of [Results]. err says
// why it failed, or under [ResultOK] which keys of the set cannot be used. It
// is called from one goroutine and must not block.
func WithObserver(observe func(result string, err error)) Option {
	return func(s *Set) { s.observe = observe }
}

// WithTracer sets where the spans of refreshes go. Default: nowhere.
func WithTracer(t trace.Tracer) Option { return func(s *Set) { s.tracer = t } }

// WithClock sets what ages are measured with. Default: time.Now.
func WithClock(now func() time.Time) Option { return func(s *Set) { s.now = now } }

// New returns a Set. It makes no connection. A JWKSFile and a CAFile are read,
// so that a broken one is known at once.
func New(cfg Config, opts ...Option) (*Set, error) {
	s := &Set{
		cfg: withDefaults(cfg), observe: func(string, error) {}, tracer: noop.NewTracerProvider().Tracer(""),
		now: time.Now, kick: make(chan struct{}, 1),
	}
	for _, opt := range opts {
		opt(s)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return s, nil
}

func withDefaults(c Config) Config {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&c.Refresh, 5 * time.Minute}, {&c.Cooldown, 30 * time.Second}, {&c.MaxAge, time.Hour}, {&c.Timeout, 5 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = DefaultAlgorithms()
	}
	return c
}

// check lists everything that is wrong with the Config.
func (s *Set) check() error {
	var errs []error
	c := s.cfg
	for _, alg := range c.Algorithms {
		if _, known := algorithms[alg]; !known {
			errs = append(errs, fmt.Errorf("algorithm %q is not one of %s", alg, strings.Join(Algorithms(), ", ")))
		}
	}
	for name, d := range map[string]time.Duration{"refresh": c.Refresh, "cooldown": c.Cooldown, "maxAge": c.MaxAge, "timeout": c.Timeout} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s %v is negative", name, d))
		}
	}
	switch {
	case c.JWKSFile != "" && c.JWKSURI != "":
		errs = append(errs, errors.New("both a key set file and a key set URI"))
	case c.JWKSFile != "":
		if _, err := s.readFile(); err != nil {
			errs = append(errs, err)
		}
	case c.JWKSURI != "":
		errs = append(errs, checkURL("key set URI", c.JWKSURI))
	default:
		errs = append(errs, checkURL("issuer", c.Issuer))
	}
	if c.CAFile != "" {
		_, err := readRoots(c.CAFile)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkURL takes https, and http where it cannot leave the machine.
func checkURL(what, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%s %q is not a URL", what, raw)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return fmt.Errorf("%s %q is not an https URL", what, raw)
	}
	return nil
}

// Issuer returns the issuer identifier.
func (s *Set) Issuer() string { return s.cfg.Issuer }

// Ready reports whether keys have come at least once. It never becomes false
// again.
func (s *Set) Ready() bool { return s.current.Load() != nil }

// Age returns how long ago the keys were last confirmed; false where they
// never came.
func (s *Set) Age() (time.Duration, bool) {
	st := s.current.Load()
	if st == nil {
		return 0, false
	}
	return max(s.now().Sub(st.at), 0), true
}

// state returns the set, or a Denial for issuer_unavailable where keys never
// came or are older than they may be.
func (s *Set) state() (*state, error) {
	st := s.current.Load()
	if st == nil {
		return nil, authz.Refuse(authz.IssuerUnavailable, authz.KeysMissing, nil)
	}
	if age := s.now().Sub(st.at); age > s.cfg.MaxAge {
		return nil, authz.Refuse(authz.IssuerUnavailable, authz.KeysStale, fmt.Errorf("keys are %v old", age.Round(time.Second)))
	}
	return st, nil
}

// Holds reports whether a key would still be taken for a token with this
// header. Whoever remembers a verified token asks each time it is used again,
// and verifies it anew where the answer is no.
func (s *Set) Holds(k *Key, h jws.Header) bool {
	st, err := s.state()
	if err != nil {
		return false
	}
	return st.holds(k, h.KeyID, Canonical(h.Algorithm))
}

// Verify checks the signature of a token and returns the key that made it. Its
// errors are Denials for invalid_token or issuer_unavailable, or the context's.
func (s *Set) Verify(ctx context.Context, t *jws.Token) (*Key, error) {
	alg := Canonical(t.Header.Algorithm)
	if !slices.ContainsFunc(s.cfg.Algorithms, func(a string) bool { return Canonical(a) == alg }) {
		return nil, badAlgorithm()
	}
	st, err := s.state()
	if err != nil {
		return nil, err
	}
	fit, known := st.find(t.Header.KeyID, alg)
	if !known {
		if err := s.wait(ctx); err != nil {
			return nil, err
		}
		if st, err = s.state(); err != nil {
			return nil, err
		}
		fit, known = st.find(t.Header.KeyID, alg)
	}
	if len(fit) == 0 {
		if known && t.Header.KeyID != "" {
			return nil, badAlgorithm()
		}
		return nil, authz.Refuse(authz.InvalidToken, authz.UnknownKey, errors.New("no key of the issuer fits"))
	}
	for _, k := range fit {
		if k.verify(alg, t.Input, t.Signature) {
			return k, nil
		}
	}
	return nil, authz.Refuse(authz.InvalidToken, authz.BadSignature, nil)
}

func badAlgorithm() error {
	return authz.Refuse(authz.InvalidToken, authz.BadAlgorithm, errors.New("alg is not one of the issuer's, or not the key's"))
}

// VerifySignature makes a Set a key set of go-oidc (oidc.KeySet).
func (s *Set) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	t, err := jws.Parse(raw)
	if err != nil {
		return nil, err
	}
	if _, err := s.Verify(ctx, t); err != nil {
		return nil, err
	}
	return t.Payload, nil
}
