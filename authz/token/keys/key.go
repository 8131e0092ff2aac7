package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.Hash
	_ "crypto/sha512"
	"math/big"
	"slices"
	"strings"
)

// A Key is one public key of an issuer, good for verifying signatures. It is
// immutable.
type Key struct {
	id    string   // kid, may be empty
	algs  []string // what it may verify: its own algorithm, else the issuer's that fit
	pub   crypto.PublicKey
	print [32]byte // RFC 7638 thumbprint
}

// An algorithm is what a JWS algorithm name stands for (RFC 7518 section 3,
// RFC 8037, RFC 9864).
type algorithm struct {
	hash crypto.Hash
	pss  bool
	bits int // of the curve, zero for RSA
}

var algorithms = map[string]algorithm{
	"RS256": {hash: crypto.SHA256}, "RS384": {hash: crypto.SHA384}, "RS512": {hash: crypto.SHA512},
	"PS256": {hash: crypto.SHA256, pss: true}, "PS384": {hash: crypto.SHA384, pss: true}, "PS512": {hash: crypto.SHA512, pss: true},
	"ES256": {hash: crypto.SHA256, bits: 256}, "ES384": {hash: crypto.SHA384, bits: 384}, "ES512": {hash: crypto.SHA512, bits: 521},
	"EdDSA": {}, "Ed25519": {},
}

// Algorithms returns the names of all algorithms that can be verified, sorted.
// None of them is symmetric.
func Algorithms() []string {
	var names []string
	for name := range algorithms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Canonical returns the one name of an algorithm: EdDSA over curve 25519 has
// two since RFC 9864.
func Canonical(alg string) string {
	if alg == "Ed25519" {
		return "EdDSA"
	}
	return alg
}

// fits reports whether a known algorithm works with this type of key.
func fits(alg string, pub crypto.PublicKey) bool {
	a := algorithms[alg]
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return a.bits == 0 && a.hash != 0
	case *ecdsa.PublicKey:
		return a.bits == k.Params().BitSize
	case ed25519.PublicKey:
		return a.hash == 0
	}
	return false
}

// verify reports whether sig is the key's signature over input by an algorithm
// that fits the key.
func (k *Key) verify(alg, input string, sig []byte) bool {
	a := algorithms[alg]
	if pub, ok := k.pub.(ed25519.PublicKey); ok {
		return ed25519.Verify(pub, []byte(input), sig)
	}
	h := a.hash.New()
	h.Write([]byte(input))
	sum := h.Sum(nil)
	switch pub := k.pub.(type) {
	case *rsa.PublicKey:
		if a.pss {
			// Go would take any salt by default; RFC 7518 section 3.5 wants the hash's length.
			return rsa.VerifyPSS(pub, a.hash, sum, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(pub, a.hash, sum, sig) == nil
	case *ecdsa.PublicKey:
		// r and s, each as long as the order of the curve (RFC 7518 section 3.4).
		size := (a.bits + 7) / 8
		if len(sig) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		return ecdsa.Verify(pub, sum, r, s)
	}
	return false
}

// bind says which algorithms a key may verify: the one it names, else those of
// the issuer's that its type fits. One key should have one algorithm (RFC 8725
// section 3.1), but some issuers, Entra ID among them, name none.
func bind(named string, pub crypto.PublicKey, issuer []string) []string {
	var algs []string
	for _, alg := range issuer {
		alg = Canonical(alg)
		if (named == "" || Canonical(named) == alg) && fits(alg, pub) && !slices.Contains(algs, alg) {
			algs = append(algs, alg)
		}
	}
	return algs
}

// same reports whether two keys are one, under whatever ids.
func (k *Key) same(other *Key) bool {
	return other.print == k.print && slices.Equal(other.algs, k.algs)
}

// String names the key for operators, without control characters.
func (k *Key) String() string {
	return "key " + quote(k.id) + " for " + strings.Join(k.algs, ", ")
}
