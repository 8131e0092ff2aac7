package authz

// Shadow reports whether the request passes although it was refused, because
// its route is in shadow mode. It is the one exception to what a refusal
// means: the decision stays a refusal, with its reason, in every record. What
// could be read in two ways passes nowhere, neither does a request for which
// no route was found, nor one whose record was required and not made: a pass
// that nobody knows of is not what shadow mode is for.
func (d *Decision) Shadow() bool {
	if d.allowed || d.denial == nil || d.route == nil || !d.route.Shadow {
		return false
	}
	switch d.denial.Reason {
	case MalformedRequest, MalformedCredential, AuditUnavailable:
		return false
	}
	return true
}

// Passes reports whether the request may proceed: it was allowed, or shadow
// mode lets it.
func (d *Decision) Passes() bool { return d.allowed || d.Shadow() }

// shadow is what an answer carries that lets a refusal pass: nothing, and no
// owned header that the client brought along.
func (p *Pipeline) shadow(d *Decision) {
	d.answer = Answer{}
	d.answer.own(p.owned)
}
