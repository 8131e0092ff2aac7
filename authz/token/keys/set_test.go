package keys_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	const https = "https://a.example"
	for want, cfg := range map[string]keys.Config{
		`issuer "http://id.example.com" is not an https URL`: {Issuer: "http://id.example.com"},
		`issuer "http://10.0.0.1" is not an https URL`:       {Issuer: "http://10.0.0.1"},
		`issuer "http://localhost.example" is not an https`:  {Issuer: "http://localhost.example"},
		`issuer "id.example.com" is not a URL`:               {Issuer: "id.example.com"},
		`issuer "https://a b" is not a URL`:                  {Issuer: "https://a b"},
		`issuer "https:///x" is not a URL`:                   {Issuer: "https:///x"},
		`issuer "https://a@b" is not a URL`:                  {Issuer: "https://a@b"},
		`issuer "https://a#b" is not a URL`:                  {Issuer: "https://a#b"},
		`key set URI "x" is not a URL`:                       {Issuer: https, JWKSURI: "x"},
		`algorithm "HS256" is not one of`:                    {Issuer: https, Algorithms: []string{"HS256"}},
		`both a key set file and a key set URI`:              {JWKSURI: https, JWKSFile: "x"},
		`refresh -1s is negative`:                            {Issuer: https, Refresh: -time.Second},
		`cooldown -1s is negative`:                           {Issuer: https, Cooldown: -time.Second},
		`maxAge -1s is negative`:                             {Issuer: https, MaxAge: -time.Second},
		`timeout -1s is negative`:                            {Issuer: https, Timeout: -time.Second},
	} {
		_, err := keys.New(cfg)
		says(t, "New", err, want)
	}
	for _, url := range []string{https, "http://localhost:5556/dex", "http://LOCALHOST", "http://127.0.0.2:1", "http://[::1]:1", "http://[::ffff:127.0.0.1]:1"} {
		if _, err := keys.New(keys.Config{Issuer: url}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// Every algorithm that is offered, and none that an issuer does not have.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	rsa, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range keys.Algorithms() {
		i := authztest.NewIssuer(authztest.WithURL("https://id.example.com"), authztest.WithAlgorithms())
		if alg[1] == 'S' && alg[0] != 'E' {
			i.AddKey(authztest.NewKey(alg, "k", rsa))
		} else {
			i.Rotate(alg)
		}
		path := filepath.Join(t.TempDir(), "jwks.json")
		if err := os.WriteFile(path, i.KeySet(), 0o600); err != nil {
			t.Fatal(err)
		}
		h := hold(t, i, keys.Config{JWKSFile: path, Algorithms: []string{alg}})
		h.accepted(i.Mint(nil, authztest.SignedWith(alg)))
		good := i.Key(alg).Sign
		for what, forge := range map[string]func([]byte) []byte{
			"other input":     func(in []byte) []byte { return good(append(in, 'x')) },
			"a byte less":     func(in []byte) []byte { s := good(in); return s[:len(s)-1] },
			"a byte more":     func(in []byte) []byte { return append(good(in), 0) },
			"a zero in front": func(in []byte) []byte { return append([]byte{0}, good(in)...) },
			"one byte":        func([]byte) []byte { return []byte{1} },
		} {
			t.Log(alg, what)
			h.refused(h.verify(i.Mint(nil, authztest.SignedWith(alg), authztest.Signature(forge))), authz.InvalidToken, authz.BadSignature)
		}
		before := i.Requests()
		for _, other := range append(keys.Algorithms(), "none", "HS256") {
			if keys.Canonical(other) != keys.Canonical(alg) { // with an unknown kid, which is not asked for
				tok := i.Mint(nil, authztest.SignedWith(alg), authztest.Header("alg", other), authztest.Header("kid", "x"))
				h.refused(h.verify(tok), authz.InvalidToken, authz.BadAlgorithm)
			}
		}
		if got := i.Requests() - before; got != 0 {
			t.Errorf("%d requests", got)
		}
	}
}

// RFC 7518 section 3.5: the salt of PS256 is as long as the hash.
func TestSaltLength(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, authztest.WithAlgorithms("PS256"))
	h := hold(t, i, keys.Config{}).ready()
	for salt, good := range map[int]bool{1: false, 20: false, 32: true, 64: false, rsa.PSSSaltLengthAuto: false} {
		err := h.verify(i.Mint(nil, authztest.Signature(func(in []byte) []byte {
			sum := sha256.Sum256(in)
			sig, err := rsa.SignPSS(rand.Reader, i.Key("PS256").Private.(*rsa.PrivateKey), crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: salt})
			if err != nil {
				t.Fatal(err)
			}
			return sig
		})))
		if good && err != nil {
			t.Errorf("salt of %d: %v", salt, err)
		} else if !good {
			h.refused(err, authz.InvalidToken, authz.BadSignature)
		}
	}
}

