package token

import (
	"slices"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// A screened token has passed every check that needs no key. Nothing in it is
// verified.
type screened struct {
	token     *jws.Token
	issuer    *issuer
	subject   *authz.Subject
	audiences []string
	times     times
}

// screen does the checks that need no key, cheap ones first. The name of the
// issuer is returned as soon as it is known, also beside an error.
func (r *route) screen(raw string) (s *screened, issuerName string, err error) {
	t, err := jws.Parse(raw)
	if err != nil {
		return nil, "", err
	}
	claims, err := parseClaims(t.Payload)
	if err != nil {
		return nil, "", err
	}
	i, err := r.issuer(claims)
	if err != nil {
		return nil, "", err
	}
	s = &screened{token: t, issuer: i}
	if err := s.check(claims); err != nil {
		return nil, i.Name, err
	}
	if err := s.times.check(r.v.now(), i.Leeway); err != nil {
		return nil, i.Name, err
	}
	if matched(s.audiences, r.audiences[i]) == "" {
		return nil, i.Name, wrongAudience()
	}
	return s, i.Name, nil
}

// issuer returns the issuer that a token names. It must be one of the route's,
// byte for byte; a stranger's name leads to no connection.
func (r *route) issuer(claims map[string]any) (*issuer, error) {
	i, err := r.v.namedIssuer(claims)
	if err != nil {
		return nil, err
	}
	if _, taken := r.audiences[i]; !taken {
		return nil, invalid(authz.UnknownIssuer, "route does not take the issuer's tokens")
	}
	return i, nil
}

// namedIssuer returns the issuer that claims name, whatever the route.
func (v *Verifier) namedIssuer(claims map[string]any) (*issuer, error) {
	iss, there := claims["iss"]
	if !there {
		return nil, invalid(authz.MissingClaim, "no iss")
	}
	url, ok := iss.(string)
	if !ok {
		return nil, invalid(authz.BadClaim, "iss is not a string")
	}
	i := v.issuers[url]
	if i == nil {
		return nil, invalid(authz.UnknownIssuer, "iss is not a configured issuer")
	}
	return i, nil
}

// check does what is the same for every route.
func (s *screened) check(claims map[string]any) error {
	i, header := s.issuer, s.token.Header
	if !slices.ContainsFunc(i.Algorithms, func(a string) bool { return keys.Canonical(a) == keys.Canonical(header.Algorithm) }) {
		return invalid(authz.BadAlgorithm, "alg is not one of the issuer's")
	}
	typ := mediaType(header.Type)
	if !slices.Contains(i.Types, typ) {
		return invalid(authz.WrongType, "typ is not one of the issuer's")
	}
	err := i.checkKind(typ, claims)
	if err != nil {
		return err
	}
	if s.times, err = readTimes(claims, i.MaxLifetime); err != nil {
		return err
	}
	if s.audiences, err = i.readAudiences(claims); err != nil {
		return err
	}
	s.subject, err = i.subject(claims, s.times)
	return err
}
