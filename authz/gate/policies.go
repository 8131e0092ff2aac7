package gate

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/policy"
)

// A loaded policy is a snapshot and what it was made from.
type loaded struct {
	snapshot *policy.Snapshot
	digest   fingerprint
	at       time.Time
}

// loadPolicies loads every policy of the configuration. A policy whose files
// did not change since old is taken from there: snapshots are immutable, and
// large ones take seconds to build.
func (b *build) loadPolicies(old map[string]loaded) {
	b.policies = make(map[string]loaded, len(b.cfg.Policies))
	for _, p := range b.cfg.Policies {
		if p.Model.Path == "" || p.Rules.Path == "" {
			continue // reported with the configuration
		}
		l := loaded{digest: digest([]string{p.Model.Path, p.Rules.Path}), at: time.Now()}
		if prev, ok := old[p.Name]; ok && prev.digest == l.digest {
			b.policies[p.Name] = prev
			continue
		}
		if b.unreadable(p.Model) || b.unreadable(p.Rules) {
			continue
		}
		var findings []policy.Finding
		model, rules := rooted(p.Model.Path), rooted(p.Rules.Path)
		l.snapshot, findings = policy.Load(os.DirFS("/"), model, rules)
		shown := map[string]string{model: p.Model.Path, rules: p.Rules.Path}
		for _, f := range findings {
			problem := config.Problem{File: shown[f.File], Line: f.Line, Message: message(f)}
			if problem.File == "" {
				problem.File = f.File
			}
			if f.Severity == policy.Error {
				b.problems = append(b.problems, problem)
			} else {
				b.warnings = append(b.warnings, problem)
			}
		}
		if l.snapshot != nil {
			b.policies[p.Name] = l
		}
	}
}

// unreadable reports a file that the configuration names and that is not a
// readable file, where it is named.
func (b *build) unreadable(f config.File) bool {
	info, err := os.Stat(f.Path)
	switch {
	case err != nil:
		b.problem(f.Line, f.Key, "%s", readable(err))
	case info.IsDir():
		b.problem(f.Line, f.Key, "%s is a folder", f.Path)
	default:
		return false
	}
	return true
}

// rooted turns a path into one that an fs.FS at the root takes.
func rooted(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return strings.TrimPrefix(filepath.ToSlash(path), "/")
}

// readable drops the name of the system call from a file error: "open x: no
// such file" becomes "x: no such file".
func readable(err error) string {
	s := err.Error()
	for _, call := range []string{"open ", "stat ", "read "} {
		s = strings.TrimPrefix(s, call)
	}
	return s
}

// message says what is wrong, what stock Casbin would make of it and what to
// do about it, as far as the finding knows.
func message(f policy.Finding) string {
	s := f.Message
	if f.Stock != "" {
		s += "; stock Casbin: " + f.Stock
	}
	if f.Fix != "" {
		s += "; " + f.Fix
	}
	return s
}
