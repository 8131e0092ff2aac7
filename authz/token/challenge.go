package token

import (
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// A Challenge is what a route tells callers whom it refuses: what it would
// take, never what was wrong with what they brought. Only Realm is required.
type Challenge struct {
	Realm            string
	Scopes           []string      // of the route
	ACR              []string      // of its step-up
	MaxAge           time.Duration // of its step-up
	ResourceMetadata string        // URL (RFC 9728 section 5.1)
}

// Challenges returns the values of WWW-Authenticate by reason, as RFC 6750
// section 3, RFC 9470 section 3 and RFC 9728 section 5.1 write them. Reasons
// that are not there have none: a caller must not throw away a good token
// because an issuer is down.
func Challenges(c Challenge) map[authz.Reason]string {
	scope := param("scope", strings.Join(c.Scopes, " "))
	stepUp := param("acr_values", strings.Join(c.ACR, " "))
	if c.MaxAge > 0 {
		stepUp += param("max_age", strconv.FormatInt(int64(c.MaxAge/time.Second), 10))
	}
	challenge := func(code, more string) string {
		params := param("realm", c.Realm) + param("error", code) + more + param("resource_metadata", c.ResourceMetadata)
		return "Bearer" + strings.TrimPrefix(params, ",")
	}
	return map[authz.Reason]string{
		authz.MalformedCredential: challenge("invalid_request", ""),
		authz.NoCredential:        challenge("", ""), // no error code: nothing was wrong
		authz.InvalidToken:        challenge("invalid_token", ""),
		authz.InsufficientScope:   challenge("insufficient_scope", scope),
		authz.StepUpRequired:      challenge("insufficient_user_authentication", stepUp),
	}
}

// param writes one parameter as a quoted-string (RFC 9110 section 5.6.4), or
// nothing for no value. What a header must not hold is left out.
func param(name, value string) string {
	if value == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(", " + name + `="`)
	for _, c := range []byte(value) {
		if c < 0x20 || c > 0x7e {
			continue
		}
		if c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String() + `"`
}
