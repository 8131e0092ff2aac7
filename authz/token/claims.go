package token

import (
	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
)

// maxDepth is how deep claims may be nested. Keycloak's resource_access, the
// deepest that is seen in practice, needs four.
const maxDepth = 16

// read are the claims that we, or go-oidc, give a meaning.
var read = func() map[string]string {
	folded := map[string]string{}
	for _, name := range []string{
		"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "typ", "client_id", "azp", "sid", "scope", "scp", "roles",
		"acr", "amr", "auth_time", "nonce", "at_hash", "events", "cnf", "_claim_names", "_claim_sources",
	} {
		folded[jws.Fold(name)] = name
	}
	return folded
}()

// parseClaims reads a payload. A member that another reader would take for one
// of ours, because it folds case, is refused even where ours is not there.
func parseClaims(payload []byte) (map[string]any, error) {
	claims, err := jws.ParseObject(payload, maxDepth)
	if err != nil {
		return nil, err
	}
	for name := range claims {
		if jws.Plain(name) {
			continue
		}
		if _, ours := read[jws.Fold(name)]; ours {
			return nil, invalid(authz.DuplicateMember, "claim that differs from a registered one in case only")
		}
	}
	return claims, nil
}

// checkKind tells access tokens from everything else that an issuer signs.
func (i *issuer) checkKind(typ string, claims map[string]any) error {
	required := []string{"sub", "iat", "exp"}
	if typ == typeAccess {
		required = append(required, "jti") // RFC 9068 section 2.2; iss, aud and client_id elsewhere
	}
	for _, name := range required {
		if _, there := claims[name]; !there {
			return invalid(authz.MissingClaim, "no "+name)
		}
	}
	if typ == typeAccess {
		if _, there := first(i.client, claims); !there {
			return invalid(authz.MissingClaim, "no client_id")
		}
	}
	if _, there := claims["cnf"]; there {
		return unsupportedBinding()
	}
	for _, name := range []string{"nonce", "at_hash"} { // go-oidc reads them as text in any token
		if v, there := claims[name]; there {
			if _, ok := v.(string); !ok {
				return invalid(authz.BadClaim, name+" is not a string")
			}
		}
	}
	for _, name := range []string{"_claim_names", "_claim_sources"} {
		if _, there := claims[name]; there {
			return invalid(authz.NotAccessToken, "distributed claims are for ID tokens")
		}
	}
	if typ == typeAccess {
		return nil
	}
	return i.checkPlain(claims)
}

// checkPlain refuses what only other kinds of JWT have, where the type does
// not tell (RFC 8725 section 3.12): SETs and logout tokens have events, ID
// tokens a nonce or at_hash, and Keycloak says what it is in the claim typ.
func (i *issuer) checkPlain(claims map[string]any) error {
	forbidden := []string{"events"}
	if !i.AcceptIDTokens {
		forbidden = append(forbidden, "nonce", "at_hash")
	}
	for _, name := range forbidden {
		if _, there := claims[name]; there {
			return invalid(authz.NotAccessToken, "claim "+name+" marks another kind of token")
		}
	}
	switch kind, _ := claims["typ"].(string); kind {
	case "Refresh", "Offline", "Logout":
		return invalid(authz.NotAccessToken, "claim typ marks another kind of token")
	case "ID":
		if !i.AcceptIDTokens {
			return invalid(authz.NotAccessToken, "claim typ marks an ID token")
		}
	}
	return nil
}

func unsupportedBinding() error {
	return invalid(authz.UnsupportedBinding, "token is bound to a key, and nothing here can check that")
}
