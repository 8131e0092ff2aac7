package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/policy"
)

// A policyOf is one policy of a generation: a snapshot for each choice of
// sections that its routes make, and what they were made from.
type policyOf struct {
	id        string // of its text and of how names are matched
	snapshots map[policy.Sections]*policy.Snapshot
	at        time.Time
}

// revision returns the policy's revision, which all of its snapshots share;
// empty for none.
func (p *policyOf) revision() string {
	if p == nil {
		return ""
	}
	for _, s := range p.snapshots {
		return s.Revision()
	}
	return ""
}

// rules returns the rules of all snapshots, each once: routes with sections of
// their own may share some.
func (p *policyOf) rules() iter.Seq2[authz.Rule, string] {
	return func(yield func(authz.Rule, string) bool) {
		seen := map[authz.Rule]bool{}
		for _, s := range p.snapshots {
			for rule, text := range s.Rules() {
				if len(p.snapshots) > 1 && seen[rule] {
					continue
				}
				if len(p.snapshots) > 1 {
					seen[rule] = true
				}
				if !yield(rule, text) {
					return
				}
			}
		}
	}
}

// loadPolicies loads every policy of the configuration. What did not change
// since old is taken from there: snapshots are immutable, and large ones take
// seconds to build.
func (b *build) loadPolicies(old map[string]*policyOf) {
	b.policies = make(map[string]*policyOf, len(b.cfg.Policies))
	for i := range b.cfg.Policies {
		pc := &b.cfg.Policies[i]
		if pc.Model.Path == "" || b.missing(pc.Model, pc.Rules) {
			continue // reported
		}
		text, err := policy.Files{Model: pc.Model.Path, Rules: pc.Rules.Path}.Read()
		if err != nil {
			b.unreadable(pc, err)
			continue
		}
		opts := matching(pc)
		p := &policyOf{id: fmt.Sprintf("%x %v", text.ID(), pc.Matching), at: time.Now()}
		prev := old[pc.Name]
		if prev != nil && prev.id == p.id {
			p.at = prev.at
		}
		p.snapshots = make(map[policy.Sections]*policy.Snapshot)
		for _, s := range b.sections(pc.Name) {
			if prev != nil && prev.id == p.id && prev.snapshots[s] != nil {
				p.snapshots[s] = prev.snapshots[s]
				continue
			}
			snapshot, findings := policy.Compile(text, append(opts[:len(opts):len(opts)], policy.WithSections(s))...)
			b.found(pc, s, findings)
			if snapshot != nil {
				p.snapshots[s] = snapshot
			}
		}
		b.policies[pc.Name] = p
	}
}

// sections returns the choices of sections that routes of a policy make; a
// policy that no route uses is still loaded.
func (b *build) sections(name string) []policy.Sections {
	var all []policy.Sections
	for i := range b.cfg.Routes {
		if rc := &b.cfg.Routes[i]; rc.Policy.Value == name && !slices.Contains(all, sectionsOf(rc)) {
			all = append(all, sectionsOf(rc))
		}
	}
	if len(all) == 0 {
		all = append(all, policy.Sections{R: "r", P: "p", E: "e", M: "m"})
	}
	return all
}

func sectionsOf(rc *config.Route) policy.Sections { return policy.Sections(rc.Sections) }

func matching(pc *config.Policy) []policy.Option {
	var opts []policy.Option
	for _, m := range pc.Matching {
		opts = append(opts, policy.WithMatching(m.Name, policy.Matching{Role: m.Role, Domain: m.Domain}))
	}
	return opts
}

// found reports what was found in a policy: where it stands, or where the
// configuration asks for what the model does not have.
func (b *build) found(pc *config.Policy, s policy.Sections, findings []policy.Finding) {
	for _, f := range findings {
		problem := config.Problem{File: f.File, Line: f.Line, Message: message(f)}
		switch f.Option {
		case policy.OptionMatching:
			key := pc.Key + ".matching"
			problem = b.cfg.Problem(b.cfg.Line(key), key, "%s", message(f))
		case policy.OptionSections:
			for i := range b.cfg.Routes {
				if rc := &b.cfg.Routes[i]; rc.Policy.Value == pc.Name && sectionsOf(rc) == s {
					problem = b.cfg.Problem(b.cfg.Line(rc.Key+".sections"), rc.Key+".sections", "%s", message(f))
				}
			}
		}
		if f.Severity == policy.Error {
			b.problems = append(b.problems, problem)
		} else {
			b.warnings = append(b.warnings, problem)
		}
	}
}

// missing reports files that the configuration names and that cannot be read,
// all of them, each where it is named.
func (b *build) missing(files ...config.File) (any bool) {
	for _, f := range files {
		if f.Path == "" {
			continue
		}
		info, err := os.Stat(f.Path)
		switch {
		case err != nil:
			b.problem(f.Line, f.Key, "%s", readable(err))
		case info.IsDir():
			b.problem(f.Line, f.Key, "%s is a folder", f.Path)
		default:
			continue
		}
		any = true
	}
	return any
}

// unreadable reports a file of a policy that could not be read, where the
// configuration names it.
func (b *build) unreadable(pc *config.Policy, err error) {
	at := pc.Model
	var pe *fs.PathError
	if errors.As(err, &pe) && pe.Path == pc.Rules.Path {
		at = pc.Rules
	}
	b.problem(at.Line, at.Key, "%s", readable(err))
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
