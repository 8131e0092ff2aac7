package authz

import "errors"

// A Reason says why a request was refused. It is shown to callers, so the set
// is closed and says nothing about keys, rules or other people.
type Reason string

// The reasons, in the order in which the first that applies is given.
// Deadline and Internal apply anywhere, NotReady only before there is a
// generation.
const (
	Overloaded          Reason = "overloaded"
	MalformedRequest    Reason = "malformed_request"
	NoRoute             Reason = "no_route"
	MalformedCredential Reason = "malformed_credential"
	NoCredential        Reason = "no_credential"
	InvalidToken        Reason = "invalid_token"
	IssuerUnavailable   Reason = "issuer_unavailable"
	InsufficientScope   Reason = "insufficient_scope"
	StepUpRequired      Reason = "step_up_required"
	AttributeMissing    Reason = "attribute_missing"
	NotPermitted        Reason = "not_permitted"
	AuditUnavailable    Reason = "audit_unavailable"
	Deadline            Reason = "deadline"
	NotReady            Reason = "not_ready"
	Internal            Reason = "internal"
)

// Allowed stands where a reason is recorded and the request was allowed. It
// is not a reason for a refusal.
const Allowed Reason = "allowed"

// Reasons returns every reason for a refusal, in order of precedence.
func Reasons() []Reason {
	return []Reason{
		Overloaded, MalformedRequest, NoRoute, MalformedCredential, NoCredential,
		InvalidToken, IssuerUnavailable, InsufficientScope, StepUpRequired,
		AttributeMissing, NotPermitted, AuditUnavailable, Deadline, NotReady, Internal,
	}
}

// Failed reports whether the reason means that no decision could be made,
// rather than that one was made against the caller.
func (r Reason) Failed() bool {
	switch r {
	case IssuerUnavailable, NotReady, Deadline, Overloaded, AuditUnavailable, Internal:
		return true
	}
	return false
}

// A Denial is an error that has earned a Reason.
type Denial struct {
	Reason Reason
	Detail Detail // finer cause, for operators; may be empty
	Rule   Rule   // the rule that refused, where one did
	Err    error  // what really happened, for operators; may be nil
}

// Refuse returns a Denial. err may be nil.
func Refuse(reason Reason, detail Detail, err error) *Denial {
	return &Denial{Reason: reason, Detail: detail, Err: err}
}

func (d *Denial) Error() string {
	s := string(d.Reason)
	if d.Detail != "" {
		s += " (" + string(d.Detail) + ")"
	}
	if d.Err != nil {
		s += ": " + d.Err.Error()
	}
	return s
}

func (d *Denial) Unwrap() error { return d.Err }

// ReasonOf returns the reason that err carries: none for nil, Internal for an
// error that nobody planned for.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return asDenial(err).Reason
}

// DetailOf returns the detail that err carries, or none.
func DetailOf(err error) Detail {
	var d *Denial
	if errors.As(err, &d) {
		return d.Detail
	}
	return ""
}

// asDenial returns the Denial in err, or an Internal one around it. A Denial
// without a known reason is as unplanned as any other error.
func asDenial(err error) *Denial {
	var d *Denial
	if errors.As(err, &d) && d != nil && known[d.Reason] {
		return d
	}
	return &Denial{Reason: Internal, Err: err}
}

var known = func() map[Reason]bool {
	m := make(map[Reason]bool)
	for _, r := range Reasons() {
		m[r] = true
	}
	return m
}()
