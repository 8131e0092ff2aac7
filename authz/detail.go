package authz

// A Detail is the finer cause of a refusal, for operators only: it stands in
// spans, logs and audit records, never in an answer. The set is closed.
type Detail string

// Details of malformed_request.
const (
	BadPath         Detail = "bad_path"         // a path with two readings, or none
	BadHost         Detail = "bad_host"         // a host that is not one name or address with an optional port
	BadHeader       Detail = "bad_header"       // a header that shadows one of ours, or names it in connection
	BadMessage      Detail = "bad_message"      // a CheckRequest that Envoy does not send
	QueryCredential Detail = "query_credential" // access_token in the query
)

// Details of no_route.
const (
	UnknownRoute   Detail = "unknown_route"  // the context extension names no route
	RouteMismatch  Detail = "route_mismatch" // the route Envoy chose does not have this method and path
	NothingMatched Detail = "nothing_matched"
)

// Details of not_permitted and attribute_missing.
const (
	NoRuleMatched    Detail = "no_rule_matched"
	DeniedByRule     Detail = "denied_by_rule"
	RuleUnevaluable  Detail = "rule_unevaluable" // a rule that denies could not be evaluated
	NoRules          Detail = "no_rules"         // a policy without rules whose matcher reads them
	MissingAttribute Detail = "missing_attribute"
)

// Details of internal, deadline and overloaded.
const (
	Panicked Detail = "panicked"
	Canceled Detail = "canceled" // the caller hung up
	TimedOut Detail = "timed_out"
	InFlight Detail = "in_flight" // more checks in flight than allowed
)
