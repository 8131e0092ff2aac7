package audit

import "time"

// An Event says what changed.
type Event string

// What can change.
const (
	Configuration Event = "configuration"
	Policy        Event = "policy"
	Keys          Event = "keys"
)

// A Change is one change of what decisions are made from. No part of it is
// masked: none comes from a request.
type Change struct {
	Event       Event
	Name        string // the policy or issuer that changed; empty for the configuration
	OldRevision string // empty at the start
	NewRevision string // empty where the change was refused
	Summary     string // what changed, or why it was refused, in a sentence
}

// change appends the record of a change as one line, with all keys always.
func (f *format) change(b []byte, now time.Time, c Change) []byte {
	b = appendTime(append(b, `{"time":`...), now)
	b = f.free(b, `,"event":"`, string(c.Event))
	b = f.free(b, `,"name":"`, c.Name)
	b = f.free(b, `,"old_revision":"`, c.OldRevision)
	b = f.free(b, `,"new_revision":"`, c.NewRevision)
	b = append(appendText(append(b, `,"summary":"`...), c.Summary, maxSummary), '"')
	return append(b, '}', '\n')
}

// maxSummary bounds the summary of a change in bytes, as written.
const maxSummary = 4096
