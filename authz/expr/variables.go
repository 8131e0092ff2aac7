package expr

import (
	"time"

	"cel.dev/cel-go/cel"

	"github.com/sallyport-authz/sallyport/authz"
)

// A Variable is something that an expression can see.
type Variable struct {
	Name    string // as an expression writes it: subject.tenant
	Type    string // in CEL's notation: list(string)
	Doc     string // one line
	Enforce bool   // whether it is known in enforce
}

// Variables returns all that expressions can see, in the order of the
// documentation.
func Variables() []Variable {
	var vs []Variable
	for _, o := range objects {
		for _, f := range o.fields {
			vs = append(vs, Variable{o.name + "." + f.name, cel.FormatCELType(f.typ), f.doc, o != decisionType})
		}
	}
	return append(vs, Variable{"context", "map(string, string)", "Envoy's context extensions", true})
}

// objectCount is a constant of its own so that Scope can hold an array.
const objectCount = 5

// objects are the variables that have members. The variable context is a map.
// Each stands at this place in Scope.objects.
var objects = [objectCount]*objectType{subjectType, requestType, sourceType, routeType, decisionType}

var (
	texts    = cel.ListType(cel.StringType)
	textMap  = cel.MapType(cel.StringType, cel.StringType)
	textsMap = cel.MapType(cel.StringType, texts)
)

// A field is one member of an object. get reports false where it is unknown.
type field struct {
	name string
	typ  *cel.Type
	doc  string
	get  func(*Scope) (any, bool)

	missing *Missing // the error of all requests where it is unknown
}

var subjectType = newObjectType("subject",
	field{name: "id", typ: cel.StringType, doc: "who the token speaks for: user:ISSUER/SUB, client:ISSUER/CLIENT_ID or anonymous",
		get: func(s *Scope) (any, bool) { return known(s.subject.ID) }},
	field{name: "kind", typ: cel.StringType, doc: "user, client or anonymous",
		get: func(s *Scope) (any, bool) { return known(string(s.subject.Kind)) }},
	field{name: "issuer", typ: cel.StringType, doc: "the configured name of the token's issuer",
		get: func(s *Scope) (any, bool) { return known(s.subject.Issuer) }},
	field{name: "sub", typ: cel.StringType, doc: "the token's subject, as its issuer names it",
		get: func(s *Scope) (any, bool) { return known(s.subject.Sub) }},
	field{name: "client", typ: cel.StringType, doc: "the OAuth client that the token was issued to",
		get: func(s *Scope) (any, bool) { return known(s.subject.Client) }},
	field{name: "roles", typ: texts, doc: "roles that the token grants, as bare names",
		get: func(s *Scope) (any, bool) { return s.subject.Roles, true }},
	field{name: "scopes", typ: texts, doc: "scopes of the token",
		get: func(s *Scope) (any, bool) { return s.subject.Scopes, true }},
	field{name: "tenant", typ: cel.StringType, doc: "tenant that the token names",
		get: func(s *Scope) (any, bool) { return known(s.subject.Tenant) }},
	field{name: "acr", typ: cel.StringType, doc: "authentication context class of the login",
		get: func(s *Scope) (any, bool) { return known(s.subject.ACR) }},
	field{name: "amr", typ: texts, doc: "methods of the login",
		get: func(s *Scope) (any, bool) { return s.subject.AMR, true }},
	field{name: "authTime", typ: cel.TimestampType, doc: "when the user logged in",
		get: func(s *Scope) (any, bool) { return moment(s.subject.AuthTime) }},
	field{name: "claims", typ: cel.MapType(cel.StringType, cel.DynType), doc: "all verified claims of the token",
		get: func(s *Scope) (any, bool) { return s.subject.Claims, true }},
)

var requestType = newObjectType("request",
	field{name: "method", typ: cel.StringType, doc: "HTTP method, as it came",
		get: func(s *Scope) (any, bool) { return known(clean(s.request.Method)) }},
	field{name: "host", typ: cel.StringType, doc: "host in lower case, without port and final dot",
		get: func(s *Scope) (any, bool) { return known(clean(s.request.Host)) }},
	field{name: "path", typ: cel.StringType, doc: "canonical path, without query",
		get: func(s *Scope) (any, bool) { return known(clean(s.request.Path)) }},
	field{name: "query", typ: textsMap, doc: "query parameters, decoded, each with all its values in order",
		get: func(s *Scope) (any, bool) { return s.queryMap() }},
	field{name: "params", typ: textMap, doc: "what the {...} of the route's pattern matched, decoded",
		get: func(s *Scope) (any, bool) { return s.paramMap(), true }},
	field{name: "headers", typ: textsMap, doc: "headers by lower-case name, an element for each as Envoy gave it, without credentials",
		get: func(s *Scope) (any, bool) { return s.headerMap(), true }},
	field{name: "scheme", typ: cel.StringType, doc: "http or https, as Envoy set it",
		get: func(s *Scope) (any, bool) { return known(clean(s.request.Scheme)) }},
	field{name: "id", typ: cel.StringType, doc: "x-request-id, else Envoy's id of the stream",
		get: func(s *Scope) (any, bool) { return known(clean(s.request.ID)) }},
	field{name: "time", typ: cel.TimestampType, doc: "when Envoy saw the request",
		get: func(s *Scope) (any, bool) { return moment(s.request.Time) }},
)

var sourceType = newObjectType("source",
	field{name: "address", typ: cel.StringType, doc: "IP address of the caller, behind the trusted hops",
		get: func(s *Scope) (any, bool) {
			if a := s.request.Source.Address; a.IsValid() {
				return a.Unmap().WithZone("").String(), true
			}
			return nil, false
		}},
	field{name: "principal", typ: cel.StringType, doc: "the TLS peer that Envoy verified, for example a SPIFFE ID",
		get: func(s *Scope) (any, bool) { return known(clean(s.request.Source.Principal)) }},
)

var routeType = newObjectType("route",
	field{name: "name", typ: cel.StringType, doc: "name of the route",
		get: func(s *Scope) (any, bool) { return known(s.route) }},
)

var decisionType = newObjectType("decision",
	field{name: "id", typ: cel.StringType, doc: "id of the decision",
		get: decided((*authz.Decision).ID)},
	field{name: "reason", typ: cel.StringType, doc: "why the request was refused, or allowed",
		get: decided(func(d *authz.Decision) string { return string(d.Reason()) })},
	field{name: "policy", typ: cel.StringType, doc: "name of the route's policy",
		get: decided((*authz.Decision).Policy)},
	field{name: "revision", typ: cel.StringType, doc: "revision of the policy",
		get: decided((*authz.Decision).Revision)},
	field{name: "rule", typ: cel.StringType, doc: "file and line of the rule that decided",
		get: decided(func(d *authz.Decision) string { return d.Rule().String() })},
)

// known returns text that is missing where it is empty.
func known(s string) (any, bool) { return s, s != "" }

// moment returns a time as UTC, so that its text does not depend on where we
// run.
func moment(t time.Time) (any, bool) { return t.UTC(), !t.IsZero() }

func decided(get func(*authz.Decision) string) func(*Scope) (any, bool) {
	return func(s *Scope) (any, bool) {
		if s.decision == nil {
			return nil, false
		}
		return known(get(s.decision))
	}
}
