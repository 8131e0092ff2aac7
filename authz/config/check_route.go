package config

import (
	"regexp"
	"slices"
	"strings"
)

func (k *checker) routes() {
	names := map[string]string{}
	for i := range k.c.Routes {
		r := &k.c.Routes[i]
		if k.d.broken[r.Key] {
			continue
		}
		k.routeName(r, names)
		k.decider(r)
		k.sections(r)
		k.tokens(r)
		k.answers(r)
		if r.OnError == "" {
			r.OnError = k.c.Server.OnError
		}
	}
}

// routeName fills in and checks the name of a route.
func (k *checker) routeName(r *Route, names map[string]string) {
	nameKey, matchKey := r.Key+".name", r.Key+".match"
	if len(r.Match) == 0 {
		if r.Name == "" && !k.d.broken[nameKey] {
			k.bad(matchKey, "is required, or a name by which Envoy chooses the route")
		}
		if len(r.Hosts) > 0 && !k.d.broken[matchKey] {
			k.bad(r.Key+".hosts", "has no effect without match")
		}
	}
	first := ""
	if len(r.Match) > 0 {
		first = r.Match[0].Value
	}
	switch {
	case r.Name == "":
		r.Name = first
	case r.Name != first: // a default may be written out
		k.name(nameKey, r.Name)
	}
	if r.Name == "" {
		return
	}
	if other, twice := names[r.Name]; twice {
		k.bad(nameKey, "%s is the name of %s already", quote(r.Name), other)
		return
	}
	names[r.Name] = r.Key
}

// decider checks that a route has a policy or allows without one.
func (k *checker) decider(r *Route) {
	key := r.Key + ".policy"
	switch {
	case r.Allow && r.Policy.Value != "":
		k.bad(r.Key+".allow", "contradicts policy: keep one of them")
	case !r.Allow && r.Policy.Value == "":
		if !k.d.broken[r.Key+".allow"] {
			k.bad(key, "is required, or allow: true in its place")
		}
	case r.Policy.Value != "" && !k.d.broken["policies"]:
		if !slices.Contains(k.policyNames, r.Policy.Value) {
			k.bad(key, "there is no policy %s%s", quote(r.Policy.Value), k.d.didYouMean(r.Policy.Value, k.policyNames))
		}
	}
	if r.Allow && len(r.Enforce) > 0 {
		k.bad(r.Key+".enforce", "has no effect without a policy")
	}
}

// scopeToken is a scope (RFC 6749, section 3.3); acr values stand in
// challenges the same way (RFC 9470, section 3).
var scopeToken = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]+$`)

// tokens checks which tokens a route takes.
func (k *checker) tokens(r *Route) {
	if r.Token == TokenNone {
		for _, key := range []string{"issuers", "audiences", "scopes", "stepUp"} {
			if k.given(r.Key + "." + key) {
				k.bad(r.Key+"."+key, "has no effect with token: none")
			}
		}
		return
	}
	k.routeIssuers(r)
	for i, s := range r.Scopes {
		if !scopeToken.MatchString(s) {
			k.bad(k.item(r.Key+".scopes", i), "%s is not a scope", quote(s))
		}
	}
	if up := r.StepUp; up != nil {
		key := r.Key + ".stepUp"
		if !k.given(key+".acr") && !k.given(key+".maxAge") {
			k.bad(key, "must have acr or maxAge")
		}
		for i, s := range up.ACR {
			if !scopeToken.MatchString(s) {
				k.bad(k.item(key+".acr", i), `%s may hold printable ASCII only, without spaces, " and \`, quote(s))
			}
		}
	}
}

// routeIssuers checks the issuers and audiences of a route, and fills in all
// issuers where it names none.
func (k *checker) routeIssuers(r *Route) {
	if k.d.broken["issuers"] {
		return
	}
	if len(k.c.Issuers) == 0 {
		k.bad("issuers", "is required, unless every route says token: none")
		return
	}
	sure := true // that audiences holds all of them
	var audiences []string
	for _, is := range k.c.Issuers {
		if len(r.Audiences) > 0 && (len(r.Issuers) == 0 || slices.Contains(r.Issuers, is.Name)) {
			audiences = append(audiences, is.Audiences...)
			sure = sure && len(is.Audiences) > 0
		}
	}
	for i, name := range r.Issuers {
		if !slices.Contains(k.issuerNames, name) {
			sure = false
			if !slices.Contains(k.issuerNames, "") { // an issuer without a name has its problem already
				k.bad(k.item(r.Key+".issuers", i), "there is no issuer %s%s", quote(name), k.d.didYouMean(name, k.issuerNames))
			}
		}
	}
	for i, a := range r.Audiences {
		if sure && !slices.Contains(audiences, a) {
			k.bad(k.item(r.Key+".audiences", i), "%s is not an audience of the route's issuers%s", quote(a), k.d.didYouMean(a, audiences))
		}
	}
	if len(r.Issuers) == 0 && !k.d.broken[r.Key+".issuers"] {
		r.Issuers = k.issuerNames
	}
}

