package jws_test

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
)

const goodHeader = `{"alg":"RS256","typ":"at+jwt","kid":"k"}`

// compact writes a token with a signature that nobody made.
func compact(header, payload string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc([]byte(payload)) + "." + enc([]byte("sig"))
}

// refused checks that an error is a Denial for invalid_token with this detail.
func refused(t *testing.T, what string, err error, detail authz.Detail) {
	t.Helper()
	if authz.ReasonOf(err) != authz.InvalidToken || authz.DetailOf(err) != detail {
		t.Errorf("%.80s: got %s (%s) %v, want invalid_token (%s)", what, authz.ReasonOf(err), authz.DetailOf(err), err, detail)
	}
}

func TestParse(t *testing.T) {
	raw := compact(goodHeader, `{"a":1}`)
	tok, err := jws.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := &jws.Token{
		Raw: raw, Header: jws.Header{Algorithm: "RS256", Type: "at+jwt", KeyID: "k"},
		Input: raw[:strings.LastIndexByte(raw, '.')], Payload: []byte(`{"a":1}`), Signature: []byte("sig"),
	}
	if !reflect.DeepEqual(tok, want) {
		t.Errorf("got %+v, want %+v", tok, want)
	}
}

// The longest token that is read, and the next longer one.
func TestParseSize(t *testing.T) {
	h := base64.RawURLEncoding.EncodeToString([]byte(goodHeader))
	longest := h + "." + strings.Repeat("A", jws.MaxSize-len(h)-1-5) + ".QUFB"
	if _, err := jws.Parse(longest); err != nil || len(longest) != jws.MaxSize {
		t.Errorf("%d bytes: %v", len(longest), err)
	}
	_, err := jws.Parse(strings.Replace(longest, ".QUFB", "A.QUFB", 1))
	refused(t, "one byte more", err, authz.MalformedToken)
	if !strings.Contains(err.Error(), "longer than 16384 bytes") {
		t.Errorf("got %v", err)
	}
}

// Each segment has one spelling: base64url without padding and unused bits.
func TestParseSegments(t *testing.T) {
	h, p := base64.RawURLEncoding.EncodeToString([]byte(goodHeader)), "e30"
	for what, c := range map[string]struct{ token, message string }{
		"no dot":              {h, "three segments"},
		"one dot":             {h + "." + p, "three segments"},
		"three dots":          {h + "." + p + "." + p + ".QUFB", "payload is not base64url"},
		"empty header":        {"." + p + ".QUFB", "header is empty"},
		"empty payload":       {h + "..QUFB", "payload is empty"},
		"empty signature":     {h + "." + p + ".", "signature is empty"},
		"padding":             {h + "." + p + "=.QUFB", "payload is not base64url"},
		"line break":          {h + "." + p + ".QU\nFB", "signature is not base64url"},
		"unused bits, header": {"e31." + p + ".QUFB", "header is not canonical base64url"},
		"unused bits":         {h + ".e31.QUFB", "payload is not canonical base64url"},
		"five characters":     {h + "." + p + ".QUFBQ", "signature is not canonical base64url"},
	} {
		_, err := jws.Parse(c.token)
		refused(t, what, err, authz.MalformedToken)
		if err != nil && !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: got %v, want %q", what, err, c.message)
		}
	}
	for b := range 256 { // what is in the alphabet, byte by byte
		_, err := jws.Parse(h + "." + p + ".QUF" + string([]byte{byte(b)}))
		if b != '.' && (err == nil) != strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", rune(b)) {
			t.Errorf("byte %#x: %v", b, err)
		}
		if err != nil {
			refused(t, fmt.Sprintf("byte %#x", b), err, authz.MalformedToken)
			if !strings.Contains(err.Error(), "signature is not base64url") && b != '.' {
				t.Errorf("byte %#x: %v", b, err)
			}
		}
	}
}

func TestParseHeader(t *testing.T) {
	for header, detail := range map[string]authz.Detail{ // empty: accepted
		`{"alg":"RS256"}`: "",
		`{"alg":"x","typ":"JWT","kid":"k","x5t":"t","x5t#S256":"t"}`: "",
		`{"alg":"x","kid":"` + strings.Repeat("k", 255) + `"}`:       "",
		`{"alg":"x","kid":"` + strings.Repeat("k", 256) + `"}`:       authz.BadTokenHeader,
		`{"alg":"x","kid":""}`:                  authz.BadTokenHeader,
		`{"alg":"x","kid":"a\u0000"}`:           authz.BadTokenHeader,
		`{"alg":"x","typ":""}`:                  authz.BadTokenHeader,
		`{"alg":"x","typ":7}`:                   authz.BadTokenHeader,
		`{"alg":"x","jwk":{"keys":[{}]}}`:       authz.BadTokenHeader, // as deep as it may be, to say that it is not allowed
		`{"alg":"x","jwk":{"keys":[{"a":{}}]}}`: authz.MalformedToken,
		`{"alg":"x","iss":"https://a"}`:         authz.BadTokenHeader, // RFC 7519 section 5.3
		`{"alg":"x","crit":"b64"}`:              authz.BadTokenHeader,
		`{"alg":null}`:                          authz.BadTokenHeader,
		`{"alg":""}`:                            authz.BadAlgorithm,
		`{}`:                                    authz.BadAlgorithm,
		`{"typ":"JWT"}`:                         authz.BadAlgorithm,
		`{"alg":"x","alg":"x"}`:                 authz.DuplicateMember,
		`{"alg":"x","Alg":"x"}`:                 authz.DuplicateMember,
		`[]`:                                    authz.MalformedToken,
	} {
		_, err := jws.Parse(compact(header, "{}"))
		if detail != "" {
			refused(t, header, err, detail)
		} else if err != nil {
			t.Errorf("%s: %v", header, err)
		}
	}
}

