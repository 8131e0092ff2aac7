package route

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/sallyport-authz/sallyport/authz"
)

// A patternKind says what a pattern is for.
type patternKind uint8

const (
	pathPattern    patternKind = iota // [METHOD ]/path
	connectPattern                    // CONNECT
	starPattern                       // OPTIONS *
	tcpPattern                        // TCP
)

// A pattern is one entry of match.
type pattern struct {
	text     string // as the configuration writes it
	kind     patternKind
	method   string // empty: every method
	path     string // the path of text, for messages
	segments []segment
	captures int // how many segments have a name
	entry    *entry
}

// A segment is a piece of a pattern between slashes. A trailing slash is a
// rest without a name; {$} is a literal slash, which no other literal can be.
type segment struct {
	kind segmentKind
	text string // literal: in canonical spelling; else the name
}

// A segmentKind is what a segment matches, the narrowest first.
type segmentKind uint8

const (
	literal segmentKind = iota
	single              // {name}: one segment, never an empty one
	rest                // {name...} or a trailing slash: all that is left
)

// endOfPath is the text of the literal segment {$}.
const endOfPath = "/"

// parsePattern reads a pattern in the language of net/http.ServeMux, without
// hosts and with CONNECT, OPTIONS * and TCP beside it. A pattern that no
// canonical path can match on a route with this keep is an error.
func parsePattern(text string, keep kept) (*pattern, error) {
	bad := func(format string, args ...any) (*pattern, error) {
		return nil, fmt.Errorf("pattern %q %w", text, fmt.Errorf(format, args...))
	}
	switch text {
	case "":
		return nil, errors.New("pattern is empty")
	case "CONNECT":
		return &pattern{text: text, kind: connectPattern, method: text}, nil
	case "TCP":
		return &pattern{text: text, kind: tcpPattern}, nil
	}

	p := &pattern{text: text, path: text}
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		p.method, p.path = text[:i], strings.TrimLeft(text[i:], " \t")
	}
	switch {
	case strings.HasPrefix(p.method, "/"):
		return bad("has a space in its path: write %%20")
	case p.method != "" && !isToken(p.method):
		return bad("has the method %q, which is not a token", p.method)
	case p.path == "*":
		if p.method != "OPTIONS" {
			return bad("has a * for a path, which only OPTIONS may have")
		}
		p.kind = starPattern
		return p, nil
	case p.method == "CONNECT":
		return bad("has a path, and CONNECT has none: write CONNECT")
	}
	host, _, found := strings.Cut(p.path, "/")
	switch {
	case p.path == "", !found && isToken(p.path):
		return bad("has no path: write METHOD /PATH or /PATH")
	case !found:
		return bad("has no path that starts with a slash")
	case host != "":
		return bad("has the host %q: name it in hosts", host)
	case strings.Contains(p.path, "?"):
		return bad("has a query: only the path is matched, and %%3F is a question mark in it")
	}
	if err := p.parseSegments(keep); err != nil {
		return bad("%w", err)
	}
	return p, nil
}

func (p *pattern) parseSegments(keep kept) error {
	names := make(map[string]bool)
	for left := p.path; left != ""; {
		text, after := left[1:], ""
		if i := strings.IndexByte(text, '/'); i >= 0 {
			text, after = text[:i], text[i:]
		}
		left = after
		seg, err := parseSegment(text, after == "", keep)
		if err != nil {
			return err
		}
		p.segments = append(p.segments, seg)
		if seg.kind == literal || seg.text == "" {
			continue
		}
		if names[seg.text] {
			return fmt.Errorf("has two wildcards named %q", seg.text)
		}
		names[seg.text] = true
		p.captures++
	}
	return nil
}

// parseSegment reads what stands between two slashes, or after the last.
func parseSegment(text string, last bool, keep kept) (segment, error) {
	if text == "" && last {
		return segment{kind: rest}, nil
	}
	if !strings.Contains(text, "{") {
		return parseLiteral(text, keep)
	}
	name, ok := strings.CutPrefix(text, "{")
	name, ok2 := strings.CutSuffix(name, "}")
	if !ok || !ok2 {
		return segment{}, fmt.Errorf("has the segment %q: a wildcard must be a whole segment", text)
	}
	if name == "$" {
		if !last {
			return segment{}, errors.New("has {$} before its end")
		}
		return segment{kind: literal, text: endOfPath}, nil
	}
	kind := single
	if name, ok = strings.CutSuffix(name, "..."); ok {
		if !last {
			return segment{}, fmt.Errorf("has %s before its end", text)
		}
		kind = rest
	}
	if !isIdentifier(name) {
		return segment{}, fmt.Errorf("has the wildcard name %q, which is not an identifier", name)
	}
	return segment{kind: kind, text: name}, nil
}

// parseLiteral brings a literal to the spelling that paths are compared in.
// Non-ASCII characters stand for their escapes, as in ServeMux.
func parseLiteral(text string, keep kept) (segment, error) {
	var raw strings.Builder
	raw.WriteByte('/')
	for i := range len(text) {
		spell(&raw, text[i], text[i] >= 0x80)
	}
	path, found, err := canonicalPath(raw.String())
	if err == nil && path == "/" {
		err = errors.New("path has an empty segment")
	}
	if err != nil {
		return segment{}, fmt.Errorf("can never match: the segment %q makes a path that is refused: %w", text, err)
	}
	switch bad := found &^ keep; {
	case bad&keptSlash != 0:
		return segment{}, errors.New("can never match: it has %2F, and the route does not say paths: {escapedSlash: keep}")
	case bad&keptSemicolon != 0:
		return segment{}, errors.New("can never match: it has a semicolon, and the route does not say paths: {semicolon: keep}")
	}
	return segment{kind: literal, text: path[1:]}, nil
}

func isIdentifier(s string) bool {
	for i, c := range s {
		if !unicode.IsLetter(c) && c != '_' && (i == 0 || !unicode.IsDigit(c)) {
			return false
		}
	}
	return s != ""
}

// params returns what the named segments of p matched in path, decoded. It
// allocates twice at most.
func (p *pattern) params(path string) []authz.Param {
	if p.captures == 0 {
		return nil
	}
	params := make([]authz.Param, 0, p.captures)
	var decoded strings.Builder
	if strings.Contains(path, "%") {
		decoded.Grow(len(path)) // once: what is handed out stays where it is
	}
	for _, seg := range p.segments {
		value, after := cutSegment(path)
		if seg.kind == rest {
			value = path[1:]
		}
		if seg.kind != literal && seg.text != "" {
			params = append(params, authz.Param{Name: seg.text, Value: decode(&decoded, value)})
		}
		path = after
	}
	return params
}

// decode returns value with its escapes decoded. A kept slash or semicolon
// stays escaped: it is part of its segment, not of the path's structure.
func decode(b *strings.Builder, value string) string {
	if !strings.Contains(value, "%") {
		return value
	}
	start := b.Len()
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c == '%' {
			c, _ = unescape(value[i:]) // canonical: no escape is broken
			if c == '/' || c == ';' {
				b.WriteString(value[i : i+3])
			} else {
				b.WriteByte(c)
			}
			i += 2
			continue
		}
		b.WriteByte(c)
	}
	return b.String()[start:]
}

// cutSegment splits a path, which starts with a slash, after its first
// segment. A slash at the end of a path is a segment itself: "/".
func cutSegment(path string) (segment, after string) {
	if path == "/" {
		return endOfPath, ""
	}
	segment = path[1:]
	if i := strings.IndexByte(segment, '/'); i >= 0 {
		return segment[:i], segment[i:]
	}
	return segment, ""
}
