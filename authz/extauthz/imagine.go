package extauthz

import (
	"bytes"
	"encoding/json"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-authz/sallyport/authz"
)

// Imagine returns what [Read] makes of the message that Envoy would send about
// a request. Of r it uses what an adapter fills in.
func Imagine(r *authz.Request, trustedHops int) *authz.Request {
	source := &authv3.AttributeContext_Peer{Principal: r.Source.Principal}
	if r.Source.Address.IsValid() {
		source.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: r.Source.Address.String()},
		}}
	}
	http := &authv3.AttributeContext_HttpRequest{
		Id: r.ID, Method: r.Method, Path: r.Target, Host: r.Authority, Scheme: r.Scheme, Protocol: r.Protocol,
	}
	if len(r.Headers) > 0 {
		http.HeaderMap = &corev3.HeaderMap{}
	}
	for _, h := range r.Headers {
		http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: h.Name, RawValue: []byte(h.Value)})
	}
	return Read(&authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:            source,
		Request:           &authv3.AttributeContext_Request{Time: timestamppb.New(r.Time), Http: http},
		ContextExtensions: r.Context,
	}}, trustedHops)
}

// RenderJSON returns what [Render] does, in the JSON form of the message.
func RenderJSON(r *authz.Request, d *authz.Decision) ([]byte, error) {
	m, err := Render(r, d)
	if err != nil {
		return nil, err
	}
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("extauthz: %w", err)
	}
	var b bytes.Buffer // protojson varies its spaces on purpose
	if err := json.Compact(&b, text); err != nil {
		return nil, fmt.Errorf("extauthz: %w", err)
	}
	return b.Bytes(), nil
}
