package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport-authz/sallyport/authz/token/jws"
)

const (
	maxDocument = 512 << 10 // bytes of a key set or discovery document
	maxKeys     = 64        // of one key set; big issuers publish fewer than ten
	minRSA      = 2048      // bits, RFC 7518 section 3.3; go-jose takes up to 4096
)

// A snapshot is one key set. It is immutable.
type snapshot struct {
	sum  [32]byte // of the document
	keys []*Key
	byID map[string][]*Key
}

// has reports whether a key, under its own id, is in the set.
func (s *snapshot) has(k *Key) bool {
	return slices.ContainsFunc(s.byID[k.id], k.same)
}

// named returns the keys that a token's kid names: all where it has none.
func (s *snapshot) named(kid string) []*Key {
	if kid == "" {
		return s.keys
	}
	return s.byID[kid]
}

// holds reports whether find would return a key, without allocating.
func (s *snapshot) holds(key *Key, kid, alg string) bool {
	fit, there := 0, false
	for _, k := range s.named(kid) {
		if slices.Contains(k.algs, alg) {
			fit++
			there = there || k.same(key)
		}
	}
	return there && (kid != "" || fit == 1)
}

// find returns the keys that may verify a token. A token without kid is taken
// where exactly one key fits (OpenID Connect Core section 10.1).
func (s *snapshot) find(kid, alg string) (fit []*Key, known bool) {
	named := s.named(kid)
	for _, k := range named {
		if slices.Contains(k.algs, alg) {
			fit = append(fit, k)
		}
	}
	if kid == "" {
		if len(fit) > 1 {
			return nil, true // no fetch will make it clearer
		}
		return fit, len(fit) == 1
	}
	return fit, len(named) > 0
}

// errAbsent marks a JWK that is well-formed and simply not for us: another
// use, another kind of key. Its issuer said so; it is no mistake.
var errAbsent = errors.New("not for verifying signatures here")

// parse reads a key set (RFC 7517 section 5) for an issuer with these
// algorithms. A key that cannot be used is left out by itself, and refused
// says why. A document that does not say which keys there are is an error: no
// "keys", or keys of which every one is broken. An empty list is an answer.
func parse(doc []byte, algs []string) (set *snapshot, refused []error, err error) {
	var outer struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(doc, &outer); err != nil {
		return nil, nil, errors.New("key set is not a JSON object with a list of keys")
	}
	if outer.Keys == nil {
		return nil, nil, errors.New("key set has no member keys")
	}
	if n := len(*outer.Keys); n > maxKeys {
		return nil, nil, fmt.Errorf("key set holds %d keys, more than %d", n, maxKeys)
	}
	set = &snapshot{sum: sha256.Sum256(doc), byID: map[string][]*Key{}}
	broken := 0
	for i, raw := range *outer.Keys {
		k, err := parseKey(raw, algs)
		switch {
		case err == nil && set.has(k): // the same key twice
		case err == nil:
			set.keys = append(set.keys, k)
			set.byID[k.id] = append(set.byID[k.id], k)
		case errors.Is(err, errAbsent):
		default:
			var w *weakError
			if !errors.As(err, &w) {
				broken++
			}
			refused = append(refused, fmt.Errorf("key %d of the set: %w", i+1, err))
		}
	}
	if n := len(*outer.Keys); n > 0 && broken == n {
		return nil, nil, fmt.Errorf("no key of the set can be read: %w", errors.Join(refused...))
	}
	return set, refused, nil
}

// A weakError marks a JWK that is well-formed and must not be used.
type weakError struct{ msg string }

func (e *weakError) Error() string { return e.msg }

