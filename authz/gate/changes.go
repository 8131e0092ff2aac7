package gate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/audit"
	"github.com/sallyport-authz/sallyport/authz/config"
)

// maxCompared is up to how many rules a policy's change is told rule by rule.
const maxCompared = 50_000

// changed writes a record of a change into the current log. That it may fail
// keeps nothing from changing: decisions are refused where records are
// required, changes are on disk already.
func (g *Gate) changed(c audit.Change) {
	gen := g.current.Load()
	if gen == nil {
		return
	}
	if err := gen.audit.Changed(c); err != nil {
		g.log.Warn("a change was not recorded", "event", string(c.Event), "name", c.Name, "error", err)
	}
}

// recordTaken records that gen has taken the place of old, which is nil at the
// start.
func (g *Gate) recordTaken(old, gen *generation) {
	before := ""
	if old != nil {
		before = old.cfg.Revision
	}
	if before != gen.cfg.Revision {
		c := audit.Change{Event: audit.Configuration, OldRevision: before, NewRevision: gen.cfg.Revision, Summary: gen.String()}
		g.changed(c)
		if old != nil && old.audit != gen.audit {
			_ = old.audit.Changed(c) // the last of the old file: where records go is a change too
		}
	}
	for i := range gen.cfg.Policies {
		name := gen.cfg.Policies[i].Name
		var was *policyOf
		if old != nil {
			was = old.policies[name]
		}
		if is := gen.policies[name]; was == nil || was.revision() != is.revision() {
			what := difference(was, is)
			g.log.Info("policy", "name", name, "revision", is.revision(), "before", was.revision(), "change", what)
			g.changed(audit.Change{
				Event: audit.Policy, Name: name, OldRevision: was.revision(), NewRevision: is.revision(), Summary: what,
			})
		}
	}
	if old == nil {
		return
	}
	for i := range old.cfg.Policies {
		if name := old.cfg.Policies[i].Name; gen.policies[name] == nil {
			g.changed(audit.Change{Event: audit.Policy, Name: name, OldRevision: old.policies[name].revision(), Summary: "removed"})
		}
	}
}

// recordRefused records that a reload was refused.
func (g *Gate) recordRefused(problems config.Problems) {
	gen := g.current.Load()
	g.changed(audit.Change{
		Event: audit.Configuration, OldRevision: gen.cfg.Revision,
		Summary: fmt.Sprintf("refused, %d problems: %s", len(problems), problems[0]),
	})
}

// difference says in a sentence what became of a policy's rules.
func difference(was, is *policyOf) string {
	after := count(is.rules())
	if was == nil {
		return fmt.Sprintf("%d rules", after)
	}
	before := count(was.rules())
	if max(before, after) > maxCompared {
		return fmt.Sprintf("%d rules, before %d", after, before)
	}
	texts := make(map[string]int, before)
	for _, text := range was.rules() {
		texts[text]++
	}
	added, removed := 0, 0
	first := ""
	for _, text := range is.rules() {
		if texts[text]--; texts[text] < 0 {
			added++
			if first == "" {
				first = "; added " + text
			}
		}
	}
	for _, n := range texts {
		removed += max(n, 0)
	}
	return fmt.Sprintf("%d rules, %d added, %d removed%s", after, added, removed, first)
}

func count(rules iter.Seq2[authz.Rule, string]) (n int) {
	for range rules {
		n++
	}
	return n
}

// thumbprints are the keys of an issuer, as they were last seen. One goroutine
// refreshes a set of keys.
type thumbprints []string

// change returns what changed since the last time.
func (t *thumbprints) change(issuer string, now []string) (audit.Change, bool) {
	was := *t
	if *t = now; slices.Equal(now, was) {
		return audit.Change{}, false
	}
	c := audit.Change{Event: audit.Keys, Name: issuer, OldRevision: revisionOf(was), NewRevision: revisionOf(now)}
	var parts []string
	for _, d := range []struct {
		what      string
		these, of []string
	}{{"added", now, was}, {"withdrawn", was, now}} {
		for _, p := range d.these {
			if !slices.Contains(d.of, p) {
				parts = append(parts, d.what+" "+p)
			}
		}
	}
	c.Summary = fmt.Sprintf("%d keys: %s", len(now), strings.Join(parts, ", "))
	return c, true
}

// revisionOf is a hash of thumbprints; empty for none.
func revisionOf(prints []string) string {
	if len(prints) == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(prints, " ")))
	return hex.EncodeToString(sum[:])[:12]
}
