package extauthz_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

// An authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns certificate and key in PEM. Names with a scheme are URIs.
func (a *authority) issue(t *testing.T, cn string, names ...string) (cert, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, name := range names {
		if strings.Contains(name, "://") {
			u, err := url.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			template.URIs = append(template.URIs, u)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// client returns the TLS configuration of a client, with a certificate where
// from is given.
func (a *authority) client(t *testing.T, from *authority, names ...string) *tls.Config {
	t.Helper()
	c := &tls.Config{RootCAs: a.pool(), MinVersion: tls.VersionTLS12}
	if from != nil {
		cert, key := from.issue(t, "client", names...)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// serverFiles writes a server certificate of a.
func (a *authority) serverFiles(t *testing.T, dir string) extauthz.TLSFiles {
	t.Helper()
	cert, key := a.issue(t, "server")
	return extauthz.TLSFiles{
		Certificate: write(t, filepath.Join(dir, "server.crt"), cert),
		Key:         write(t, filepath.Join(dir, "server.key"), key),
	}
}

func serveTLS(t *testing.T, files extauthz.TLSFiles, opts ...extauthz.Option) string {
	t.Helper()
	s, err := extauthz.NewServer((&world{}).pipeline(t), append(opts, extauthz.WithTLS(files))...)
	if err != nil {
		t.Fatal(err)
	}
	l, err := extauthz.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, l)
	return l.Addr().String()
}

// ask makes one check over a connection of its own.
func ask(t *testing.T, addr string, c *tls.Config) error {
	t.Helper()
	creds := insecure.NewCredentials()
	if c != nil {
		creds = credentials.NewTLS(c)
	}
	conn := dial(t, addr, grpc.WithTransportCredentials(creds))
	resp, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), get())
	if err == nil && reasonOf(resp) != authz.Allowed {
		t.Errorf("got %v", resp)
	}
	return err
}

func TestTLS(t *testing.T) {
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	addr := serveTLS(t, ca.serverFiles(t, t.TempDir()))
	if err := ask(t, addr, ca.client(t, nil)); err != nil {
		t.Errorf("a client without a certificate: %v", err)
	}
	if err := ask(t, addr, stranger.client(t, nil)); err == nil {
		t.Error("a client that trusts another authority got an answer")
	}
	if err := ask(t, addr, nil); err == nil {
		t.Error("plaintext got an answer")
	}
	old := ca.client(t, nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if err := ask(t, addr, old); err == nil {
		t.Error("TLS 1.1 got an answer")
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if v := conn.ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("version %x where the client has 1.3", v)
	}
}

func TestMutualTLS(t *testing.T) {
	ca, clients, stranger := newAuthority(t, "ca"), newAuthority(t, "clients"), newAuthority(t, "stranger")
	const envoy = "spiffe://mesh.example/ns/ingress/sa/envoy"
	dir := t.TempDir()
	files := ca.serverFiles(t, dir)
	files.ClientCA = write(t, filepath.Join(dir, "ca.crt"), clients.pem)
	anyName := serveTLS(t, files)
	files.ClientNames = []string{envoy, "edge.example.com"}
	named := serveTLS(t, files)

	cases := []struct {
		name           string
		config         *tls.Config
		any, onlyNamed bool // whether each server answers
	}{
		{"no certificate", ca.client(t, nil), false, false},
		{"of another authority", ca.client(t, stranger, envoy), false, false},
		{"of the server's authority", ca.client(t, ca, envoy), false, false},
		{"URI", ca.client(t, clients, envoy), true, true},
		{"DNS name", ca.client(t, clients, "edge.example.com"), true, true},
		{"one of several", ca.client(t, clients, "other.example.com", "spiffe://mesh.example/other", envoy), true, true},
		{"other names", ca.client(t, clients, "spiffe://mesh.example/ns/ingress/sa/other", "other.example.com"), true, false},
		{"longer URI", ca.client(t, clients, envoy+"/x"), true, false},
		{"subdomain", ca.client(t, clients, "x.edge.example.com"), true, false},
		{"wildcard", ca.client(t, clients, "*.example.com"), true, false},
		{"no names", ca.client(t, clients), true, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for addr, want := range map[string]bool{anyName: c.any, named: c.onlyNamed} {
				err := ask(t, addr, c.config)
				if (err == nil) != want || err != nil && status.Code(err) != codes.Unavailable {
					t.Errorf("answered: %v, want %v", err, want)
				}
			}
		})
	}
}

// A subject that reads like an allowed name is not one.
func TestMutualTLSSubject(t *testing.T) {
	ca := newAuthority(t, "ca")
	dir := t.TempDir()
	files := ca.serverFiles(t, dir)
	files.ClientCA = write(t, filepath.Join(dir, "ca.crt"), ca.pem)
	files.ClientNames = []string{"edge.example.com"}
	cert, key := ca.issue(t, "edge.example.com")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c := ca.client(t, nil)
	c.Certificates = []tls.Certificate{pair}
	if err := ask(t, serveTLS(t, files), c); err == nil {
		t.Error("a common name was taken for a DNS name")
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// eventually waits for what takes effect within the two seconds that the
// contract gives a changed file.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestTLSReload(t *testing.T) {
	t.Parallel() // it waits for the second between two looks at the files
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	dir := t.TempDir()
	log := new(lines)
	files := first.serverFiles(t, dir)
	addr := serveTLS(t, files, extauthz.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	if err := ask(t, addr, first.client(t, nil)); err != nil {
		t.Fatal(err)
	}

	// Half a change: the certificate is there, its key is not yet.
	cert, key := second.issue(t, "server")
	write(t, files.Certificate, cert)
	eventually(t, "the mismatch is logged", func() bool {
		if err := ask(t, addr, first.client(t, nil)); err != nil {
			t.Fatalf("the last good certificate is gone: %v", err)
		}
		return log.count("last good ones stay") > 0
	})
	write(t, files.Key, key)
	eventually(t, "the new certificate is served", func() bool { return ask(t, addr, second.client(t, nil)) == nil })
	if err := ask(t, addr, first.client(t, nil)); err == nil {
		t.Error("the old certificate is still served")
	}

	// A file that goes away changes nothing, and is logged once.
	before := log.count("last good ones stay")
	if err := os.Remove(files.Key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the missing file is logged", func() bool {
		if err := ask(t, addr, second.client(t, nil)); err != nil {
			t.Fatalf("the last good certificate is gone: %v", err)
		}
		return log.count("last good ones stay") == before+1
	})
}

// A client certificate that the new authority did not sign is refused as soon
// as the authority changes.
func TestClientCAReload(t *testing.T) {
	t.Parallel() // it waits for the second between two looks at the files
	ca, next := newAuthority(t, "ca"), newAuthority(t, "next")
	dir := t.TempDir()
	files := ca.serverFiles(t, dir)
	files.ClientCA = write(t, filepath.Join(dir, "ca.crt"), ca.pem)
	addr := serveTLS(t, files)
	old := ca.client(t, ca)
	old.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	if err := ask(t, addr, old); err != nil {
		t.Fatal(err)
	}
	write(t, files.ClientCA, next.pem)
	eventually(t, "the old authority is refused", func() bool { return ask(t, addr, old) != nil })
	if err := ask(t, addr, ca.client(t, next)); err != nil {
		t.Errorf("the new authority: %v", err)
	}
}

func TestTLSMistakes(t *testing.T) {
	ca := newAuthority(t, "ca")
	dir := t.TempDir()
	good := ca.serverFiles(t, dir)
	_, otherKey := ca.issue(t, "other")
	other := write(t, filepath.Join(dir, "other.key"), otherKey)
	garbage := write(t, filepath.Join(dir, "garbage"), []byte("garbage"))
	huge := write(t, filepath.Join(dir, "huge"), make([]byte, 1<<20+1))
	none := filepath.Join(dir, "none")
	for name, c := range map[string]struct {
		files extauthz.TLSFiles
		want  []string
	}{
		"nothing there":      {extauthz.TLSFiles{Certificate: none, Key: none + "2"}, []string{none + ": no such file", none + "2: no such file"}},
		"nothing named":      {extauthz.TLSFiles{}, []string{"no such file"}},
		"key of another":     {extauthz.TLSFiles{Certificate: good.Certificate, Key: other}, []string{other, "private key does not match"}},
		"garbage":            {extauthz.TLSFiles{Certificate: garbage, Key: good.Key}, []string{garbage}},
		"too large":          {extauthz.TLSFiles{Certificate: huge, Key: good.Key}, []string{huge, "larger than"}},
		"no client CA":       {extauthz.TLSFiles{Certificate: good.Certificate, Key: good.Key, ClientCA: garbage}, []string{garbage, "no certificate"}},
		"names without a CA": {extauthz.TLSFiles{Certificate: good.Certificate, Key: good.Key, ClientNames: []string{"x"}}, []string{"without a client CA"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := extauthz.NewServer((&world{}).pipeline(t), extauthz.WithTLS(c.files))
			if err == nil {
				t.Fatal("it loads")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}
