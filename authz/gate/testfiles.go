package gate

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
	"github.com/sallyport-authz/sallyport/authz/token"
)

// A testCase is one request with the answer that it must get.
type testCase struct {
	file     string
	line     int
	name     string
	policy   string // to which the test belongs; empty: to the one that the request reaches
	who      *token.Assumed
	request  *authz.Request
	allow    bool
	reason   authz.Reason // empty: any
	upstream []config.Value
}

// expand returns the files that a name stands for: itself if it exists, else
// what it matches as a pattern of [filepath.Match], sorted.
func expand(name string) []string {
	if _, err := os.Lstat(name); err == nil || !isPattern(name) {
		return []string{name}
	}
	matches, _ := filepath.Glob(name) // a bad pattern matches nothing, and that is reported
	return matches
}

func isPattern(name string) bool { return strings.ContainsAny(name, `*?[`) }

// loadTests reads the tests that policies name.
func (b *build) loadTests() []testCase {
	var all []testCase
	for i := range b.cfg.Policies {
		pc := &b.cfg.Policies[i]
		for _, f := range pc.Tests {
			files := expand(f.Path)
			if len(files) == 0 {
				b.problem(f.Line, f.Key, "%s matches no file", f.Path)
			}
			for _, name := range files {
				all = append(all, b.cases(name, pc.Name)...)
			}
		}
	}
	return all
}

// cases reads one file of tests.
func (b *build) cases(file, policy string) []testCase {
	tests, problems := config.LoadTests(file)
	b.problems = append(b.problems, problems...)
	if tests == nil {
		return nil
	}
	bad := func(line int, key string, err error) {
		b.problems = append(b.problems, config.Problem{File: file, Line: line, Key: key, Message: err.Error()})
	}
	subjects := map[string]*token.Assumed{}
	for i := range tests.Subjects {
		s := &tests.Subjects[i]
		if s.Anonymous || s.Sub == "" || b.tokens == nil && len(b.problems) > 0 {
			continue // nobody, or reported already
		}
		who, err := b.assume(s)
		if err != nil {
			bad(s.Line, s.Key, err)
		}
		subjects[s.Name] = who
	}
	var all []testCase
	for i := range tests.Tests {
		t := &tests.Tests[i]
		source, err := sourceOf(t.With.Source)
		if err != nil {
			bad(t.Line, t.Key+".with.source.address", err)
			continue
		}
		for _, p := range pairs(t) {
			if p.request.Value == "" {
				continue // reported already
			}
			r, err := requestOf(t, p.request.Value)
			if err != nil {
				bad(p.request.Line, p.request.Key, err)
				continue
			}
			r.Source = source
			all = append(all, testCase{
				file: file, line: p.request.Line, name: p.name, policy: policy,
				who: subjects[p.subject.Value], request: extauthz.Imagine(r, b.server.TrustedHops),
				allow: p.allow, reason: authz.Reason(t.Reason.Value), upstream: t.Upstream,
			})
		}
	}
	return all
}

// A pair is one subject with one request.
type pair struct {
	subject, request config.Text
	name             string
	allow            bool
}

// pairs returns what a test asks: one pair, or each of a matrix, of which all
// that it does not allow must be denied.
func pairs(t *config.Test) []pair {
	if !t.Matrix() {
		return []pair{{t.Subject, t.Request, cmp.Or(t.Name, t.Subject.Value+" "+t.Request.Value), t.Expect == "allow"}}
	}
	var all []pair
	for _, s := range t.Subjects {
		for _, r := range t.Requests {
			p := pair{subject: s, request: r, name: s.Value + " " + r.Value}
			if t.Name != "" {
				p.name = t.Name + ": " + p.name
			}
			for _, a := range t.Allow {
				p.allow = p.allow || a.Name == s.Value && slices.ContainsFunc(a.Words, func(w config.Text) bool { return w.Value == r.Value })
			}
			all = append(all, p)
		}
	}
	return all
}

// requestOf returns the request of a test, METHOD URL.
func requestOf(t *config.Test, text string) (*authz.Request, error) {
	method, url, _ := strings.Cut(text, " ")
	r, err := newRequest(method, url, t.Host)
	if err != nil {
		return nil, err
	}
	for _, h := range t.With.Headers {
		for _, w := range h.Words {
			r.Headers = append(r.Headers, authz.Header{Name: strings.ToLower(h.Name), Value: w.Value})
		}
	}
	for _, c := range t.With.Context {
		for _, w := range c.Words {
			if r.Context == nil {
				r.Context = map[string]string{}
			}
			r.Context[c.Name] = w.Value
		}
	}
	if !t.With.Time.IsZero() {
		r.Time = t.With.Time
	}
	return r, nil
}

func sourceOf(s config.TestSource) (authz.Source, error) {
	source := authz.Source{Principal: s.Principal}
	if s.Address == "" {
		return source, nil
	}
	addr, err := netip.ParseAddr(s.Address)
	if err != nil {
		return source, fmt.Errorf("%q is not an IP address", clip(s.Address))
	}
	source.Address = addr
	return source, nil
}

// assume returns the subject of a test.
func (b *build) assume(s *config.TestSubject) (*token.Assumed, error) {
	if b.tokens == nil {
		return nil, errors.New("there are no issuers, so nobody has a token")
	}
	var issuer *config.Issuer
	for i := range b.cfg.Issuers {
		if ic := &b.cfg.Issuers[i]; ic.Name == s.Issuer || s.Issuer == "" && len(b.cfg.Issuers) == 1 {
			issuer = ic
		}
	}
	switch {
	case issuer == nil && s.Issuer == "":
		return nil, errors.New("issuer is required where there are several")
	case issuer == nil:
		return nil, fmt.Errorf("there is no issuer %q", clip(s.Issuer))
	}
	claims := map[string]any{"iss": issuer.Issuer, "sub": s.Sub}
	for name, v := range map[string]string{"client_id": s.Client, "acr": s.ACR} {
		if v != "" {
			claims[name] = v
		}
	}
	for name, list := range map[string][]string{"amr": s.AMR, "aud": s.Audiences} {
		if len(list) > 0 {
			claims[name] = anys(list)
		}
	}
	if len(s.Scopes) > 0 {
		claims["scope"] = strings.Join(s.Scopes, " ")
	}
	if !s.AuthTime.IsZero() {
		claims["auth_time"] = s.AuthTime.Unix()
	}
	for name, v := range s.Claims {
		if _, twice := claims[name]; twice {
			return nil, fmt.Errorf("claims.%s contradicts what the subject says beside claims", name)
		}
		claims[name] = v
	}
	who := b.tokens.verifier.Assume(claims)
	if who.Subject == nil {
		return who, nil // refused, as its token would be
	}
	// Where this issuer puts roles, scopes and tenant is its own affair: a
	// test says what they are.
	sub := *who.Subject
	sub.Roles = union(sub.Roles, s.Roles)
	sub.Scopes = union(sub.Scopes, s.Scopes)
	sub.Tenant = cmp.Or(s.Tenant, sub.Tenant)
	sub.Client = cmp.Or(s.Client, sub.Client)
	who.Subject = &sub
	if len(s.Audiences) > 0 {
		who.Audiences = s.Audiences
	}
	return who, nil
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// union appends to a copy of list what it lacks.
func union(list, more []string) []string {
	list = slices.Clone(list)
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
