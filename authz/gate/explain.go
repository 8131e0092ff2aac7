package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
	"github.com/sallyport-authz/sallyport/authz/token"
	"github.com/sallyport-authz/sallyport/policy"
)

// keyWait is how long an explanation waits for the keys of an issuer.
const keyWait = 10 * time.Second

// A Question is a request to explain. Claims are the JSON payload of a token
// that is taken as verified; Token is one that is to be verified. With neither
// the request comes as its headers say.
type Question struct {
	Method, URL string
	Headers     []string // NAME:VALUE
	Claims      []byte
	Token       string
}

// An Explanation is one decision, step by step. What a step before refused was
// not looked at, and is empty.
type Explanation struct {
	Decision   string          `json:"decision"`         // allow or deny
	Shadow     bool            `json:"shadow,omitempty"` // it was let pass all the same
	Reason     authz.Reason    `json:"reason"`
	Detail     authz.Detail    `json:"detail"`
	Cause      string          `json:"cause,omitempty"` // what really happened
	Route      string          `json:"route"`
	Policy     string          `json:"policy"`
	Revision   string          `json:"revision"`
	Rule       string          `json:"rule"` // FILE:LINE
	RuleText   string          `json:"rule_text,omitempty"`
	Subject    *ExplainedParty `json:"subject,omitempty"`
	Arguments  []Argument      `json:"arguments,omitempty"`
	Roles      []string        `json:"roles,omitempty"` // of the subject, by rules and token
	NearMisses []NearMiss      `json:"near_misses,omitempty"`
	Incomplete bool            `json:"near_misses_incomplete,omitempty"` // not every rule was looked at for them
	Request    Asked           `json:"request"`
	Response   json.RawMessage `json:"response"`         // the CheckResponse that Envoy would get; null for a recorded decision
	Record     *Recorded       `json:"record,omitempty"` // of a recorded decision
}

// An ExplainedParty is the subject of an explanation.
type ExplainedParty struct {
	ID     string   `json:"id"`
	Roles  []string `json:"roles,omitempty"`
	Scopes []string `json:"scopes,omitempty"`
	Tenant string   `json:"tenant,omitempty"`
}

// An Argument is one field of the request definition, as Casbin gets it.
type Argument struct {
	Field      string `json:"field"`
	Expression string `json:"expression"`
	Value      any    `json:"value"`
}

// A NearMiss is a rule that came near to allowing.
type NearMiss struct {
	Rule   string   `json:"rule"`
	Text   string   `json:"text"`
	Failed []string `json:"failed"`
}

// Asked is the request as it was read. Values of credentials are masked.
type Asked struct {
	Method  string              `json:"method"`
	Scheme  string              `json:"scheme"`
	Host    string              `json:"host"`
	Path    string              `json:"path"` // canonical; as it came where that could not be read
	Query   string              `json:"query,omitempty"`
	Params  map[string]string   `json:"params,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"`
}

// Explain decides one request by the configuration at path and says why. It
// fetches keys only where there is a token to verify. Its error is of type
// [config.Problems] where something does not load.
func Explain(ctx context.Context, path string, q Question) (*Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*keyWait)
	ring := newKeyring(ctx)
	defer ring.wait.Wait()
	defer cancel()
	b := load(path, parts{ring: ring, recorder: discard{}})
	if b.gen == nil {
		return nil, b.problems
	}
	r, err := newRequest(q.Method, q.URL, "")
	if err != nil {
		return nil, err
	}
	if r.Headers, err = headerLines(q.Headers); err != nil {
		return nil, err
	}
	gen, pipeline := b.gen, b.gen.pipeline
	switch {
	case q.Claims != nil:
		who, err := gen.taken(q.Claims)
		if err != nil {
			return nil, err
		}
		ctx, pipeline = as(ctx, who), gen.rehearsal
	case q.Token != "":
		r.Headers = append(r.Headers, credential(b.cfg.Credentials[0], q.Token))
	}
	r = extauthz.Imagine(r, b.server.TrustedHops)
	asked := *r
	d := pipeline.Decide(ctx, r)
	if d.Reason() == authz.IssuerUnavailable {
		ring.keep(gen.keys)
		for end := time.Now().Add(keyWait); d.Reason() == authz.IssuerUnavailable && time.Now().Before(end) && ctx.Err() == nil; {
			time.Sleep(50 * time.Millisecond)
			*r = asked
			d = pipeline.Decide(ctx, r)
		}
	}
	return gen.account(r, &d)
}

