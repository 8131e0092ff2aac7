package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A hostKind is a way in which a rule matches hosts, the most specific first.
type hostKind uint8

const (
	exactHost hostKind = iota
	suffixHost
	prefixHost
	anyHost
)

// A hostRule is one entry of hosts: a domain as Envoy's virtual hosts write
// it. text is in lower case and lacks the asterisk.
type hostRule struct {
	kind hostKind
	text string
}

func (r hostRule) String() string {
	switch r.kind {
	case exactHost:
		return r.text
	case suffixHost:
		return "*" + r.text
	case prefixHost:
		return r.text + "*"
	}
	return "*"
}

// parseHostRule reads one entry of hosts.
func parseHostRule(s string) (hostRule, error) {
	bad := func(why string) (hostRule, error) { return hostRule{}, fmt.Errorf("host %q %s", s, why) }
	switch {
	case s == "":
		return hostRule{}, errors.New("host is empty")
	case s == "*":
		return hostRule{kind: anyHost}, nil
	case len(s) > maxHost+1:
		return bad("is too long")
	case strings.Contains(s, "/"):
		return bad("is a URL or has a path: name the host alone")
	case strings.Count(s, "*") > 1:
		return bad("has more than one *")
	}
	text := strings.ToLower(s)

	if text[0] == '[' {
		if end := strings.IndexByte(text, ']'); end > 0 && strings.HasPrefix(text[end+1:], ":") {
			return bad("has a port: hosts are compared without it")
		}
		if text[len(text)-1] != ']' || !isIPv6(text[1:len(text)-1]) {
			return bad("is not an IPv6 address in brackets")
		}
		return hostRule{kind: exactHost, text: text}, nil
	}
	if isIPv6(text) {
		return bad("is an IPv6 address without brackets")
	}
	if strings.Contains(text, ":") {
		return bad("has a port: hosts are compared without it")
	}

	rule := hostRule{kind: exactHost, text: text}
	if rest, ok := strings.CutPrefix(text, "*"); ok {
		rule = hostRule{kind: suffixHost, text: rest}
	} else if rest, ok := strings.CutSuffix(text, "*"); ok {
		rule = hostRule{kind: prefixHost, text: rest}
	}
	if rule.kind != prefixHost {
		rule.text = strings.TrimSuffix(rule.text, ".")
	}
	if strings.Contains(rule.text, "*") {
		return bad("has a * that is neither first nor last")
	}
	// The asterisk stands for at least one character.
	var example string
	switch rule.kind {
	case suffixHost:
		example = "x" + rule.text
	case prefixHost:
		example = rule.text + "x"
	default:
		example = rule.text
	}
	if rule.text == "" || !isHostName(example) {
		return bad("is not a host name")
	}
	return rule, nil
}

// A hostIndex finds the groups of patterns whose host rule matches, the most
// specific rule first: exact, longest suffix, longest prefix, any.
type hostIndex struct {
	exact    map[string]*group
	suffixes []affixes // longest first
	prefixes []affixes
	any      *group
}

// affixes are the groups of suffixes, or prefixes, of one length.
type affixes struct {
	length int
	groups map[string]*group
}

// group returns the group of a rule; it makes one where there is none.
func (x *hostIndex) group(r hostRule) *group {
	switch r.kind {
	case exactHost:
		if x.exact == nil {
			x.exact = make(map[string]*group)
		}
		return getOrMake(x.exact, r.text)
	case suffixHost:
		return affixGroup(&x.suffixes, r.text)
	case prefixHost:
		return affixGroup(&x.prefixes, r.text)
	}
	if x.any == nil {
		x.any = new(group)
	}
	return x.any
}

func affixGroup(list *[]affixes, text string) *group {
	i, ok := slices.BinarySearchFunc(*list, len(text), func(a affixes, n int) int { return cmp.Compare(n, a.length) })
	if !ok {
		*list = slices.Insert(*list, i, affixes{length: len(text), groups: make(map[string]*group)})
	}
	return getOrMake((*list)[i].groups, text)
}

func getOrMake(m map[string]*group, key string) *group {
	g := m[key]
	if g == nil {
		g = new(group)
		m[key] = g
	}
	return g
}

// find returns the most specific pattern of the most specific host rule that
// has one for this request; nil for an empty host, which no rule matches.
func (x *hostIndex) find(host, method, path string) *pattern {
	if host == "" {
		return nil
	}
	if p := x.exact[host].find(method, path); p != nil {
		return p
	}
	for _, s := range x.suffixes {
		if s.length < len(host) {
			if p := s.groups[host[len(host)-s.length:]].find(method, path); p != nil {
				return p
			}
		}
	}
	for _, s := range x.prefixes {
		if s.length < len(host) {
			if p := s.groups[host[:s.length]].find(method, path); p != nil {
				return p
			}
		}
	}
	return x.any.find(method, path)
}
