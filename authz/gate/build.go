package gate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/expr"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
	"github.com/sallyport-authz/sallyport/authz/route"
)

// A generation is one configuration with its policies and checks. It is
// immutable; a decision uses exactly one.
type generation struct {
	cfg      *config.Config
	pipeline *authz.Pipeline
	policies map[string]*policyOf
	keys     []issuerKeys
	tokens   *tokens
	audit    *auditLog

	router    authz.Router
	hidden    []string        // headers that carry credentials
	rehearsal *authz.Pipeline // takes callers at their word, see rehearse.go
	tests     []testCase      // that its policies name
}

// A build turns one configuration into a generation. It goes on after a
// mistake, so that all are listed at once.
type build struct {
	cfg      *config.Config
	server   *config.Server // as it was at the start
	problems config.Problems
	warnings config.Problems

	env      *expr.Env
	policies map[string]*policyOf
	keys     []issuerKeys
	tokens   *tokens // nil: no issuers

	audit *auditLog
	seen  fingerprint // of the files, from before all but the configuration was read
	gen   *generation // what came of it; nil where there are problems
}

// problem reports a mistake, unless there is one about this key already.
func (b *build) problem(line int, key, format string, args ...any) {
	p := b.cfg.Problem(line, key, format, args...)
	if !slices.ContainsFunc(b.problems, func(q config.Problem) bool { return q.File == p.File && q.Line == p.Line && q.Key == p.Key }) {
		b.problems = append(b.problems, p)
	}
}

// complained reports whether something within a key is wrong already.
func (b *build) complained(key string) bool {
	return slices.ContainsFunc(b.problems, func(p config.Problem) bool { return p.Key == key || strings.HasPrefix(p.Key, key+".") })
}

// parts are what a build takes from outside: what outlives a generation.
type parts struct {
	ring     *keyring
	recorder authz.Recorder
	archive  archive
	options  []authz.Option
	policies map[string]*policyOf // of the generation before
	tokens   *tokens              // likewise
	observe  func(issuer, result string)
	server   *config.Server // as it was at the start; nil: this is the start
}

// load reads the configuration and builds its generation, without network. The
// generation is nil where there are problems.
func load(path string, p parts) *build {
	before := digest([]string{path})
	cfg, problems := config.Load(path)
	b := &build{cfg: cfg, problems: problems, seen: before}
	if cfg == nil {
		return b
	}
	if b.seen = digest(cfg.Files()); digest([]string{path}) != before {
		b.seen = fingerprint{} // it changed while it was read, and is read again
	}
	b.server = cmp.Or(p.server, &cfg.Server)
	b.loadPolicies(p.policies)
	b.loadTokens(p)
	var err error
	if b.env, err = expr.New(b.hidden()...); err != nil {
		b.problem(0, "", "expressions: %v", err)
	} else {
		b.assemble(p)
	}
	b.problems.Sort()
	b.warnings.Sort()
	if len(b.problems) > 0 {
		b.gen = nil
	}
	return b
}

// assemble makes the generation of what was loaded.
func (b *build) assemble(p parts) {
	specs, owned := b.routes()
	router := b.router(specs, owned)
	tests := b.loadTests()
	if b.loadAudit(p.archive); len(b.problems) > 0 {
		return
	}
	opts := append(slices.Clone(p.options), authz.WithOwned(owned), authz.WithAudit(b.audit), authz.WithDeliverable(extauthz.Deliverable))
	pipeline, err := authz.New(router, p.recorder, opts...)
	if err != nil {
		b.problem(0, "", "%v", err)
	}
	rehearsal, err := b.rehearse(specs, owned)
	if err != nil {
		b.problem(0, "", "%v", err)
	}
	b.gen = &generation{
		cfg: b.cfg, pipeline: pipeline, router: router, hidden: b.hidden(), policies: b.policies, keys: b.keys, tokens: b.tokens, audit: b.audit,
		rehearsal: rehearsal, tests: tests,
	}
}

// files returns what to watch, but for a configuration that cannot be read.
func (b *build) files() []string {
	if b.cfg == nil {
		return nil
	}
	return b.cfg.Files()
}

