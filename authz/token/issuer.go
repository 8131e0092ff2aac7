package token

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

const (
	typeAccess = "at+jwt" // RFC 9068 section 2.1
	typeJWT    = "jwt"    // also: no typ at all
)

// foreignTypes belong to other kinds of JWT, which must never pass for access
// tokens (RFC 8725 section 3.11).
var foreignTypes = []string{
	"logout+jwt", "dpop+jwt", "secevent+jwt", "token-introspection+jwt", "statuslist+jwt",
	"oauth-authz-req+jwt", "client-authentication+jwt", "id+jwt",
}

// An issuer is an Issuer with defaults, checked and compiled.
type issuer struct {
	Issuer
	roles, scopes, tenant, client, audience []path

	// oidc is the configuration of go-oidc but for the audience, which differs
	// from token to token. Its clock is set back by the leeway, so that it is
	// never stricter than we are; its nbf check has a leeway of five minutes.
	oidc oidc.Config
}

func newIssuer(cfg Issuer, now func() time.Time) (*issuer, error) {
	i := &issuer{Issuer: cfg}
	if len(i.Algorithms) == 0 {
		i.Algorithms = keys.DefaultAlgorithms()
	}
	i.Types = slices.Clone(i.Types)
	if len(i.Types) == 0 {
		i.Types = []string{typeAccess}
	}
	for n, t := range i.Types {
		i.Types[n] = mediaType(t)
	}
	if i.MaxLifetime == 0 {
		i.MaxLifetime = defaultLifetime
	}
	i.compile()
	i.oidc = oidc.Config{
		SupportedSigningAlgs: bothNames(i.Algorithms),
		Now:                  func() time.Time { return now().Add(-i.Leeway) },
	}
	if err := i.check(); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", cfg.Name, err)
	}
	return i, nil
}

func (i *issuer) compile() {
	for _, c := range []struct {
		names, standard []string
		paths           *[]path
	}{
		{i.Claims.Roles, []string{"roles"}, &i.roles},
		{i.Claims.Scopes, []string{"scope", "scp"}, &i.scopes},
		{i.Claims.Tenant, nil, &i.tenant},
		{i.Claims.Client, []string{"client_id", "azp"}, &i.client},
		{i.Claims.Audience, []string{"aud"}, &i.audience},
	} {
		names := c.names
		if len(names) == 0 {
			names = c.standard
		}
		for _, name := range names {
			*c.paths = append(*c.paths, newPath(name))
		}
	}
}

func (i *issuer) check() error {
	var errs []error
	if i.Name == "" || i.URL == "" {
		errs = append(errs, errors.New("name and URL are required"))
	}
	if i.Keys == nil {
		errs = append(errs, errors.New("keys are required"))
	}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		errs = append(errs, errors.New("at least one audience is required, and none may be empty: a token for somebody else would do"))
	}
	for _, alg := range i.Algorithms {
		if !slices.Contains(keys.Algorithms(), alg) {
			errs = append(errs, fmt.Errorf("algorithm %q is not one of %s", alg, strings.Join(keys.Algorithms(), ", ")))
		}
	}
	for _, t := range i.Types {
		if slices.Contains(foreignTypes, t) {
			errs = append(errs, fmt.Errorf("type %q is not for access tokens", t))
		}
	}
	if i.Leeway < 0 || i.Leeway > maxLeeway {
		errs = append(errs, fmt.Errorf("leeway %v is not between 0 and %v", i.Leeway, maxLeeway))
	}
	if i.MaxLifetime < 0 {
		errs = append(errs, fmt.Errorf("maximal lifetime %v is negative", i.MaxLifetime))
	}
	return errors.Join(errs...)
}

// bothNames adds the other name of EdDSA over curve 25519 (RFC 9864).
func bothNames(algs []string) []string {
	algs = slices.Clone(algs)
	if slices.Contains(algs, "EdDSA") || slices.Contains(algs, "Ed25519") {
		algs = append(algs, "EdDSA", "Ed25519")
	}
	slices.Sort(algs)
	return slices.Compact(algs)
}

// mediaType returns a typ value as it is compared: in lower case, without
// "application/" (RFC 7515 section 4.1.9). No typ means JWT.
func mediaType(typ string) string {
	if typ == "" {
		return typeJWT
	}
	typ = strings.ToLower(typ)
	if rest := strings.TrimPrefix(typ, "application/"); !strings.Contains(rest, "/") {
		return rest
	}
	return typ
}
