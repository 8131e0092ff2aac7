package keys_test

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// What discovery may say. A document that may not be believed leads to no
// further connection.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		set  func(*authztest.Issuer)
		says string
	}{
		"another issuer":      {func(i *authztest.Issuer) { i.SetMetadata("issuer", "https://evil.example") }, `says that its issuer is "https://evil.example"`},
		"trailing slash":      {func(i *authztest.Issuer) { i.SetMetadata("issuer", i.URL()+"/") }, "says that its issuer is"},
		"no jwks_uri":         {func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", authztest.Absent) }, `jwks_uri "" is not a URL`},
		"http elsewhere":      {func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", "http://example.com/keys") }, "is not an https URL"},
		"file":                {func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", "file:///etc/passwd") }, "is not a URL"},
		"another scheme":      {func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", "ftp://127.0.0.1/keys") }, "is not an https URL"},
		"user information":    {func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", "https://a:b@example.com/keys") }, "is not a URL"},
		"a number for a text": {func(i *authztest.Issuer) { i.SetMetadata("jwks_uri", 7) }, "does not serve a discovery document"},
		"a page":              {func(i *authztest.Issuer) { i.BreakDiscovery(authztest.Fault{Kind: authztest.HTML}) }, "does not serve a discovery document"},
		"an error":            {func(i *authztest.Issuer) { i.BreakDiscovery(authztest.Fault{Kind: authztest.ServerError}) }, "answered 500"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t)
			c.set(i)
			h := hold(t, i, quick)
			h.told(keys.ResultDiscovery, c.says)
			if h.set.Ready() || i.Fetches() != 0 {
				t.Errorf("ready %v after %d fetches", h.set.Ready(), i.Fetches())
			}
			h.eventually("another attempt", func() bool { return h.counts()[keys.ResultDiscovery] > 1 })
			if len(h.counts()) != 1 {
				t.Errorf("results %v", h.counts())
			}
			if what == "an error" {
				i.Heal()
				h.ready()
			}
		})
	}
	t.Run("lost later", func(t *testing.T) { // the last known address serves on
		t.Parallel()
		i := newIssuer(t)
		h := hold(t, i, quick).ready()
		i.BreakDiscovery(authztest.Fault{Kind: authztest.ServerError})
		h.told(keys.ResultDiscovery, "answered 500")
		fresh := i.Rotate("ES256")
		h.eventually("the new key", func() bool { return h.verify(i.Mint(nil, authztest.SignedBy(fresh))) == nil })
	})
}

// A file with keys needs no network and follows its contents.
func TestFile(t *testing.T) {
	t.Parallel()
	i := authztest.NewIssuer(authztest.WithURL("https://id.example.com"), authztest.WithAlgorithms("ES256"))
	path := filepath.Join(t.TempDir(), "jwks.json")
	write := func(doc []byte) {
		t.Helper()
		next := path + ".new"
		if err := os.WriteFile(next, doc, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	write(i.KeySet())
	h := hold(t, i, keys.Config{JWKSFile: path, Issuer: i.URL()})
	if !h.set.Ready() { // before the first refresh
		t.Error("New did not take the keys")
	}
	tok := i.Mint(nil)
	h.accepted(tok)
	fresh := i.Rotate("ES256")
	h.refused(h.verify(i.Mint(nil, authztest.SignedBy(fresh))), authz.InvalidToken, authz.UnknownKey)
	write([]byte("{}"))
	h.told(keys.ResultDocument, "no member keys")
	h.accepted(tok) // the last good keys
	write(i.KeySet())
	start := time.Now()
	h.eventually("the changed file", func() bool { return h.verify(i.Mint(nil, authztest.SignedBy(fresh))) == nil })
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}

// A set that did not change is not read again.
func TestConditionalGet(t *testing.T) {
	t.Parallel()
	h := hold(t, newIssuer(t), quick).ready()
	_ = h.saw(keys.ResultUnchanged)
	h.eventually("304", func() bool { return h.issuer.NotModified() > 0 })
}

// The largest document and the longest kid that are taken.
func TestLargeSet(t *testing.T) {
	t.Parallel()
	i := authztest.NewIssuer(authztest.WithURL("https://id.example.com"), authztest.WithAlgorithms("ES256"))
	i.Alter(i.Key("ES256"), map[string]any{"kid": strings.Repeat("k", 255)})
	doc := string(i.KeySet())
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, []byte(doc+strings.Repeat(" ", 512<<10-len(doc))), 0o600); err != nil {
		t.Fatal(err)
	}
	h := hold(t, i, keys.Config{JWKSFile: path})
	h.accepted(i.Mint(nil, authztest.Header("kid", strings.Repeat("k", 255))))
}

// A file that New reads must hold a key; each mistake is named.
func TestFilesThatNewRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for what, c := range map[string]struct {
		cfg  keys.Config
		says string
	}{
		"missing keys":    {keys.Config{JWKSFile: filepath.Join(dir, "no")}, "no such file"},
		"a folder":        {keys.Config{JWKSFile: dir}, "is a directory"},
		"no keys":         {keys.Config{JWKSFile: file("a", "{}")}, "no member keys"},
		"an empty set":    {keys.Config{JWKSFile: file("b", `{"keys":[]}`)}, "no key that can be used"},
		"a weak key only": {keys.Config{JWKSFile: file("c", `{"keys":[`+weakJWK+`]}`)}, `"weak": RSA modulus of`},
		"large keys":      {keys.Config{JWKSFile: file("d", strings.Repeat(" ", 512<<10+1))}, "larger than 512 KiB"},
		"missing roots":   {keys.Config{Issuer: "https://a.example", CAFile: filepath.Join(dir, "no")}, "no such file"},
		"roots of text":   {keys.Config{Issuer: "https://a.example", CAFile: file("e", "root")}, "holds no PEM certificate"},
	} {
		_, err := keys.New(c.cfg)
		says(t, what, err, c.says)
	}
}

// An issuer whose certificate nobody else signed: its roots are read at each
// refresh, and without them there is no connection.
func TestCAFile(t *testing.T) {
	t.Parallel()
	i := authztest.NewIssuer(authztest.WithAlgorithms("ES256"))
	srv := httptest.NewUnstartedServer(i)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it does not like to be refused
	srv.StartTLS()
	t.Cleanup(srv.Close)
	i.SetURL(srv.URL)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, root, 0o600); err != nil {
		t.Fatal(err)
	}
	h := hold(t, i, keys.Config{CAFile: ca, Refresh: quick.Refresh, Timeout: 5 * time.Second}).ready()
	tok := i.Mint(nil)
	h.accepted(tok)

	i.BreakKeys(authztest.Fault{Kind: authztest.Redirect, Location: "http" + strings.TrimPrefix(i.KeysURL(), "https")})
	h.told(keys.ResultUnreachable, "redirect to another origin")

	other := hold(t, i, quick)
	other.told(keys.ResultDiscovery, "certificate")

	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	h.told(keys.ResultUnreachable, "no such file")
	h.accepted(tok) // the last good keys
}

// serve answers requests for keys on a loopback address.
func serve(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(answer)
	t.Cleanup(srv.Close)
	return srv.URL
}

// A key set on its own address, and how its server may behave.
func TestURI(t *testing.T) {
	t.Parallel()
	i := authztest.NewIssuer(authztest.WithURL("https://id.example.com"), authztest.WithAlgorithms("ES256"))
	config := func(answer http.HandlerFunc) keys.Config {
		return keys.Config{Issuer: i.URL(), JWKSURI: serve(t, answer), Refresh: quick.Refresh}
	}

	// Without ETag: what is the same document is known by its digest, and what
	// is wrong with it is told once.
	i.AddJWK(weakJWK)
	h := hold(t, i, config(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(i.KeySet()) })).ready()
	h.accepted(i.Mint(nil))
	h.told(keys.ResultOK, "RSA modulus of")
	h.eventually("refreshes", func() bool { return h.counts()[keys.ResultUnchanged] > 2 })
	if got := h.counts()[keys.ResultOK]; got != 1 {
		t.Errorf("the same document was new %d times", got)
	}

	// 304 where nobody asked whether anything changed.
	h = hold(t, i, config(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }))
	h.told(keys.ResultStatus, "answered 304")

	// Three redirects are followed.
	hops := config(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) < len("/xxx") {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
			return
		}
		_, _ = w.Write(i.KeySet())
	})
	hold(t, i, hops).ready()

	many := authztest.NewIssuer(authztest.WithAlgorithms("EdDSA"))
	for range 63 {
		many.Rotate("EdDSA")
	}
	crowd := config(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(many.KeySet()) })
	hold(t, i, crowd).ready()
	many.Rotate("EdDSA")
	hold(t, i, crowd).told(keys.ResultDocument, "holds 65 keys, more than 64")
}

// A set without keys makes nothing ready, and its ETag is not held against the
// next one.
func TestFirstSetIsEmpty(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.SetKeySet([]byte(`{"keys":[]}`))
	h := hold(t, i, quick)
	h.told(keys.ResultDocument, "no key that can be used")
	h.eventually("another attempt", func() bool { return h.counts()[keys.ResultDocument] > 1 })
	if h.set.Ready() || i.NotModified() != 0 {
		t.Errorf("ready %v after %d answers of 304", h.set.Ready(), i.NotModified())
	}
	i.SetKeySet(nil)
	h.ready()
}
