package keys_test

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// A badKey must not be used. says is what operators are told of it; empty for a
// key that is simply for something else.
type badKey struct{ what, jwk, says string }

// badKeys are all under the kid "bad", but for those whose kid is bad.
func badKeys(t testing.TB) []badKey {
	t.Helper()
	base := authztest.NewIssuer(authztest.WithAlgorithms("RS256", "ES256", "EdDSA"))
	change := func(alg string, members map[string]any) string {
		jwk := base.Key(alg).JWK()
		jwk["kid"] = "bad"
		for k, v := range members {
			if v == nil {
				delete(jwk, k)
			} else {
				jwk[k] = v
			}
		}
		b, err := json.Marshal(jwk)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	// modulus is that of an RSA key of so many bits.
	modulus := func(bits int, last byte) map[string]any {
		n := slices.Repeat([]byte{0xff}, bits/8)
		n[len(n)-1] = last
		return map[string]any{"n": base64.RawURLEncoding.EncodeToString(n)}
	}
	const odd, notPublic = "no honest key has", "not a public key"
	bad := []badKey{
		{"RSA-1024", change("RS256", modulus(1024, 0xff)), `"bad": RSA modulus of 1024 bits`},
		{"no kid", `{"kty":"RSA","e":"AQAB","n":"` + strings.Repeat("_", 171) + `"}`, "key 1 of the set: (no kid): RSA modulus"},
		{"RSA-2040", change("RS256", modulus(2040, 0xff)), "RSA modulus of 2040 bits"},
		{"RSA-4104", change("RS256", modulus(4104, 0xff)), "not a public key: go-jose/go-jose: invalid RSA key, modulus too large"},
		{"even modulus", change("RS256", modulus(2048, 0xfe)), odd},
		{"no modulus", change("RS256", map[string]any{"n": nil}), notPublic},
		{"no exponent", change("RS256", map[string]any{"e": nil}), notPublic},
		{"even exponent", change("RS256", map[string]any{"e": "Ag"}), odd},
		{"even exponent above three", change("RS256", map[string]any{"e": "BA"}), odd},
		{"exponent one", change("RS256", map[string]any{"e": "AQ"}), notPublic},
		{"exponent as a number", change("RS256", map[string]any{"e": 65537}), notPublic},
		{"use enc", change("RS256", map[string]any{"use": "enc"}), ""},
		{"use as a number", change("RS256", map[string]any{"use": 7}), "member use is not a string"},
		{"key_ops sign", change("RS256", map[string]any{"use": nil, "key_ops": []string{"sign"}}), ""},
		{"key_ops of another type", change("RS256", map[string]any{"use": nil, "key_ops": "verify"}), "key_ops is not a list"},
		{"alg of another type", change("RS256", map[string]any{"alg": "ES256"}), `algorithm "ES256" does not fit the key`},
		{"alg of another curve", change("ES256", map[string]any{"alg": "ES384"}), `algorithm "ES384" does not fit the key`},
		{"alg for RSA", change("EdDSA", map[string]any{"alg": "PS256"}), `algorithm "PS256" does not fit the key`},
		{"EdDSA for RSA", change("RS256", map[string]any{"alg": "EdDSA"}), `algorithm "EdDSA" does not fit the key`},
		{"EdDSA for EC", change("ES256", map[string]any{"alg": "EdDSA"}), `algorithm "EdDSA" does not fit the key`},
		{"alg that the issuer does not use", change("RS256", map[string]any{"alg": "RS512"}), ""},
		{"unknown alg", change("RS256", map[string]any{"alg": "RSA-OAEP"}), ""},
		{"alg as a number", change("RS256", map[string]any{"alg": 7}), "member alg is not a string"},
		{"symmetric", `{"kty":"oct","kid":"bad","k":"c2VjcmV0","alg":"HS256"}`, ""},
		{"symmetric, for RSA", change("RS256", map[string]any{"k": "c2VjcmV0"}), "secret material in member k"},
		{"curve of another name", change("ES256", map[string]any{"crv": "secp256k1"}), ""},
		{"another curve", change("ES256", map[string]any{"crv": "P-384"}), notPublic},
		{"no curve", change("ES256", map[string]any{"crv": nil}), notPublic},
		{"point off the curve", change("ES256", map[string]any{"x": strings.Repeat("A", 43)}), notPublic},
		{"short Ed25519", change("EdDSA", map[string]any{"x": "AQ"}), notPublic},
		{"X25519", change("EdDSA", map[string]any{"crv": "X25519", "alg": nil}), ""},
		{"no kty", change("ES256", map[string]any{"kty": nil}), `"bad": no kty`},
		{"kty as a number", change("ES256", map[string]any{"kty": 7}), "member kty is not a string"},
		{"unknown kty", `{"kty":"LMS","kid":"bad"}`, ""},
		{"number for kid", change("ES256", map[string]any{"kid": 7}), "member kid is not a string"},
		{"kid of 256 bytes", change("ES256", map[string]any{"kid": strings.Repeat("k", 256)}), "kid is too long or holds a control character"},
		{"kid with a line break", change("ES256", map[string]any{"kid": "a\nb"}), "kid is too long or holds a control character"},
		{"string for a key", `"bad"`, "not strict JSON"},
		{"member twice", strings.Replace(change("ES256", nil), "{", `{"kty":"EC",`, 1), "not strict JSON"},
	}
	for _, secret := range []string{"d", "p", "q", "dp", "dq", "qi", "oth"} {
		jwk := change("EdDSA", map[string]any{secret: strings.Repeat("A", 43)})
		bad = append(bad, badKey{"private: " + secret, jwk, "holds secret material in member " + secret})
	}
	for _, point := range []string{ // RFC 8032: of order eight or less, in every encoding
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		b, err := hex.DecodeString(point)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // with either sign of x
			jwk := change("EdDSA", map[string]any{"x": base64.RawURLEncoding.EncodeToString(b)})
			bad = append(bad, badKey{"point " + hex.EncodeToString(b), jwk, "low-order point"})
			b[31] |= 0x80
		}
	}
	return bad
}