// hidden returns the names of the headers that carry credentials, which
// expressions must not see.
func (b *build) hidden() []string {
	var names []string
	for _, c := range b.cfg.Credentials {
		if c.Header != "" {
			names = append(names, c.Header)
		} else {
			names = append(names, "cookie")
		}
	}
	return names
}

// routes compiles every route and returns them, with the names of the headers
// that the configuration owns.
func (b *build) routes() (specs []route.Spec, owned []string) {
	specs = make([]route.Spec, len(b.cfg.Routes))
	for i := range b.cfg.Routes {
		rc := &b.cfg.Routes[i]
		specs[i] = route.Spec{
			Name:             rc.Name,
			Hosts:            texts(rc.Hosts),
			Match:            texts(rc.Match),
			KeepEscapedSlash: rc.Paths.EscapedSlash == config.PathKeep,
			KeepSemicolon:    rc.Paths.Semicolon == config.PathKeep,
			Route:            b.route(rc),
		}
	}
	return specs, b.owned()
}

// router returns what finds the route of a request, or nil where routes
// contradict each other.
func (b *build) router(specs []route.Spec, owned []string) authz.Router {
	variants := make(preflights)
	for i := range specs {
		if b.cfg.Routes[i].Preflight {
			variants.add(specs[i].Route)
		}
	}
	table, problems := route.New(specs, route.Guard{Owned: owned, Credentials: b.hidden()})
	for _, p := range problems {
		rc := &b.cfg.Routes[p.Route]
		key := rc.Key
		if p.Key != "" {
			key += "." + p.Key
		}
		b.problem(b.cfg.Line(key), key, "%v", p.Err)
	}
	if table == nil {
		return nil
	}
	if len(variants) == 0 {
		return table
	}
	return preflightRouter{table, variants}
}

// owned returns the request headers that any route sets, sorted, but for
// authorization and cookie: a client may send those.
func (b *build) owned() []string {
	var names []string
	folded := map[string]string{}
	for i := range b.cfg.Routes {
		for _, e := range b.cfg.Routes[i].OnAllow.RequestHeaders.Set {
			if e.Name == "authorization" || e.Name == "cookie" {
				continue
			}
			names = append(names, e.Name)
			other := folded[fold(e.Name)]
			if other != "" && other != e.Name {
				b.problem(e.Expr.Line, e.Expr.Key, "%q and %q are one header to servers that read - as _: a request with either would be refused", e.Name, other)
			}
			folded[fold(e.Name)] = e.Name
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	b.warnAppended(names)
	return names
}

func fold(name string) string { return strings.ReplaceAll(name, "_", "-") }

// warnAppended warns of headers that are only ever appended: those are not
// owned, and the client's own value stays in front.
func (b *build) warnAppended(owned []string) {
	for i := range b.cfg.Routes {
		for _, e := range b.cfg.Routes[i].OnAllow.RequestHeaders.Append {
			if !slices.Contains(owned, e.Name) {
				b.warnings = append(b.warnings, b.cfg.Problem(e.Expr.Line, e.Expr.Key,
					"a client's own %s stays in front of what is appended: use set if the upstream must not believe it", e.Name))
			}
		}
	}
}

func texts(ts []config.Text) []string {
	out := make([]string, len(ts))
	for i, t := range ts {
		out[i] = t.Value
	}
	return out
}

// compile compiles one expression, and reports where it stands if it cannot.
func (b *build) compile(t config.Text, use expr.Use, want expr.Type) *expr.Program {
	p, err := b.env.Compile(t.Value, use, want)
	if err != nil {
		b.problem(t.Line, t.Key, "%v", err)
		return nil
	}
	return p
}

func (b *build) compileAll(entries []config.Entry, want expr.Type) []named {
	var out []named
	for _, e := range entries {
		if p := b.compile(e.Expr, expr.Answer, want); p != nil {
			out = append(out, named{e.Name, p})
		}
	}
	return out
}

// String says what a configuration comes to.
func (g *generation) String() string {
	return fmt.Sprintf("%d issuers, %d policies, %d routes", len(g.cfg.Issuers), len(g.policies), len(g.cfg.Routes))
}
