package config

import (
	"net/url"
	"strings"
)

func (k *checker) issuers() {
	urls, names := map[string]string{}, map[string]string{}
	for i := range k.c.Issuers {
		is := &k.c.Issuers[i]
		if k.d.broken[is.Key] {
			k.issuerNames = append(k.issuerNames, "")
			continue
		}
		k.issuer(is)
		k.issuerNames = append(k.issuerNames, is.Name)
		if first, twice := urls[is.Issuer]; twice {
			k.bad(is.Key+".issuer", "%s is %s already", quote(is.Issuer), first)
		} else if is.Issuer != "" {
			urls[is.Issuer] = is.Key
		}
		if is.Name == "" {
			continue
		}
		if first, twice := names[is.Name]; twice {
			k.bad(is.Key+".name", "%s is the name of %s already", quote(is.Name), first)
		} else {
			names[is.Name] = is.Key
		}
	}
}

func (k *checker) issuer(is *Issuer) {
	if is.Issuer != "" {
		if msg := wrongURL(is.Issuer, false); msg != "" {
			k.bad(is.Key+".issuer", "%s", msg)
		} else if u, err := url.Parse(is.Issuer); err == nil && is.Name == "" && !k.d.broken[is.Key+".name"] {
			is.Name = strings.ToLower(u.Hostname())
			if !nameSyntax.MatchString(is.Name) {
				k.bad(is.Key+".name", "is required: the host %s is not a name ([a-z0-9][a-z0-9._-]*)", quote(is.Name))
			}
		}
	}
	if k.given(is.Key+".name") && is.Name != "" {
		k.name(is.Key+".name", is.Name)
	}
	if is.JWKSURI != "" {
		if msg := wrongURL(is.JWKSURI, true); msg != "" {
			k.bad(is.Key+".jwksURI", "%s", msg)
		}
		if is.JWKSFile.Path != "" {
			k.bad(is.Key+".jwksFile", "contradicts jwksURI: keep one of them")
		}
	}
	for _, list := range []struct {
		key   string
		claim []string
	}{
		{"roles", is.Claims.Roles}, {"scopes", is.Claims.Scopes}, {"tenant", is.Claims.Tenant},
		{"client", is.Claims.Client}, {"audience", is.Claims.Audience},
	} {
		for i, claim := range list.claim {
			if !pointer(claim) {
				k.bad(k.item(is.Key+".claims."+list.key, i), "%s is not a JSON Pointer: ~ is written ~0", quote(claim))
			}
		}
	}
}

// pointer reports whether a claim that begins like a JSON Pointer is one (RFC
// 6901, section 3). Any other name will do.
func pointer(claim string) bool {
	if !strings.HasPrefix(claim, "/") {
		return true
	}
	rest := strings.NewReplacer("~0", "", "~1", "").Replace(claim)
	return !strings.Contains(rest, "~")
}
