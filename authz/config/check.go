package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A checker judges what takes more than one field, or more than its type. It
// fills in the defaults that come from other fields, and writes header names
// in lower case.
type checker struct {
	d *decoder
	c *Config

	issuerNames, policyNames []string
}

// bad notes a problem at a key, unless that key has one already.
func (k *checker) bad(key, format string, args ...any) {
	k.d.bad(k.c.Line(key), key, format, args...)
}

// given reports whether the file has a key.
func (k *checker) given(key string) bool {
	_, ok := k.c.lines[key]
	return ok
}

// item returns the key of the item i of a list, which may have been written as
// one scalar.
func (k *checker) item(key string, i int) string {
	if of := key + "[" + strconv.Itoa(i) + "]"; k.given(of) {
		return of
	}
	return key
}

func (k *checker) config() {
	k.server()
	k.issuers()
	k.credentials()
	k.policies()
	k.routes()
	k.audit()
}

// audit checks that records which are required can be made durable.
func (k *checker) audit() {
	a := &k.c.Audit
	switch {
	case strings.ContainsRune(a.File.Value, 0):
		k.bad("audit.file", "%s is not a path", quote(a.File.Value))
	case a.Mode == AuditRequired && k.c.AuditPath() == "" && !k.d.broken["audit.file"]:
		k.bad("audit.mode", "required needs a file: %s cannot be made durable", a.File.Value)
	}
	if a.File.Value == AuditNone {
		for _, key := range []string{"mask", "fields"} {
			if k.given("audit." + key) {
				k.bad("audit."+key, "has no effect with file: none")
			}
		}
	}
}

