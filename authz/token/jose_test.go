package token_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token"
)

var enc = base64.RawURLEncoding.EncodeToString

// A refusal is a token that must be refused, and for what.
type refusal struct {
	what   string
	token  string
	detail authz.Detail
}

// forge signs with a key that the issuer does not have.
func forge(sign func([]byte) []byte) authztest.MintOption { return authztest.Signature(sign) }

// segments takes a token apart.
func segments(tok string) (header, payload, signature string) {
	parts := strings.Split(tok, ".")
	return parts[0], parts[1], parts[2]
}

// jose runs cases against a verifier of at+jwt tokens, and asserts that none
// of them caused a fetch or any other connection to the issuer.
func jose(t *testing.T, c *corp, v *token.Verifier, id string, cases ...refusal) {
	t.Helper()
	t.Run(id, func(t *testing.T) {
		t.Helper()
		before := c.Requests()
		for _, r := range cases {
			_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(r.token))
			if authz.ReasonOf(err) != authz.InvalidToken || authz.DetailOf(err) != r.detail {
				t.Errorf("%s: got %s (%s) %v, want invalid_token (%s)", r.what, authz.ReasonOf(err), authz.DetailOf(err), err, r.detail)
			}
		}
		if got := c.Requests() - before; got != 0 {
			t.Errorf("%d connections to the issuer", got)
		}
	})
}

