package token

import (
	"strconv"
	"strings"
)

// A path finds a value among claims.
type path struct {
	whole string   // the name as it stands; empty for a JSON Pointer
	steps []string // where whole is not a member
}

func newPath(name string) path {
	if !strings.HasPrefix(name, "/") {
		return path{whole: name, steps: strings.Split(name, ".")}
	}
	steps := strings.Split(name[1:], "/")
	for i, s := range steps {
		steps[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(s) // RFC 6901 section 4
	}
	return path{steps: steps}
}

// find returns the value at the path.
func (p path) find(claims map[string]any) (any, bool) {
	if p.whole != "" {
		if v, there := claims[p.whole]; there {
			return v, true
		}
	}
	var at any = claims
	for _, step := range p.steps {
		switch container := at.(type) {
		case map[string]any:
			v, there := container[step]
			if !there {
				return nil, false
			}
			at = v
		case []any:
			n, err := strconv.ParseUint(step, 10, 31)
			if p.whole != "" || err != nil || int(n) >= len(container) {
				return nil, false
			}
			at = container[n]
		default:
			return nil, false
		}
	}
	return at, true
}

// first returns the first value that is there.
func first(paths []path, claims map[string]any) (any, bool) {
	for _, p := range paths {
		if v, there := p.find(claims); there {
			return v, true
		}
	}
	return nil, false
}