// A key that names its algorithm has no other; one that names none has those of
// the issuer that it fits (RFC 8725 section 3.1).
func TestOneKeyOneAlgorithm(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, authztest.WithAlgorithms("RS256"))
	rs := i.Key("RS256")
	private := rs.Private
	named := hold(t, i, keys.Config{}).ready()
	ps := authztest.NewKey("PS256", rs.ID, private)
	asPS := i.Mint(nil, authztest.SignedBy(ps))
	named.accepted(i.Mint(nil))
	named.refused(named.verify(asPS), authz.InvalidToken, authz.BadAlgorithm)

	i.AddKey(ps) // the same material once more, for the other algorithm
	both := hold(t, i, keys.Config{}).ready()
	both.accepted(i.Mint(nil, authztest.SignedBy(rs)))
	both.accepted(asPS)

	i.Withdraw(ps)
	i.Alter(rs, map[string]any{"alg": authztest.Absent})
	nameless := hold(t, i, keys.Config{Algorithms: []string{"PS256", "EdDSA", "Ed25519", "RS256"}}).ready()
	nameless.accepted(i.Mint(nil))
	k, header := nameless.held(asPS)
	if got, want := k.String(), `key "rs256-1" for PS256, RS256`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if named.set.Holds(k, header) || named.set.Holds(k, jws.Header{Algorithm: "RS256", KeyID: rs.ID}) {
		t.Error("a set holds a key that has other algorithms there")
	}
	if !nameless.set.Holds(k, jws.Header{Algorithm: "RS256", KeyID: rs.ID}) || nameless.set.Holds(k, jws.Header{Algorithm: "ES256", KeyID: rs.ID}) {
		t.Error("a key is held for an algorithm that it cannot verify")
	}

	ed := newIssuer(t, authztest.WithAlgorithms("EdDSA"))
	twoNames := hold(t, ed, keys.Config{Algorithms: []string{"EdDSA", "Ed25519"}}).ready()
	k, _ = twoNames.held(ed.Mint(nil))
	if got, want := k.String(), `key "eddsa-1" for EdDSA`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A set is a key set of go-oidc: the payload comes out after the signature was
// checked, and not before.
func TestVerifySignature(t *testing.T) {
	t.Parallel()
	h := hold(t, newIssuer(t), keys.Config{}).ready()
	payload, err := h.set.VerifySignature(t.Context(), h.issuer.Mint(nil, authztest.RawClaims(`{"a":1}`)))
	if string(payload) != `{"a":1}` || err != nil {
		t.Errorf("got %q, %v", payload, err)
	}
	payload, err = h.set.VerifySignature(t.Context(), h.issuer.Mint(nil, authztest.Signature(junk)))
	if h.refused(err, authz.InvalidToken, authz.BadSignature); payload != nil {
		t.Errorf("got %q of a forged token", payload)
	}
	payload, err = h.set.VerifySignature(t.Context(), "a.b.c")
	if h.refused(err, authz.InvalidToken, authz.MalformedToken); payload != nil {
		t.Errorf("got %q of no token", payload)
	}
}

// Before keys came nothing is verified, and there is no age.
func TestBeforeKeysCome(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.BreakKeys(authztest.Fault{Kind: authztest.ServerError})
	h := hold(t, i, quick)
	_ = h.saw(keys.ResultStatus)
	if age, ok := h.set.Age(); ok || age != 0 || h.set.Ready() || h.set.Issuer() != i.URL() {
		t.Errorf("age %v %v, ready %v, issuer %s", age, ok, h.set.Ready(), h.set.Issuer())
	}
	h.refused(h.verify(i.Mint(nil)), authz.IssuerUnavailable, authz.KeysMissing)
	if got := h.set.Thumbprints(); got != nil {
		t.Errorf("thumbprints %q of no keys", got)
	}
	if h.set.Holds(&keys.Key{}, jws.Header{Algorithm: "ES256"}) {
		t.Error("a key is held where there are none")
	}
	i.Heal()
	h.ready()
	if age, ok := h.set.Age(); !ok || age > 5*time.Second {
		t.Errorf("age %v %v", age, ok)
	}
}

// The example of RFC 7638 section 3.1, under two ids.
func TestThumbprints(t *testing.T) {
	t.Parallel()
	const jwk = `{"kty":"RSA","e":"AQAB","alg":"RS256","kid":"%s","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}`
	path := filepath.Join(t.TempDir(), "jwks.json")
	doc := `{"keys":[` + fmt.Sprintf(jwk, "2011-04-29") + `,` + fmt.Sprintf(jwk, "another") + `]}`
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := keys.New(keys.Config{JWKSFile: path})
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Thumbprints(); !slices.Equal(got, []string{"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}) {
		t.Errorf("got %q", got)
	}
}
