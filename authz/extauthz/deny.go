package extauthz

import (
	"strconv"
	"strings"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/sallyport-authz/sallyport/authz"
)

// maxBody bounds a route's own body, in bytes. Envoy's
// max_denied_response_body_bytes may be lower, and cuts.
const maxBody = 64 << 10

// retryAfter is in seconds. What failed is mostly over by then, and it is
// short enough not to look like an outage to whoever waits.
const retryAfter = "1"

// A refusal is a denial before it becomes a message.
type refusal struct {
	status  typev3.StatusCode
	headers []authz.Header
	body    string
}

// deny never fails: a part that cannot be sent is left out, the refusal
// stands.
func deny(r *authz.Request, d *authz.Decision) *authv3.CheckResponse {
	v := verdictOf(d.Reason())
	a := d.Answer()
	refused := refuse(r, d, v)
	denied := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: refused.status},
		Body:   refused.body,
	}
	sortHeaders(refused.headers)
	for _, h := range refused.headers {
		denied.Headers = append(denied.Headers, plain(h))
	}
	resp := &authv3.CheckResponse{
		Status:          &status.Status{Code: int32(v.code), Message: string(d.Reason())},
		HttpResponse:    &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
		DynamicMetadata: metadata(d),
	}
	// error_response obeys failure_mode_allow: it is for failures alone, so
	// that no refusal can be turned into an allow.
	if a.AsError && d.Reason().Failed() {
		resp.HttpResponse = &authv3.CheckResponse_ErrorResponse{ErrorResponse: denied}
	}
	return resp
}

// refuse decides what the caller of a refused request sees.
func refuse(r *authz.Request, d *authz.Decision, v verdict) refusal {
	a := d.Answer()
	own := validHeaders(a.Response)
	if headerSize(own) > maxMutations {
		own = nil // the refusal matters more than its decoration
	}
	if r.GRPC() {
		return refuseGRPC(d, v, own)
	}
	html := wantsHTML(r)
	if html && a.Redirect != "" && redirects(d.Reason()) && validLocation(a.Redirect) {
		own = without(own, "location", "content-type")
		return refusal{
			status:  typev3.StatusCode_Found,
			headers: withDefault(append(own, authz.Header{Name: "location", Value: a.Redirect}), "cache-control", "no-store"),
		}
	}
	f := refusal{status: v.status, headers: own}
	switch {
	case a.Body != nil && len(*a.Body) <= maxBody && utf8.ValidString(*a.Body):
		f.body = *a.Body
		f.headers = withDefault(f.headers, "content-type", "text/plain; charset=utf-8")
	case html:
		f.body = page(d, v)
		f.headers = append(without(f.headers, "content-type"), authz.Header{Name: "content-type", Value: "text/html; charset=utf-8"})
	default:
		f.body = problem(d, v)
		f.headers = append(without(f.headers, "content-type"), authz.Header{Name: "content-type", Value: "application/problem+json"})
	}
	f.headers = common(f.headers, d, v)
	return f
}

// refuseGRPC answers a gRPC caller by the status in headers, which Envoy
// keeps. It must have no body: Envoy would put that over our grpc-message.
func refuseGRPC(d *authz.Decision, v verdict, own []authz.Header) refusal {
	own = without(own, "content-type", "grpc-status", "grpc-message")
	own = append(own,
		authz.Header{Name: "grpc-status", Value: strconv.Itoa(int(v.code))},
		authz.Header{Name: "grpc-message", Value: percentEncode(sentence(d, v))})
	return refusal{status: v.status, headers: common(own, d, v)}
}

// common adds what each refusal has, whoever called.
func common(headers []authz.Header, d *authz.Decision, v verdict) []authz.Header {
	challenge := d.Answer().Challenge
	if !validValue(challenge) {
		challenge = ""
	}
	if challenge == "" && v.code == code.Code_UNAUTHENTICATED {
		challenge = "Bearer" // RFC 9110 section 15.5.2: a 401 carries a challenge
	}
	if challenge != "" {
		headers = append(headers, authz.Header{Name: "www-authenticate", Value: challenge})
	}
	if v.status == typev3.StatusCode_ServiceUnavailable {
		headers = withDefault(headers, "retry-after", retryAfter)
	}
	return withDefault(headers, "cache-control", "no-store")
}

// redirects reports the reasons for which signing in helps.
func redirects(r authz.Reason) bool {
	return r == authz.NoCredential || r == authz.InvalidToken
}

// validLocation takes what a URI is written in, RFC 3986: visible ASCII.
func validLocation(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return len(s) <= maxValue
}

func headerSize(hs []authz.Header) (n int) {
	for _, h := range hs {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

func withDefault(hs []authz.Header, name, value string) []authz.Header {
	for _, h := range hs {
		if h.Name == name {
			return hs
		}
	}
	return append(hs, authz.Header{Name: name, Value: value})
}

func without(hs []authz.Header, names ...string) []authz.Header {
	kept := hs[:0]
	for _, h := range hs {
		drop := false
		for _, name := range names {
			drop = drop || h.Name == name
		}
		if !drop {
			kept = append(kept, h)
		}
	}
	return kept
}

// percentEncode writes a grpc-message: all but printable ASCII, and the
// percent sign, as %XX.
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b.WriteString("%" + strings.ToUpper(strconv.FormatUint(uint64(c)|0x100, 16)[1:]))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