// The longest RSA keys that are taken. Each bit of them counts: three is the
// smallest exponent.
func TestLongRSA(t *testing.T) {
	n := slices.Repeat([]byte{0xff}, 4096/8)
	path := filepath.Join(t.TempDir(), "jwks.json")
	doc := `{"keys":[{"kty":"RSA","e":"Aw","n":"` + base64.RawURLEncoding.EncodeToString(n) + `"}]}`
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.New(keys.Config{JWKSFile: path}); err != nil {
		t.Error(err)
	}
}

// Weak and misused keys are refused one by one; where there are no others,
// nothing is ready.
func TestWeakAndMisusedKeys(t *testing.T) {
	t.Parallel()
	for _, bad := range badKeys(t) {
		t.Run(bad.what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "jwks.json")
			if err := os.WriteFile(path, []byte(`{"keys":[`+bad.jwk+`]}`), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := keys.New(keys.Config{JWKSFile: path})
			says(t, "alone", err, cmp.Or(bad.says, "no key that can be used"))
			if bad.says == "" && strings.Contains(err.Error(), "key 1") {
				t.Errorf("a key for something else is called a mistake: %v", err)
			}
		})
	}
	t.Run("fetched", func(t *testing.T) {
		i := newIssuer(t)
		i.SetKeySet([]byte(`{"keys":[` + badKeys(t)[0].jwk + `]}`))
		h := hold(t, i, quick)
		h.told(keys.ResultDocument, "no key that can be used\n"+`key 1 of the set: "bad": RSA modulus of 1024 bits`)
		if h.set.Ready() {
			t.Error("ready with a key that must not be used")
		}
		h.refused(h.verify(i.Mint(nil, authztest.Header("kid", "bad"))), authz.IssuerUnavailable, authz.KeysMissing)
	})
}

// A set that nobody can read changes nothing; one whose keys are weak, or for
// something else, is an answer: the others are withdrawn.
func TestSetsWithoutGoodKeys(t *testing.T) {
	t.Parallel()
	for _, bad := range badKeys(t) {
		switch bad.what {
		case "RSA-1024", "use enc": // well-formed
			h := hold(t, newIssuer(t), quick).ready()
			tok := h.issuer.Mint(nil)
			h.issuer.SetKeySet([]byte(`{"keys":[` + bad.jwk + `]}`))
			h.eventually(bad.what, func() bool { return authz.DetailOf(h.verify(tok)) == authz.UnknownKey })
		case "string for a key", "no kty":
			h := hold(t, newIssuer(t), quick).ready()
			tok := h.issuer.Mint(nil)
			h.issuer.SetKeySet([]byte(`{"keys":[` + bad.jwk + `]}`))
			h.told(keys.ResultDocument, "no key of the set can be read: key 1 of the set: ")
			h.accepted(tok)
			h.issuer.SetKeySet([]byte(`{"keys":[` + bad.jwk + `,` + badKeys(t)[0].jwk + `]}`)) // one of them can be read
			h.eventually(bad.what, func() bool { return authz.DetailOf(h.verify(tok)) == authz.UnknownKey })
		}
	}
}

// A token without kid is taken where exactly one key fits; no fetch would make
// it clearer. A key that is there twice is one.
func TestTokensWithoutKid(t *testing.T) {
	t.Parallel()
	h := hold(t, newIssuer(t), keys.Config{}).ready()
	bare := func(alg string) string {
		return h.issuer.Mint(nil, authztest.SignedWith(alg), authztest.Header("kid", authztest.Absent))
	}
	for _, alg := range []string{"ES256", "EdDSA"} {
		if k, header := h.held(bare(alg)); !h.set.Holds(k, header) {
			t.Errorf("%s: not held", alg)
		}
	}

	twice, err := json.Marshal(h.issuer.Key("ES256").JWK())
	if err != nil {
		t.Fatal(err)
	}
	h.issuer.AddJWK(string(twice))
	h = hold(t, h.issuer, keys.Config{}).ready()
	k, header := h.held(bare("ES256"))
	if !h.set.Holds(k, header) {
		t.Error("a key that is there twice is not held")
	}

	h.issuer.Rotate("ES256")
	h = hold(t, h.issuer, keys.Config{}).ready()
	before := h.issuer.Requests()
	h.refused(h.verify(bare("ES256")), authz.InvalidToken, authz.UnknownKey)
	if got := h.issuer.Requests() - before; got != 0 {
		t.Errorf("%d requests", got)
	}
	if h.set.Holds(k, header) {
		t.Error("one of two keys that fit is held for a token without kid")
	}
	if ek, header := h.held(bare("EdDSA")); !h.set.Holds(ek, header) || h.set.Holds(k, header) {
		t.Error("another algorithm")
	}
}

// Two keys under one kid are both meant by it.
func TestKeysUnderOneKid(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, authztest.WithAlgorithms("ES256"))
	one, two := i.Key("ES256"), i.Rotate("ES256")
	i.Alter(two, map[string]any{"kid": one.ID})
	h := hold(t, i, keys.Config{}).ready()
	for _, key := range []*authztest.Key{one, two} {
		if k, header := h.held(i.Mint(nil, authztest.SignedBy(key), authztest.Header("kid", one.ID))); !h.set.Holds(k, header) {
			t.Error("not held")
		}
	}
}
