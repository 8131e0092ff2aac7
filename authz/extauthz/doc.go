// Package extauthz speaks Envoy's external authorization protocol
// (envoy.service.auth.v3): it reads a CheckRequest into an [authz.Request],
// asks a [Decider], and renders the [authz.Decision] as a CheckResponse that
// Envoy 1.36 to 1.40 understands in one way.
//
// Check never fails. An RPC error, a missing status or an empty message would
// let Envoy's failure mode, or Envoy itself, say yes; so every path out, a
// message that cannot be decoded, a decider that panics and too many checks at
// once among them, is an explicit answer, and only [authz.Decision.Allowed]
// makes one that allows. What an answer carries is validated here, last,
// whoever computed it.
//
// Limits: request bodies, certificates, TLS sessions and metadata contexts are
// not read. Envoy writes ! for a byte that is not UTF-8; a path that is lossy
// in this way is refused where the filter sends raw headers, and cannot be told
// from one with a ! where it does not: then Envoy must normalise paths. An
// allow may add 32 KiB of headers and query; Envoy counts what the client sent
// too, and above its own limit (60 KiB, 100 headers) answers 500 in our place.
// README.md goes through the protocol field by field and names the test that
// holds each, most of them in package integration, against a real Envoy.
//
// [Read] is where a new attribute enters; the table in reasons.go is where a
// reason gets its answer; [Render] is where an answer gets a new part;
// [Server] has the limits, health and drain (serve.go, limit.go); [Listen] and
// [TLSFiles] the transport.
package extauthz
