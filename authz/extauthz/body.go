package extauthz

import (
	"encoding/json"
	"html"
	"net/http"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
)

// sentence is a refusal in one line: what, the stable reason, and the id by
// which an operator finds the rest.
func sentence(d *authz.Decision, v verdict) string {
	return v.text + " (" + string(d.Reason()) + ", decision " + d.ID() + ")"
}

// problem is an RFC 9457 problem detail. It has no type, which means
// about:blank, whose title is the phrase of the status (section 4.2.1).
func problem(d *authz.Decision, v verdict) string {
	b, err := json.Marshal(struct {
		Title    string       `json:"title"`
		Status   int          `json:"status"`
		Reason   authz.Reason `json:"reason"`
		Decision string       `json:"decision"`
	}{http.StatusText(int(v.status)), int(v.status), d.Reason(), d.ID()})
	if err != nil {
		return "" // strings and a number always marshal
	}
	return string(b) + "\n"
}

// page is a refusal for people.
func page(d *authz.Decision, v verdict) string {
	title := html.EscapeString(http.StatusText(int(v.status)))
	var b strings.Builder
	b.WriteString(`<!doctype html><html lang="en"><head><meta charset="utf-8"><title>` + title + `</title></head><body><h1>` + title + `</h1><p>`)
	b.WriteString(html.EscapeString(strings.ToUpper(v.text[:1]) + v.text[1:]))
	b.WriteString(` (<code>` + html.EscapeString(string(d.Reason())) + `</code>).</p><p>Decision <code>` + html.EscapeString(d.ID()) + "</code></p></body></html>\n")
	return b.String()
}
