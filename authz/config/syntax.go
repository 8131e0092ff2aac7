package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parseYAML returns the mapping that data holds, or the one problem that keeps
// it from being a configuration at all.
func parseYAML(data []byte) (*yaml.Node, *Problem) {
	if len(data) > maxFile {
		return nil, &Problem{Message: "is larger than 1 MiB"}
	}
	if i := invalid(data); i >= 0 {
		return nil, &Problem{Line: 1 + bytes.Count(data[:i], []byte("\n")), Message: "is not UTF-8"}
	}
	r := &lineReader{data: data}
	doc, second, err := documents(r)
	switch {
	case err != nil:
		return nil, syntaxProblem(err, data, r.lines)
	case doc == nil:
		return nil, &Problem{Line: 1, Message: "is empty"}
	case second != nil:
		return nil, &Problem{Line: second.Line, Message: "a second document begins here: one file holds one configuration"}
	}
	switch root := doc.Content[0]; {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return nil, &Problem{Line: 1, Message: "is empty"}
	case root.Kind != yaml.MappingNode:
		return nil, &Problem{Line: root.Line, Message: "must be a mapping of keys, not " + describe(root)}
	default:
		return root, nil
	}
}

// documents returns the first two documents of r, nil where there are fewer.
func documents(r io.Reader) (first, second *yaml.Node, err error) {
	defer func() {
		if v := recover(); v != nil { // the parser panics where it finds itself inconsistent
			err = fmt.Errorf("yaml: %v", v)
		}
	}()
	dec := yaml.NewDecoder(r)
	for _, doc := range []**yaml.Node{&first, &second} {
		var n yaml.Node
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			return first, second, nil
		} else if err != nil {
			return nil, nil, err
		}
		*doc = &n
	}
	return first, second, nil
}

// invalid returns where data stops being UTF-8, or -1.
func invalid(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// A lineReader reads one line at a time and counts them, to know where a
// parser that gives no position has stopped.
type lineReader struct {
	data  []byte
	lines int
}

func (r *lineReader) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	end := bytes.IndexByte(r.data, '\n') + 1
	if end == 0 {
		end = len(r.data)
	}
	n := copy(p, r.data[:end])
	r.data = r.data[n:]
	if n == end {
		r.lines++
	}
	return n, nil
}

var yamlError = regexp.MustCompile(`(?s)^(?:yaml: )?(?:line (\d+): )?(.*)$`)

// syntaxProblem makes a problem of the parser's error, after it had read so
// many lines of data. For brackets the parser names the line before that of
// the opening one. Elsewhere it names the line before the start of the section
// around the mistake, which may be the whole file: there the mistake is on the
// first line with which the same error appears.
func syntaxProblem(err error, data []byte, read int) *Problem {
	m := yamlError.FindStringSubmatch(err.Error())
	line, _ := strconv.Atoi(m[1])
	msg := m[2]
	switch {
	case strings.HasPrefix(msg, "did not find expected ',' or"):
		line++
		if i := unquotedPattern(data, line, read); i > 0 {
			line, msg = i, msg+" (a pattern with braces needs quotes here)"
		}
	case strings.HasPrefix(msg, "did not find expected"), m[1] == "" && read > 1:
		line = read
		for range 2 { // the parser looks no further ahead
			shorter := firstLines(data, line-1)
			_, _, again := documents(bytes.NewReader(shorter))
			if again == nil || yamlError.FindStringSubmatch(again.Error())[2] != msg {
				break
			}
			line--
		}
	}
	return &Problem{Line: max(line, 1), Message: "is not YAML: " + clip(msg)}
}

// unquotedPattern returns the first line between two that holds a route
// pattern such as /orders/{id} without any quotes, or 0: inside of brackets
// its brace opens a mapping.
func unquotedPattern(data []byte, from, to int) int {
	line := 0
	for text := range bytes.Lines(data) {
		line++
		if line >= from && line <= to && bytes.Contains(text, []byte("/{")) && !bytes.ContainsAny(text, `'"`) {
			return line
		}
	}
	return 0
}

// firstLines returns the first n lines of data.
func firstLines(data []byte, n int) []byte {
	end := 0
	for range n {
		i := bytes.IndexByte(data[end:], '\n')
		if i < 0 {
			return data
		}
		end += i + 1
	}
	return data[:end]
}
