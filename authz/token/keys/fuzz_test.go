package keys

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
)

// FuzzJWKS holds that no member of a key set panics, that a good key survives
// whatever stands beside it, and that no key is taken that may do nothing.
func FuzzJWKS(f *testing.F) {
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	good := fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":"good","x":%q}`, base64.RawURLEncoding.EncodeToString(pub))
	for _, seed := range []string{
		good, `{}`, `"bad"`, `{"kty":"oct","kid":"bad","k":"c2VjcmV0","alg":"HS256"}`, `{"kty":"RSA","n":"AQAB","e":"AQAB"}`,
		`{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, `{"kty":"OKP","crv":"Ed25519","x":"AQ","use":"enc","key_ops":["sign"]}`,
		`{"kty":"RSA","kid":7,"x5c":["AAAA"]}`, `{"kty":"EC"},{"kty":`, `[[[[[[`, `null`, "{\"kid\":\"\xff\"}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, member string) {
		set, _, err := parse([]byte(`{"keys":[`+member+`,`+good+`]}`), DefaultAlgorithms())
		if err != nil {
			if json.Valid([]byte(member)) {
				t.Errorf("a good key did not survive %q: %v", member, err)
			}
			return
		}
		for _, k := range set.keys {
			if len(k.algs) == 0 || k.pub == nil {
				t.Errorf("%s can verify nothing", k)
			}
		}
		if fit, _ := set.find("good", "EdDSA"); len(fit) == 0 && json.Valid([]byte(member)) {
			t.Errorf("the good key is gone beside %q", member)
		}
	})
}
