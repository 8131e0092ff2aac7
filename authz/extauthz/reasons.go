package extauthz

import (
	"net/http"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-authz/sallyport/authz"
)

// A verdict is how a reason is answered.
type verdict struct {
	status int        // of the HTTP answer
	code   codes.Code // of the CheckResponse, and of the answer to gRPC callers
	text   string     // for people; says nothing about keys, rules or other people
}

// verdicts answers every reason for a refusal. It is the only such table.
var verdicts = map[authz.Reason]verdict{
	authz.MalformedRequest:    {http.StatusBadRequest, codes.InvalidArgument, "the request cannot be read in exactly one way"},
	authz.MalformedCredential: {http.StatusBadRequest, codes.InvalidArgument, "the credential cannot be read in exactly one way"},
	authz.NoCredential:        {http.StatusUnauthorized, codes.Unauthenticated, "a token is required"},
	authz.InvalidToken:        {http.StatusUnauthorized, codes.Unauthenticated, "the token is not accepted"},
	authz.StepUpRequired:      {http.StatusUnauthorized, codes.Unauthenticated, "a stronger or more recent sign-in is required"},
	authz.InsufficientScope:   {http.StatusForbidden, codes.PermissionDenied, "the token lacks a scope"},
	authz.NoRoute:             {http.StatusForbidden, codes.PermissionDenied, "access is denied"},
	authz.NotPermitted:        {http.StatusForbidden, codes.PermissionDenied, "access is denied"},
	authz.AttributeMissing:    {http.StatusForbidden, codes.PermissionDenied, "access is denied"},
	authz.IssuerUnavailable:   {http.StatusServiceUnavailable, codes.Unavailable, "access cannot be decided at the moment"},
	authz.NotReady:            {http.StatusServiceUnavailable, codes.Unavailable, "access cannot be decided at the moment"},
	authz.Deadline:            {http.StatusServiceUnavailable, codes.Unavailable, "access cannot be decided at the moment"},
	authz.Overloaded:          {http.StatusServiceUnavailable, codes.Unavailable, "access cannot be decided at the moment"},
	authz.AuditUnavailable:    {http.StatusServiceUnavailable, codes.Unavailable, "access cannot be decided at the moment"},
	authz.Internal:            {http.StatusServiceUnavailable, codes.Unavailable, "access cannot be decided at the moment"},
}

// verdictOf treats a reason that is not in the table as internal, so that no
// reason can ever be answered with OK.
func verdictOf(r authz.Reason) verdict {
	if v, ok := verdicts[r]; ok {
		return v
	}
	return verdicts[authz.Internal]
}
