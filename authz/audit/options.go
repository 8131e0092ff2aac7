package audit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
)

// A Sink is where records go: one of [Writer], [File] and [None]. The zero
// value is none of these, and New refuses it.
type Sink struct {
	w    io.Writer
	path string
	none bool
}

// Writer is a writer of the caller's, os.Stdout for one. The Log calls it from
// one goroutine with whole lines, and never closes it.
func Writer(w io.Writer) Sink { return Sink{w: w} }

// File is the file with this path. It is made with mode 0600 where it does
// not exist, and only ever appended to.
func File(path string) Sink { return Sink{path: path} }

// None keeps no records.
func None() Sink { return Sink{none: true} }

// A Field is an extra that the configuration adds to each record, under
// fields.
type Field struct {
	// Name is the key: letters, digits, dots, dashes and underscores, at most
	// 64 of them.
	Name string
	// Value returns the value; false leaves the key out. It may be nil, a
	// bool, string, int64, float64 or time.Time, and []any or map[string]any
	// of these. The request may be nil. Value must be safe for concurrent use
	// and runs before the answer leaves.
	Value func(*authz.Request, *authz.Decision) (any, bool)
}

// maxExtras bounds the number of configured fields.
const maxExtras = 64

var fieldName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// An Option tunes a Log.
type Option func(*settings)

type settings struct {
	queue    int
	required bool
	patience time.Duration
	mask     []string
	fields   []Field
	subject  func(*authz.Subject) string
	dropped  func(int)
	logger   *slog.Logger
	now      func() time.Time
}

// WithRequired makes Record return only once its record is durable, or refuse.
// It needs a File that is a regular one.
func WithRequired() Option { return func(s *settings) { s.required = true } }

// WithQueue bounds how many records may wait to be written; 65536 by default.
// They may hold 1 KiB each on average: long records fill the queue sooner.
func WithQueue(n int) Option { return func(s *settings) { s.queue = n } }

// WithWait bounds how long a required record is waited for; 2 s by default.
// More than Envoy's own timeout is no use to anybody.
func WithWait(d time.Duration) Option { return func(s *settings) { s.patience = d } }

// WithMask names the keys whose values are written as ***, out of [Maskable].
func WithMask(names []string) Option { return func(s *settings) { s.mask = names } }

// WithFields adds extras to each record, in this order. Where there are none,
// records have no key fields.
func WithFields(fields []Field) Option { return func(s *settings) { s.fields = fields } }

// WithSubject sets what is written for a subject; its plain id by default. It
// is not asked where nobody was authenticated: no subject is written as an
// empty string, an anonymous one as anonymous.
func WithSubject(f func(*authz.Subject) string) Option { return func(s *settings) { s.subject = f } }

// WithDropped sets who is told of n records that were not written, for
// whatever reason and in either mode. It is called from any goroutine and must
// not block.
func WithDropped(f func(n int)) Option { return func(s *settings) { s.dropped = f } }

// WithLogger sets where failures are reported, one line in ten seconds at
// most; nowhere by default.
func WithLogger(log *slog.Logger) Option { return func(s *settings) { s.logger = log } }

// WithClock sets what the time of a record is read from; time.Now by default.
func WithClock(now func() time.Time) Option { return func(s *settings) { s.now = now } }

// check returns the format that the settings ask for, or every mistake in
// them.
func (s *settings) check(sink Sink) (format, error) {
	f := format{fields: s.fields, subject: s.subject}
	var errs []error
	complain := func(text string, args ...any) { errs = append(errs, fmt.Errorf(text, args...)) }
	if sink == (Sink{}) {
		complain("no sink")
	}
	if s.required && sink.path == "" {
		complain("mode required needs a file")
	}
	if s.queue < 1 {
		complain("queue %d holds no record", s.queue)
	}
	if s.patience <= 0 {
		complain("wait %v is no time", s.patience)
	}
	if s.subject == nil || s.dropped == nil || s.logger == nil || s.now == nil {
		complain("an option is nil")
	}
	for _, name := range s.mask {
		if !f.mask(name) {
			complain("mask: unknown field %q (one of %q)", name, Maskable())
		}
	}
	if len(s.fields) > maxExtras {
		complain("%d fields are more than %d", len(s.fields), maxExtras)
	}
	seen := make(map[string]bool)
	for _, field := range s.fields {
		switch {
		case !fieldName.MatchString(field.Name):
			complain("field %q: not a name of at most 64 letters, digits, dots, dashes and underscores", field.Name)
		case seen[field.Name]:
			complain("field %q: defined twice", field.Name)
		case field.Value == nil:
			complain("field %q: no value", field.Name)
		}
		seen[field.Name] = true
	}
	return f, errors.Join(errs...)
}
