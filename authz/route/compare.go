package route

import (
	"fmt"
	"strings"
)

// A relation says how what one pattern matches lies to what another does. The
// relation of two patterns is that of their methods and of each pair of their
// segments, or-ed: wider in one and narrower in another is an overlap.
type relation uint8

const (
	same     relation = 0
	wider    relation = 1
	narrower relation = 2
	overlap           = wider | narrower
	disjoint relation = 4 // with any other bit
)

// compare returns the relation of p to q, by the rules of net/http.ServeMux.
func (p *pattern) compare(q *pattern) relation {
	r := p.compareMethod(q) | p.comparePath(q)
	if r&disjoint != 0 {
		return disjoint
	}
	return r
}

// compareMethod knows that no method means all of them, and that GET covers
// HEAD.
func (p *pattern) compareMethod(q *pattern) relation {
	switch {
	case p.method == q.method:
		return same
	case p.method == "", p.method == "GET" && q.method == "HEAD":
		return wider
	case q.method == "", q.method == "GET" && p.method == "HEAD":
		return narrower
	}
	return disjoint
}

func (p *pattern) comparePath(q *pattern) relation {
	if p.kind != q.kind {
		return disjoint
	}
	r := same
	for i := 0; i < len(p.segments) && i < len(q.segments); i++ {
		a, b := p.segments[i], q.segments[i]
		r |= a.compare(b)
		if r&disjoint != 0 {
			return disjoint
		}
		if a.kind == rest || b.kind == rest {
			return r // whatever follows in the other is narrower, as is this segment
		}
	}
	if len(p.segments) != len(q.segments) {
		return disjoint
	}
	return r
}

func (a segment) compare(b segment) relation {
	switch {
	case a.kind == literal && b.kind == literal && a.text != b.text,
		a.kind == literal && a.text == endOfPath && b.kind == single,
		b.kind == literal && b.text == endOfPath && a.kind == single:
		return disjoint
	case a.kind > b.kind:
		return wider
	case a.kind < b.kind:
		return narrower
	}
	return same
}

// conflict explains why p and q, both of the group of rule, cannot stand side
// by side, and what would help.
func conflict(p, q *pattern, rule hostRule) error {
	where := ""
	if rule.kind != anyHost {
		where = fmt.Sprintf(" on host %q", rule)
	}
	other, hosts := fmt.Sprintf("pattern %q of the same route", q.text), ""
	if p.entry != q.entry {
		other, hosts = fmt.Sprintf("pattern %q of route %q", q.text, q.entry.name), ", or give their routes different hosts"
	}
	if p.compare(q) == same {
		return fmt.Errorf("pattern %q matches the same requests as %s%s: remove one%s", p.text, other, where, hosts)
	}

	both := p.method
	if p.compareMethod(q) == wider {
		both = q.method
	}
	sample := strings.TrimSpace(both + " " + commonPath(p, q))
	wayOut := "change one so that it does not match that or covers the other"
	if paths := p.comparePath(q); paths == wider || paths == narrower {
		// Then the methods lie the other way round, and equal methods leave
		// the narrower path the narrower pattern.
		wayOut = fmt.Sprintf("write %q instead of %q, or %q instead of %q",
			withMethod(q.method, p), p.text, withMethod(p.method, q), q.text)
	}
	return fmt.Errorf("pattern %q and %s both match %q%s, and neither is narrower: %s%s", p.text, other, sample, where, wayOut, hosts)
}

func withMethod(method string, p *pattern) string {
	return strings.TrimSpace(method + " " + p.path)
}

// commonPath returns a path that both patterns match.
func commonPath(p, q *pattern) string {
	var b strings.Builder
	for i := 0; i < max(len(p.segments), len(q.segments)); i++ {
		var s segment
		switch {
		case i >= len(p.segments):
			s = q.segments[i]
		case i >= len(q.segments) || p.segments[i].kind < q.segments[i].kind:
			s = p.segments[i]
		default:
			s = q.segments[i]
		}
		b.WriteByte('/')
		if s.kind != rest && s.text != endOfPath {
			b.WriteString(s.text)
		}
	}
	return b.String()
}
