package token

import (
	"context"
	"errors"
	"slices"

	"github.com/sallyport-authz/sallyport/authz"
)

// scopes is the duty to have every one of some scopes.
type scopes []string

// Scopes returns the condition that a token has all of these scopes, compared
// byte for byte. Who brought no token is asked for one.
func Scopes(required []string) authz.Condition { return scopes(slices.Clone(required)) }

// Hold implements [authz.Condition].
func (s scopes) Hold(_ context.Context, _ *authz.Request, sub *authz.Subject) error {
	if sub.Kind == authz.Anonymous && len(s) > 0 {
		return authz.Refuse(authz.NoCredential, "", errors.New("route needs scopes"))
	}
	for _, scope := range s {
		if !slices.Contains(sub.Scopes, scope) {
			return authz.Refuse(authz.InsufficientScope, authz.MissingScope, errors.New("token lacks a scope of the route"))
		}
	}
	return nil
}
