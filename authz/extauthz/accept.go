package extauthz

import (
	"strconv"
	"strings"

	"github.com/sallyport-authz/sallyport/authz"
)

// maxRanges bounds how much of an Accept header is read. Browsers send under
// ten ranges.
const maxRanges = 32

// wantsHTML reports whether the caller names HTML and prefers it to JSON, as
// browsers do and API clients do not. A wildcard names nothing; where it
// weighs as much as HTML, the caller that names HTML gets it.
func wantsHTML(r *authz.Request) bool {
	var html, json, any float64
	ranges := 0
	for _, h := range r.Headers {
		if h.Name != "accept" {
			continue
		}
		for piece := range strings.SplitSeq(h.Value, ",") {
			if ranges++; ranges > maxRanges {
				return false
			}
			mediaType, q := mediaRange(piece)
			switch mediaType {
			case "text/html", "application/xhtml+xml":
				html = max(html, q)
			case "application/problem+json", "application/json":
				json = max(json, q)
			case "application/*", "*/*":
				any = max(any, q)
			}
		}
	}
	return html > json && html >= any
}

// mediaRange splits one element of Accept, RFC 9110 section 12.5.1. A weight
// that is not one weighs nothing.
func mediaRange(s string) (mediaType string, q float64) {
	mediaType, params, _ := strings.Cut(s, ";")
	q = 1
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.Trim(param, " \t"), "=")
		if strings.EqualFold(name, "q") {
			q = weight(value)
		}
	}
	return strings.ToLower(strings.Trim(mediaType, " \t")), q
}

// weight reads 0 to 1 with at most three decimals, RFC 9110 section 12.4.2.
func weight(s string) float64 {
	whole, decimals, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(decimals) > 3 || strings.Trim(decimals, "0123456789") != "" {
		return 0
	}
	q, err := strconv.ParseFloat(s, 64)
	if err != nil || q > 1 {
		return 0
	}
	return q
}
