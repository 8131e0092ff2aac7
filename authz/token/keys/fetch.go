package keys

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// What a refresh can come to. The set is closed: it is a metric label.
const (
	ResultOK          = "ok"
	ResultUnchanged   = "unchanged"   // the same document, or 304
	ResultDiscovery   = "discovery"   // no usable discovery document; the last known address serves on
	ResultUnreachable = "unreachable" // no connection, no answer in time, a redirect elsewhere
	ResultStatus      = "status"      // another status than 200
	ResultDocument    = "document"    // too large, or not a key set
)

// Results returns every result of a refresh.
func Results() []string {
	return []string{ResultOK, ResultUnchanged, ResultDiscovery, ResultUnreachable, ResultStatus, ResultDocument}
}

var errNoKeys = errors.New("key set holds no key that can be used")

// A fetcher is what one Run remembers between refreshes.
type fetcher struct {
	uri  string // of the key set, once discovered
	etag string
}

// A fetchError is a failed fetch with its result.
type fetchError struct {
	result string
	err    error
}

func (e *fetchError) Error() string { return e.err.Error() }
func (e *fetchError) Unwrap() error { return e.err }

func failed(result, format string, args ...any) error {
	return &fetchError{result, fmt.Errorf(format, args...)}
}

// load gets the key set from where the Config says. set is nil where there is
// none; err may stand beside a set and names the keys in it that are no use.
func (s *Set) load(ctx context.Context, f *fetcher) (set *snapshot, result string, err error) {
	if s.cfg.JWKSFile != "" {
		set, err = s.readFile()
		if err != nil {
			return nil, ResultDocument, err
		}
		return s.same(set)
	}
	client, err := s.client()
	if err != nil {
		return nil, ResultUnreachable, err
	}
	defer client.CloseIdleConnections()
	if err := s.discover(ctx, client, f); err != nil {
		if f.uri == "" {
			return nil, ResultDiscovery, err
		}
		s.observe(ResultDiscovery, err)
	}
	set, refused, err := s.fetch(ctx, client, f)
	if err != nil {
		var fe *fetchError
		if errors.As(err, &fe) {
			return nil, fe.result, err
		}
		return nil, ResultUnreachable, err
	}
	if len(refused) > 0 {
		return set, ResultOK, errors.Join(refused...)
	}
	return s.same(set)
}

// same keeps the snapshot that is there where the document did not change.
func (s *Set) same(set *snapshot) (*snapshot, string, error) {
	if st := s.current.Load(); st != nil && st.sum == set.sum {
		return st.snapshot, ResultUnchanged, nil
	}
	return set, ResultOK, nil
}

// readFile reads a JWKSFile. The first time it also becomes the current set.
func (s *Set) readFile() (*snapshot, error) {
	file, err := os.Open(s.cfg.JWKSFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	doc, err := readAll(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.cfg.JWKSFile, err)
	}
	set, refused, err := parse(doc, s.cfg.Algorithms)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.cfg.JWKSFile, err)
	}
	if s.current.Load() == nil {
		if len(set.keys) == 0 {
			return nil, fmt.Errorf("%s: %w", s.cfg.JWKSFile, errors.Join(append(refused, errNoKeys)...))
		}
		s.current.Store(&state{snapshot: set, at: s.now()})
	}
	return set, nil
}

// client returns an HTTP client for one refresh. A new one each time reads
// the roots anew, resolves names anew and leaves no connection behind.
func (s *Set) client() (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.cfg.CAFile != "" {
		roots, err := readRoots(s.cfg.CAFile)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = roots
	}
	return &http.Client{
		Timeout: s.cfg.Timeout,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: s.cfg.Timeout}).DialContext,
			TLSClientConfig:        conf,
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			from := via[0].URL
			if r.URL.Scheme != from.Scheme || r.URL.Host != from.Host {
				return errors.New("redirect to another origin")
			}
			if len(via) > 3 {
				return errors.New("more than three redirects")
			}
			return nil
		},
	}, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return roots, nil
}

