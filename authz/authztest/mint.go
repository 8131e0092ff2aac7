package authztest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.Hash
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
)

// A MintOption changes one minted token.
type MintOption func(*mint)

type mint struct {
	key        *Key
	alg        string
	header     map[string]any
	rawHeader  []byte
	rawPayload []byte
	sign       func(input []byte) []byte
}

// SignedBy signs with this key, in the set or not, and names it in kid.
func SignedBy(k *Key) MintOption { return func(m *mint) { m.key = k } }

// SignedWith signs with the newest key for an algorithm.
func SignedWith(alg string) MintOption { return func(m *mint) { m.alg = alg } }

// Header sets a header member; [Absent] takes it away.
func Header(name string, value any) MintOption {
	return func(m *mint) { m.header[name] = value }
}

// RawHeader is the header, byte for byte.
func RawHeader(json string) MintOption { return func(m *mint) { m.rawHeader = []byte(json) } }

// RawClaims is the payload, byte for byte.
func RawClaims(json string) MintOption { return func(m *mint) { m.rawPayload = []byte(json) } }

// Signature makes the signature: over input, header and payload as they stand
// in the token with their dot.
func Signature(sign func(input []byte) []byte) MintOption { return func(m *mint) { m.sign = sign } }

// Mint returns a token: an RFC 9068 access token for user "ada" and the
// default audience, with claims laid over it. [Absent] takes a claim away. It
// panics on claims that JSON cannot say and on algorithms without a key.
func (i *Issuer) Mint(claims map[string]any, opts ...MintOption) string {
	m := mint{header: map[string]any{}}
	for _, opt := range opts {
		opt(&m)
	}
	if m.key == nil {
		m.key = i.pick(m.alg)
	}

	header := map[string]any{"typ": "at+jwt", "alg": m.key.Alg, "kid": m.key.ID}
	overlay(header, m.header)
	if m.rawHeader == nil {
		m.rawHeader = mustJSON(header)
	}
	if m.rawPayload == nil {
		m.rawPayload = mustJSON(i.Claims(claims))
	}
	enc := base64.RawURLEncoding.EncodeToString
	input := enc(m.rawHeader) + "." + enc(m.rawPayload)
	if m.sign == nil {
		m.sign = m.key.Sign
	}
	return input + "." + enc(m.sign([]byte(input)))
}

// Claims returns what Mint would put into a token.
func (i *Issuer) Claims(claims map[string]any) map[string]any {
	now := i.now()
	all := map[string]any{
		"iss": i.URL(), "sub": "ada", "aud": i.audience, "client_id": "web",
		"iat": now.Unix(), "exp": now.Add(i.lifetime).Unix(), "jti": randomID(),
	}
	overlay(all, claims)
	return all
}

// pick returns the newest key for an algorithm, or for the first key's.
func (i *Issuer) pick(alg string) *Key {
	if alg == "" {
		i.mu.Lock()
		if len(i.keys) > 0 {
			alg = i.keys[0].Alg
		}
		i.mu.Unlock()
	}
	k := i.Key(alg)
	if k == nil {
		panic(fmt.Sprintf("authztest: issuer has no key for algorithm %q", alg))
	}
	return k
}

// Sign returns the JWS signature over input, in the form of the key's
// algorithm (RFC 7518 section 3, RFC 8037).
func (k *Key) Sign(input []byte) []byte {
	if p, ok := k.Private.(ed25519.PrivateKey); ok {
		return ed25519.Sign(p, input)
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[k.Alg[2:]]
	h := hash.New()
	h.Write(input)
	sum := h.Sum(nil)

	var sig []byte
	var err error
	switch p := k.Private.(type) {
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, p, sum); err == nil {
			size := (p.Params().BitSize + 7) / 8
			sig = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	case *rsa.PrivateKey:
		if strings.HasPrefix(k.Alg, "PS") {
			sig, err = rsa.SignPSS(rand.Reader, p, hash, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, p, hash, sum)
		}
	default:
		panic(fmt.Sprintf("authztest: cannot sign with %T", p))
	}
	if err != nil {
		panic(fmt.Sprintf("authztest: %v", err))
	}
	return sig
}

func randomID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
