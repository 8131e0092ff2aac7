package audit

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-authz/sallyport/authz"
)

// Bounds in bytes, as written: an escaped character counts as the six or
// twelve that it takes. Together they bound a record to maxRecord.
const (
	maxText   = 1024 // any value but those below
	maxPath   = 4096 // a path; Envoy lets 60 KiB through
	maxField  = 2048 // one configured field
	maxFields = 8192 // all of them; what comes later is marked as cut
	maxRecord = 32 << 10
)

// masked stands for a value that the configuration hides, whatever it is.
const masked = "***"

// A key is one that may be masked.
type key int

const (
	keyDetail key = iota
	keyRoute
	keyPolicy
	keyRevision
	keyRule
	keySubject
	keyMethod
	keyHost
	keyPath
	keyAddress
	keyPrincipal
	keyTraceID
	keys
)

// maskable maps names that a mask may hold to keys. Time, decision id,
// decision, reason and duration are not among them: without these a record
// says nothing.
var maskable = []struct {
	name string
	keys []key
}{
	{"detail", []key{keyDetail}},
	{"route", []key{keyRoute}},
	{"policy", []key{keyPolicy}},
	{"revision", []key{keyRevision}},
	{"rule", []key{keyRule}},
	{"subject", []key{keySubject}},
	{"method", []key{keyMethod}},
	{"host", []key{keyHost}},
	{"path", []key{keyPath}},
	{"source", []key{keyAddress, keyPrincipal}},
	{"source.address", []key{keyAddress}},
	{"source.principal", []key{keyPrincipal}},
	{"trace_id", []key{keyTraceID}},
}

// Maskable returns the names that [WithMask] takes.
func Maskable() []string {
	names := make([]string, len(maskable))
	for i, m := range maskable {
		names[i] = m.name
	}
	return names
}

// A format says what stands in records.
type format struct {
	masked  [keys]bool
	fields  []Field
	subject func(*authz.Subject) string
}

// mask hides what name means, and reports whether it means anything.
func (f *format) mask(name string) bool {
	for _, m := range maskable {
		if m.name == name {
			for _, k := range m.keys {
				f.masked[k] = true
			}
			return true
		}
	}
	return false
}

// decision appends the record of a decision as one line. r may be nil.
func (f *format) decision(b []byte, now time.Time, id trace.TraceID, r *authz.Request, d *authz.Decision) []byte {
	if r == nil {
		r = &authz.Request{}
	}
	decision := "deny"
	if d.Allowed() {
		decision = "allow"
	}
	b = appendTime(append(b, `{"time":`...), now)
	b = f.free(b, `,"decision_id":"`, d.ID())
	b = f.free(b, `,"decision":"`, decision)
	b = f.free(b, `,"reason":"`, string(d.Reason()))
	b = f.text(b, keyDetail, `,"detail":"`, string(d.Detail()))
	b = f.text(b, keyRoute, `,"route":"`, d.Route())
	b = f.text(b, keyPolicy, `,"policy":"`, d.Policy())
	b = f.text(b, keyRevision, `,"revision":"`, d.Revision())
	b = f.rule(b, d.Rule())
	b = f.text(b, keySubject, `,"subject":"`, f.who(d.Subject()))
	b = f.text(b, keyMethod, `,"method":"`, r.Method)
	b = f.text(b, keyHost, `,"host":"`, host(r))
	b = f.long(b, keyPath, `,"path":"`, path(r), maxPath)
	b = append(b, `,"source":{`...)
	b = f.address(b, r)
	b = f.text(b, keyPrincipal, `,"principal":"`, r.Source.Principal)
	b = append(b, '}')
	b = f.trace(b, id)
	b = append(b, `,"duration":`...)
	b, _ = appendNumber(b, d.Duration().Seconds())
	if d.Shadow() {
		b = append(b, `,"shadow":true`...)
	}
	if len(f.fields) > 0 {
		b = f.extras(b, r, d)
	}
	return append(b, '}', '\n')
}

// free writes a value that is never masked. Here and below, open is the key
// with all that stands before its value.
func (f *format) free(b []byte, open, value string) []byte {
	return append(appendText(append(b, open...), value, maxText), '"')
}

func (f *format) text(b []byte, k key, open, value string) []byte {
	return f.long(b, k, open, value, maxText)
}

func (f *format) long(b []byte, k key, open, value string, limit int) []byte {
	if f.masked[k] {
		value = masked
	}
	return append(appendText(append(b, open...), value, limit), '"')
}

// rule writes FILE:LINE as [authz.Rule.String] does, without its allocation.
func (f *format) rule(b []byte, r authz.Rule) []byte {
	const open = `,"rule":"`
	if r.Line == 0 || f.masked[keyRule] {
		return f.text(b, keyRule, open, "")
	}
	b = appendText(append(b, open...), r.File, maxText)
	b = strconv.AppendInt(append(b, ':'), int64(r.Line), 10)
	return append(b, '"')
}

// address writes an address, or nothing for none. Only a zone can hold what
// needs an escape.
func (f *format) address(b []byte, r *authz.Request) []byte {
	const open = `"address":"`
	a := r.Source.Address
	if a.Zone() != "" || f.masked[keyAddress] {
		return f.text(b, keyAddress, open, a.String())
	}
	return append(a.AppendTo(append(b, open...)), '"')
}

func (f *format) trace(b []byte, id trace.TraceID) []byte {
	const open = `,"trace_id":"`
	if !id.IsValid() || f.masked[keyTraceID] {
		return f.text(b, keyTraceID, open, "")
	}
	return append(hex.AppendEncode(append(b, open...), id[:]), '"')
}

func (f *format) who(s *authz.Subject) string {
	switch {
	case s == nil:
		return ""
	case s.Kind == authz.Anonymous:
		return authz.Nobody.ID
	}
	return f.subject(s)
}

// extras writes the configured fields. What is missing is left out.
func (f *format) extras(b []byte, r *authz.Request, d *authz.Decision) []byte {
	b = append(b, `,"fields":{`...)
	start, comma := len(b), ""
	for _, field := range f.fields {
		v, ok := field.Value(r, d)
		if !ok {
			continue
		}
		b = append(append(b, comma...), '"')
		b = append(append(b, field.Name...), '"', ':') // checked by New: nothing to escape
		limit := min(maxField, maxFields-(len(b)-start))
		b = appendValue(b, v, max(limit, len(cut)+2))
		comma = ","
	}
	return append(b, '}')
}

// path returns the canonical path. A request that was refused before it had
// one is recorded with what Envoy gave us, without what could be a query or a
// fragment: both may hold credentials.
func path(r *authz.Request) string {
	if r.Path != "" {
		return r.Path
	}
	if i := strings.IndexAny(r.Target, "?#"); i >= 0 {
		return r.Target[:i]
	}
	return r.Target
}

// host returns the canonical host or, before there is one, what Envoy gave us
// without user information, which may hold a password.
func host(r *authz.Request) string {
	if r.Host != "" {
		return r.Host
	}
	return r.Authority[strings.LastIndexByte(r.Authority, '@')+1:]
}