// answers checks what the answers of a route carry.
func (k *checker) answers(r *Route) {
	if r.ResourceMetadata != "" {
		if msg := wrongURL(r.ResourceMetadata, true); msg != "" {
			k.bad(r.Key+".resourceMetadata", "%s", msg)
		}
	}
	allow := r.Key + ".onAllow"
	h := &r.OnAllow.RequestHeaders
	set := k.headers(h.Set)
	added := k.headers(h.Append)
	k.headers(r.OnAllow.ResponseHeaders.Set)
	k.headers(r.OnDeny.ResponseHeaders.Set)
	for i, name := range h.Remove {
		h.Remove[i] = strings.ToLower(name)
		key := k.item(allow+".requestHeaders.remove", i)
		k.header(key, name)
		if line := max(set[h.Remove[i]], added[h.Remove[i]]); line > 0 {
			k.bad(key, "%s is set on line %d", quote(name), line)
		}
	}
	params := map[string]int{}
	for _, e := range r.OnAllow.Query.Set {
		k.parameter(e.Expr.Key, e.Name)
		params[e.Name] = e.Expr.Line
	}
	for i, name := range r.OnAllow.Query.Remove {
		key := k.item(allow+".query.remove", i)
		k.parameter(key, name)
		if params[name] > 0 {
			k.bad(key, "%s is set on line %d", quote(name), params[name])
		}
	}
	for _, e := range r.OnAllow.Metadata {
		if slices.Contains(ownMetadata, e.Name) {
			k.bad(e.Expr.Key, "every answer has a field of that name already")
		}
	}
}

// ownMetadata are the fields of dynamic metadata that every answer has.
var ownMetadata = []string{"decision_id", "reason", "route", "policy", "revision", "subject"}

// headers checks the names of headers, writes them in lower case, and returns
// the line of each.
func (k *checker) headers(entries []Entry) map[string]int {
	seen := map[string]int{}
	for i := range entries {
		e := &entries[i]
		k.header(e.Expr.Key, e.Name)
		e.Name = strings.ToLower(e.Name)
		if slices.Contains([]string{"keep-alive", "proxy-connection", "te", "upgrade"}, e.Name) {
			k.bad(e.Expr.Key, "%s is about the connection: an answer can only remove it", quote(e.Name))
		}
		if seen[e.Name] > 0 {
			k.bad(e.Expr.Key, "%s is given twice, first on line %d", quote(e.Name), seen[e.Name])
			continue
		}
		seen[e.Name] = e.Expr.Line
	}
	return seen
}

// header complains about a header that an answer cannot change: Envoy refuses
// those, or they frame the message.
func (k *checker) header(key, name string) {
	lower := strings.ToLower(name)
	switch {
	case strings.HasPrefix(name, ":"):
		k.bad(key, "%s is a pseudo-header, which no answer can change", quote(name))
	case !tokenSyntax.MatchString(name):
		k.bad(key, "%s is not the name of a header", quote(name))
	case slices.Contains([]string{"host", "content-length", "transfer-encoding", "connection"}, lower):
		k.bad(key, "%s belongs to the connection: no answer can change it", quote(name))
	case strings.HasPrefix(lower, "x-envoy-"):
		k.bad(key, "%s is Envoy's own: no answer can change it", quote(name))
	}
}

var parameter = regexp.MustCompile(`^[A-Za-z0-9*\-._]+$`)

// parameter complains about the name of a query parameter that would have to
// be escaped.
func (k *checker) parameter(key, name string) {
	if !parameter.MatchString(name) {
		k.bad(key, "%s may hold letters, digits and *-._ only", quote(name))
	}
}
