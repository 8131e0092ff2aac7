package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz/gate"
)

// A page is text in two columns.
type page struct {
	w   io.Writer
	err error
}

func (p *page) line(head, format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%-10s%s\n", head, printable(fmt.Sprintf(format, args...)))
	}
}

// printable keeps what a client chose from ending a line or talking to the
// terminal.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

func writeExplanation(w io.Writer, x *gate.Explanation) error {
	p := &page{w: w}
	if r := x.Record; r != nil {
		p.line("recorded", "%s, decision %s", r.Time.Format(time.RFC3339Nano), r.ID)
		if r.Trace != "" {
			p.line("trace", "%s", r.Trace)
		}
		if r.Address != "" {
			p.line("from", "%s", r.Address)
		}
	}
	p.line("request", "%s %s%s", x.Request.Method, x.Request.Host, x.Request.Path)
	for _, name := range slices.Sorted(maps.Keys(x.Request.Params)) {
		p.line("", "{%s} = %q", name, x.Request.Params[name])
	}
	route := x.Route
	if x.Policy != "" {
		route += ", policy " + x.Policy + ", revision " + x.Revision
	}
	p.line("route", "%s", orNone(route))
	if s := x.Subject; s != nil {
		p.line("subject", "%s", s.ID)
		for _, l := range []struct {
			name   string
			values []string
		}{{"roles", s.Roles}, {"scopes", s.Scopes}} {
			if len(l.values) > 0 {
				p.line("", "%s: %s", l.name, strings.Join(l.values, ", "))
			}
		}
		if s.Tenant != "" {
			p.line("", "tenant: %s", s.Tenant)
		}
	}
	for i, a := range x.Arguments {
		head := ""
		if i == 0 {
			head = "enforce"
		}
		value, err := json.Marshal(a.Value)
		if err != nil {
			return err
		}
		p.line(head, "%s: %s = %s", a.Field, a.Expression, value)
	}
	if len(x.Roles) > 0 {
		p.line("roles", "%s", strings.Join(x.Roles, ", "))
	}
	switch {
	case x.Rule != "" && x.RuleText == "":
		p.line("rule", "%s", x.Rule)
	case x.Rule != "":
		p.line("rule", "%s: %s", x.Rule, x.RuleText)
	}
	p.line("decision", "%s", verdict(x))
	if x.Cause != "" {
		p.line("", "%s", x.Cause)
	}
	for i, m := range x.NearMisses {
		head := ""
		if i == 0 {
			head = "nearest"
		}
		p.line(head, "%s: %s", m.Rule, m.Text)
		for _, f := range m.Failed {
			p.line("", "    %s", f)
		}
	}
	if x.Incomplete {
		p.line("", "there are more rules than were looked at")
	}
	if r := x.Record; r != nil {
		if r.Since != "" {
			p.line("since", "%s", r.Since)
		}
		p.line("ask again", "%s", r.Again)
		return p.err
	}
	return p.answer(x.Response)
}

// An answer is what is shown of a CheckResponse.
type answer struct {
	OK struct {
		Headers  []answerHeader `json:"headers"`
		Remove   []string       `json:"headersToRemove"`
		Response []answerHeader `json:"responseHeadersToAdd"`
		Set      []struct {
			Key, Value string
		} `json:"queryParametersToSet"`
		Drop []string `json:"queryParametersToRemove"`
	} `json:"okResponse"`
	Denied *answerDenied `json:"deniedResponse"`
	Error  *answerDenied `json:"errorResponse"`
}

type answerDenied struct {
	Status struct {
		Code string `json:"code"`
	} `json:"status"`
	Headers []answerHeader `json:"headers"`
	Body    string         `json:"body"`
}

type answerHeader struct {
	Header struct {
		Key, Value string
	} `json:"header"`
	Append bool `json:"append"`
}

// answer writes what Envoy would do with a CheckResponse.
func (p *page) answer(response []byte) error {
	var a answer
	if err := json.Unmarshal(response, &a); err != nil {
		return err
	}
	denied := cmp.Or(a.Denied, a.Error)
	if denied != nil {
		p.line("answer", "%s", denied.Status.Code)
		for _, h := range denied.Headers {
			p.line("", "%s: %s", h.Header.Key, h.Header.Value)
		}
		if denied.Body != "" {
			p.line("", "%s", strings.TrimSpace(denied.Body))
		}
		return p.err
	}
	p.line("answer", "OK")
	for _, h := range a.OK.Headers {
		verb := "set"
		if h.Append {
			verb = "append"
		}
		p.line("", "%s %s: %s", verb, h.Header.Key, h.Header.Value)
	}
	if len(a.OK.Remove) > 0 {
		p.line("", "remove %s", strings.Join(a.OK.Remove, ", "))
	}
	for _, q := range a.OK.Set {
		p.line("", "set query %s=%s", q.Key, q.Value)
	}
	if len(a.OK.Drop) > 0 {
		p.line("", "remove query %s", strings.Join(a.OK.Drop, ", "))
	}
	for _, h := range a.OK.Response {
		p.line("", "to the caller %s: %s", h.Header.Key, h.Header.Value)
	}
	return p.err
}

func verdict(x *gate.Explanation) string {
	if x.Decision == "allow" {
		return "allow"
	}
	s := "deny: " + string(x.Reason)
	if x.Detail != "" {
		s += " (" + string(x.Detail) + ")"
	}
	if x.Shadow {
		s += ", and let pass: the route is in shadow mode"
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
