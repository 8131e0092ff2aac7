package token

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// An Assumed is who a request comes from where there is no token to verify:
// in a policy test, or in an explanation of claims that are taken as given.
type Assumed struct {
	Subject   *authz.Subject
	Audiences []string
	Revocable bool // whether revocations count

	refusal error // of a token with these claims
}

// ParseClaims reads a JSON object as strictly as the payload of a token: no
// member twice, none that differs from a registered claim in case only.
func ParseClaims(payload []byte) (map[string]any, error) {
	claims, err := parseClaims(payload)
	if err != nil {
		return nil, fmt.Errorf("token: %w", errors.Unwrap(err))
	}
	return claims, nil
}

// Assume returns who a verified token with these claims would speak for; they
// are JSON values. Their iss picks the issuer. Dates are not looked at, and
// claims without an audience are for every audience of the issuer: there is no
// token that could be for somebody else. Claims that no token may have are
// refused like such a token, when it comes to that.
func (v *Verifier) Assume(claims map[string]any) *Assumed {
	a := &Assumed{}
	a.refusal = a.read(v, claims)
	return a
}

func (a *Assumed) read(v *Verifier, claims map[string]any) error {
	i, err := v.namedIssuer(claims)
	if err != nil {
		return err
	}
	if _, there := claims["sub"]; !there {
		return invalid(authz.MissingClaim, "no sub")
	}
	if _, there := claims["cnf"]; there {
		return unsupportedBinding()
	}
	a.Audiences = i.Audiences
	if _, there := first(i.audience, claims); there {
		if a.Audiences, err = i.readAudiences(claims); err != nil {
			return err
		}
	}
	iat, dated := numericDate(claims["iat"], false)
	if a.Subject, err = i.subject(claims, times{iat: iat}); err != nil {
		return err
	}
	if !dated {
		a.Subject.IssuedAt = time.Time{}
	}
	return nil
}

// Assuming returns what [Verifier.Route] returns, but for requests without
// tokens: who is behind a request is what who says, nil for nobody. What the
// route demands of a subject's issuer and audiences holds as ever. It is for
// rehearsals; a server has no use for it.
func (v *Verifier) Assuming(opts RouteOptions, who func(context.Context) *Assumed) authz.Authenticator {
	r := v.Route(opts).(*route)
	return assuming{r, who}
}

type assuming struct {
	*route
	who func(context.Context) *Assumed
}

// Authenticate implements [authz.Authenticator].
func (a assuming) Authenticate(ctx context.Context, req *authz.Request) (*authz.Subject, authz.CacheOutcome, error) {
	given := a.who(ctx)
	if given == nil {
		return a.route.Authenticate(ctx, req)
	}
	// The assumed token is one credential: any other makes two.
	raw, err := a.v.credential(req)
	switch {
	case err != nil:
		return nil, "", err
	case raw != "":
		return nil, "", malformed(authz.TwoCredentials, "a credential beside the one that is assumed")
	case given.refusal != nil:
		return nil, "", given.refusal
	}
	for i, auds := range a.audiences {
		if i.Name != given.Subject.Issuer {
			continue
		}
		if matched(given.Audiences, auds) == "" {
			return nil, "", wrongAudience()
		}
		if given.Revocable {
			if err := a.revoked(ctx, given.Subject); err != nil {
				return nil, "", err
			}
		}
		return given.Subject, "", nil
	}
	return nil, "", invalid(authz.UnknownIssuer, "route does not take the issuer's tokens")
}
