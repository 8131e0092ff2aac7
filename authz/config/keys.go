package config

import "time"

// The keys of the file are the fields below: a new key is one field. Its
// comment is its documentation, in the schema too, and its tags are
//
//	yaml      the key; "-" is none
//	default   the default, written as YAML
//	enum      the words that it may be, or its items
//	min, max  bounds of a number or a duration, both included
//	check     required, nonempty (a list), positive (a duration or a size),
//	          keyed (a mapping whose keys become the Name of the elements)
//
// An int64 is a size in bytes. A pointer is a section that may be absent.
// What takes more than one field to judge stands in check*.go.

// Words that keys take.
const (
	TokenRequired = "required" // no token, no answer but 401
	TokenOptional = "optional" // a token that is there must be valid
	TokenNone     = "none"     // nothing is looked at

	OnErrorDeny  = "deny"
	OnErrorEnvoy = "envoy"

	PathRefuse = "refuse"
	PathKeep   = "keep"

	SubjectHash = "hash"
	SubjectID   = "id"
	SubjectNone = "none"

	ModeEnforce = "enforce"
	ModeShadow  = "shadow" // decides and records, but lets pass

	AuditAsync    = "async"
	AuditRequired = "required" // no answer leaves before its record is durable

	AuditStdout = "stdout" // in place of a path
	AuditNone   = "none"
)

// A Config is one checked configuration with every default filled in. It is
// never changed after [Parse] and safe for concurrent use.
type Config struct {
	// Version of this file's grammar. There is only 1.
	Version int `yaml:"version" default:"1" min:"1" max:"1"`
	// Server is the process itself. It is read at the start only: a change needs a restart.
	Server Server `yaml:"server"`
	// Issuers are the authorization servers whose access tokens are believed. Needed unless every route says token: none.
	Issuers []Issuer `yaml:"issuers"`
	// Credentials are the places where a token may be. A request may hold one credential only.
	Credentials []Credential `yaml:"credentials" default:"[{header: authorization, scheme: Bearer}]" check:"nonempty"`
	// Revocations names tokens, sessions and subjects that are refused before they expire.
	Revocations Revocations `yaml:"revocations"`
	// Policies are the Casbin policies that routes name, by name, in the order of the file.
	Policies []Policy `yaml:"policies" check:"keyed"`
	// Routes say which policy and which duties apply to a request. What no route covers is refused.
	Routes []Route `yaml:"routes" check:"required,nonempty"`
	// Audit is the record of every decision and every change.
	Audit Audit `yaml:"audit"`
	// Cache holds verified tokens, never decisions.
	Cache Cache `yaml:"cache"`
	// Telemetry says what spans tell about people. Exporters, sampling and resource come from the standard OTEL_* environment. Read at the start only.
	Telemetry Telemetry `yaml:"telemetry"`

	// File is the configuration file as it was named to Load or Parse.
	File string `yaml:"-"`
	// Revision is a hash of the file's content.
	Revision string `yaml:"-"`

	lines map[string]int // line of each key that the file has
}

// A Server is the process itself.
type Server struct {
	// GRPC is the listener that Envoy asks.
	GRPC GRPC `yaml:"grpc"`
	// Admin is the listener for health, metrics and version.
	Admin Admin `yaml:"admin"`
	// Deadline is our own limit per check, whatever the client allows.
	Deadline time.Duration `yaml:"deadline" default:"150ms" check:"positive"`
	// OnError says who answers where no decision could be made: deny refuses with 503, envoy leaves it to Envoy's failure_mode_allow.
	OnError string `yaml:"onError" default:"deny" enum:"deny,envoy"`
	// Drain is how long checks in flight may take after SIGTERM.
	Drain time.Duration `yaml:"drain" default:"10s" check:"positive"`
	// Realm stands in challenges. Printable ASCII without quotes and backslashes.
	Realm string `yaml:"realm" default:"sallyport"`
	// TrustedHops is how many of the rightmost x-forwarded-for entries our own proxies added.
	TrustedHops int `yaml:"trustedHops" default:"0" min:"0" max:"16"`
}

// A GRPC is the listener that Envoy asks.
type GRPC struct {
	// Listen is HOST:PORT, or unix:///ABS/PATH for a socket. Port 0 picks one.
	Listen string `yaml:"listen" default:"127.0.0.1:9191"`
	// Plaintext true is needed for an address that is not loopback without tls.
	Plaintext bool `yaml:"plaintext" default:"false"`
	// TLS switches TLS on. Default: none.
	TLS *TLS `yaml:"tls"`
	// MaxInFlight is how many checks may run at once; more are answered 503 overloaded.
	MaxInFlight int `yaml:"maxInFlight" default:"4096" min:"1"`
	// Reflection switches gRPC server reflection on.
	Reflection bool `yaml:"reflection" default:"false"`
}

