package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// An edgeCA issues certificates to Envoy, Sallyport and their clients.
type edgeCA struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newEdgeCA(t *testing.T) *edgeCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62)) // Go tells authorities of one name apart by it
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprint("test authority ", serial)},
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
	return &edgeCA{t, cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// files returns a new certificate and its key, in PEM. Names with a scheme are
// URIs, others DNS names.
func (a *edgeCA) files(subject string, names ...string) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: subject},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if !strings.Contains(name, "://") {
			template.DNSNames = append(template.DNSNames, name)
			continue
		}
		u, err := url.Parse(name)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", keyDER)
}

// pool holds the authority.
func (a *edgeCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue returns a client's certificate.
func (a *edgeCA) issue(subject string, names ...string) *tls.Certificate {
	a.t.Helper()
	cert, key := a.files(subject, names...)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	return &pair
}

// guard makes a listener speak TLS, and verify the certificates of clients
// that show one. more is added to its TLS context.
func (a *edgeCA) guard(listener, more tree) {
	a.t.Helper()
	cert, key := a.files("edge", "edge.test")
	config := tree{
		"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
		"common_tls_context": tree{
			"tls_certificates":   []any{tree{"certificate_chain": tree{"inline_string": cert}, "private_key": tree{"inline_string": key}}},
			"validation_context": tree{"trusted_ca": tree{"inline_string": a.pem}},
		},
	}
	for k, v := range more {
		config[k] = v
	}
	within(listener, "filter_chains", "0").(tree)["transport_socket"] = tree{"name": "envoy.transport_sockets.tls", "typed_config": config}
}

// handshake connects with TLS 1.2, in which a refusal of the client's
// certificate is the end of the handshake. What the server shows does not
// matter here.
func (e *edge) handshake(listener string, client *tls.Certificate, sni string) (*tls.Conn, error) {
	e.t.Helper()
	c := call{listener: listener}
	config := &tls.Config{ServerName: sni, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if client != nil {
		config.Certificates = []tls.Certificate{*client}
	}
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: config}
	conn, err := dialer.DialContext(e.t.Context(), "tcp", e.addr(&c))
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// tls asks over TLS and HTTP/1.1.
func (e *edge) tls(c call, client *tls.Certificate, sni string) *reply {
	e.t.Helper()
	conn, err := e.handshake(c.listener, client, sni)
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c.defaults()
	return e.exchange(conn, c.method, c.text())
}

// stream says one thing through a TCP listener, and reports whether it came
// back from the upstream.
func (e *edge) stream(listener string, client *tls.Certificate) bool {
	e.t.Helper()
	conn, err := e.handshake(listener, client, "edge.test")
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	_, _ = io.WriteString(conn, "GET /stream HTTP/1.1\r\nhost: edge.test\r\nconnection: close\r\n\r\n") // it may be refused by now
	first := make([]byte, len("HTTP/1.1 200 OK"))
	_, err = io.ReadFull(conn, first)
	return err == nil && string(first) == "HTTP/1.1 200 OK"
}
