package extauthz

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// TLSFiles says where the server's TLS comes from. The files are read again
// when a client connects, at most once a second, and a change is taken when
// all of them fit together; until then the last good ones serve.
type TLSFiles struct {
	Certificate string   // PEM, leaf first; required
	Key         string   // PEM; required
	ClientCA    string   // PEM; demands and verifies a client certificate
	ClientNames []string // URI or DNS names, one of which the client certificate must carry exactly; default: any that ClientCA signed
}

const (
	recheck    = time.Second
	maxPEM     = 1 << 20 // bytes of one file
	oldestTLS  = tls.VersionTLS12
	http2Proto = "h2" // grpc-go refuses a handshake without it
)

// serverTLS loads the files once, so that a mistake shows at the start.
func serverTLS(f TLSFiles, log *slog.Logger) (*tls.Config, error) {
	if len(f.ClientNames) > 0 && f.ClientCA == "" {
		return nil, errors.New("tls: client names without a client CA to verify them")
	}
	r := &reloader{files: f, log: log}
	contents, err := r.read()
	if err != nil {
		return nil, err
	}
	config, err := r.parse(contents)
	if err != nil {
		return nil, err
	}
	r.contents, r.config, r.checked = contents, config, time.Now()
	return &tls.Config{
		MinVersion: oldestTLS,
		NextProtos: []string{http2Proto},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return r.current(), nil
		},
	}, nil
}

// A reloader follows files by their contents: times and names lie where a
// ConfigMap or a Secret is mounted.
type reloader struct {
	files TLSFiles
	log   *slog.Logger

	mu       sync.Mutex
	checked  time.Time
	contents [3][]byte // as last seen, good or bad
	failed   string    // the last failure to read, logged once
	config   *tls.Config
}

// current returns the configuration for one handshake.
func (r *reloader) current() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.checked) < recheck {
		return r.config
	}
	r.checked = time.Now()
	contents, err := r.read()
	if err != nil {
		r.keep(err)
		return r.config
	}
	if slices.EqualFunc(contents[:], r.contents[:], bytes.Equal) {
		return r.config
	}
	r.contents = contents
	config, err := r.parse(contents)
	if err != nil {
		r.keep(err)
		return r.config
	}
	r.config, r.failed = config, ""
	r.log.Info("tls certificates loaded", "certificate", r.files.Certificate)
	return r.config
}

func (r *reloader) keep(err error) {
	if err.Error() != r.failed {
		r.failed = err.Error()
		r.log.Error("tls certificates do not load, the last good ones stay", "error", err)
	}
}

// read returns certificate, key and client CA, the last empty without one.
func (r *reloader) read() (contents [3][]byte, err error) {
	var errs []error
	for i, name := range []string{r.files.Certificate, r.files.Key, r.files.ClientCA} {
		if name == "" && i == 2 {
			continue
		}
		contents[i], err = readPEM(name)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return contents, fmt.Errorf("tls: %w", err)
	}
	return contents, nil
}

func readPEM(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(b) > maxPEM {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxPEM)
	}
	return b, err
}

func (r *reloader) parse(contents [3][]byte) (*tls.Config, error) {
	cert, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s, key %s: %w", r.files.Certificate, r.files.Key, err)
	}
	c := &tls.Config{
		MinVersion:   oldestTLS,
		NextProtos:   []string{http2Proto},
		Certificates: []tls.Certificate{cert},
		// A resumed session would outlive the certificate authority that
		// let it in; Envoy's connections are few and long.
		SessionTicketsDisabled: true,
	}
	if r.files.ClientCA == "" {
		return c, nil
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(contents[2]) {
		return nil, fmt.Errorf("tls: client CA %s holds no certificate", r.files.ClientCA)
	}
	if names := r.files.ClientNames; len(names) > 0 {
		c.VerifyConnection = func(cs tls.ConnectionState) error { return admit(cs, names) }
	}
	return c, nil
}

// admit refuses a client whose certificate carries none of the names. The
// subject does not count: it is for people.
func admit(cs tls.ConnectionState, names []string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("no client certificate")
	}
	leaf := cs.PeerCertificates[0]
	for _, u := range leaf.URIs {
		if slices.Contains(names, u.String()) {
			return nil
		}
	}
	for _, name := range leaf.DNSNames {
		if slices.Contains(names, name) {
			return nil
		}
	}
	return errors.New("client certificate carries none of the allowed names")
}