// discover finds the key set (OpenID Connect Discovery 1.0 section 4). It is
// done at each refresh, because issuers move their keys.
func (s *Set) discover(ctx context.Context, client *http.Client, f *fetcher) error {
	if s.cfg.JWKSURI != "" {
		f.uri = s.cfg.JWKSURI
		return nil
	}
	at := strings.TrimSuffix(s.cfg.Issuer, "/") + "/.well-known/openid-configuration"
	doc, _, err := get(ctx, client, at, "")
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	var meta struct {
		Issuer string `json:"issuer"`
		URI    string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(doc, &meta); err != nil {
		return failed(ResultDocument, "discovery: %s does not serve a discovery document", at)
	}
	if meta.Issuer != s.cfg.Issuer {
		return failed(ResultDocument, "discovery: %s says that its issuer is %.256q, not %q", at, meta.Issuer, s.cfg.Issuer)
	}
	if err := checkURL("jwks_uri", meta.URI); err != nil {
		return failed(ResultDocument, "discovery: %w", err)
	}
	// An issuer somewhere else has no business on this machine.
	if loopback(hostOf(meta.URI)) && !loopback(hostOf(s.cfg.Issuer)) {
		return failed(ResultDocument, "discovery: jwks_uri %.256q is on this machine", meta.URI)
	}
	if f.uri != meta.URI {
		f.uri, f.etag = meta.URI, ""
	}
	return nil
}

// fetch gets the key set.
func (s *Set) fetch(ctx context.Context, client *http.Client, f *fetcher) (*snapshot, []error, error) {
	st := s.current.Load()
	etag := f.etag
	if st == nil {
		etag = ""
	}
	doc, tag, err := get(ctx, client, f.uri, etag)
	if err != nil {
		return nil, nil, fmt.Errorf("key set: %w", err)
	}
	if doc == nil {
		return st.snapshot, nil, nil
	}
	if st != nil && st.sum == sha256.Sum256(doc) {
		f.etag = tag
		return st.snapshot, nil, nil
	}
	set, refused, err := parse(doc, s.cfg.Algorithms)
	if err != nil {
		return nil, nil, failed(ResultDocument, "key set: %w", err)
	}
	f.etag = tag
	return set, refused, nil
}

// get does one GET. The document is nil where it did not change since etag.
// Errors never hold what the server sent.
func get(ctx context.Context, client *http.Client, at, etag string) (doc []byte, tag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, client.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, "", failed(ResultUnreachable, "%w", err)
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	req.Header.Set("Cache-Control", "no-cache")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	start := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", failed(ResultUnreachable, "%w", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	switch {
	case resp.StatusCode == http.StatusNotModified && etag != "":
		return nil, etag, nil
	case resp.StatusCode != http.StatusOK:
		return nil, "", failed(ResultStatus, "%s answered %d", at, resp.StatusCode)
	}
	doc, err = readAll(resp.Body)
	if errors.Is(err, errTooLarge) {
		return nil, "", failed(ResultDocument, "%s: %w", at, err)
	}
	if err != nil {
		return nil, "", failed(ResultUnreachable, "%s: no whole answer after %v: %w", at, time.Since(start).Round(time.Millisecond), err)
	}
	return doc, resp.Header.Get("ETag"), nil
}

var errTooLarge = fmt.Errorf("document is larger than %d KiB", maxDocument>>10)

func readAll(r io.Reader) ([]byte, error) {
	doc, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(doc) > maxDocument {
		return nil, errTooLarge
	}
	return doc, nil
}

// loopback reports whether a host name is this machine by its spelling alone.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, _ := netip.ParseAddr(host) // zero for a name
	return addr.Unmap().IsLoopback()
}

func hostOf(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.Hostname()
	}
	return ""
}
