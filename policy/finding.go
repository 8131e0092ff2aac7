package policy

import (
	"cmp"
	"fmt"
	"slices"
)

// A Severity says what a finding does to the load.
type Severity int

// The severities. An Error refuses the snapshot, a Warning does not.
const (
	Error Severity = iota + 1
	Warning
)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// A Finding is one thing that is wrong, or suspicious, in a model or in rules.
type Finding struct {
	File     string // as it was given in the Text
	Line     int    // from 1, comments and blank lines counted; 0 for the file as a whole
	Severity Severity
	Message  string
	Stock    string // what stock Casbin would do with it; may be empty
	Fix      string // the remedy; may be empty
	Option   string // what was asked of Compile that the file does not have; empty: the file is to blame
}

// The options of Compile that a finding may be about.
const (
	OptionMatching = "matching"
	OptionSections = "sections"
)

// String returns FILE:LINE: message, the form that editors can jump to.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s", f.File, max(f.Line, 1), f.Message)
}

// HasErrors reports whether any finding refuses the snapshot.
func HasErrors(fs []Finding) bool {
	return slices.ContainsFunc(fs, func(f Finding) bool { return f.Severity == Error })
}

// maxFindings bounds how many findings of one kind and severity a load
// reports: a generated file with one mistake has it a million times.
const maxFindings = 20

// findings collects. Those of one kind beyond maxFindings are only counted.
type findings struct {
	list  []Finding
	count map[kindKey]int
}

type kindKey struct {
	file, kind string
	sev        Severity
}

// add reports f. kind groups findings that repeat.
func (fs *findings) add(kind string, f Finding) {
	if fs.count == nil {
		fs.count = make(map[kindKey]int)
	}
	if kind == OptionMatching || kind == OptionSections {
		f.Option = kind
	}
	k := kindKey{f.File, kind, f.Severity}
	fs.count[k]++
	if fs.count[k] <= maxFindings {
		fs.list = append(fs.list, f)
	}
}

// sorted returns what was found, by file, line and message.
func (fs *findings) sorted() []Finding {
	for k, n := range fs.count {
		if n > maxFindings {
			fs.list = append(fs.list, Finding{
				File: k.file, Line: 1, Severity: k.sev,
				Message: fmt.Sprintf("%d more findings of the kind %q", n-maxFindings, k.kind),
			})
		}
	}
	fs.count = nil
	slices.SortStableFunc(fs.list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Message, b.Message))
	})
	return fs.list
}

func (fs *findings) failed() bool { return HasErrors(fs.list) }