// RFC 7515, 7517, 7518 and 7519: what an attacker can do to form, header and
// signature.
func TestJOSE(t *testing.T) {
	c := newCorp(t, allKinds)
	v := newVerifier(t, []token.Issuer{c.config()})
	good := c.Mint(nil)
	h, p, s := segments(good)
	with := func(name string, value any) string { return c.Mint(nil, authztest.Header(name, value)) }
	raw := func(header string) string { return c.Mint(nil, authztest.RawHeader(header)) }
	rsaKey := c.Key("RS256")
	jwk, err := json.Marshal(rsaKey.JWK())
	if err != nil {
		t.Fatal(err)
	}

	var none []refusal
	for _, alg := range []string{"none", "None", "NONE", "nOnE"} {
		empty := c.Mint(nil, authztest.Header("alg", alg), forge(func([]byte) []byte { return nil }))
		none = append(none,
			refusal{alg + " without signature", empty, authz.MalformedToken},
			refusal{alg + " with one", c.Mint(nil, authztest.Header("alg", alg)), authz.BadAlgorithm})
	}
	jose(t, c, v, "JOSE-01", none...)
	jose(t, c, v, "JOSE-02", refusal{"no alg", with("alg", authztest.Absent), authz.BadAlgorithm})

	var mac []refusal
	for what, secret := range map[string][]byte{"JWK": jwk, "modulus": []byte(rsaKey.JWK()["n"].(string)), "empty": nil} {
		mac = append(mac, refusal{"HS256 keyed with " + what, c.Mint(nil, authztest.Header("alg", "HS256"), forge(func(in []byte) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write(in)
			return m.Sum(nil)
		})), authz.BadAlgorithm})
	}
	jose(t, c, v, "JOSE-03", mac...)
	jose(t, c, v, "JOSE-04", refusal{"ES256 under an RSA kid", c.Mint(nil, authztest.SignedWith("ES256"), authztest.Header("kid", rsaKey.ID)), authz.BadAlgorithm})
	jose(t, c, v, "JOSE-05", refusal{"PS256 on a key for RS256", with("alg", "PS256"), authz.BadAlgorithm})

	n := elliptic.P256().Params().N
	pair := func(r, s *big.Int) []byte {
		b := make([]byte, 64)
		r.FillBytes(b[:32])
		s.FillBytes(b[32:])
		return b
	}
	es := func(sig []byte) string {
		return c.Mint(nil, authztest.SignedWith("ES256"), forge(func([]byte) []byte { return sig }))
	}
	foreign, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := ecdsa.SignASN1(rand.Reader, foreign, make([]byte, 32))
	tiny, _ := asn1.Marshal(struct{ R, S *big.Int }{big.NewInt(1), big.NewInt(1)})
	jose(t, c, v, "JOSE-06",
		refusal{"r=s=0", es(make([]byte, 64)), authz.BadSignature},
		refusal{"r=n", es(pair(n, n)), authz.BadSignature},
		refusal{"r=1, s=n", es(pair(big.NewInt(1), n)), authz.BadSignature},
		refusal{"DER", es(der), authz.BadSignature},
		refusal{"short DER", es(tiny), authz.BadSignature},
		refusal{"one byte more", es(append(pair(big.NewInt(1), big.NewInt(1)), 0)), authz.BadSignature})

	var crit []refusal
	for _, value := range []any{[]string{}, nil, "x", []string{"x"}, []string{"b64"}, []string{"exp", "exp"}} {
		crit = append(crit, refusal{"crit", with("crit", value), authz.BadTokenHeader})
	}
	jose(t, c, v, "JOSE-07", crit...)
	jose(t, c, v, "JOSE-08",
		refusal{"b64", with("b64", false), authz.BadTokenHeader},
		refusal{"b64 and crit", c.Mint(nil, authztest.Header("b64", false), authztest.Header("crit", []string{"b64"})), authz.BadTokenHeader})

	own, _ := rsa.GenerateKey(rand.Reader, 2048)
	signOwn := forge(func(in []byte) []byte {
		sum := sha256.Sum256(in)
		sig, _ := rsa.SignPKCS1v15(rand.Reader, own, crypto.SHA256, sum[:])
		return sig
	})
	ownJWK := map[string]any{"kty": "RSA", "n": enc(own.N.Bytes()), "e": "AQAB"}
	canary := authztest.NewIssuer(authztest.WithAlgorithms("EdDSA"))
	if err := canary.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = canary.Close() })
	jose(t, c, v, "JOSE-09", refusal{"jwk", c.Mint(nil, authztest.Header("jwk", ownJWK), signOwn), authz.BadTokenHeader})
	jose(t, c, v, "JOSE-10",
		refusal{"jku", c.Mint(nil, authztest.Header("jku", canary.KeysURL()), signOwn), authz.BadTokenHeader},
		refusal{"x5u", c.Mint(nil, authztest.Header("x5u", canary.KeysURL()), signOwn), authz.BadTokenHeader})
	if got := canary.Requests(); got != 0 {
		t.Errorf("%d connections to where the token points", got)
	}
	jose(t, c, v, "JOSE-11", refusal{"x5c", with("x5c", []string{"MIIB"}), authz.BadTokenHeader})

	// A well-formed kid that is unknown is looked for at the issuer once in a
	// cooldown; that is TestUnknownKid. 64 kB of kid are too long to be read.
	jose(t, c, v, "JOSE-12",
		refusal{"256 bytes", with("kid", strings.Repeat("k", 256)), authz.BadTokenHeader},
		refusal{"empty", with("kid", ""), authz.BadTokenHeader},
		refusal{"number", with("kid", 7), authz.BadTokenHeader},
		refusal{"array", with("kid", []string{"a"}), authz.BadTokenHeader},
		refusal{"NUL", with("kid", "a\x00"), authz.BadTokenHeader})
	jose(t, c, v, "JOSE-13",
		refusal{"alg twice", raw(`{"alg":"none","alg":"RS256","kid":"` + rsaKey.ID + `","typ":"at+jwt"}`), authz.DuplicateMember},
		refusal{"alg in two cases", raw(`{"alg":"RS256","ALG":"none","kid":"` + rsaKey.ID + `","typ":"at+jwt"}`), authz.DuplicateMember})
	le := func(s string) string {
		var b bytes.Buffer
		for _, u := range utf16.Encode([]rune(s)) {
			b.Write([]byte{byte(u), byte(u >> 8)})
		}
		return b.String()
	}
	jose(t, c, v, "JOSE-14",
		refusal{"array", raw(`["RS256"]`), authz.MalformedToken},
		refusal{"trailing bytes", raw(`{"alg":"RS256"} x`), authz.MalformedToken},
		refusal{"BOM", raw("\ufeff" + `{"alg":"RS256"}`), authz.MalformedToken},
		refusal{"UTF-16", raw(le(`{"alg":"RS256"}`)), authz.MalformedToken})
	t.Run("JOSE-15", func(t *testing.T) { // JSON serialisations are no token68
		flat := `{"protected":"` + h + `","payload":"` + p + `","signature":"` + s + `"}`
		_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(flat))
		refused(t, err, authz.MalformedCredential, authz.TwoCredentials) // it holds commas
	})
	t.Run("JOSE-16", func(t *testing.T) {
		general := `{"payload":"` + p + `"}`
		_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(general))
		refused(t, err, authz.MalformedCredential, authz.NotToken68)
	})
	t.Run("JOSE-17", func(t *testing.T) {
		for _, tok := range []string{good + " ", good + "\t", h + ". " + p + "." + s} {
			_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(tok))
			refused(t, err, authz.MalformedCredential, authz.NotToken68)
		}
	})
	t.Run("JOSE-18", func(t *testing.T) {
		_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(h+"."+p[:4]+"\r\n"+p[4:]+"."+s))
		refused(t, err, authz.MalformedCredential, authz.NotToken68)
	})
	jose(t, c, v, "JOSE-19", unusedBits(t, c)...)
	jose(t, c, v, "JOSE-20",
		refusal{"padding at the end", good + "=", authz.MalformedToken},
		refusal{"two", good + "==", authz.MalformedToken})
	jose(t, c, v, "JOSE-21",
		refusal{"+", h + "." + p + ".+" + s[1:], authz.MalformedToken},
		refusal{"/", h + "." + p + "./" + s[1:], authz.MalformedToken})
	jose(t, c, v, "JOSE-22",
		refusal{"2", h + "." + p, authz.MalformedToken},
		refusal{"4", good + "." + s, authz.MalformedToken},
		refusal{"5, as a JWE", good + "." + s + "." + s, authz.MalformedToken},
		refusal{"empty ones", "..", authz.MalformedToken})
	t.Run("JOSE-23", func(t *testing.T) {
		_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(strings.Repeat(".", 1e6)))
		refused(t, err, authz.MalformedCredential, authz.CredentialTooLong)
	})
	t.Run("JOSE-24", func(t *testing.T) {
		_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(strings.Repeat("a", 10<<20)))
		refused(t, err, authz.MalformedCredential, authz.CredentialTooLong)
	})
	jose(t, c, v, "JOSE-25", refusal{"zip", with("zip", "DEF"), authz.BadTokenHeader})
	jose(t, c, v, "JOSE-26",
		refusal{"cty", with("cty", "JWT"), authz.BadTokenHeader},
		refusal{"a token as payload", c.Mint(nil, authztest.RawClaims(good)), authz.MalformedToken})
	deep := strings.Repeat(`{"a":`, 17) + "1" + strings.Repeat("}", 17)
	jose(t, c, v, "JOSE-27",
		refusal{"claims", c.Mint(nil, authztest.RawClaims(deep)), authz.MalformedToken},
		refusal{"header", raw(`{"alg":"RS256","x":` + strings.Repeat("[", 5) + strings.Repeat("]", 5) + `}`), authz.MalformedToken},
		refusal{"5,000 levels", c.Mint(nil, authztest.RawClaims(strings.Repeat("[", 5000))), authz.MalformedToken})
	t.Run("JOSE-28", func(t *testing.T) {
		ps := newCorp(t, authztest.WithAlgorithms("PS256"))
		v := newVerifier(t, []token.Issuer{ps.config()})
		if _, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(ps.Mint(nil))); err != nil {
			t.Errorf("the salt as long as the hash: %v", err)
		}
		for _, salt := range []int{1, 20, 64} {
			tok := ps.Mint(nil, forge(func(in []byte) []byte {
				sum := sha256.Sum256(in)
				sig, err := rsa.SignPSS(rand.Reader, ps.Key("PS256").Private.(*rsa.PrivateKey), crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: salt})
				if err != nil {
					t.Fatal(err)
				}
				return sig
			}))
			_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(tok))
			refused(t, err, authz.InvalidToken, authz.BadSignature)
		}
	})
	jose(t, c, v, "JOSE-29", refusal{"S not reduced", nonCanonicalS(t, c), authz.BadSignature})
	jose(t, c, v, "JOSE-30",
		refusal{"ES256K", with("alg", "ES256K"), authz.BadAlgorithm},
		refusal{"EdDSA, signature as long as Ed448's", c.Mint(nil, authztest.SignedWith("EdDSA"), forge(func([]byte) []byte { return make([]byte, 114) })), authz.BadSignature})
}

