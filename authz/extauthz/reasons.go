package extauthz

import (
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/code"

	"github.com/sallyport-authz/sallyport/authz"
)

// A verdict is how a reason is answered.
type verdict struct {
	status typev3.StatusCode // of the HTTP answer
	code   code.Code         // of the CheckResponse, and of the answer to gRPC callers
	text   string            // for people; says nothing about keys, rules or other people
}

// verdicts answers every reason for a refusal. It is the only such table.
var verdicts = map[authz.Reason]verdict{
	authz.MalformedRequest:    {typev3.StatusCode_BadRequest, code.Code_INVALID_ARGUMENT, "the request cannot be read in exactly one way"},
	authz.MalformedCredential: {typev3.StatusCode_BadRequest, code.Code_INVALID_ARGUMENT, "the credential cannot be read in exactly one way"},
	authz.NoCredential:        {typev3.StatusCode_Unauthorized, code.Code_UNAUTHENTICATED, "a token is required"},
	authz.InvalidToken:        {typev3.StatusCode_Unauthorized, code.Code_UNAUTHENTICATED, "the token is not accepted"},
	authz.StepUpRequired:      {typev3.StatusCode_Unauthorized, code.Code_UNAUTHENTICATED, "a stronger or more recent sign-in is required"},
	authz.InsufficientScope:   {typev3.StatusCode_Forbidden, code.Code_PERMISSION_DENIED, "the token lacks a scope"},
	authz.NoRoute:             {typev3.StatusCode_Forbidden, code.Code_PERMISSION_DENIED, "access is denied"},
	authz.NotPermitted:        {typev3.StatusCode_Forbidden, code.Code_PERMISSION_DENIED, "access is denied"},
	authz.AttributeMissing:    {typev3.StatusCode_Forbidden, code.Code_PERMISSION_DENIED, "access is denied"},
	authz.IssuerUnavailable:   {typev3.StatusCode_ServiceUnavailable, code.Code_UNAVAILABLE, "access cannot be decided at the moment"},
	authz.NotReady:            {typev3.StatusCode_ServiceUnavailable, code.Code_UNAVAILABLE, "access cannot be decided at the moment"},
	authz.Deadline:            {typev3.StatusCode_ServiceUnavailable, code.Code_UNAVAILABLE, "access cannot be decided at the moment"},
	authz.Overloaded:          {typev3.StatusCode_ServiceUnavailable, code.Code_UNAVAILABLE, "access cannot be decided at the moment"},
	authz.AuditUnavailable:    {typev3.StatusCode_ServiceUnavailable, code.Code_UNAVAILABLE, "access cannot be decided at the moment"},
	authz.Internal:            {typev3.StatusCode_ServiceUnavailable, code.Code_UNAVAILABLE, "access cannot be decided at the moment"},
}

// verdictOf treats a reason that is not in the table as internal, so that no
// reason can ever be answered with OK.
func verdictOf(r authz.Reason) verdict {
	if v, ok := verdicts[r]; ok {
		return v
	}
	return verdicts[authz.Internal]
}
