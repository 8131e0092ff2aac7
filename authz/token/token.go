// Package token turns the bearer credential of a request into a subject.
//
// A [Verifier] reads exactly one credential from the configured places, does
// the cheap checks (form, issuer, type, algorithm, claims, times, audience)
// before it looks for a key, then the signature, and asks go-oidc for a second
// opinion on the whole: nothing is accepted that go-oidc refuses at a clock set
// back by the leeway. The [authz.Subject] it returns carries verified claims
// only. Verified tokens may be remembered; what can change in the meantime is
// checked again on each request, so that a cache changes no answer.
//
// Only JWTs count, in the form of RFC 9068 unless an issuer opts for plain ones.
// A token that is bound to a key or certificate (cnf) is refused, because
// nothing here can check the binding yet. Whether a subject may do something is
// not decided here.
//
// Each file has one subject: credential.go finds the credential, screen.go has
// the order of the cheap checks, claims.go, times.go and audience.go have the
// checks themselves, verify.go the signature, cache.go what is remembered,
// scope.go and stepup.go the duties of routes, challenge.go what a refused
// caller is told. The form of a token is package jws, the keys package keys,
// what was revoked package revocation.
package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

const (
	maxLeeway       = time.Minute
	defaultLifetime = 24 * time.Hour
)

// An Issuer is an authorization server whose access tokens are believed. Name,
// URL, Audiences and Keys are required; empty lists and a zero MaxLifetime mean
// the default.
type Issuer struct {
	Name           string        // in subject ids
	URL            string        // what iss must be, byte for byte
	Audiences      []string      // of which aud must name one
	Algorithms     []string      // default: RS256, PS256, ES256, EdDSA
	Types          []string      // typ header values; JWT also means none. Default: at+jwt
	AcceptIDTokens bool          // take JWT-typed tokens with nonce or at_hash: ID tokens pass as access tokens
	Leeway         time.Duration // for clocks that differ, at most a minute
	MaxLifetime    time.Duration // exp - iat. Default: 24h
	Claims         Claims
	Keys           *keys.Set
}

// Claims says where an issuer puts things. A name as a whole is tried before
// its dots are walked; a name that begins with a slash is a JSON Pointer.
type Claims struct {
	Roles    []string // all are collected. Default: roles
	Scopes   []string // all are collected. Default: scope, scp
	Tenant   []string // the first that is there. Default: none
	Client   []string // the first that is there. Default: client_id, azp
	Audience []string // the first that is there. Default: aud
}

// Revocations says which verified tokens are not believed any more.
// An error refuses the request: who cannot be asked cannot say no.
type Revocations interface {
	Revoked(ctx context.Context, sub *authz.Subject) (bool, error)
}

// A Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	issuers     map[string]*issuer // by URL
	sources     []source
	cache       *cache // nil: off
	revocations Revocations
	now         func() time.Time
	observe     func(issuer, result string)
}

// An Option tunes a Verifier. No option can switch a check off.
type Option func(*Verifier)

// WithCache remembers verified tokens: at most so many, in so many bytes, for
// at most ttl. Zero entries switch it off, which is also the default.
func WithCache(entries int, bytes int64, ttl time.Duration) Option {
	return func(v *Verifier) { v.cache = newCache(entries, bytes, ttl) }
}

// WithRevocations asks r about each verified token. Default: nothing is
// revoked.
func WithRevocations(r Revocations) Option { return func(v *Verifier) { v.revocations = r } }

// WithClock sets the clock. Default: time.Now.
func WithClock(now func() time.Time) Option { return func(v *Verifier) { v.now = now } }

// WithObserver is told the result of each validation: "ok", or the detail or
// reason of the refusal. issuer is a configured name, or empty where the token
// named none of them. It must not block.
func WithObserver(observe func(issuer, result string)) Option {
	return func(v *Verifier) { v.observe = observe }
}

