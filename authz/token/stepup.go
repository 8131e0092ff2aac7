package token

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// clockSkew is how far an issuer's clock may be ahead of ours in auth_time.
// Without it a login of this second would be asked to log in again.
const clockSkew = 10 * time.Second

// stepUp is the duty to have authenticated well and lately (RFC 9470).
type stepUp struct {
	acr    []string
	maxAge time.Duration
	now    func() time.Time
}

// StepUp returns the condition that the subject authenticated in one of these
// classes, where there are any, and at most maxAge ago, where that is not
// zero. Both are frozen at login: iat is renewed with each refresh and says
// nothing. A class or a time that is unknown does not satisfy. A nil clock is
// time.Now.
func StepUp(acr []string, maxAge time.Duration, clock func() time.Time) authz.Condition {
	if clock == nil {
		clock = time.Now
	}
	return &stepUp{acr: slices.Clone(acr), maxAge: maxAge, now: clock}
}

// Hold implements [authz.Condition].
func (s *stepUp) Hold(_ context.Context, _ *authz.Request, sub *authz.Subject) error {
	if len(s.acr) == 0 && s.maxAge == 0 {
		return nil
	}
	if sub.Kind == authz.Anonymous {
		return authz.Refuse(authz.NoCredential, "", errors.New("route needs an authentication"))
	}
	if len(s.acr) > 0 && (sub.ACR == "" || !slices.Contains(s.acr, sub.ACR)) {
		return authz.Refuse(authz.StepUpRequired, authz.WeakAuthn, errors.New("acr is none of the route's"))
	}
	if s.maxAge == 0 {
		return nil
	}
	if sub.AuthTime.IsZero() {
		return authz.Refuse(authz.StepUpRequired, authz.OldAuthentication, errors.New("auth_time is unknown"))
	}
	if age := s.now().Sub(sub.AuthTime); age > s.maxAge || age < -clockSkew {
		return authz.Refuse(authz.StepUpRequired, authz.OldAuthentication, errors.New("auth_time is too long ago, or in the future"))
	}
	return nil
}
