package telemetry

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-authz/sallyport/authz"
)

// methods are those that http.request.method names as they are; others are
// _OTHER, as the HTTP conventions want it.
var methods = map[string]bool{
	"CONNECT": true, "DELETE": true, "GET": true, "HEAD": true, "OPTIONS": true,
	"PATCH": true, "POST": true, "PUT": true, "TRACE": true, "QUERY": true,
}

// maxPath bounds url.path in bytes; Envoy lets paths of 60 KiB through.
const maxPath = 1024

// describe puts the decision on the server span of its check.
func (r *Recorder) describe(span trace.Span, req *authz.Request, d *authz.Decision, decision string) {
	attrs := make([]attribute.KeyValue, 0, 16)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, attribute.String(key, value))
		}
	}
	add("authz.decision", decision)
	add("authz.reason", string(d.Reason()))
	add("authz.detail", string(d.Detail()))
	add("authz.decision.id", d.ID())
	add("authz.route", d.Route())
	add("authz.policy", d.Policy())
	add("authz.policy.revision", d.Revision())
	add("authz.policy.rule", d.Rule().String())
	add("authz.token.cache", string(d.Cache()))
	if sub := d.Subject(); sub != nil && sub.Kind != authz.Anonymous {
		switch r.subject {
		case SubjectHash:
			add("user.hash", r.Hash(sub.ID))
		case SubjectID:
			add("user.id", sub.ID)
		}
	}
	if req != nil {
		switch {
		case req.Method == "":
		case methods[req.Method]:
			add("http.request.method", req.Method)
		default:
			add("http.request.method", "_OTHER")
		}
		add("url.path", path(req))
		if req.Source.Address.IsValid() {
			add("client.address", req.Source.Address.String())
		}
		link(span, req)
	}
	if d.Shadow() {
		attrs = append(attrs, attribute.Bool("authz.shadow", true))
	}
	span.SetAttributes(attrs...)
	if d.Reason().Failed() {
		span.SetStatus(codes.Error, string(d.Reason()))
		span.SetAttributes(attribute.String("error.type", string(d.Reason())))
	}
}

// path returns the canonical path, bounded. A path that was refused for
// having two readings is not repeated.
func path(req *authz.Request) string {
	if len(req.Path) > maxPath {
		return strings.ToValidUTF8(req.Path[:maxPath], "")
	}
	return req.Path
}

// link points to the span that the client itself named. It is never the
// parent: what the client sends is not Envoy's word.
func link(span trace.Span, req *authz.Request) {
	v, n := req.Header("traceparent")
	if n != 1 {
		return
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": v})
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		span.AddLink(trace.Link{SpanContext: sc})
	}
}