// A TLS is the server's side of TLS. Its files are read again when they change.
type TLS struct {
	// Certificate is a PEM file: the server's certificate and its chain.
	Certificate File `yaml:"certificate" check:"required"`
	// Key is a PEM file: the private key of the certificate.
	Key File `yaml:"key" check:"required"`
	// ClientCA is a PEM file: client certificates are demanded and verified against it. Default: none is demanded.
	ClientCA File `yaml:"clientCA"`
	// ClientNames are the URI or DNS names of which the client certificate must have one. Default: any that clientCA signed.
	ClientNames []string `yaml:"clientNames" check:"nonempty"`
}

// An Admin is the listener for health, metrics and version.
type Admin struct {
	// Listen is HOST:PORT, or unix:///ABS/PATH for a socket. Port 0 picks one.
	Listen string `yaml:"listen" default:"127.0.0.1:9192"`
	// Plaintext true is needed for an address that is not loopback.
	Plaintext bool `yaml:"plaintext" default:"false"`
}

// An Issuer is an authorization server whose access tokens are believed.
type Issuer struct {
	Place
	// Name stands in subject ids, logs and metrics. Default: the host of the issuer's URL, without port.
	Name string `yaml:"name"`
	// Issuer is the URL that tokens carry as iss, to the letter. Discovery starts there, unless jwksURI or jwksFile is given.
	Issuer string `yaml:"issuer" check:"required"`
	// JWKSURI is where the keys are. Default: from discovery.
	JWKSURI string `yaml:"jwksURI"`
	// JWKSFile is a file with the keys, in place of any network. Default: none.
	JWKSFile File `yaml:"jwksFile"`
	// Audiences are the values of which a token's audience must have one.
	Audiences []string `yaml:"audiences" check:"required,nonempty"`
	// Algorithms are the signature algorithms that are accepted. Asymmetric ones only.
	Algorithms []string `yaml:"algorithms" default:"[RS256, PS256, ES256, EdDSA]" enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA,Ed25519" check:"nonempty"`
	// Types are the values of the typ header that are accepted. JWT covers tokens without typ too; it is for issuers that do not mark access tokens.
	Types []string `yaml:"types" default:"[at+jwt]" enum:"at+jwt,JWT" check:"nonempty"`
	// AcceptIDTokens lifts the ban on nonce and at_hash in tokens of type JWT.
	AcceptIDTokens bool `yaml:"acceptIDTokens" default:"false"`
	// Leeway is how far clocks may differ, for exp, nbf and iat.
	Leeway time.Duration `yaml:"leeway" default:"10s" min:"0s" max:"60s"`
	// MaxLifetime is the longest time that may lie between iat and exp.
	MaxLifetime time.Duration `yaml:"maxLifetime" default:"24h" check:"positive"`
	// Required true keeps the server from being ready before this issuer had keys.
	Required bool `yaml:"required" default:"true"`
	// CA is a PEM file: the authorities that vouch for this issuer's endpoints. Default: the system's.
	CA File `yaml:"ca"`
	// Keys says how the issuer's keys are fetched and how long they live.
	Keys Keys `yaml:"keys"`
	// Claims says where this issuer puts things. Dots walk into objects, after the name as a whole was tried; /a/b.c is a JSON Pointer.
	Claims Claims `yaml:"claims"`
}

// Keys says how an issuer's keys are fetched and how long they live.
type Keys struct {
	// Refresh is the time between fetches in the background.
	Refresh time.Duration `yaml:"refresh" default:"5m" check:"positive"`
	// Cooldown is the least time between fetches that an unknown key id forces.
	Cooldown time.Duration `yaml:"cooldown" default:"30s" check:"positive"`
	// MaxAge is how long the last good keys live when none can be fetched.
	MaxAge time.Duration `yaml:"maxAge" default:"1h" check:"positive"`
	// Timeout is the limit for one fetch.
	Timeout time.Duration `yaml:"timeout" default:"5s" check:"positive"`
}

// Claims says where an issuer puts things.
type Claims struct {
	// Roles are the claims that hold roles; all of them are collected.
	Roles []string `yaml:"roles" default:"[roles]"`
	// Scopes are the claims that hold scopes; all of them are collected.
	Scopes []string `yaml:"scopes" default:"[scope, scp]"`
	// Tenant are the claims that may hold the tenant; the first that is there counts. Default: none, no subject has a tenant.
	Tenant []string `yaml:"tenant"`
	// Client are the claims that may hold the client's id; the first that is there counts.
	Client []string `yaml:"client" default:"[client_id, azp]" check:"nonempty"`
	// Audience are the claims that may hold the audience; the first that is there counts. client_id for Amazon Cognito.
	Audience []string `yaml:"audience" default:"[aud]" check:"nonempty"`
}

