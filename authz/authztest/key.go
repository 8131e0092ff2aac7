package authztest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Key is a signing key of an Issuer.
type Key struct {
	ID      string
	Alg     string // JWS algorithm
	Private crypto.Signer

	jwk       map[string]any // what the key set says
	withdrawn bool
}

// newKey makes a key for a JWS algorithm.
func newKey(alg, id string) *Key {
	var private crypto.Signer
	var err error
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA", "Ed25519":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		panic(fmt.Sprintf("authztest: no keys for algorithm %q", alg))
	}
	if err != nil {
		panic(fmt.Sprintf("authztest: %v", err)) // the system has no random numbers
	}
	return NewKey(alg, id, private)
}

// NewKey returns a key around a private key of the caller's: a weak one, for
// example, or one for another algorithm than its own.
func NewKey(alg, id string, private crypto.Signer) *Key {
	k := &Key{ID: id, Alg: alg, Private: private}
	k.jwk = publicJWK(private.Public())
	k.jwk["kid"], k.jwk["alg"], k.jwk["use"] = id, alg, "sig"
	return k
}

// JWK returns a copy of the public key as the key set holds it.
func (k *Key) JWK() map[string]any { return maps.Clone(k.jwk) }

// publicJWK writes a public key as RFC 7518 section 6 and RFC 8037 say.
func publicJWK(public crypto.PublicKey) map[string]any {
	enc := base64.RawURLEncoding.EncodeToString
	switch p := public.(type) {
	case *rsa.PublicKey:
		e := []byte{byte(p.E >> 16), byte(p.E >> 8), byte(p.E)}
		for len(e) > 1 && e[0] == 0 {
			e = e[1:]
		}
		return map[string]any{"kty": "RSA", "n": enc(p.N.Bytes()), "e": enc(e)}
	case *ecdsa.PublicKey:
		b, err := p.Bytes() // 4, x, y
		if err != nil {
			panic(fmt.Sprintf("authztest: %v", err))
		}
		half := (len(b) - 1) / 2
		return map[string]any{"kty": "EC", "crv": p.Params().Name, "x": enc(b[1 : 1+half]), "y": enc(b[1+half:])}
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": enc(p)}
	}
	panic(fmt.Sprintf("authztest: no JWK for %T", public))
}

// Key returns the newest key for an algorithm that is not withdrawn, or nil.
func (i *Issuer) Key(alg string) *Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, k := range slices.Backward(i.keys) {
		if k.Alg == alg && !k.withdrawn {
			return k
		}
	}
	return nil
}

// Rotate makes a new key for an algorithm and signs with it from now on. The
// old one stays in the key set until Withdraw.
func (i *Issuer) Rotate(alg string) *Key {
	i.mu.Lock()
	n := len(i.keys) + 1
	i.mu.Unlock()
	k := newKey(alg, fmt.Sprintf("%s-%d", strings.ToLower(alg), n))
	i.AddKey(k)
	return k
}

// AddKey puts a key into the set. It becomes the newest of its algorithm.
func (i *Issuer) AddKey(k *Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, k)
}

// Withdraw takes a key out of the set. Tokens can still be minted with it by
// SignedBy.
func (i *Issuer) Withdraw(k *Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	k.withdrawn = true
}

// Replace gives a key's id to new key material: what an issuer must not do.
func (i *Issuer) Replace(k *Key) *Key {
	fresh := newKey(k.Alg, k.ID)
	i.Withdraw(k)
	i.AddKey(fresh)
	return fresh
}

// Alter changes how the key set describes a key; [Absent] removes a member.
func (i *Issuer) Alter(k *Key, members map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	overlay(k.jwk, members)
}

// AddJWK puts a JWK that is no key of this issuer's into the set, as it stands.
func (i *Issuer) AddJWK(raw string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.extra = append(i.extra, json.RawMessage(raw))
}

// SetKeySet serves these bytes instead of the key set; nil serves it again.
func (i *Issuer) SetKeySet(raw []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rawKeys = raw
}

// KeySet returns the key set as it is served, for an issuer with jwksFile.
func (i *Issuer) KeySet() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keySet()
}

// keySet returns the key set. The caller holds mu.
func (i *Issuer) keySet() []byte {
	if i.rawKeys != nil {
		return i.rawKeys
	}
	keys := []any{}
	for _, k := range i.keys {
		if !k.withdrawn {
			keys = append(keys, k.jwk)
		}
	}
	for _, raw := range i.extra {
		keys = append(keys, raw)
	}
	return mustJSON(map[string]any{"keys": keys})
}

func digest(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:8]
}
