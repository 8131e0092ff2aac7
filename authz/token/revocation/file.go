package revocation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a revocation file: about two hundred thousand entries.
const maxFile = 16 << 20

// A Problem is a mistake in a file, with its line; zero for the whole file.
type Problem struct {
	Line    int
	Message string
}

// Load reads a revocation file: a YAML list of {jti: ID, issuer: NAME},
// {session: SID, issuer: NAME} and {subject: ID}, each with or without before:
// TIME (RFC 3339). issuers are the names that are configured. Either there is a
// list or there are problems, all of them. An empty file is an empty list.
func Load(path string, issuers []string) (*List, []Problem) {
	text, err := readFile(path)
	if err != nil {
		return nil, []Problem{{0, err.Error()}}
	}
	return Parse(text, issuers)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("file is larger than %d MiB", maxFile>>20)
	}
	return text, nil
}

// Parse reads the text of a revocation file, see [Load].
func Parse(text []byte, issuers []string) (*List, []Problem) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, []Problem{{0, err.Error()}}
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, []Problem{{second.Line, "must be one YAML document"}}
	}
	r := reader{issuers: issuers}
	l, _ := New(nil)
	if doc.Kind != 0 {
		r.list(l, doc.Content[0])
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return l, nil
}

type reader struct {
	issuers  []string
	problems []Problem
}

func (r *reader) bad(line int, format string, args ...any) {
	r.problems = append(r.problems, Problem{line, fmt.Sprintf(format, args...)})
}

func (r *reader) list(l *List, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.SequenceNode {
		r.bad(n.Line, "must be a list")
		return
	}
	for _, item := range n.Content {
		e, ok := r.entry(item)
		if !ok {
			continue
		}
		if err := l.add(e); err != nil {
			r.bad(item.Line, "%v", err)
		}
	}
}

// entry reads one item; ok is false where a problem was noted.
func (r *reader) entry(n *yaml.Node) (e Entry, ok bool) {
	if n.Kind != yaml.MappingNode {
		r.bad(n.Line, "must be a map with jti, session or subject")
		return e, false
	}
	ok = true
	fail := func(line int, format string, args ...any) {
		r.bad(line, format, args...)
		ok = false
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			fail(key.Line, "%s: is there twice", key.Value)
			continue
		}
		seen[key.Value] = true
		if value.Kind != yaml.ScalarNode || value.Value == "" || value.Tag == "!!null" {
			fail(value.Line, "%s: must be text", key.Value)
			continue
		}
		switch key.Value {
		case "jti":
			e.TokenID = value.Value
		case "session":
			e.SessionID = value.Value
		case "issuer":
			e.Issuer = value.Value
		case "subject":
			e.Subject = value.Value
		case "before":
			t, err := time.Parse(time.RFC3339, value.Value)
			if err != nil {
				fail(value.Line, "before: %q is not a time like 2026-11-22T10:00:00Z", value.Value)
			}
			e.Before = t
		default:
			fail(key.Line, "%s: unknown key (there are jti, session, subject, issuer and before)", key.Value)
		}
	}
	if err := r.known(e); err != nil {
		fail(n.Line, "%v", err)
	}
	return e, ok
}

// known catches the revocation that would never match: a misspelt issuer.
func (r *reader) known(e Entry) error {
	issuer := e.Issuer
	if e.Subject != "" {
		issuer = subjectIssuer(e.Subject)
	}
	if issuer != "" && !slices.Contains(r.issuers, issuer) {
		return fmt.Errorf("issuer %q is not configured", issuer)
	}
	if e.Before.IsZero() || e.Before.Year() > 1970 {
		return nil
	}
	return errors.New("before: is not after 1970")
}
