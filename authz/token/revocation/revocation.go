// Package revocation says which verified tokens are not believed any more.
//
// A [List] is one reading of a revocation file: token ids, sessions and
// subjects, each for all of its tokens or for those issued up to a time. [Live]
// is the list in force, which whoever watches the file replaces; the next
// request sees the new one, remembered token or not.
//
// A file that does not load changes nothing. This is the first step: a store
// that several servers share implements the same one method, which is why that
// has a context and an error.
package revocation

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// A List is an immutable list of revocations. The zero value revokes nothing.
type List struct {
	tokens   map[scoped]before
	sessions map[scoped]before
	subjects map[string]before
}

// scoped is an id that an issuer gave out: another's may be equal.
type scoped struct{ issuer, id string }

// before is the time up to which tokens are revoked; zero for all tokens.
type before time.Time

// An Entry is one revocation: exactly one of TokenID and SessionID, which need
// an Issuer, or Subject. A zero Before revokes every token.
type Entry struct {
	TokenID, SessionID, Issuer string
	Subject                    string
	Before                     time.Time
}

// New returns the list of these revocations. Of two for the same thing the one
// that revokes more counts.
func New(entries []Entry) (*List, error) {
	l := &List{tokens: map[scoped]before{}, sessions: map[scoped]before{}, subjects: map[string]before{}}
	for i, e := range entries {
		if err := l.add(e); err != nil {
			return nil, fmt.Errorf("revocation %d: %w", i+1, err)
		}
	}
	return l, nil
}

func (l *List) add(e Entry) error {
	if err := e.check(); err != nil {
		return err
	}
	switch {
	case e.TokenID != "":
		widen(l.tokens, scoped{e.Issuer, e.TokenID}, e.Before)
	case e.SessionID != "":
		widen(l.sessions, scoped{e.Issuer, e.SessionID}, e.Before)
	default:
		widen(l.subjects, e.Subject, e.Before)
	}
	return nil
}

func (e Entry) check() error {
	n := 0
	for _, s := range []string{e.TokenID, e.SessionID, e.Subject} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("must have one of jti, session and subject")
	}
	if (e.Subject == "") != (e.Issuer != "") {
		return fmt.Errorf("jti and session need an issuer, a subject names its own")
	}
	if e.Subject != "" && subjectIssuer(e.Subject) == "" {
		return fmt.Errorf("subject %q is not user:ISSUER/SUB or client:ISSUER/CLIENT_ID", e.Subject)
	}
	return nil
}

// subjectIssuer returns the issuer in a subject's id, or nothing where it is
// not an id.
func subjectIssuer(id string) string {
	rest, ok := strings.CutPrefix(id, "user:")
	if !ok {
		if rest, ok = strings.CutPrefix(id, "client:"); !ok {
			return ""
		}
	}
	issuer, sub, _ := strings.Cut(rest, "/")
	if sub == "" {
		return ""
	}
	return issuer
}

// widen keeps the entry that revokes more.
func widen[K comparable](m map[K]before, k K, t time.Time) {
	old, there := m[k]
	switch {
	case !there:
		m[k] = before(t)
	case time.Time(old).IsZero():
	case t.IsZero() || t.After(time.Time(old)):
		m[k] = before(t)
	}
}

// covers reports whether tokens issued at iat are revoked. A token that does
// not say when it was issued is: the zero time is after no other.
func (b before) covers(iat time.Time) bool {
	t := time.Time(b)
	return t.IsZero() || !iat.After(t)
}

// Len returns how many tokens, sessions and subjects the list names.
func (l *List) Len() int { return len(l.tokens) + len(l.sessions) + len(l.subjects) }

// Revoked reports whether a subject's token is revoked. It never fails.
func (l *List) Revoked(_ context.Context, s *authz.Subject) (bool, error) {
	if b, ok := l.subjects[s.ID]; ok && b.covers(s.IssuedAt) {
		return true, nil
	}
	if b, ok := l.tokens[scoped{s.Issuer, s.TokenID}]; ok && b.covers(s.IssuedAt) {
		return true, nil
	}
	b, ok := l.sessions[scoped{s.Issuer, s.SessionID}]
	return ok && b.covers(s.IssuedAt), nil
}

// A Live is the list in force. The zero value revokes nothing. It is safe for
// concurrent use.
type Live struct{ list atomic.Pointer[List] }

// Store puts a list into force; the next request is judged by it.
func (v *Live) Store(l *List) { v.list.Store(l) }

// Revoked reports what the list in force says.
func (v *Live) Revoked(ctx context.Context, s *authz.Subject) (bool, error) {
	if l := v.list.Load(); l != nil {
		return l.Revoked(ctx, s)
	}
	return false, nil
}
