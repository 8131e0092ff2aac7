package policy

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/casbin/casbin/v2/util"
	"github.com/casbin/govaluate"
)

// operator describes a function that Casbin offers to matchers.
type operator struct {
	args    int
	pattern bool // the second argument is a pattern that has to be prepared
	get     bool // the result is a string
}

var operators = map[string]operator{
	"keyMatch":   {args: 2, pattern: true},
	"keyMatch2":  {args: 2, pattern: true},
	"keyMatch3":  {args: 2, pattern: true},
	"keyMatch4":  {args: 2, pattern: true},
	"keyMatch5":  {args: 2, pattern: true},
	"keyGet":     {args: 2, pattern: true, get: true},
	"keyGet2":    {args: 3, pattern: true, get: true},
	"keyGet3":    {args: 3, pattern: true, get: true},
	"regexMatch": {args: 2, pattern: true},
	"ipMatch":    {args: 2, pattern: true},
	"globMatch":  {args: 2, pattern: true},
}

// patterns holds every pattern that stands in a rule or a model, compiled at
// load: Casbin compiles keyMatch2, 3, 5 and regexMatch on each call and keeps
// those of keyMatch4 and keyGet in a global map that never shrinks. Patterns
// that the functions of path.go can match as they stand need no entry.
// Read-only after the load.
type patterns struct {
	byOp map[string]map[string]*pattern
}

type pattern struct {
	re   *regexp.Regexp
	keys []string // names of the captured values, in order
	ip   net.IP
	cidr *net.IPNet
}

func newPatterns() *patterns {
	ps := &patterns{byOp: map[string]map[string]*pattern{}}
	for op := range operators {
		ps.byOp[op] = map[string]*pattern{}
	}
	return ps
}

// prepare compiles text as a pattern of op, once. An error says why Casbin
// could not use it.
func (ps *patterns) prepare(op, text string) error {
	if _, ok := ps.byOp[op][text]; ok || native(op, text) {
		return nil
	}
	p, err := compilePattern(op, text)
	if err != nil {
		return err
	}
	if p != nil {
		ps.byOp[op][text] = p
	}
	return nil
}

var (
	colonParam = regexp.MustCompile(`:[^/]+`)
	braceParam = regexp.MustCompile(`\{[^/]+\}`)
	braceShort = regexp.MustCompile(`\{[^/]+?\}`)
)

// compilePattern builds what Casbin's operator of that name would build on
// each call. It returns nil for operators that compile nothing.
func compilePattern(op, text string) (*pattern, error) {
	stars := strings.ReplaceAll(text, "/*", "/.*")
	switch op {
	case "keyMatch2":
		return anchored(colonParam.ReplaceAllLiteralString(stars, "[^/]+"), nil)
	case "keyMatch3", "keyMatch5":
		return anchored(braceParam.ReplaceAllLiteralString(stars, "[^/]+"), nil)
	case "keyMatch4":
		var keys []string
		for _, m := range braceParam.FindAllString(stars, -1) {
			keys = append(keys, m[1:len(m)-1])
		}
		p, err := anchored(braceParam.ReplaceAllLiteralString(stars, "([^/]+)"), keys)
		if err == nil && p.re.NumSubexp() != len(keys) {
			return nil, errors.New("groups of its own next to {parameters}")
		}
		return p, err
	case "keyGet2":
		var keys []string
		for _, m := range colonParam.FindAllString(stars, -1) {
			keys = append(keys, m[1:])
		}
		return anchored(colonParam.ReplaceAllLiteralString(stars, "([^/]+)"), keys)
	case "keyGet3":
		var keys []string
		for _, m := range braceShort.FindAllString(stars, -1) {
			keys = append(keys, m[1:len(m)-1])
		}
		return anchored(braceShort.ReplaceAllLiteralString(stars, "([^/]+?)"), keys)
	case "regexMatch":
		re, err := regexp.Compile(text)
		return &pattern{re: re}, err
	case "ipMatch":
		if _, cidr, err := net.ParseCIDR(text); err == nil {
			return &pattern{cidr: cidr}, nil
		}
		if ip := net.ParseIP(text); ip != nil {
			return &pattern{ip: ip}, nil
		}
		return nil, errors.New("neither an IP address nor a CIDR block")
	case "globMatch":
		_, err := util.GlobMatch("", text)
		return nil, err
	}
	return nil, nil
}

