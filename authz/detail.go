package authz

// A Detail is the finer cause of a refusal, for operators only: it stands in
// spans, logs and audit records, never in an answer. The set is closed.
type Detail string

// Details of malformed_request.
const (
	BadPath    Detail = "bad_path"    // a path with two readings, or none
	BadHost    Detail = "bad_host"    // a host that is not one name or address with an optional port
	BadHeader  Detail = "bad_header"  // a header that shadows one of ours, or names it in connection
	BadMessage Detail = "bad_message" // a CheckRequest that Envoy does not send
)

// Details of malformed_credential.
const (
	TwoCredentials    Detail = "two_credentials"
	NotToken68        Detail = "not_token68"         // the scheme and anything but one token
	CredentialTooLong Detail = "credential_too_long" // over 16 KiB
	QueryCredential   Detail = "query_credential"    // access_token in the query
)

// Details of invalid_token, in the order in which they are looked for.
const (
	MalformedToken     Detail = "malformed_token"     // not a compact JWS in canonical form around strict JSON
	DuplicateMember    Detail = "duplicate_member"    // a member twice, or in two cases
	BadTokenHeader     Detail = "bad_token_header"    // a header member that is not allowed, or no string
	UnknownIssuer      Detail = "unknown_issuer"      // iss is none of the route's issuers
	WrongType          Detail = "wrong_type"          // typ is not one of the issuer's
	BadAlgorithm       Detail = "bad_algorithm"       // alg is not the issuer's, or not the key's
	MissingClaim       Detail = "missing_claim"       // a claim that this type must have
	BadClaim           Detail = "bad_claim"           // a claim of the wrong type or form
	NotAccessToken     Detail = "not_access_token"    // claims that mark another kind of token
	UnsupportedBinding Detail = "unsupported_binding" // cnf, of which nothing is understood
	Expired            Detail = "expired"
	NotYetValid        Detail = "not_yet_valid"
	IssuedInFuture     Detail = "issued_in_future"
	LifetimeTooLong    Detail = "lifetime_too_long"
	WrongAudience      Detail = "wrong_audience"
	UnknownKey         Detail = "unknown_key"
	BadSignature       Detail = "bad_signature"
	SecondOpinion      Detail = "second_opinion" // our checks passed and the OIDC library refused
	Revoked            Detail = "revoked"
)

// Details of issuer_unavailable.
const (
	KeysMissing Detail = "keys_missing" // the issuer's keys never came
	KeysStale   Detail = "keys_stale"   // and are older than they may be
)

// Details of insufficient_scope and step_up_required.
const (
	MissingScope      Detail = "missing_scope"
	WeakAuthn         Detail = "weak_authentication" // acr is none of those the route asks for
	OldAuthentication Detail = "old_authentication"  // auth_time is too old, or unknown
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
	TooManyRoles     Detail = "too_many_roles"   // more roles in the token than a policy looks at
	MissingAttribute Detail = "missing_attribute"
)

// Details of internal, deadline and overloaded.
const (
	Panicked      Detail = "panicked"
	Undeliverable Detail = "undeliverable" // the answer is too large for Envoy
	Canceled      Detail = "canceled"      // the caller hung up
	TimedOut      Detail = "timed_out"
	InFlight      Detail = "in_flight" // more checks in flight than allowed
)

// Details of audit_unavailable; timed_out is one too.
const (
	WriteFailed Detail = "write_failed" // the record cannot be made durable
	QueueFull   Detail = "queue_full"   // more records wait than the queue holds
	LogClosed   Detail = "log_closed"   // the process is going away
)
