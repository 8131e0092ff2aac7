package route

import (
	"fmt"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
)

// A Guard names the request headers that a client must not shadow. Case does
// not matter.
type Guard struct {
	Owned       []string // set or removed on each allow
	Credentials []string // read for tokens
}

// A guard looks for headers that an upstream may take for one of ours. It
// reads each name once and allocates nothing for names up to 64 bytes.
type guard struct {
	lengths []bool          // by length: whether there is a name of it
	names   map[string]bool // lower case
	folded  map[string]bool // lower case, with - for _
	owned   map[string]bool // folded
}

func newGuard(g Guard) guard {
	t := guard{names: make(map[string]bool), folded: make(map[string]bool), owned: make(map[string]bool)}
	for i, name := range append(append([]string(nil), g.Owned...), g.Credentials...) {
		for len(t.lengths) <= len(name) {
			t.lengths = append(t.lengths, false)
		}
		t.lengths[len(name)] = true
		folded := string(appendFolded(nil, name))
		t.names[strings.ToLower(name)] = true
		t.folded[folded] = true
		if i < len(g.Owned) {
			t.owned[folded] = true
		}
	}
	return t
}

// check returns an error for a header whose name differs from one of ours
// only in - and _, which CGI and its heirs take for the same, and for a
// connection header that would make the upstream drop an owned header as hop
// by hop (RFC 9110 section 7.6.1). Envoy keeps both.
func (g *guard) check(headers []authz.Header) error {
	for i := range headers {
		name := headers[i].Name
		if g.listed(g.folded, name) && !g.names[strings.ToLower(name)] {
			return fmt.Errorf("header %q shadows one that differs in - and _", name)
		}
		if strings.EqualFold(name, "connection") {
			if err := g.checkConnection(headers[i].Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkConnection takes all that cannot be part of a name for a separator.
func (g *guard) checkConnection(value string) error {
	for start, i := 0, 0; i <= len(value); i++ {
		if i < len(value) && tokenBytes[value[i]] {
			continue
		}
		if name := value[start:i]; g.listed(g.owned, name) {
			return fmt.Errorf("connection names the header %q", name)
		}
		start = i + 1
	}
	return nil
}

// listed reports whether set holds name, folded.
func (g *guard) listed(set map[string]bool, name string) bool {
	if len(name) >= len(g.lengths) || !g.lengths[len(name)] {
		return false
	}
	var room [64]byte
	return set[string(appendFolded(room[:0], name))]
}

// appendFolded appends name in lower case and with - for _.
func appendFolded(b []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '_':
			c = '-'
		}
		b = append(b, c)
	}
	return b
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2, as methods
// and header names are.
func isToken(s string) bool {
	for i := range len(s) {
		if !tokenBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

var tokenBytes = byteSet("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~")