// What JSON means, in values of Go.
func TestParseObjectValues(t *testing.T) {
	for text, want := range map[string]any{
		`{}`: map[string]any{},
		" \t\r\n{ \"a\" : { } , \"b\" : [ ] } \t\r\n":                          map[string]any{"a": map[string]any{}, "b": []any{}},
		`{"a":[true,false,null,"x",{"b":1}]}`:                                  map[string]any{"a": []any{true, false, nil, "x", map[string]any{"b": int64(1)}}},
		`{"a":"\"\\\/\b\f\n\r\t"}`:                                             map[string]any{"a": "\"\\/\b\f\n\r\t"},
		`{"a":"x\u0041\u00e9\uFFFD\u20aCy"}`:                                   map[string]any{"a": "xA\u00e9\ufffd\u20acy"},
		`{"a":"\n \u00AF"}`:                                                    map[string]any{"a": "\n \u00af"},
		`{"a":"\ud83d\ude00\uDBFF\uDFFF"}`:                                     map[string]any{"a": "\U0001F600\U0010FFFF"},
		`{"a":"\ud7ff\ue000"}`:                                                 map[string]any{"a": "\ud7ff\ue000"},
		`{"\u0061":0,"":1}`:                                                    map[string]any{"a": int64(0), "": int64(1)},
		`{"a":"` + "\x7f\u2028é" + `"}`:                                        map[string]any{"a": "\x7f\u2028é"},
		`{"a":[0,-0,7,-7,10,1234567890]}`:                                      map[string]any{"a": []any{int64(0), int64(0), int64(7), int64(-7), int64(10), int64(1234567890)}},
		`{"a":[1.5,-0.5,1e3,1E+3,15e-1,1.5e1,0e0]}`:                            map[string]any{"a": []any{1.5, -0.5, int64(1000), int64(1000), 1.5, int64(15), int64(0)}},
		`{"a":[9223372036854775807,-9223372036854775808,9223372036854775808]}`: map[string]any{"a": []any{int64(math.MaxInt64), int64(math.MinInt64), 9223372036854775808.0}},
		`{"a":[9007199254740991.0,9007199254740992.0,-9007199254740992.0]}`:    map[string]any{"a": []any{int64(1<<53 - 1), float64(1 << 53), -float64(1 << 53)}},
	} {
		got, err := jws.ParseObject([]byte(text), 4)
		if err != nil || !reflect.DeepEqual(any(got), want) {
			t.Errorf("%s: got %#v, %v, want %#v", text, got, err, want)
		}
	}
}

