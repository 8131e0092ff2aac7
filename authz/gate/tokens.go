package gate

import (
	"fmt"

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
		if b.missing(ic.JWKSFile, ic.CA) {
			continue
		}
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
			if !b.complained(ic.Key) {
				b.problem(ic.Line, ic.Key, "%v", err)
			}
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
	list := &revocation.List{}
	if f := b.cfg.Revocations.File; f.Path != "" && !b.missing(f) {
		var problems []revocation.Problem
		list, problems = revocation.Load(f.Path, names)
		for _, p := range problems {
			b.problems = append(b.problems, config.Problem{File: f.Path, Line: p.Line, Message: p.Message})
		}
	}
	if len(b.problems) > 0 {
		return // what is wrong with an issuer is listed already
	}
	id := fmt.Sprintf("%+v %+v %+v %+v", b.keys, b.cfg.Issuers, b.cfg.Credentials, b.cfg.Cache)
	if p.tokens != nil && p.tokens.id == id {
		b.tokens = &tokens{id: id, verifier: p.tokens.verifier, live: p.tokens.live, list: list}
		return
	}
	var creds []token.Credential
	for _, c := range b.cfg.Credentials {
		creds = append(creds, token.Credential{Header: c.Header, Scheme: c.Scheme, Cookie: c.Cookie})
	}
	t := &tokens{id: id, live: new(revocation.Live), list: list}
	t.live.Store(list)
	opts := []token.Option{
		token.WithCache(b.cfg.Cache.Tokens, b.cfg.Cache.Bytes, b.cfg.Cache.TTL),
		token.WithRevocations(t.live),
	}
	if p.observe != nil {
		opts = append(opts, token.WithObserver(p.observe))
	}
	var err error
	if t.verifier, err = token.New(issuers, creds, opts...); err != nil {
		b.problem(b.cfg.Line("issuers"), "issuers", "%v", err)
		return
	}
	b.tokens = t
}

// tokens are the verifier of a generation, what it was made from, and what is
// revoked. A generation whose issuers, credentials and cache are those of the
// one before keeps its verifier, and with it the tokens that were verified.
type tokens struct {
	id       string
	verifier *token.Verifier
	live     *revocation.Live
	list     *revocation.List // goes live with its generation
}
