package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// A verified token is one that its issuer signed and go-oidc accepted. It is
// immutable and holds nothing of the token but its claims.
type verified struct {
	issuer    *issuer
	key       *keys.Key
	header    jws.Header
	subject   *authz.Subject
	audiences []string
	times     times
	weight    uint32    // estimated bytes, for the cache
	until     time.Time // in the cache
}

// verified returns a verified token, from the cache or by verifying it.
func (r *route) verified(ctx context.Context, raw string) (*verified, authz.CacheOutcome, string, error) {
	c := r.v.cache
	var key [sha256.Size]byte
	outcome := authz.CacheOff
	if c != nil {
		outcome = authz.CacheMiss
	}
	if len(raw) > maxCached {
		c = nil
	}
	if c != nil {
		key = c.key(raw)
		// Keys may have changed since: then it is as if nothing was remembered.
		if t, ok := c.get(key, r.v.now()); ok && t.issuer.Keys.Holds(t.key, t.header) {
			return t, authz.CacheHit, t.issuer.Name, nil
		}
	}
	s, name, err := r.screen(raw)
	if err != nil {
		return nil, outcome, name, err
	}
	if c == nil {
		t, err := s.verify(ctx)
		return t, outcome, name, err
	}
	t, err := c.flights.do(ctx, key, func() (*verified, error) {
		t, err := s.verify(ctx)
		if err == nil {
			c.put(key, t, r.v.now())
		}
		return t, err
	})
	return t, outcome, name, err
}

// verify checks the signature, and lets go-oidc judge the whole token.
func (s *screened) verify(ctx context.Context) (*verified, error) {
	conf := s.issuer.oidc
	conf.ClientID = matched(s.audiences, s.issuer.Audiences)
	if std, _ := texts(s.subject.Claims["aud"]); !slices.Contains(std, conf.ClientID) {
		conf.SkipClientIDCheck = true // the audience is in another claim, and was found there
	}
	ks := &keySet{set: s.issuer.Keys, token: s.token}
	_, err := oidc.NewVerifier(s.issuer.URL, ks, &conf).Verify(ctx, s.token.Raw)
	switch {
	case ks.err != nil:
		return nil, ks.err // go-oidc flattens it
	case err != nil:
		return nil, authz.Refuse(authz.InvalidToken, authz.SecondOpinion, err)
	case ks.key == nil:
		return nil, errors.New("go-oidc accepted a token without a signature check")
	}
	t := &verified{
		issuer: s.issuer, key: ks.key, header: s.token.Header, subject: s.subject, audiences: s.audiences, times: s.times,
	}
	t.weigh(len(s.token.Payload))
	return t, nil
}

// A keySet is the issuer's keys as go-oidc sees them, for one token. It keeps
// the key and the error, which go-oidc does not hand on.
type keySet struct {
	set   *keys.Set
	token *jws.Token
	key   *keys.Key
	err   error
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	if raw != k.token.Raw {
		k.err = errors.New("asked about another token")
		return nil, k.err
	}
	k.key, k.err = k.set.Verify(ctx, k.token)
	return k.token.Payload, k.err
}