// New returns a Verifier for tokens of these issuers. Without credentials, a
// token may be in the authorization header with scheme Bearer, and nowhere
// else.
func New(issuers []Issuer, creds []Credential, opts ...Option) (*Verifier, error) {
	v := &Verifier{
		issuers: make(map[string]*issuer, len(issuers)),
		now:     time.Now, observe: func(string, string) {},
	}
	for _, opt := range opts {
		opt(v)
	}
	var errs []error
	names := map[string]bool{}
	for _, cfg := range issuers {
		i, err := newIssuer(cfg, v.now)
		errs = append(errs, err)
		if names[cfg.Name] || v.issuers[cfg.URL] != nil {
			errs = append(errs, fmt.Errorf("issuer %q: name or URL is there twice", cfg.Name))
		}
		names[cfg.Name] = true
		v.issuers[cfg.URL] = i
	}
	sources, err := newSources(creds)
	v.sources, errs = sources, append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return v, nil
}

// CredentialHeaders returns the names of the headers that carry credentials,
// lower case and sorted.
func (v *Verifier) CredentialHeaders() []string {
	var names []string
	for _, s := range v.sources {
		names = append(names, s.header)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// RouteOptions narrow the tokens that a route takes.
type RouteOptions struct {
	Optional  bool     // no credential makes the subject anonymous
	Issuers   []string // names. Default: all
	Audiences []string // default: each issuer's
}

// Route returns the Authenticator of a route.
func (v *Verifier) Route(opts RouteOptions) authz.Authenticator {
	r := &route{v: v, optional: opts.Optional, audiences: make(map[*issuer][]string, len(v.issuers))}
	for _, i := range v.issuers {
		if len(opts.Issuers) > 0 && !slices.Contains(opts.Issuers, i.Name) {
			continue
		}
		auds := i.Audiences
		if len(opts.Audiences) > 0 {
			auds = slices.DeleteFunc(slices.Clone(auds), func(a string) bool { return !slices.Contains(opts.Audiences, a) })
		}
		r.audiences[i] = auds
	}
	return r
}

// A route authenticates the requests of one route.
type route struct {
	v         *Verifier
	optional  bool
	audiences map[*issuer][]string // of the issuers that the route takes
}

// Authenticate implements [authz.Authenticator].
func (r *route) Authenticate(ctx context.Context, req *authz.Request) (*authz.Subject, authz.CacheOutcome, error) {
	raw, err := r.v.credential(req)
	if err != nil {
		return nil, "", err
	}
	if raw == "" {
		if r.optional {
			return authz.Nobody, "", nil
		}
		return nil, "", authz.Refuse(authz.NoCredential, "", nil)
	}
	t, outcome, issuer, err := r.verified(ctx, raw)
	if err == nil {
		err = r.hold(ctx, t)
	}
	r.v.observe(issuer, result(err))
	if err != nil {
		return nil, outcome, err
	}
	return t.subject, outcome, nil
}

// result is the metric label for an outcome.
func result(err error) string {
	if err == nil {
		return "ok"
	}
	if d := authz.DetailOf(err); d != "" {
		return string(d)
	}
	return string(authz.ReasonOf(err))
}

// hold checks what may change while a token is remembered, and what one route
// asks and another does not.
func (r *route) hold(ctx context.Context, t *verified) error {
	auds, taken := r.audiences[t.issuer]
	if !taken {
		return invalid(authz.UnknownIssuer, "route does not take the issuer's tokens")
	}
	if err := t.times.check(r.v.now(), t.issuer.Leeway); err != nil {
		return err
	}
	if matched(t.audiences, auds) == "" {
		return wrongAudience()
	}
	return r.revoked(ctx, t.subject)
}

// revoked refuses a subject whose token, session or self was revoked.
func (r *route) revoked(ctx context.Context, sub *authz.Subject) error {
	if r.v.revocations == nil {
		return nil
	}
	revoked, err := r.v.revocations.Revoked(ctx, sub)
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	if revoked {
		return invalid(authz.Revoked, "token, session or subject was revoked")
	}
	return nil
}

// invalid returns a refusal. The message holds no part of the token.
func invalid(detail authz.Detail, message string) error {
	return authz.Refuse(authz.InvalidToken, detail, errors.New(message))
}