func anchored(expr string, keys []string) (*pattern, error) {
	re, err := regexp.Compile("^" + expr + "$")
	return &pattern{re: re, keys: keys}, err
}

// native reports whether op matches text without anything compiled.
func native(op, text string) bool {
	switch op {
	case "keyMatch", "keyGet":
		return true
	case "keyMatch2":
		return simplePath(text, ':')
	case "keyMatch3", "keyMatch5":
		return simplePath(text, '{')
	case "keyMatch4":
		return simplePath(text, 0)
	case "regexMatch":
		return plainText(text) && regexp.QuoteMeta(text) == text
	}
	return false
}

// errUnprepared cannot happen: the loader prepares every pattern.
var errUnprepared = errors.New("pattern was not compiled at load")

// match runs a boolean operator other than g.
func (ps *patterns) match(op, value, text string) (bool, error) {
	p := ps.byOp[op][text]
	switch op {
	case "keyMatch":
		return util.KeyMatch(value, text), nil
	case "globMatch":
		return util.GlobMatch(value, text)
	case "ipMatch":
		ip := net.ParseIP(value)
		switch {
		case ip == nil:
			return false, fmt.Errorf("ipMatch: %q is no IP address", value)
		case p == nil:
			return false, errUnprepared
		case p.cidr != nil:
			return p.cidr.Contains(ip), nil
		}
		return p.ip.Equal(ip), nil
	case "keyMatch5":
		value, _, _ = strings.Cut(value, "?")
	}
	if p != nil {
		if op == "keyMatch4" {
			return p.sameKeys(value), nil
		}
		return p.re.MatchString(value), nil
	}
	switch op {
	case "keyMatch2":
		return matchPath(value, text, ':'), nil
	case "keyMatch3", "keyMatch5":
		return matchPath(value, text, '{'), nil
	case "keyMatch4":
		return matchPath(value, text, 0), nil
	case "regexMatch":
		return strings.Contains(value, text), nil
	}
	return false, errUnprepared
}

// sameKeys matches, and demands that a name which stands twice captures the
// same text twice.
func (p *pattern) sameKeys(value string) bool {
	m := p.re.FindStringSubmatch(value)
	if m == nil {
		return false
	}
	for i, k := range p.keys {
		for j := range i {
			if p.keys[j] == k && m[j+1] != m[i+1] {
				return false
			}
		}
	}
	return true
}

// get runs an operator that returns what a pattern captured.
func (ps *patterns) get(op, value, text, name string) (string, error) {
	if op == "keyGet" {
		return util.KeyGet(value, text), nil
	}
	p := ps.byOp[op][text]
	if p == nil {
		return "", errUnprepared
	}
	m := p.re.FindStringSubmatch(value)
	for i, k := range p.keys {
		if m != nil && k == name {
			return m[i+1], nil
		}
	}
	return "", nil
}

// function returns op as an expression calls it. The first argument is always
// the evaluation, see rewrite.
func (ps *patterns) function(op string) govaluate.ExpressionFunction {
	want := operators[op].args
	return func(args ...any) (any, error) {
		if len(args) != want+1 {
			return nil, fmt.Errorf("%s: expected %d arguments, got %d", op, want, len(args)-1)
		}
		var texts [3]string
		for i, a := range args[1:] {
			t, ok := a.(string)
			if !ok {
				return nil, fmt.Errorf("%s: argument %d is no string", op, i+1)
			}
			texts[i] = t
		}
		if operators[op].get {
			return ps.get(op, texts[0], texts[1], texts[2])
		}
		return ps.match(op, texts[0], texts[1])
	}
}