// What is no JSON (RFC 8259), or is more than one reader would agree upon.
func TestParseObjectRefuses(t *testing.T) {
	for _, text := range []string{
		``, ` `, `x`, `null`, `[]`, `"a"`, `1`, `{`, `{}x`, `{} {}`, `{"a":1}}`, "\ufeff{}", "{}\x00", "\v{}", "\u00a0{}",
		`{"a"}`, `{a":1}`, `{'a":1}`, `{"\:1}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1 "b":2}`, `{"a" 1}`, `{a:1}`, `{'a':1}`, `{"a":1;"b":2}`, `{"a":1`, `{"a":1,`, `{"a":`, `{"a`, `{"a":1,7:2}`,
		`{"a":[}`, `{"a":[1,]}`, `{"a":[,]}`, `{"a":[1 2]}`, `{"a":[1}`, `{"a":[1`, `{"a":[`, `{"a":{]}}`, `{"a":[x]}`, `{"a":{"b":x}}`,
		`{"a":tru}`, `{"a":True}`, `{"a":truefalse}`, `{"a":nul}`, `{"a":NaN}`, `{"a":Infinity}`, `{"a":-Infinity}`, `{"a":undefined}`,
		`{"a":"x}`, `{"a":"\`, `{"a":"\x"}`, `{"a":"\"`, `{"a":"\'"}`, `{"a":"\u"}`, `{"a":"\u00"}`, `{"a":"\u00g0"}`, `{"a":"\u00G0"}`, `{"a":"\u+041"}`, `{"a":"\u004`, `{"a":"\U0041"}`,
		"{\"a\":\"x\ny\"}", "{\"a\":\"x\x00y\"}", "{\"a\":\"\\n\ny\"}", "{\"a\":\"\\n\x1fy\"}", "{\"a\":\"\x1f\"}", "{\"a\nb\":1}",
		`{"a":"\ud800"}`, `{"a":"\udbff"}`, `{"a":"\udc00"}`, `{"a":"\udfff"}`, `{"a":"\ud800\ud800"}`, `{"a":"\ud800\u0041"}`, `{"a":"\ud800\ue000"}`, `{"a":"\ud800xdc00"}`, `{"a":"\ud83dxude00"}`, `{"a":"\ud83d\xde00"}`, `{"a":"\ud83d\u"}`, `{"a":"\ud800\u00"}`, `{"a":"\ud800\ux000"}`, `{"a":"\ud800\n"}`, `{"a":"\udc00\ud800"}`, `{"a":"\ud800`,
		"{\"a\":\"\xff\"}", "{\"a\":\"\xc0\xaf\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"\xff\":1}",
		`{"a":01}`, `{"a":-01}`, `{"a":00}`, `{"a":-}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1.e3}`, `{"a":-.5}`, `{"a":1e}`, `{"a":1e+}`, `{"a":1e-}`, `{"a":1e1.5}`, `{"a":0x10}`, `{"a":1_000}`, `{"a":1e400}`, `{"a":-1e400}`, `{"a":1.5.5}`,
		`{"a":/**/1}`, `{"a":1}//`, `{"a":[[[[]]]]}`, `{"a":{"b":{"c":{"d":{}}}}}`, `{"a":[[[{}]]]}`,
	} {
		_, err := jws.ParseObject([]byte(text), 4)
		refused(t, text, err, authz.MalformedToken)
	}
	for _, text := range []string{`{"a":{"b":{"c":{}}}}`, `{"a":[[[]]]}`} { // as deep as may be
		if _, err := jws.ParseObject([]byte(text), 4); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Members that some reader would take for one another: at every level where
// they are equal, in the outer object also where they differ in case only.
func TestParseObjectDuplicates(t *testing.T) {
	for text, twice := range map[string]bool{
		`{"a":1,"a":1}`:               true,
		`{"a":1,"\u0061":2}`:          true,
		`{"x":{"a":1,"a":1}}`:         true,
		`{"x":[{"a":1,"a":1}]}`:       true,
		`{"iss":1,"Iss":2}`:           true,
		`{"iss":1,"i\u017f\u017f":2}`: true, // the long s
		`{"k":1,"\u212a":2}`:          true, // the sign for kelvin
		`{"\u00e9":1,"\u00c9":2}`:     true,
		`{"A":1,"B":2,"a ":3}`:        false,
		`{"x":{"a":1,"A":2}}`:         false,
		`{"a":1,"b":{"a":1}}`:         false,
		`{"\u00df":1,"ss":2}`:         false, // simple folding: one rune for one
	} {
		_, err := jws.ParseObject([]byte(text), 4)
		if twice {
			refused(t, text, err, authz.DuplicateMember)
		} else if err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Plain names fold to nothing but their own upper case, and Fold is one value
// for all names that encoding/json takes for one.
func TestFold(t *testing.T) {
	for name, plain := range map[string]bool{"": true, "iss": true, "a-z_09 {`@[": true, "A": false, "Z": false, "xY": false, "\x80": false, "\u017f": false, "é": false} {
		if jws.Plain(name) != plain {
			t.Errorf("Plain(%q) is %v", name, !plain)
		}
	}
	for name, same := range map[string]string{"iss": "ISS", "\u017fub": "sub", "\u212aid": "kid", "\u03c3": "\u03c2"} {
		if jws.Fold(name) != jws.Fold(same) || !strings.EqualFold(name, same) {
			t.Errorf("%q and %q are two", name, same)
		}
	}
	if jws.Fold("ab") == jws.Fold("ac") {
		t.Error("different names are one")
	}
}

// Every rune of the first plane: which of them change how text is read.
func TestHasControl(t *testing.T) {
	var got []string
	in := false
	for r := rune(0); r <= 0xffff; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		if c := jws.HasControl("a" + string(r) + "b"); c != in {
			got, in = append(got, fmt.Sprintf("%x", r)), c
		}
	}
	// From, and up to but not including.
	want := "[0 20 7f a0 61c 61d 200e 2010 2028 202f 2066 206a]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	for s, want := range map[string]bool{"": false, "plain": false, "é": false, "é\u2028": true, "\u00e9x\x00": true, "\xff": false, "x\xffy\n": true} {
		if jws.HasControl(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