// unusedBits spells the segments of one token in another way that decodes to
// the same bytes.
func unusedBits(t *testing.T, c *corp) (out []refusal) {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for pad := range 3 { // so that each segment has some, whatever its length
		tok := c.Mint(map[string]any{"pad": strings.Repeat("x", pad)})
		parts := strings.Split(tok, ".")
		for i, part := range parts {
			if len(part)%4 == 0 {
				continue
			}
			last := strings.IndexByte(alphabet, part[len(part)-1])
			twin := append([]string(nil), parts...)
			twin[i] = part[:len(part)-1] + string(alphabet[last|1])
			if twin[i] == part {
				continue
			}
			out = append(out, refusal{"segment", strings.Join(twin, "."), authz.MalformedToken})
		}
	}
	if len(out) == 0 {
		t.Fatal("no segment has unused bits")
	}
	return out
}

// nonCanonicalS adds the order of the group to S of an Ed25519 signature (RFC
// 8032 section 8.4).
func nonCanonicalS(t *testing.T, c *corp) string {
	t.Helper()
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	key := c.Key("EdDSA")
	return c.Mint(nil, authztest.SignedWith("EdDSA"), forge(func(in []byte) []byte {
		sig := key.Sign(in)
		le := make([]byte, 32)
		for i := range 32 {
			le[i] = sig[63-i]
		}
		s := new(big.Int).Add(new(big.Int).SetBytes(le), order)
		be := s.FillBytes(make([]byte, 32))
		for i := range 32 {
			sig[32+i] = be[31-i]
		}
		return sig
	}))
}

// A kid that looks like an attack is a name like any other: no key has it, no
// file or query is made of it, and the issuer is asked once in a cooldown.
func TestUnknownKid(t *testing.T) {
	c := newCorp(t)
	v := newVerifier(t, []token.Issuer{c.config()})
	before := c.Fetches()
	for _, kid := range []string{"../../dev/null", "' OR 1=1 --", "|sleep 10", "%00", "https://evil.example/keys", "nobody"} {
		_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.Mint(nil, authztest.Header("kid", kid))))
		refused(t, err, authz.InvalidToken, authz.UnknownKey)
	}
	_, _, err := v.Route(token.RouteOptions{}).Authenticate(t.Context(), bearer(c.Mint(nil, authztest.Header("kid", strings.Repeat("k", 1<<16)))))
	refused(t, err, authz.MalformedCredential, authz.CredentialTooLong)
	if got := c.Fetches() - before; got != 1 {
		t.Errorf("%d fetches, want one in a cooldown", got)
	}
}