// A Credential is a place where a token may be: a header with a scheme, a
// header whose whole value is the token, or a cookie.
type Credential struct {
	// Header is the name of a request header, in lower case.
	Header string `yaml:"header"`
	// Scheme comes before the token in the header, in any case. Default: none, the whole value is the token.
	Scheme string `yaml:"scheme"`
	// Cookie is the name of a cookie, in place of a header.
	Cookie string `yaml:"cookie"`
}

// Revocations names what is refused before it expires.
type Revocations struct {
	// File is a YAML list of revoked tokens, sessions and subjects. Watched. Default: none.
	File File `yaml:"file" check:"required"`
}

// A Policy is a Casbin model and its rules, loaded together.
type Policy struct {
	Place
	// Name is the key of the policy in the file.
	Name string `yaml:"-"`
	// Model is a Casbin model.conf.
	Model File `yaml:"model" check:"required"`
	// Rules is a Casbin policy.csv. Default: none, for a model whose matcher reads no rule.
	Rules File `yaml:"rules"`
	// Tests are files of policy tests, or patterns such as policies/orders/*.test.yaml. A configuration whose tests fail is not taken. Default: none.
	Tests []File `yaml:"tests" check:"nonempty"`
	// Matching lets names in a role definition (g, g2, ...) be patterns, by Casbin's operators. Default: names are compared as they stand.
	Matching []Matching `yaml:"matching" check:"keyed"`
}

// A Matching says how names in one role definition are compared.
type Matching struct {
	Place
	// Name is the role definition: g, g2, ...
	Name string `yaml:"-"`
	// Role is the operator for users and roles. Default: none.
	Role string `yaml:"role" enum:"keyMatch,keyMatch2,keyMatch3,keyMatch4,keyMatch5,regexMatch,globMatch"`
	// Domain is the operator for domains. Default: none.
	Domain string `yaml:"domain" enum:"keyMatch,keyMatch2,keyMatch3,keyMatch4,keyMatch5,regexMatch,globMatch"`
}

// A Route says which policy and which duties apply to the requests that it
// matches.
type Route struct {
	Place
	// Name stands in logs, metrics and the context extension sallyport.route. Default: the first pattern, as it is written.
	Name string `yaml:"name"`
	// Hosts are Envoy's domain patterns: api.example.com, *.example.com, api.*, *. Default: every host.
	Hosts []Text `yaml:"hosts" check:"nonempty"`
	// Match are patterns of Go's net/http.ServeMux without host, TCP, CONNECT or OPTIONS *. Without one the route is reachable only by its name, from Envoy's configuration.
	Match []Text `yaml:"match" check:"nonempty"`
	// Token says whether a valid token is needed. Under optional an invalid one is refused too; none looks at nothing.
	Token string `yaml:"token" default:"required" enum:"required,optional,none"`
	// Allow true allows what the token lets through, in place of a policy.
	Allow bool `yaml:"allow" default:"false"`
	// Issuers are the names of the issuers whose tokens this route takes. Default: all.
	Issuers []string `yaml:"issuers" check:"nonempty"`
	// Audiences are the audiences that this route takes, out of those of its issuers. Default: the issuer's.
	Audiences []string `yaml:"audiences" check:"nonempty"`
	// Scopes are the scopes that the token must have, all of them. Default: none.
	Scopes []string `yaml:"scopes"`
	// StepUp asks for a stronger or fresher authentication (RFC 9470). Default: none.
	StepUp *StepUp `yaml:"stepUp"`
	// Policy is the name of the policy that decides.
	Policy Text `yaml:"policy"`
	// Sections choose among the definitions of a model that has several.
	Sections Sections `yaml:"sections"`
	// Enforce gives the fields of the model's request definition as CEL. Default: sub is subject.id, obj is request.path, act is request.method, dom is subject.tenant.
	Enforce []Entry `yaml:"enforce"`
	// Mode shadow lets pass what would be refused, malformed requests aside, and records the refusal.
	Mode string `yaml:"mode" default:"enforce" enum:"enforce,shadow"`
	// OnError says who answers where no decision could be made. Default: the server's.
	OnError string `yaml:"onError" enum:"deny,envoy"`
	// Preflight true lets the CORS preflights of this route pass.
	Preflight bool `yaml:"preflight" default:"false"`
	// Paths says what becomes of paths that servers read in different ways.
	Paths Paths `yaml:"paths"`
	// ResourceMetadata is the URL of the protected resource's metadata (RFC 9728), for challenges. Default: none.
	ResourceMetadata string `yaml:"resourceMetadata"`
	// OnAllow is what an allow carries.
	OnAllow OnAllow `yaml:"onAllow"`
	// OnDeny is what a refusal carries.
	OnDeny OnDeny `yaml:"onDeny"`
}

