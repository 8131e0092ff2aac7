package extauthz

import (
	"net/url"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/sallyport-authz/sallyport/authz"
)

// queryMutations renders QuerySet and QueryRemove. Envoy compares names as
// they are written, while an upstream decodes them: so each spelling of a name
// that the request has (de%62ug for debug) is removed as well. Any mutation
// makes Envoy sort and rewrite the whole query, so a removal of what is not
// there is left out.
func queryMutations(r *authz.Request, a *authz.Answer) (set []*corev3.QueryParameter, remove []string) {
	if len(a.QuerySet) == 0 && len(a.QueryRemove) == 0 {
		return nil, nil
	}
	drop := map[string]bool{} // decoded names of which the client's copies go
	for _, name := range a.QueryRemove {
		drop[name] = true
	}
	for _, p := range a.QuerySet {
		drop[p.Name] = true
		if p.Name != "" && validQuery(p.Name) && validQuery(p.Value) && len(p.Name)+len(p.Value) <= maxValue {
			set = append(set, &corev3.QueryParameter{Key: p.Name, Value: p.Value})
		}
	}
	slices.SortStableFunc(set, func(a, b *corev3.QueryParameter) int { return strings.Compare(a.Key, b.Key) })

	_, query, _ := strings.Cut(r.Target, "?")
	for piece := range strings.SplitSeq(query, "&") {
		written, _, _ := strings.Cut(piece, "=")
		name, err := url.QueryUnescape(written)
		if err != nil {
			name = written // a broken escape stays as it is
		}
		isSet := slices.ContainsFunc(set, func(p *corev3.QueryParameter) bool { return p.Key == written })
		if drop[name] && !isSet {
			remove = append(remove, strings.ToValidUTF8(written, "!")) // as Envoy shows such bytes
		}
	}
	slices.Sort(remove)
	return set, slices.Compact(remove)
}

// validQuery reports the characters that validate_mutations takes in names and
// values of query parameters; Envoy inserts them as they are, and answers 500
// for any other, the percent sign included.
func validQuery(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '*', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}