// headerLines reads headers as people write them.
func headerLines(lines []string) ([]authz.Header, error) {
	var headers []authz.Header
	for i, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.ToLower(strings.TrimSpace(name)); !ok || name == "" {
			return nil, fmt.Errorf("header %d is not NAME:VALUE", i+1) // it may be a secret
		}
		headers = append(headers, authz.Header{Name: name, Value: strings.TrimSpace(value)})
	}
	return headers, nil
}

// taken returns who claims stand for, by this generation's issuers.
func (g *generation) taken(payload []byte) (*token.Assumed, error) {
	claims, err := token.ParseClaims(payload)
	if err != nil {
		return nil, err
	}
	if g.tokens == nil {
		return nil, fmt.Errorf("the configuration has no issuers, so no claims are believed")
	}
	who := g.tokens.verifier.Assume(claims)
	who.Revocable = true
	return who, nil
}

// credential puts a token where a place for it is.
func credential(c config.Credential, raw string) authz.Header {
	switch {
	case c.Cookie != "":
		return authz.Header{Name: "cookie", Value: c.Cookie + "=" + raw}
	case c.Scheme != "":
		return authz.Header{Name: c.Header, Value: c.Scheme + " " + raw}
	}
	return authz.Header{Name: c.Header, Value: raw}
}

// question returns which policy was asked about a request, and what; nil where
// none was.
func (g *generation) question(r *authz.Request, d *authz.Decision) (*enforcer, policy.Query) {
	if d.Subject() == nil || !d.Allowed() && d.Reason() != authz.NotPermitted {
		return nil, policy.Query{}
	}
	again := *r
	route, err := g.router.Route(&again)
	if err != nil {
		return nil, policy.Query{}
	}
	enf, ok := route.Authorizer.(*enforcer)
	if !ok {
		return nil, policy.Query{}
	}
	q, err := enf.query(&again, d.Subject())
	if err != nil {
		return nil, policy.Query{}
	}
	return enf, q
}

// account writes the explanation of a decision.
func (g *generation) account(r *authz.Request, d *authz.Decision) (*Explanation, error) {
	x := &Explanation{
		Decision: "deny", Reason: d.Reason(), Detail: d.Detail(), Route: d.Route(), Policy: d.Policy(), Revision: d.Revision(),
		Rule: d.Rule().String(), Shadow: d.Shadow(), Request: asked(r, g.hidden),
	}
	if d.Allowed() {
		x.Decision = "allow"
	}
	if err := d.Err(); err != nil {
		x.Cause = err.Error()
	}
	if s := d.Subject(); s != nil {
		x.Subject = &ExplainedParty{s.ID, s.Roles, s.Scopes, s.Tenant}
	}
	if enf, q := g.question(r, d); enf != nil {
		for i, a := range enf.args {
			x.Arguments = append(x.Arguments, Argument{a.field, a.text, q.Args[i]})
		}
		why := enf.policy.Explain(&q)
		x.RuleText, x.Roles, x.Incomplete = why.Text, why.Roles, why.Cut
		for _, m := range why.Misses {
			x.NearMisses = append(x.NearMisses, NearMiss{m.Rule.String(), m.Text, m.Failed})
		}
	}
	var err error
	x.Response, err = extauthz.RenderJSON(r, d)
	if err != nil {
		return nil, fmt.Errorf("the answer cannot be delivered, and Envoy would get 503 internal: %w", err)
	}
	return x, nil
}

// masked hides a token in a query, where none belongs (RFC 6750 section 2.3).
func masked(query string) string {
	pairs := strings.Split(query, "&")
	for i, p := range pairs {
		name, _, _ := strings.Cut(p, "=")
		if plain, err := url.QueryUnescape(name); err != nil || strings.EqualFold(plain, "access_token") {
			pairs[i] = name + "=***"
		}
	}
	return strings.Join(pairs, "&")
}

// asked is a request for people to read.
func asked(r *authz.Request, hidden []string) Asked {
	a := Asked{Method: r.Method, Scheme: r.Scheme, Host: r.Host, Path: r.Path, Query: masked(r.Query)}
	if a.Host == "" {
		a.Host = r.Authority
	}
	if a.Path == "" {
		path, query, _ := strings.Cut(r.Target, "?")
		a.Path, a.Query = path, masked(query)
	}
	for _, p := range r.Params {
		if a.Params == nil {
			a.Params = map[string]string{}
		}
		a.Params[p.Name] = p.Value
	}
	for _, h := range r.Headers {
		if a.Headers == nil {
			a.Headers = map[string][]string{}
		}
		v := h.Value
		if h.Name == "authorization" || h.Name == "cookie" || slices.Contains(hidden, h.Name) {
			v = "***"
		}
		a.Headers[h.Name] = append(a.Headers[h.Name], v)
	}
	return a
}