func (k *checker) server() {
	s := &k.c.Server
	k.listener("server.grpc.listen", s.GRPC.Listen, s.GRPC.Plaintext, s.GRPC.TLS != nil, "tls or plaintext: true")
	k.listener("server.admin.listen", s.Admin.Listen, s.Admin.Plaintext, false, "plaintext: true")
	if s.GRPC.Listen == s.Admin.Listen && !strings.HasSuffix(s.GRPC.Listen, ":0") {
		k.bad("server.admin.listen", "%s is server.grpc.listen already", quote(s.Admin.Listen))
	}
	if t := s.GRPC.TLS; t != nil {
		if s.GRPC.Plaintext {
			k.bad("server.grpc.plaintext", "contradicts tls: keep one of them")
		}
		if len(t.ClientNames) > 0 && t.ClientCA.Path == "" {
			k.bad("server.grpc.tls.clientNames", "has no effect without clientCA")
		}
	}
	if strings.ContainsFunc(s.Realm, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		k.bad("server.realm", `%s may hold printable ASCII only, without " and \`, quote(s.Realm))
	}
}

var hostname = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// maxSocket is the length of sockaddr_un.sun_path on Linux, less its NUL.
const maxSocket = 107

func (k *checker) listener(key, listen string, plaintext, tls bool, need string) {
	if path, ok := strings.CutPrefix(listen, "unix://"); ok {
		switch {
		case !filepath.IsAbs(path) || strings.HasSuffix(path, "/") || strings.ContainsRune(path, 0):
			k.bad(key, "%s is not unix:///ABS/PATH", quote(listen))
		case len(path) > maxSocket:
			k.bad(key, "%s is longer than the path of a socket may be (%d bytes)", quote(path), maxSocket)
		}
		return
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		k.bad(key, "%s is not HOST:PORT or unix:///ABS/PATH", quote(listen))
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		k.bad(key, "%s has no port between 0 and 65535", quote(listen))
		return
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostname.MatchString(host) {
		k.bad(key, "%s is not HOST:PORT or unix:///ABS/PATH", quote(listen))
		return
	}
	if !loopback(host) && !plaintext && !tls {
		k.bad(key, "%s is not a loopback address: it needs %s", quote(listen), need)
	}
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

var nameSyntax = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// name complains about a name that is not one.
func (k *checker) name(key, name string) {
	if !nameSyntax.MatchString(name) {
		k.bad(key, "%s is not a name: [a-z0-9][a-z0-9._-]*", quote(name))
	}
}

// wrongURL says why s is not a URL to fetch from or to compare with, or
// nothing. Queries are for endpoints: an issuer has none (OpenID Connect
// Discovery 1.0, section 3; RFC 8414, section 2).
func wrongURL(s string, query bool) string {
	_, rest, _ := strings.Cut(s, "://")
	if authority := rest[:max(strings.IndexAny(rest+"/", "/?#"), 0)]; strings.Contains(authority, "@") {
		return "holds user information, which a URL here may not" // not repeated: it may be a password
	}
	u, err := url.Parse(s)
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"\\<>^`{|}", r) }
	if err != nil || strings.ContainsFunc(s, odd) {
		return quote(s) + " is not a URL"
	}
	_, portErr := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return quote(s) + " is not an https URL"
	case u.Hostname() == "":
		return quote(s) + " has no host"
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return quote(s) + " is not an https URL (http is for localhost and loopback addresses only)"
	case u.Port() != "" && portErr != nil:
		return quote(s) + " has no port between 0 and 65535"
	case strings.Contains(s, "#"):
		return quote(s) + " has a fragment"
	case !query && strings.Contains(s, "?"):
		return quote(s) + " has a query"
	}
	return ""
}

// tokenSyntax is a header name, a scheme or a cookie name (RFC 9110, section 5.6.2).
var tokenSyntax = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// maxCredentials bounds the places to look into on every request.
const maxCredentials = 16

func (k *checker) credentials() {
	all := k.c.Credentials
	if len(all) > maxCredentials {
		k.bad("credentials", "holds %d places, at most %d are supported", len(all), maxCredentials)
		return
	}
	for i := range all {
		cr := &all[i]
		key := fmt.Sprintf("credentials[%d]", i)
		if k.d.broken[key] {
			continue
		}
		cr.Header = strings.ToLower(cr.Header)
		switch {
		case (cr.Header == "") == (cr.Cookie == ""):
			k.bad(key, "must have a header or a cookie, one of the two")
		case cr.Cookie != "" && cr.Scheme != "":
			k.bad(key+".scheme", "has no effect on a cookie")
		case cr.Cookie != "" && !tokenSyntax.MatchString(cr.Cookie):
			k.bad(key+".cookie", "%s is not the name of a cookie", quote(cr.Cookie))
		case cr.Header != "" && !tokenSyntax.MatchString(cr.Header):
			k.bad(key+".header", "%s is not the name of a header", quote(cr.Header))
		case cr.Header == "cookie":
			k.bad(key+".header", "cookies have a key of their own: cookie: NAME")
		case cr.Scheme != "" && !tokenSyntax.MatchString(cr.Scheme):
			k.bad(key+".scheme", "%s is not an authentication scheme", quote(cr.Scheme))
		}
		if j := slices.IndexFunc(all[:i], cr.overlaps); j >= 0 {
			k.bad(key, "is read by credentials[%d] too", j)
		}
	}
}

// overlaps reports whether one value would count as two credentials, and so
// always be refused.
func (cr *Credential) overlaps(other Credential) bool {
	if cr.Header == "" {
		return other.Header == "" && cr.Cookie == other.Cookie && cr.Cookie != ""
	}
	return cr.Header == other.Header &&
		(cr.Scheme == "" || other.Scheme == "" || strings.EqualFold(cr.Scheme, other.Scheme))
}

func (k *checker) policies() {
	for i := range k.c.Policies {
		p := &k.c.Policies[i]
		k.name(p.Key, p.Name)
		k.policyNames = append(k.policyNames, p.Name)
		for _, m := range p.Matching {
			switch {
			case !roleDefinition.MatchString(m.Name):
				k.bad(m.Key, "%s is no role definition: g, g2, ...", quote(m.Name))
			case m.Role == "" && m.Domain == "" && !k.d.broken[m.Key+".role"] && !k.d.broken[m.Key+".domain"]:
				k.bad(m.Key, "must have role or domain")
			}
		}
	}
}

// The names that a model gives its definitions.
var (
	roleDefinition    = regexp.MustCompile(`^g[0-9]*$`)
	sectionDefinition = regexp.MustCompile(`^[rpem][0-9]*$`)
)

// sections checks which definitions of its policy's model a route uses.
func (k *checker) sections(r *Route) {
	key := r.Key + ".sections"
	for _, s := range []struct{ kind, name string }{{"r", r.Sections.R}, {"p", r.Sections.P}, {"e", r.Sections.E}, {"m", r.Sections.M}} {
		if s.name != "" && (!sectionDefinition.MatchString(s.name) || s.name[:1] != s.kind) {
			k.bad(key+"."+s.kind, "%s is no such definition: %s, %s2, ...", quote(s.name), s.kind, s.kind)
		}
	}
	if r.Allow && r.Sections != (Sections{"r", "p", "e", "m"}) && !k.d.broken[key] {
		k.bad(key, "has no effect without a policy")
	}
}