// Sections choose among the definitions of a model: r2, p2, e2 and m2 in one
// with two.
type Sections struct {
	// R is the request definition.
	R string `yaml:"r" default:"r"`
	// P is the policy definition.
	P string `yaml:"p" default:"p"`
	// E is the policy effect.
	E string `yaml:"e" default:"e"`
	// M is the matcher.
	M string `yaml:"m" default:"m"`
}

// A StepUp asks for a stronger or fresher authentication.
type StepUp struct {
	// ACR are the authentication context classes of which the token must have one. Default: any.
	ACR []string `yaml:"acr" check:"nonempty"`
	// MaxAge is how long ago the authentication may have been. Default: any time.
	MaxAge time.Duration `yaml:"maxAge" check:"positive"`
}

// Paths says what becomes of paths that servers read in different ways. What
// is kept stays inside its segment, encoded.
type Paths struct {
	// EscapedSlash is for %2F.
	EscapedSlash string `yaml:"escapedSlash" default:"refuse" enum:"refuse,keep"`
	// Semicolon is for ; and %3B.
	Semicolon string `yaml:"semicolon" default:"refuse" enum:"refuse,keep"`
}

// An OnAllow is what an allow carries.
type OnAllow struct {
	// RequestHeaders are for the upstream. Every header that set names, by any route, is set or removed on each allow, authorization and cookie aside.
	RequestHeaders RequestHeaders `yaml:"requestHeaders"`
	// ResponseHeaders are for the caller.
	ResponseHeaders ResponseHeaders `yaml:"responseHeaders"`
	// Query changes the query that the upstream gets.
	Query Query `yaml:"query"`
	// Metadata adds fields to Envoy's dynamic metadata (envoy.filters.http.ext_authz), as CEL. Default: none.
	Metadata []Entry `yaml:"metadata"`
}

// RequestHeaders are changes to the headers that the upstream gets. Names are
// in lower case.
type RequestHeaders struct {
	// Set replaces headers by the values of CEL expressions. Default: none.
	Set []Entry `yaml:"set"`
	// Append adds headers after the client's own, as CEL. Default: none.
	Append []Entry `yaml:"append"`
	// Remove removes headers. Default: none.
	Remove []string `yaml:"remove"`
}

// ResponseHeaders are headers that the caller gets. Names are in lower case.
type ResponseHeaders struct {
	// Set sets headers to the values of CEL expressions. Default: none.
	Set []Entry `yaml:"set"`
}

// A Query is changes to the query that the upstream gets.
type Query struct {
	// Set replaces parameters by the values of CEL expressions. Default: none.
	Set []Entry `yaml:"set"`
	// Remove removes parameters. Default: none.
	Remove []string `yaml:"remove"`
}

// An OnDeny is what a refusal carries.
type OnDeny struct {
	// ResponseHeaders are for the caller.
	ResponseHeaders ResponseHeaders `yaml:"responseHeaders"`
	// Body is the body of the answer, as CEL. Default: by kind of caller.
	Body Text `yaml:"body"`
	// Redirect is where callers go that ask for HTML and lack a valid token, as CEL. Default: nowhere.
	Redirect Text `yaml:"redirect"`
}

// An Audit is the record of every decision and every change.
type Audit struct {
	// File is where records go, one JSON object a line: stdout, none, or a path, which is opened again on SIGHUP.
	File Text `yaml:"file" default:"stdout"`
	// Mode required lets no answer leave before its record is durable; it needs a path. async drops and counts records where the queue is full.
	Mode string `yaml:"mode" default:"async" enum:"async,required"`
	// Queue is how many records may wait under async.
	Queue int `yaml:"queue" default:"65536" min:"1"`
	// Mask names fields whose values are written as ***. Default: none.
	Mask []string `yaml:"mask"`
	// Fields adds fields to the records of decisions, under the key fields, as CEL. Default: none.
	Fields []Entry `yaml:"fields"`
}

// A Cache holds verified tokens. It is never larger than any of its bounds.
type Cache struct {
	// Tokens is how many tokens it holds; 0 switches it off.
	Tokens int `yaml:"tokens" default:"100000" min:"0"`
	// Bytes is how much memory it takes.
	Bytes int64 `yaml:"bytes" default:"128MiB" check:"positive"`
	// TTL is how long a token stays, at most; never past its expiry.
	TTL time.Duration `yaml:"ttl" default:"5m" check:"positive"`
}

// A Telemetry says what spans tell about people.
type Telemetry struct {
	// Subject is how subjects appear in spans: a keyed hash, the id, or not at all.
	Subject string `yaml:"subject" default:"hash" enum:"hash,id,none"`
	// HashKeyFile holds the key of the hash. Default: a random key for each process.
	HashKeyFile File `yaml:"hashKeyFile"`
}
