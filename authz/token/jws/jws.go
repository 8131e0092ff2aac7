// Package jws reads a signed JWT in the one form that counts here, and
// believes nothing in it.
//
// [Parse] takes the compact serialisation only (RFC 7515 section 7.1), in
// canonical base64url, with a header of known members, so that every token has
// exactly one spelling. [ParseObject] reads JSON more strictly than
// encoding/json: valid UTF-8, no duplicate member, no unpaired surrogate,
// bounded depth. Embedded keys and links to keys (jwk, jku, x5c, x5u) are
// refused, never used and never fetched.
//
// Nothing here checks a signature: see package keys for that and package token
// for what the claims mean. Errors are Denials for invalid_token and hold no
// part of the token.
package jws

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
)

// MaxSize is the longest token that is read, in bytes. Envoy's own limit on
// all headers is 60 KiB; real access tokens stay below 4 KiB.
const MaxSize = 16 << 10

// MaxName bounds kid, and names such as sub that end up in ids and records. It
// is what OpenID Connect Core section 2 allows a sub.
const MaxName = 255

// headerDepth is what a jwk header with a list of objects needs.
const headerDepth = 4

// A Token is a parsed and unverified token. Treat it as immutable.
type Token struct {
	Raw       string // the whole token
	Header    Header
	Input     string // what the signature is over
	Payload   []byte
	Signature []byte
}

// A Header is the protected header of a token.
type Header struct {
	Algorithm string
	Type      string // typ; empty where absent
	KeyID     string // kid; empty where absent
}

// Parse reads a token. It looks at no more than the header.
func Parse(raw string) (*Token, error) {
	if len(raw) > MaxSize {
		return nil, malformed("token is longer than %d bytes", MaxSize)
	}
	first := strings.IndexByte(raw, '.')
	last := strings.LastIndexByte(raw, '.')
	if first == last { // one dot, or none
		return nil, malformed("token does not have three segments")
	}
	t := &Token{Raw: raw, Input: raw[:last]}
	header, err := decode("header", raw[:first])
	if err != nil {
		return nil, err
	}
	if t.Payload, err = decode("payload", raw[first+1:last]); err != nil {
		return nil, err
	}
	if t.Signature, err = decode("signature", raw[last+1:]); err != nil {
		return nil, err
	}
	if t.Header, err = parseHeader(header); err != nil {
		return nil, err
	}
	return t, nil
}

// decode reads one segment. Go's strict decoder still skips line ends, so the
// alphabet is checked first (RFC 7515 section 2: no line breaks, no padding).
func decode(name, segment string) ([]byte, error) {
	if segment == "" {
		return nil, malformed("%s is empty", name)
	}
	for i := range len(segment) {
		if !isBase64URL(segment[i]) {
			return nil, malformed("%s is not base64url", name)
		}
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, malformed("%s is not canonical base64url", name)
	}
	return b, nil
}

func isBase64URL(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// parseHeader takes the members that a bearer token needs, as strings, and no
// others: not crit and b64, which change what is signed; not zip and cty, which
// change what is inside; not jwk, jku, x5c and x5u, which bring the attacker's
// own key; and not claims replicated from the payload (RFC 7519 section 5.3).
func parseHeader(raw []byte) (Header, error) {
	// Members that are not allowed may be nested a little, so that the refusal
	// can say that they are not allowed.
	members, err := ParseObject(raw, headerDepth)
	if err != nil {
		return Header{}, err
	}
	var h Header
	for name, value := range members {
		s, ok := value.(string)
		if !ok {
			return Header{}, badHeader("header member is not a string")
		}
		switch name {
		case "alg":
			h.Algorithm = s
		case "typ":
			if s == "" {
				return Header{}, badHeader("typ is empty")
			}
			h.Type = s
		case "kid":
			if s == "" || len(s) > MaxName || HasControl(s) {
				return Header{}, badHeader("kid is empty, too long or holds a control character")
			}
			h.KeyID = s
		case "x5t", "x5t#S256": // hints that name a key and bring none
		default:
			return Header{}, badHeader("header member that is not alg, typ, kid, x5t or x5t#S256")
		}
	}
	if h.Algorithm == "" {
		return Header{}, authz.Refuse(authz.InvalidToken, authz.BadAlgorithm, errors.New("no alg"))
	}
	return h, nil
}

// malformed returns a refusal. The arguments must not be parts of the token.
func malformed(format string, args ...any) error {
	return authz.Refuse(authz.InvalidToken, authz.MalformedToken, fmt.Errorf(format, args...))
}

func badHeader(message string) error {
	return authz.Refuse(authz.InvalidToken, authz.BadTokenHeader, errors.New(message))
}
