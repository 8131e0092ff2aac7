package token

import (
	"math"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// times are the dates of a token, in Unix seconds. nbf is zero where absent.
type times struct {
	exp, nbf, iat int64
}

// numericDate reads a date (RFC 7519 section 2): a number, not before 1970 and
// not so large that it loses its seconds. up rounds a fraction up.
func numericDate(v any, up bool) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, n > 0 && n < 1<<53
	case float64:
		if up {
			n = math.Ceil(n)
		}
		n = math.Floor(n)
		return int64(n), n > 0 && n < 1<<53
	}
	return 0, false
}

// readTimes reads the dates and what they say about each other. Fractions are
// rounded so that a token lives shorter, never longer.
func readTimes(claims map[string]any, maxLifetime time.Duration) (times, error) {
	var t times
	for _, date := range []struct {
		name string
		up   bool
		into *int64
	}{{"exp", false, &t.exp}, {"iat", false, &t.iat}, {"nbf", true, &t.nbf}} {
		v, there := claims[date.name]
		if !there {
			continue // of a token without exp or iat checkKind says so
		}
		n, ok := numericDate(v, date.up)
		if !ok {
			return t, invalid(authz.BadClaim, date.name+" is not a numeric date")
		}
		*date.into = n
	}
	if t.exp <= t.nbf {
		return t, invalid(authz.BadClaim, "exp is not after nbf")
	}
	if t.exp-t.iat > int64(maxLifetime/time.Second) {
		return t, invalid(authz.LifetimeTooLong, "exp is too far from iat")
	}
	return t, nil
}

// check compares the dates with the clock. A token is expired at the second
// that exp names (RFC 7519 section 4.1.4).
func (t times) check(now time.Time, leeway time.Duration) error {
	if !now.Before(time.Unix(t.exp, 0).Add(leeway)) {
		return invalid(authz.Expired, "token has expired")
	}
	latest := now.Add(leeway)
	if latest.Before(time.Unix(t.nbf, 0)) {
		return invalid(authz.NotYetValid, "token is not valid yet")
	}
	if latest.Before(time.Unix(t.iat, 0)) {
		return invalid(authz.IssuedInFuture, "token was issued in the future")
	}
	return nil
}
