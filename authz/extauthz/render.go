package extauthz

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sallyport-authz/sallyport/authz"
)

// maxMutations bounds the header and query bytes of one answer. Envoy turns a
// request whose headers exceed 60 KiB (its default) into a 500, so an answer
// must leave room for what the client sent.
const maxMutations = 32 << 10

// errTooLarge is why an allow cannot be delivered: leaving out a part of it
// would send a request upstream without what the route promised.
var errTooLarge = errors.New("answer is too large for Envoy")

// Render turns a decision about r into Envoy's answer. It is deterministic. Of
// what d.Answer holds it sends only what is valid, see mutations.go; an error
// means that an allow cannot be delivered and must become a refusal.
func Render(r *authz.Request, d *authz.Decision) (*authv3.CheckResponse, error) {
	if d.Passes() {
		return allow(r, d)
	}
	return deny(r, d), nil
}

func allow(r *authz.Request, d *authz.Decision) (*authv3.CheckResponse, error) {
	a := d.Answer()
	m := requestMutations(r, a)
	ok := &authv3.OkHttpResponse{
		Headers:              m.headers,
		HeadersToRemove:      m.remove,
		ResponseHeadersToAdd: allowResponse(a.Response),
	}
	ok.QueryParametersToSet, ok.QueryParametersToRemove = queryMutations(r, a)
	if n := mutationBytes(ok); n > maxMutations {
		return nil, fmt.Errorf("%w: %d bytes of headers and query, at most %d", errTooLarge, n, maxMutations)
	}
	return &authv3.CheckResponse{
		Status:          &status.Status{Code: 0},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: metadata(d),
	}, nil
}

func mutationBytes(ok *authv3.OkHttpResponse) int {
	n := headerBytes(ok.Headers) + headerBytes(ok.ResponseHeadersToAdd)
	for _, name := range ok.HeadersToRemove {
		n += len(name)
	}
	for _, p := range ok.QueryParametersToSet {
		n += len(p.Key) + len(p.Value)
	}
	return n
}

func headerBytes(hs []*corev3.HeaderValueOption) (n int) {
	for _, h := range hs {
		n += len(h.Header.Key) + len(h.Header.Value)
	}
	return n
}

// The wrappers are shared by all answers, which are only ever read.
var (
	appendNo  = wrapperspb.Bool(false)
	appendYes = wrapperspb.Bool(true)
)

// overwrite says so in both fields. Envoy reads append alone; 1.37.0 read
// append_action where append was unset, and took its zero value to append. In
// response_headers_to_add an unset append means append_action on all versions.
func overwrite(h authz.Header) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: h.Name, Value: h.Value},
		Append:       appendNo,
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// appendTo adds to what is there. On a request Envoy drops it silently where
// nothing is there.
func appendTo(h authz.Header) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: h.Name, Value: h.Value},
		Append:       appendYes,
		AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	}
}

// plain is a header of a denial. Envoy removes its own header of that name,
// then adds every entry, so repeated names are kept; an entry with append set
// is lost.
func plain(h authz.Header) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: h.Name, Value: h.Value}}
}

// allowResponse renders headers for the caller on an allow: they replace the
// upstream's, but cookies add up.
func allowResponse(headers []authz.Header) []*corev3.HeaderValueOption {
	valid := validHeaders(headers)
	if len(valid) == 0 {
		return nil
	}
	out := make([]*corev3.HeaderValueOption, len(valid))
	for i, h := range valid {
		if h.Name == "set-cookie" {
			out[i] = appendTo(h)
		} else {
			out[i] = overwrite(h)
		}
	}
	return out
}

// validHeaders returns the valid ones, sorted by name; those of one name keep
// their order.
func validHeaders(headers []authz.Header) []authz.Header {
	if len(headers) == 0 {
		return nil
	}
	out := make([]authz.Header, 0, len(headers))
	for _, h := range headers {
		name, ok := settableName(h.Name)
		if ok && validValue(h.Value) {
			out = append(out, authz.Header{Name: name, Value: h.Value})
		}
	}
	sortHeaders(out)
	return out
}

func sortHeaders(hs []authz.Header) {
	slices.SortStableFunc(hs, func(a, b authz.Header) int { return strings.Compare(a.Name, b.Name) })
}
