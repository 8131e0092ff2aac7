package policy

import (
	"fmt"
	"io"
	"io/fs"
)

// Load reads a model and its rules from fsys and compiles them. What cannot be
// read is a finding.
//
// Deprecated: read a [Source], which takes no half of a set, and [Compile].
func Load(fsys fs.FS, model, rules string, opts ...Option) (*Snapshot, []Finding) {
	t := &Text{ModelFile: model, RulesFile: rules}
	var failed []Finding
	read := func(name string, limit int64) string {
		if name == "" {
			return ""
		}
		f, err := fsys.Open(name)
		if err == nil {
			defer f.Close() //nolint:errcheck // it was only read
			var b []byte
			if b, err = io.ReadAll(io.LimitReader(f, limit+1)); err == nil {
				return string(b)
			}
		}
		failed = append(failed, Finding{File: name, Severity: Error, Message: fmt.Sprintf("cannot be read: %v", err)})
		return ""
	}
	t.Model, t.Rules = read(model, maxModel), read(rules, maxRulesFile)
	if failed != nil {
		return nil, failed
	}
	return Compile(t, opts...)
}
