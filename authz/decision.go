package authz

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// A Decision is the outcome of one check: allow or deny, with exactly one
// reason, an id, and what made it. It has no exported fields, so only the
// [Pipeline] makes one; the zero Decision is a refusal for [Internal].
type Decision struct {
	allowed  bool
	denial   *Denial
	id       string
	route    *Route
	rule     Rule
	subject  *Subject
	cache    CacheOutcome
	duration time.Duration
	answer   Answer
}

// newID returns the id of a decision: 128 random bits in hex.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Allow says yes. It is the only way to build a Decision that does.
func (d *Decision) allow(rule Rule) {
	d.allowed, d.denial, d.rule = true, nil, rule
}

// Deny says no, for the reason that err carries. An error without one, nil
// among them, becomes Internal.
func (d *Decision) deny(err error) {
	d.allowed, d.denial = false, asDenial(err)
	if d.denial.Rule != (Rule{}) {
		d.rule = d.denial.Rule
	}
	d.answer = Answer{}
}

// Refusal returns a refusal that no pipeline made: the answer where there is
// no generation yet, or no room for one more check.
func Refusal(err error) Decision {
	d := Decision{id: newID()}
	d.deny(err)
	return d
}

// Allowed reports whether the request may proceed.
func (d *Decision) Allowed() bool { return d.allowed }

// Reason returns why, or [Allowed].
func (d *Decision) Reason() Reason {
	switch {
	case d.allowed:
		return Allowed
	case d.denial == nil:
		return Internal
	}
	return d.denial.Reason
}

// Detail returns the finer cause of a refusal, if there is one.
func (d *Decision) Detail() Detail {
	if d.denial == nil {
		return ""
	}
	return d.denial.Detail
}

// Err returns what really happened, for operators; it may be nil.
func (d *Decision) Err() error {
	if d.denial == nil {
		return nil
	}
	return d.denial.Err
}

// ID returns the id of this decision.
func (d *Decision) ID() string { return d.id }

// Route returns the name of the route, empty where none was found.
func (d *Decision) Route() string {
	if d.route == nil {
		return ""
	}
	return d.route.Name
}

// Policy returns the name of the route's policy; a route may have none.
func (d *Decision) Policy() string {
	if d.route == nil {
		return ""
	}
	return d.route.Policy
}

// Revision returns the revision of the route's policy.
func (d *Decision) Revision() string {
	if d.route == nil {
		return ""
	}
	return d.route.Revision
}

// Rule returns the rule that decided, or no rule.
func (d *Decision) Rule() Rule { return d.rule }

// Subject returns who asked, or nil where nobody was authenticated.
func (d *Decision) Subject() *Subject { return d.subject }

// Cache says how the verified-token cache answered; empty where no token was
// looked at.
func (d *Decision) Cache() CacheOutcome { return d.cache }

// Duration returns how long the decision took, without its recording.
func (d *Decision) Duration() time.Duration { return d.duration }

// Answer returns what the answer carries beyond yes or no.
func (d *Decision) Answer() *Answer { return &d.answer }

// A CacheOutcome says how the verified-token cache answered.
type CacheOutcome string

// What a cache of verified tokens can say.
const (
	CacheHit  CacheOutcome = "hit"
	CacheMiss CacheOutcome = "miss"
	CacheOff  CacheOutcome = "off"
)

// An Answer is what goes to Envoy beyond yes or no. Header names are lower
// case and valid, values hold no control characters; whoever builds an Answer
// vouches for that.
type Answer struct {
	// For the upstream, on an allow. A name stands in one of Set and Remove
	// at most.
	Set         []Header // request headers that replace all copies
	Append      []Header // request headers added after the client's own
	Remove      []string // request headers the upstream must not see
	QuerySet    []Param
	QueryRemove []string

	Response []Header       // for the caller, on allow and deny alike
	Metadata map[string]any // beside the fields that every answer has

	// On a denial.
	Challenge string  // WWW-Authenticate, empty for none
	Body      *string // instead of the body by kind of caller
	Redirect  string  // Location for callers that ask for HTML, empty for none
	AsError   bool    // a failure to decide: let Envoy's failure mode answer
}
