package gate

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/audit"
	sallyportv1 "github.com/sallyport-authz/sallyport/proto/sallyport/v1"
)

// Recall explains a decision that an audit file holds, by what is known now:
// the configuration at path may have changed since, and then says so. Its
// error is of type [config.Problems] where something does not load.
func Recall(path, auditFile, id string) (*Explanation, error) {
	b := load(path, parts{ring: newOfflineKeyring(), recorder: discard{}})
	if b.gen == nil {
		return nil, b.problems
	}
	f, err := os.Open(auditFile)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	rec, skipped, err := audit.Find(f, id)
	if err != nil && skipped > 0 {
		err = fmt.Errorf("%w; %d lines are no records", err, skipped)
	}
	if err != nil {
		return nil, err
	}
	x := recorded(rec)
	b.gen.compare(x)
	return x, nil
}

// recorded is the part of an explanation that its record tells.
func recorded(rec *sallyportv1.DecisionRecord) *Explanation {
	x := &Explanation{
		Decision: rec.GetDecision(), Reason: authz.Reason(rec.GetReason()), Detail: authz.Detail(rec.GetDetail()),
		Route: rec.GetRoute(), Policy: rec.GetPolicy(), Revision: rec.GetRevision(), Rule: rec.GetRule(), Shadow: rec.GetShadow(),
		Request:  Asked{Method: rec.GetMethod(), Scheme: "https", Host: rec.GetHost(), Path: rec.GetPath()},
		Response: []byte("null"),
		Record: &Recorded{
			ID: rec.GetDecisionId(), Time: rec.GetTime().AsTime(), Trace: rec.GetTraceId(), Address: rec.GetSource().GetAddress(),
		},
	}
	if rec.GetSubject() != "" {
		x.Subject = &ExplainedParty{ID: rec.GetSubject()}
	}
	return x
}

// A Recorded is what only the record of a decision knows, and what has become
// of the policy since.
type Recorded struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Trace   string    `json:"trace_id"`
	Address string    `json:"address"`
	Since   string    `json:"since"`     // what has changed since, in a sentence; empty for nothing
	Again   string    `json:"ask_again"` // a command line
}

// compare says what has changed since a decision was recorded, and adds what
// is still known of it.
func (g *generation) compare(x *Explanation) {
	// A client chose the method, the host and the path, and somebody will paste
	// this into a shell.
	x.Record.Again = fmt.Sprintf("sallyport explain -c %s%s -- %s %s", quoted(g.cfg.File), claimsOf(x.Subject),
		quoted(x.Request.Method), quoted(x.Request.Scheme+"://"+x.Request.Host+x.Request.Path))
	now, there := g.policies[x.Policy]
	switch {
	case x.Policy == "":
	case !there:
		x.Record.Since = fmt.Sprintf("policy %s is no longer there", x.Policy)
	case now.revision() != x.Revision:
		x.Record.Since = fmt.Sprintf("policy %s has changed since: it was revision %s and is %s, and its lines may have moved", x.Policy, x.Revision, now.revision())
	default:
		for rule, text := range now.rules() {
			if rule.String() == x.Rule {
				x.RuleText = text
				break
			}
		}
	}
}

// claimsOf is how to say who asked, where somebody did.
func claimsOf(s *ExplainedParty) string {
	if s == nil || s.ID == authz.Nobody.ID {
		return ""
	}
	return " --claims CLAIMS.json"
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quoted is a word as a shell takes it.
func quoted(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
