package route

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// ServeMux is the specification of the pattern language, so it is asked: do
// two patterns conflict, which one matches, and what do its wildcards hold?

// muxHandler tells a match from a redirect or a 404 of ServeMux's own.
type muxHandler struct {
	pattern string
	names   []string
	values  *string // name=value of each wildcard
}

func (h muxHandler) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	*h.values = ""
	for _, name := range h.names {
		*h.values += name + "=" + r.PathValue(name) + ";"
	}
}

// register adds a pattern to mux unless it panics.
func register(mux *http.ServeMux, text string, h http.Handler) (ok bool) {
	defer func() { ok = recover() == nil }()
	mux.Handle(text, h)
	return true
}

func randomPattern(rnd *rand.Rand) (text string, names []string) {
	var b strings.Builder
	if m := []string{"", "", "GET", "HEAD", "POST"}[rnd.IntN(5)]; m != "" {
		b.WriteString(m + " ")
	}
	n := rnd.IntN(4)
	for i := range n {
		switch rnd.IntN(3) {
		case 0:
			name := fmt.Sprintf("w%d", i)
			names = append(names, name)
			b.WriteString("/{" + name + "}")
		default:
			b.WriteString("/" + []string{"a", "b", "c%20d", "%7e"}[rnd.IntN(4)])
		}
	}
	switch end := rnd.IntN(6); {
	case end == 0 || n == 0 && end < 3:
		b.WriteString("/")
	case end == 1:
		b.WriteString("/{$}")
	case end == 2 || n == 0:
		names = append(names, "rest")
		b.WriteString("/{rest...}")
	}
	return b.String(), names
}

func randomTarget(rnd *rand.Rand) string {
	var b strings.Builder
	for range rnd.IntN(5) {
		b.WriteString("/" + []string{"a", "b", "c%20d", "~", "x", "%7e", "caf%C3%A9"}[rnd.IntN(7)])
	}
	if b.Len() == 0 || rnd.IntN(3) == 0 {
		b.WriteString("/")
	}
	return b.String()
}

func TestAgainstServeMux(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2)) // a test that fails must fail again
	var conflicts, matches, misses int
	for range 2000 {
		mux := http.NewServeMux()
		var values string
		var specs []Spec
		for range 1 + rnd.IntN(8) {
			text, names := randomPattern(rnd)
			next := append(specs[:len(specs):len(specs)], spec(fmt.Sprint(len(specs)), "", text))
			_, problems := New(next, Guard{})
			ok := register(mux, text, muxHandler{text, names, &values})
			if ok != (len(problems) == 0) {
				t.Fatalf("%q beside %v: ServeMux takes it: %v, we: %v", text, specs, ok, problems)
			}
			if !ok {
				conflicts++
				continue
			}
			specs = next
		}
		table := newTable(t, Guard{}, specs...)
		for range 20 {
			method, target := []string{"GET", "HEAD", "POST", "PUT"}[rnd.IntN(4)], randomTarget(rnd)
			req := httptest.NewRequest(method, target, nil)
			h, pattern := mux.Handler(req)
			want, ours := h.(muxHandler)
			if !ours && pattern != "" {
				continue // a redirect
			}
			r := get(method + " h " + target)
			got, err := table.Route(r)
			if err != nil {
				if ours {
					t.Fatalf("%s %s among %v: got %v, want %s", method, target, specs, err, want.pattern)
				}
				misses++
				continue
			}
			matches++
			mux.ServeHTTP(httptest.NewRecorder(), req)
			params := ""
			for _, p := range r.Params {
				params += p.Name + "=" + p.Value + ";"
			}
			var index int
			if _, err := fmt.Sscan(got.Name, &index); err != nil {
				t.Fatal(err)
			}
			if text := specs[index].Match[0]; !ours || text != want.pattern || params != values {
				t.Fatalf("%s %s among %v: got %s with %s, want %s with %s", method, target, specs, text, params, want.pattern, values)
			}
		}
	}
	if conflicts < 1000 || matches < 5000 || misses < 1000 {
		t.Errorf("too few cases to say anything: %d conflicts, %d matches, %d misses", conflicts, matches, misses)
	}
}

// The tree may only leave out what cannot conflict, and what is wider the one
// way is narrower the other.
func TestCompare(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6)) // a test that fails must fail again
	mirror := map[relation]relation{same: same, overlap: overlap, disjoint: disjoint, wider: narrower, narrower: wider}
	seen := make(map[relation]int)
	for range 5000 {
		a, _ := randomPattern(rnd)
		b, _ := randomPattern(rnd)
		p, err := parsePattern(a, 0)
		if err != nil {
			t.Fatal(err)
		}
		q, err := parsePattern(b, 0)
		if err != nil {
			t.Fatal(err)
		}
		rel := p.compare(q)
		seen[rel]++
		if q.compare(p) != mirror[rel] {
			t.Errorf("%s to %s is %d, and back %d", a, b, rel, q.compare(p))
		}
		if got, want := problems(spec("a", "", a), spec("b", "", b)), rel == same || rel == overlap; (got != nil) != want {
			t.Errorf("%s beside %s, relation %d: got %q", a, b, rel, got)
		}
	}
	if len(seen) != len(mirror) {
		t.Errorf("saw only %v", seen)
	}
}

// The order in which routes stand says nothing.
func TestOrderDoesNotMatter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4)) // a test that fails must fail again
	hosts := []string{"", "*", "a.test", "*.test", "a.*", "*-b.test", "b.test *.b.test"}
	for range 300 {
		var specs []Spec
		for i := range 6 {
			text, _ := randomPattern(rnd)
			next := append(specs[:len(specs):len(specs)], spec(fmt.Sprint(i), hosts[rnd.IntN(len(hosts))], text))
			if _, problems := New(next, Guard{}); len(problems) == 0 {
				specs = next
			}
		}
		shuffled := append([]Spec(nil), specs...)
		rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		one, two := newTable(t, Guard{}, specs...), newTable(t, Guard{}, shuffled...)
		for range 20 {
			line := "GET " + []string{"a.test", "x.test", "a-b.test", "x.b.test", "a.b"}[rnd.IntN(5)] + " " + randomTarget(rnd)
			if got, want := outcome(two, get(line)), outcome(one, get(line)); got != want {
				t.Fatalf("%s among %v: got %s or %s", line, specs, got, want)
			}
		}
	}
}
