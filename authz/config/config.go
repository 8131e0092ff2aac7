// Package config reads the one configuration file into checked values.
//
// [Load] is strict: it accepts no key that it does not know, no value of
// another type, and nothing that could be read in two ways. It lists every
// mistake of the file at once, in the order of the lines, the same every time,
// as FILE:LINE: KEY: message, with what was probably meant. A [Config] has
// every default filled in.
//
// It opens no file that the configuration names, and it does not know the
// languages inside of it: patterns, CEL and policies are read by their own
// packages, with the places that [Text] and [File] carry. Where it found
// problems it still returns what it understood, so that package gate can go on
// and report everything together; such a Config must never be served.
//
// The grammar is the types in keys.go, one field a key; [Schema] and
// [Reference] are made of them.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
)

// maxFile bounds the configuration file. The largest that people write by
// hand are some hundred KiB; beyond that somebody named the wrong file.
const maxFile = 1 << 20

// Load reads and checks the file at path. The Config is nil where the file
// cannot be read or is no YAML mapping; otherwise it is as complete as its
// problems allow.
func Load(path string) (*Config, Problems) {
	data, err := read(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err // the problem names the file already
		}
		return nil, Problems{{File: path, Message: fmt.Sprintf("cannot be read: %v", err)}}
	}
	return Parse(path, data)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// Parse is [Load] for what the file name holds. Relative paths in it start at
// the folder of name.
func Parse(name string, data []byte) (*Config, Problems) {
	sum := sha256.Sum256(data)
	c := &Config{File: name, Revision: hex.EncodeToString(sum[:])[:12], lines: map[string]int{}}
	root, p := parseYAML(data)
	if p != nil {
		p.File = name
		return nil, Problems{*p}
	}
	c.lines[""] = root.Line
	d := &decoder{config: c, dir: filepath.Dir(name), broken: map[string]bool{}}
	d.value(root, "", reflect.ValueOf(c).Elem(), "")
	if d.bomb {
		return nil, d.problems[len(d.problems)-1:]
	}
	(&checker{d: d, c: c}).config()
	d.problems.Sort()
	if len(d.problems) == 0 {
		return c, nil
	}
	return c, d.problems
}

// AuditPath returns the file that audit records go to; empty where they go to
// stdout or nowhere.
func (c *Config) AuditPath() string {
	switch path := c.Audit.File.Value; {
	case path == AuditStdout || path == AuditNone:
		return ""
	case filepath.IsAbs(path):
		return path
	default:
		return filepath.Join(filepath.Dir(c.File), path)
	}
}

// Files returns every file that the configuration depends on: itself, then
// those that it names, each once, in the order of the grammar.
func (c *Config) Files() []string {
	files := []string{c.File}
	seen := map[string]bool{c.File: true}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch {
		case v.Type() == fileType:
			if path := v.Interface().(File).Path; path != "" && !seen[path] {
				seen[path] = true
				files = append(files, path)
			}
		case v.Kind() == reflect.Pointer && !v.IsNil():
			walk(v.Elem())
		case v.Kind() == reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case section(v.Type()):
			for _, f := range fieldsOf(v.Type()) {
				walk(v.FieldByIndex(f.Index))
			}
		}
	}
	walk(reflect.ValueOf(c).Elem())
	return files
}
