package authz

import "time"

// A Kind says what sort of party a subject is.
type Kind string

// The kinds of subject.
const (
	User      Kind = "user"
	Client    Kind = "client"
	Anonymous Kind = "anonymous"
)

// A Subject is who the verified token speaks for. It carries verified claims
// only, never the token. Subjects are shared between requests: treat one as
// immutable. Empty strings, nil slices and zero times mean unknown.
type Subject struct {
	ID       string // user:ISSUER/SUB, client:ISSUER/CLIENT_ID or anonymous
	Kind     Kind
	Issuer   string // the issuer's configured name
	Sub      string
	Client   string
	Roles    []string // bare names
	Scopes   []string
	Tenant   string
	ACR      string
	AMR      []string
	AuthTime time.Time

	TokenID   string    // jti
	SessionID string    // sid
	IssuedAt  time.Time // iat

	// Claims are all verified claims as JSON values: nil, bool, string,
	// int64 (where integral and in range), float64, []any, map[string]any.
	Claims map[string]any
}

// Nobody is the subject where no token was needed and none was looked at or
// came.
var Nobody = &Subject{ID: "anonymous", Kind: Anonymous}
