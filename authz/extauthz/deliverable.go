package extauthz

import "github.com/sallyport-authz/sallyport/authz"

// Deliverable says why an allow cannot be delivered, as [Render] will: it is
// asked before the decision is recorded.
func Deliverable(r *authz.Request, d *authz.Decision) error {
	if atMost(d.Answer()) <= maxMutations {
		return nil
	}
	_, err := Render(r, d)
	return err
}

// atMost is what the mutations of an answer come to before those that are not
// valid are left out.
func atMost(a *authz.Answer) (n int) {
	for _, hs := range [][]authz.Header{a.Set, a.Append, a.Response} {
		for _, h := range hs {
			n += len(h.Name) + len(h.Value)
		}
	}
	for _, name := range a.Remove {
		n += len(name)
	}
	for _, p := range a.QuerySet {
		n += len(p.Name) + len(p.Value)
	}
	return n
}
