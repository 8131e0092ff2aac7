package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// An attack is one row of testdata/bypass/*.txt; README.md beside them says
// how to read it.
type attack struct {
	id     string
	at     string // file:line
	caller string // ada, max, bob or nobody, which is empty
	raw    string // bytes of HTTP/1, or:
	fields []harness.Field
	body   string            // of HTTP/2
	want   map[string]string // the answer at each edge
}

// rowHeader tells the upstream which attack a request belongs to, and where
// it was sent to.
const rowHeader = "x-row"

var attackID = regexp.MustCompile(`^[a-z]+-[0-9]{2,3}$`)

// loadAttacks reads every row.
func loadAttacks(t *testing.T) []*attack {
	t.Helper()
	files, err := filepath.Glob("testdata/bypass/*.txt")
	if err != nil || files == nil {
		t.Fatalf("no rows: %v", err)
	}
	minor := envoyMinor(t)
	var all []*attack
	seen := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		why := ""
		for n, line := range strings.Split(string(text), "\n") {
			at := fmt.Sprintf("%s:%d", file, n+1)
			switch {
			case strings.HasPrefix(line, "## "):
				why = line
				continue
			case line == "", strings.HasPrefix(line, "#"):
				continue
			}
			a, err := parseAttack(line, minor)
			if err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			if why == "" {
				t.Fatalf("%s: no heading says why", at)
			}
			if before := seen[a.id]; before != "" {
				t.Fatalf("%s: %s stands at %s already", at, a.id, before)
			}
			a.at, seen[a.id] = at, at
			all = append(all, a)
		}
	}
	return all
}

// parseAttack reads `ID CALLER REQUEST => ANSWERS`.
func parseAttack(line string, minor int) (*attack, error) {
	words, err := split(line)
	if err != nil {
		return nil, err
	}
	arrow := slices.Index(words, "=>")
	if arrow < 4 || !attackID.MatchString(words[0]) {
		return nil, errors.New("want ID CALLER METHOD TARGET => ANSWERS")
	}
	a := &attack{id: words[0], want: make(map[string]string)}
	switch words[1] {
	case "ada", "max", "bob":
		a.caller = words[1]
	case "nobody":
	default:
		return nil, fmt.Errorf("caller %q", words[1])
	}
	request, answers := words[2:arrow], words[arrow+1:]
	switch request[0] {
	case "raw":
		a.raw = request[1]
		if len(request) != 2 || !strings.Contains(a.raw, "{}") {
			return nil, errors.New("want raw \"...{}...\"")
		}
	case "h2":
		if len(request) < 3 {
			return nil, errors.New("want h2 METHOD TARGET")
		}
		a.http2(request[1:])
	default:
		a.http1(request)
	}
	return a, a.parseAnswers(answers, minor)
}

// http1 writes METHOD TARGET [host=HOST] ["Header: value"...].
func (a *attack) http1(words []string) {
	host, lines := "Host: api.test\r\n", ""
	for _, w := range words[2:] {
		if h, ok := strings.CutPrefix(w, "host="); ok {
			host = "Host: " + h + "\r\n"
		} else {
			lines += w + "\r\n"
		}
	}
	a.raw = words[0] + " " + words[1] + " HTTP/1.1\r\n" + host + "{}" + lines + "\r\n"
}

// http2 collects METHOD TARGET [host=HOST] [body=BODY] ["name: value"...]; a
// name may be that of a pseudo-header.
func (a *attack) http2(words []string) {
	pseudo := []harness.Field{{Name: ":method", Value: words[0]}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: words[1]}}
	host := harness.Field{Name: ":authority", Value: "api.test"}
	for _, w := range words[2:] {
		if h, ok := strings.CutPrefix(w, "host="); ok {
			host.Value = h
		} else if b, ok := strings.CutPrefix(w, "body="); ok {
			a.body = b
		} else {
			i := strings.Index(w[1:], ": ") + 1 // a colon may come first
			a.fields = append(a.fields, harness.Field{Name: w[:i], Value: w[i+2:]})
		}
	}
	a.fields = slices.Concat(pseudo, []harness.Field{host}, a.fields)
}

// parseAnswers reads `ANSWERS [|| before VERSION ANSWERS]` and keeps those for
// this minor version of Envoy.
func (a *attack) parseAnswers(words []string, minor int) error {
	i := slices.Index(words, "||")
	if i < 0 {
		return a.parseEdges(words)
	}
	if len(words) < i+4 || words[i+1] != "before" {
		return errors.New("want || before VERSION ANSWERS")
	}
	version, err := strconv.Atoi(strings.TrimPrefix(words[i+2], "1."))
	if err != nil {
		return fmt.Errorf("version %q: %w", words[i+2], err)
	}
	if minor < version {
		return a.parseEdges(words[i+3:])
	}
	return a.parseEdges(words[:i])
}

// parseEdges reads `[EDGE,EDGE] ANSWER | ANSWER`: the one without names is
// for all other edges.
func (a *attack) parseEdges(words []string) error {
	rest := ""
	for answer := range strings.SplitSeq(strings.Join(words, " "), "|") {
		first, what, _ := strings.Cut(strings.TrimSpace(answer), " ")
		if first == "closed" || first != "" && first[0] >= '1' && first[0] <= '9' {
			if rest != "" {
				return errors.New("two answers for all other edges")
			}
			rest = strings.TrimSpace(answer)
			continue
		}
		for name := range strings.SplitSeq(first, ",") {
			if !slices.ContainsFunc(edgeKinds, func(k edgeKind) bool { return k.name == name }) || a.want[name] != "" || what == "" {
				return fmt.Errorf("answer %q", answer)
			}
			a.want[name] = what
		}
	}
	for _, k := range edgeKinds {
		if a.want[k.name] == "" {
			a.want[k.name] = rest
		}
		if a.want[k.name] == "" {
			return fmt.Errorf("no answer for %s", k.name)
		}
	}
	return nil
}

// split cuts a line into words. A word in double quotes is a string as Go
// writes it; the quotes may come after an equals sign.
func split(line string) (words []string, err error) {
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		word := ""
		for _, key := range []string{"host=", "body="} {
			if strings.HasPrefix(line, key+`"`) {
				word, line = key, line[len(key):]
			}
		}
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("string at %.20s: %w", line, err)
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, err
			}
			word, line = word+text, line[len(quoted):]
		} else {
			end := strings.IndexByte(line+" ", ' ')
			word, line = line[:end], line[end:]
		}
		words = append(words, word)
	}
	return words, nil
}
