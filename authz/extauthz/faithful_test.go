package extauthz

import (
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/sallyport-authz/sallyport/authz"
)

// Envoy reads each of these as an allow, whatever else is in the message.
func TestFaithfulRefusesWhatEnvoyWouldAllow(t *testing.T) {
	denied := &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{}}
	var refusal authz.Decision
	for name, resp := range map[string]*authv3.CheckResponse{
		"nil":                         nil,
		"empty":                       {},
		"denied_response, no status":  {HttpResponse: denied},
		"denied_response with code 0": {Status: &status.Status{}, HttpResponse: denied},
	} {
		if faithful(resp, &refusal) {
			t.Errorf("%s: passes for a refusal", name)
		}
	}
	if !faithful(&authv3.CheckResponse{Status: &status.Status{Code: 7}}, &refusal) {
		t.Error("a refusal is held up")
	}
}

// A reason that has no row is answered like internal, never with OK.
func TestVerdictOfAnUnknownReason(t *testing.T) {
	for _, r := range []authz.Reason{"", authz.Allowed, "new"} {
		if got := verdictOf(r); got != verdicts[authz.Internal] {
			t.Errorf("%q: %v", r, got)
		}
	}
	for r, v := range verdicts {
		if v.code == 0 || v.status < 400 || v.text == "" {
			t.Errorf("%s: %v", r, v)
		}
	}
}

func TestPercentEncode(t *testing.T) {
	if got, want := percentEncode("a b%\n\x00é~\x7f"), "a b%25%0A%00%C3%A9~%7F"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
