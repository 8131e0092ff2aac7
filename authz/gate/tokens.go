package gate

import (
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/token"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
	"github.com/sallyport-authz/sallyport/authz/token/revocation"
)

// loadTokens makes the verifier that all routes share, with the key sets of
// its issuers. A configuration without issuers has none: all of its routes say
// token: none.
func (b *build) loadTokens(p parts) {
	var issuers []token.Issuer
	var names []string
	for i := range b.cfg.Issuers {
		ic := &b.cfg.Issuers[i]
		id, set, err := p.ring.get(ic.Name, keys.Config{
			Issuer:     ic.Issuer,
			JWKSURI:    ic.JWKSURI,
			JWKSFile:   ic.JWKSFile.Path,
			Algorithms: ic.Algorithms,
			CAFile:     ic.CA.Path,
			Refresh:    ic.Keys.Refresh,
			Cooldown:   ic.Keys.Cooldown,
			MaxAge:     ic.Keys.MaxAge,
			Timeout:    ic.Keys.Timeout,
		})
		if err != nil {
			b.problem(ic.Line, ic.Key, "%v", err)
			continue
		}
		b.keys = append(b.keys, issuerKeys{name: ic.Name, id: id, set: set, required: ic.Required})
		names = append(names, ic.Name)
		issuers = append(issuers, token.Issuer{
			Name:           ic.Name,
			URL:            ic.Issuer,
			Audiences:      ic.Audiences,
			Algorithms:     ic.Algorithms,
			Types:          ic.Types,
			AcceptIDTokens: ic.AcceptIDTokens,
			Leeway:         ic.Leeway,
			MaxLifetime:    ic.MaxLifetime,
			Claims: token.Claims{
				Roles:    ic.Claims.Roles,
				Scopes:   ic.Claims.Scopes,
				Tenant:   ic.Claims.Tenant,
				Client:   ic.Claims.Client,
				Audience: ic.Claims.Audience,
			},
			Keys: set,
		})
	}
	if len(issuers) == 0 {
		return
	}
	var creds []token.Credential
	for _, c := range b.cfg.Credentials {
		creds = append(creds, token.Credential{Header: c.Header, Scheme: c.Scheme, Cookie: c.Cookie})
	}
	opts := []token.Option{token.WithCache(b.cfg.Cache.Tokens, b.cfg.Cache.Bytes, b.cfg.Cache.TTL)}
	if p.observe != nil {
		opts = append(opts, token.WithObserver(p.observe))
	}
	if f := b.cfg.Revocations.File; f.Path != "" {
		list, problems := revocation.Load(f.Path, names)
		for _, p := range problems {
			b.problems = append(b.problems, config.Problem{File: f.Path, Line: p.Line, Message: p.Message})
		}
		opts = append(opts, token.WithRevocations(list))
	}
	if len(b.problems) > 0 {
		return // what is wrong with an issuer is listed already
	}
	verifier, err := token.New(issuers, creds, opts...)
	if err != nil {
		b.problem(b.cfg.Line("issuers"), "issuers", "%v", err)
		return
	}
	b.verifier = verifier
}
