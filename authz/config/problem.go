package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Problem is one mistake in the configuration, or in a file that it names.
type Problem struct {
	File    string
	Line    int    // 0: the file as a whole
	Key     string // dotted; empty where no key is to blame
	Message string // lower case, one line
}

// String returns FILE:LINE: KEY: message.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems are mistakes, all that were found. They are an error; see
// [Problems.Err] for the nil one.
type Problems []Problem

// Error returns one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns ps as an error, or nil where there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Sort puts problems in the order of their files and lines, the same every
// time, and drops those that are there twice.
func (ps *Problems) Sort() {
	slices.SortFunc(*ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.Message, b.Message))
	})
	*ps = slices.Compact(*ps)
}

// Problem returns a problem of this configuration's file. Parts that check
// what this package does not take line and key from a [Text], [File] or
// [Place].
func (c *Config) Problem(line int, key, format string, args ...any) Problem {
	return Problem{File: c.File, Line: line, Key: key, Message: fmt.Sprintf(format, args...)}
}

// Line returns the line of a key, or that of the nearest key around it that
// the file has.
func (c *Config) Line(key string) int {
	for {
		if line, ok := c.lines[key]; ok || key == "" {
			return line
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
}

// quote writes a value of the file into a message: on one line, and not
// longer than it helps.
func quote(s string) string { return strconv.Quote(clip(s)) }

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
