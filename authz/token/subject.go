package token

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
)

// subject builds who the claims speak for. It refuses names that could be
// read as something else further on.
func (i *issuer) subject(claims map[string]any, t times) (*authz.Subject, error) {
	s := &authz.Subject{Issuer: i.Name, Kind: authz.User, IssuedAt: time.Unix(t.iat, 0).UTC(), Claims: claims}
	for _, n := range []struct {
		name string
		into *string
	}{{"sub", &s.Sub}, {"jti", &s.TokenID}, {"sid", &s.SessionID}} {
		v, there := claims[n.name]
		if !there {
			continue
		}
		var err error
		if *n.into, err = name(n.name, v); err != nil {
			return nil, err
		}
	}
	if err := i.party(s, claims); err != nil {
		return nil, err
	}
	if err := i.grants(s, claims); err != nil {
		return nil, err
	}
	s.ACR, _ = claims["acr"].(string)
	if list, ok := claims["amr"].([]any); ok {
		s.AMR, _ = texts(list)
	}
	// auth_time of another form is unknown; iat would be no substitute.
	if n, ok := numericDate(claims["auth_time"], false); ok {
		s.AuthTime = time.Unix(n, 0).UTC()
	}
	return s, nil
}

// party sets client and id. A client that speaks for itself has its own
// namespace, because nothing keeps an issuer from giving a user the name of a
// client (RFC 9700 section 4.15).
func (i *issuer) party(s *authz.Subject, claims map[string]any) error {
	for _, p := range i.client {
		v, there := p.find(claims)
		if !there {
			continue
		}
		client, err := name("client id", v)
		if err != nil {
			return err
		}
		if s.Client == "" {
			s.Client = client
		}
		if client == s.Sub {
			s.Kind = authz.Client
		}
	}
	for _, n := range []string{"client_id", "azp"} { // whatever claims.client says
		if v, there := claims[n]; there {
			client, err := name(n, v)
			if err != nil {
				return err
			}
			if client == s.Sub {
				s.Kind = authz.Client
			}
		}
	}
	s.ID = string(s.Kind) + ":" + i.Name + "/" + s.Sub
	return nil
}

// grants collects roles, scopes and tenant. What has another form than these
// may have grants nothing.
func (i *issuer) grants(s *authz.Subject, claims map[string]any) error {
	for _, p := range i.roles {
		if v, there := p.find(claims); there {
			roles, _ := texts(v)
			s.Roles = appendNew(s.Roles, roles)
		}
	}
	for _, p := range i.scopes {
		if v, there := p.find(claims); there {
			scopes, _ := texts(v)
			if text, ok := v.(string); ok {
				scopes = strings.Split(text, " ") // RFC 8693 section 4.2
			}
			s.Scopes = appendNew(s.Scopes, scopes)
		}
	}
	if v, there := first(i.tenant, claims); there {
		s.Tenant, _ = v.(string)
	}
	if slices.ContainsFunc(s.Roles, jws.HasControl) || slices.ContainsFunc(s.Scopes, jws.HasControl) || jws.HasControl(s.Tenant) {
		return invalid(authz.BadClaim, "a role, a scope or the tenant holds a control character")
	}
	return nil
}

// appendNew appends what is neither empty nor there yet.
func appendNew(list, more []string) []string {
	for _, s := range more {
		if s != "" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// name reads a claim that ends up in ids and records.
func name(what string, v any) (string, error) {
	s, _ := v.(string)
	if s == "" || len(s) > jws.MaxName || jws.HasControl(s) {
		return "", invalid(authz.BadClaim, what+" is not a string, is empty, too long, or holds a control character")
	}
	return s, nil
}