// parseKey reads one JWK.
func parseKey(raw []byte, algs []string) (*Key, error) {
	m, err := jws.ParseObject(raw, 4)
	if err != nil {
		return nil, fmt.Errorf("not strict JSON: %w", errors.Unwrap(err))
	}
	k := &Key{}
	kid, alg, err := describe(m)
	if err != nil {
		return nil, err
	}
	k.id = kid
	for _, secret := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, there := m[secret]; there {
			return nil, &weakError{fmt.Sprintf("%s: holds secret material in member %s: whoever reads the set can sign", quote(kid), secret)}
		}
	}
	if k.pub, k.print, err = material(m); err != nil {
		return nil, fmt.Errorf("%s: %w", quote(kid), err)
	}
	if alg != "" && !fits(alg, k.pub) {
		return nil, &weakError{fmt.Sprintf("%s: algorithm %s does not fit the key", quote(kid), quote(alg))}
	}
	if k.algs = bind(alg, k.pub, algs); len(k.algs) == 0 {
		return nil, errAbsent
	}
	return k, nil
}

// describe reads what a JWK says about itself (RFC 7517 sections 4.2 to 4.5).
func describe(m map[string]any) (kid, alg string, err error) {
	text := func(name string) string {
		v, there := m[name]
		s, ok := v.(string)
		if there && !ok {
			err = fmt.Errorf("member %s is not a string", name)
		}
		return s
	}
	kid, alg = text("kid"), text("alg")
	use, kty := text("use"), text("kty")
	if err != nil {
		return "", "", err
	}
	if len(kid) > jws.MaxName || jws.HasControl(kid) {
		return "", "", errors.New("kid is too long or holds a control character")
	}
	if kty == "" {
		return "", "", fmt.Errorf("%s: no kty", quote(kid))
	}
	if use != "" && use != "sig" {
		return "", "", errAbsent
	}
	if ops, there := m["key_ops"]; there {
		list, ok := ops.([]any)
		if !ok {
			return "", "", fmt.Errorf("%s: key_ops is not a list", quote(kid))
		}
		if !slices.Contains(list, any("verify")) {
			return "", "", errAbsent
		}
	}
	if kty != "RSA" && kty != "EC" && kty != "OKP" {
		return "", "", errAbsent // oct among them: no symmetric key is ever used
	}
	if _, known := algorithms[alg]; alg != "" && !known {
		return "", "", errAbsent // RSA-OAEP, ES256K, ...
	}
	return kid, alg, nil
}

// material reads the public key itself. Certificates and links in the JWK are
// not looked at: a broken x5c must not cost a good key.
func material(m map[string]any) (crypto.PublicKey, [32]byte, error) {
	var print [32]byte
	bare := map[string]any{}
	for _, name := range []string{"kty", "crv", "n", "e", "x", "y"} {
		if v, there := m[name]; there {
			bare[name] = v
		}
	}
	if crv, ok := bare["crv"].(string); ok && !slices.Contains([]string{"P-256", "P-384", "P-521", "Ed25519"}, crv) {
		return nil, print, errAbsent // secp256k1, Ed448, X25519
	}
	doc, _ := json.Marshal(bare) // never fails: it came from JSON
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(doc); err != nil {
		return nil, print, fmt.Errorf("not a public key: %w", err)
	}
	switch pub := k.Key.(type) {
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < minRSA {
			return nil, print, &weakError{fmt.Sprintf("RSA modulus of %d bits, fewer than %d", bits, minRSA)}
		}
		if pub.E%2 == 0 || pub.N.Bit(0) == 0 {
			return nil, print, &weakError{"RSA exponent or modulus that no honest key has"}
		}
	case *ecdsa.PublicKey: // go-jose checked that the point is on the curve
	case ed25519.PublicKey: // and that it is not of small order: anybody could sign for it
	default:
		return nil, print, errAbsent
	}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, print, errors.New("not a public key")
	}
	copy(print[:], sum)
	return k.Key, print, nil
}

// quote makes a name from a document readable, and its length bounded.
func quote(s string) string {
	if s == "" {
		return "(no kid)"
	}
	return fmt.Sprintf("%.64q", s)
}
