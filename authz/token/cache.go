package token

import (
	"crypto/rand"
	"crypto/sha256"
	mathrand "math/rand/v2"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	maxCached     = 4 << 10   // bytes of a token; Envoy's own JWT cache has the same limit
	defaultBytes  = 128 << 20 // of a cache that names no size
	defaultTTL    = 5 * time.Minute
	entryOverhead = 1024 // bytes of an entry beside its claims: its nodes in cache and policy, subject, strings' headers
	valueOverhead = 64   // bytes of one claim, list element or member: its slot in a map that is half full
)

// A cache remembers verified tokens. It belongs to one Verifier, so that
// nothing survives a change of configuration.
//
// Only authentication is remembered, and only successes: revocation, times, the
// presence of the key in the current set and what a route asks are checked on
// every hit, and what comes after authentication runs as ever. A clock that
// steps is noticed by the same checks.
type cache struct {
	salt    [sha256.Size]byte
	entries *otter.Cache[cacheKey, *verified]
	flights flights
	least   uint32 // weight of the smallest entry, which bounds their number
	ttl     time.Duration
}

// A cacheKey is a digest of the whole token under a key of this cache's own:
// two tokens never share one, no claim or kid takes part, and a memory dump
// does not tell which tokens were seen.
type cacheKey = [sha256.Size]byte

func newCache(entries int, bytes int64, ttl time.Duration) *cache {
	if entries <= 0 {
		return nil
	}
	if bytes <= 0 {
		bytes = defaultBytes
	}
	if ttl <= 0 {
		ttl = defaultTTL
	}
	c := &cache{ttl: ttl, least: uint32(min(max(bytes/int64(entries), 1), 1<<31))} // bounded just here
	_, _ = rand.Read(c.salt[:])                                                    // never fails
	c.entries = otter.Must(&otter.Options[cacheKey, *verified]{
		MaximumWeight: uint64(bytes),
		Weigher:       func(_ cacheKey, t *verified) uint32 { return max(t.weight, c.least) },
	})
	return c
}

// key returns the digest of a token no longer than maxCached.
func (c *cache) key(raw string) cacheKey {
	var buf [sha256.Size + maxCached]byte
	n := copy(buf[:], c.salt[:])
	n += copy(buf[n:], raw)
	return sha256.Sum256(buf[:n])
}

// get returns what is remembered of a token. What has had its time stays until
// its room is needed: expiry by our own clock needs no goroutine.
func (c *cache) get(key cacheKey, now time.Time) (*verified, bool) {
	t, ok := c.entries.GetIfPresent(key)
	return t, ok && now.Before(t.until)
}

// put remembers a token for the cache's ttl, less up to a tenth so that tokens
// that came together do not leave together, and not beyond its own end.
func (c *cache) put(key cacheKey, t *verified, now time.Time) {
	t.until = now.Add(c.ttl - mathrand.N(c.ttl/10+1)) //nolint:gosec // jitter, nothing secret
	if end := time.Unix(t.times.exp, 0).Add(t.issuer.Leeway); end.Before(t.until) {
		t.until = end
	}
	c.entries.Set(key, t)
}

// weigh estimates the memory of a verified token from above. Strings of the
// claims share the payload's memory.
func (t *verified) weigh(payload int) {
	n := entryOverhead + payload + weighValue(t.subject.Claims)
	n += 16 * (len(t.audiences) + len(t.subject.Roles) + len(t.subject.Scopes) + len(t.subject.AMR))
	t.weight = uint32(n) //nolint:gosec // a payload has at most 16 KiB
}

func weighValue(v any) int {
	n := valueOverhead
	switch v := v.(type) {
	case map[string]any:
		n += 512 // a map of up to eight members has one group of slots
		for _, e := range v {
			n += weighValue(e)
		}
	case []any:
		for _, e := range v {
			n += weighValue(e)
		}
	}
	return n
}
