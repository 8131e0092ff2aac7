package token

import (
	"slices"

	"github.com/sallyport-authz/sallyport/authz"
)

// readAudiences returns what a token is for: one string, or a list of them
// (RFC 7519 section 4.1.3). Comparison is exact: no prefixes, no folding.
func (i *issuer) readAudiences(claims map[string]any) ([]string, error) {
	v, there := first(i.audience, claims)
	if !there {
		return nil, invalid(authz.MissingClaim, "no audience")
	}
	auds, ok := texts(v)
	if std, there := claims["aud"]; there && ok {
		_, ok = texts(std) // go-oidc reads aud, whatever else is configured
	}
	if !ok {
		return nil, invalid(authz.BadClaim, "audience is neither a string nor a list of strings")
	}
	return auds, nil
}

// matched returns the audience of a token that is one of ours, or nothing. None
// of ours is empty.
func matched(auds, ours []string) string {
	for _, a := range auds {
		if slices.Contains(ours, a) {
			return a
		}
	}
	return ""
}

func wrongAudience() error {
	return invalid(authz.WrongAudience, "token is for another audience")
}

// texts returns a string, or a list of nothing but strings.
func texts(v any) ([]string, bool) {
	switch v := v.(type) {
	case string:
		return []string{v}, true
	case []any:
		list := make([]string, len(v))
		for i, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			list[i] = s
		}
		return list, true
	}
	return nil, false
}
