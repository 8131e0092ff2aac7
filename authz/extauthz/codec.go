package extauthz

import (
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// An envelope is a CheckRequest, or why the bytes are none.
type envelope struct {
	message authv3.CheckRequest
	err     error
}

// A codec is grpc-go's own but for one thing: a message that does not decode
// reaches the handler, which refuses it. grpc-go would end the RPC with an
// error, and Envoy's failure mode could let the request pass.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Unmarshal implements [encoding.CodecV2].
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if e, ok := v.(*envelope); ok {
		e.err = c.CodecV2.Unmarshal(data, &e.message)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
