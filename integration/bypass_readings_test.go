package integration

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// A rewrite is one thing that some server does to a path before it looks for
// a handler.
var rewrites = []func(string) string{
	cutAt("?"),
	cutAt("#"),
	cutAt(";"),
	cutAt("\x00"),
	strings.ToLower,
	func(p string) string { return escape.ReplaceAllStringFunc(p, unescapeOne) },        // decode what can be decoded
	func(p string) string { return escape16.ReplaceAllStringFunc(p, unescape16) },       // %uXXXX, as IIS
	func(p string) string { return overlong2.ReplaceAllStringFunc(p, decodeOverlong2) }, // UTF-8 without a look at its form
	func(p string) string { return overlong3.ReplaceAllStringFunc(p, decodeOverlong3) },
	decodeOverlongBytes,
	func(p string) string { return strings.ReplaceAll(p, `\`, "/") },
	func(p string) string { return slashes.ReplaceAllString(p, "/") },
	func(p string) string { return authority.ReplaceAllString(p, "/") }, // scheme and authority, or just //authority
	func(p string) string { return parameters.ReplaceAllString(p, "") }, // of each segment
	func(p string) string { return controls.ReplaceAllString(p, "") },   // as browsers
	func(p string) string { return strings.ReplaceAll(p, "+", " ") },    // as forms
	func(p string) string {
		return eachSegment(p, func(s string) string { return strings.Trim(s, " \t\r\n\v\f") })
	},
	func(p string) string { return eachSegment(p, trimAsWindows) },
	func(p string) string { return extension.ReplaceAllString(p, "") }, // /admin.json is /admin
	func(p string) string { return strings.TrimRight(p, "/") },
	resolveDots,
}

var (
	escape     = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	escape16   = regexp.MustCompile(`%[uU][0-9A-Fa-f]{4}`)
	overlong2  = regexp.MustCompile(`(?s)%[cC][01](%[0-9A-Fa-f]{2}|[^%])`)
	overlong3  = regexp.MustCompile(`(?s)%[eE]0%[89][0-9A-Fa-f]%[0-9A-Fa-f]{2}`)
	slashes    = regexp.MustCompile(`/{2,}`)
	authority  = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*/?`)
	parameters = regexp.MustCompile(`;[^/]*`)
	controls   = regexp.MustCompile(`[\x00-\x1f\x7f]+`)
	extension  = regexp.MustCompile(`\.[A-Za-z]+$`)
)

// readings returns every path that some upstream may take a target for: what
// stands before the first question mark, after the rewrites, each as often as
// it can be made and in whatever order. They fold case and decode what is no
// UTF-8, but know no Unicode normalisation: to take U+FF0F for a slash is
// beyond them.
func readings(target string) []string {
	path, _, _ := strings.Cut(target, "?")
	all := []string{path}
	known := map[string]bool{path: true}
	for i := 0; i < len(all) && len(all) < 5000; i++ {
		for _, rewrite := range rewrites {
			if p := rewrite(all[i]); !known[p] {
				known[p] = true
				all = append(all, p)
			}
		}
	}
	return all
}

func cutAt(sep string) func(string) string {
	return func(p string) string {
		before, _, _ := strings.Cut(p, sep)
		return before
	}
}

func unescapeOne(s string) string {
	n, _ := strconv.ParseUint(s[1:], 16, 8) // the expression lets nothing else pass
	return string([]byte{byte(n)})
}

func unescape16(s string) string {
	n, _ := strconv.ParseUint(s[2:], 16, 16)
	return string(rune(n))
}

// decodeOverlong2 takes the low six bits of any second byte.
func decodeOverlong2(s string) string {
	high, low := unescapeOne(s[:3])[0], s[len(s)-1]
	if len(s) == 6 {
		low = unescapeOne(s[3:])[0]
	}
	return string([]byte{high&1<<6 | low&0x3F})
}

func decodeOverlong3(s string) string {
	middle, low := unescapeOne(s[3:6])[0], unescapeOne(s[6:])[0]
	if middle&0x3F > 1 {
		return s // a character beyond ASCII
	}
	return string([]byte{middle&1<<6 | low&0x3F})
}

// decodeOverlongBytes does the same to bytes that are not escaped. Regular
// expressions see no such bytes.
func decodeOverlongBytes(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch {
		case p[i]&^1 == 0xC0 && i+1 < len(p):
			b.WriteByte(p[i]&1<<6 | p[i+1]&0x3F)
			i++
		case p[i] == 0xE0 && i+2 < len(p) && p[i+1]&^1 == 0x80:
			b.WriteByte(p[i+1]&1<<6 | p[i+2]&0x3F)
			i += 2
		default:
			b.WriteByte(p[i])
		}
	}
	return b.String()
}

func eachSegment(p string, f func(string) string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i] = f(s)
	}
	return strings.Join(segments, "/")
}

// trimAsWindows drops spaces and dots at the end of a name, and the spaces
// from one that is nothing but those.
func trimAsWindows(s string) string {
	if trimmed := strings.TrimRight(s, ". "); trimmed != "" {
		return trimmed
	}
	return strings.ReplaceAll(s, " ", "")
}

// resolveDots is RFC 3986 section 5.2.4; above the root there is nothing.
func resolveDots(p string) string {
	if !strings.HasPrefix(p, "/") {
		return p
	}
	segments := strings.Split(p[1:], "/")
	var out []string
	for i, s := range segments {
		switch {
		case s != "." && s != "..":
			out = append(out, s)
			continue
		case s == ".." && len(out) > 0:
			out = out[:len(out)-1]
		}
		if i == len(segments)-1 {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// fold is how CGI and its heirs read the name of a header.
func fold(name string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), "_", "-")
}

// values returns what an upstream may find under these names.
func values(a *harness.Arrival, names ...string) (all []string) {
	for _, h := range a.Headers {
		if slices.Contains(names, fold(h.Name)) {
			all = append(all, h.Value)
		}
	}
	return all
}

// Headers by which some upstreams let a client say another method, path or
// host. The configuration under test owns them and never sets them.
var (
	methodHeaders = []string{"x-http-method-override", "x-http-method", "x-method-override"}
	pathHeaders   = []string{"x-original-url", "x-rewrite-url", "x-original-uri", "x-forwarded-uri", "x-forwarded-prefix", "x-accel-redirect"}
	hostHeaders   = []string{"x-forwarded-host", "x-forwarded-server", "x-original-host", "x-host", "x-http-host-override", "forwarded"}
)

// methodReadings returns every method that some upstream may take.
func methodReadings(a *harness.Arrival) []string {
	all := append([]string{a.Method}, values(a, methodHeaders...)...)
	_, query, _ := strings.Cut(a.Target, "?")
	for piece := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(escape.ReplaceAllStringFunc(piece, unescapeOne), "=")
		if name == "_method" {
			all = append(all, value)
		}
	}
	for i := range all {
		all = append(all, strings.ToUpper(all[i]))
	}
	return distinct(all)
}

func distinct(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// pathReadings returns every path that some upstream may take.
func pathReadings(a *harness.Arrival) []string {
	all := readings(a.Target)
	for _, target := range values(a, pathHeaders...) {
		all = append(all, readings(target)...)
	}
	return all
}

var hostSeparators = regexp.MustCompile(`[,;@/\\?# "=]+`)

// hostReadings returns every host that some upstream may take: of each value
// each piece, in lower case, without port and final dot.
func hostReadings(a *harness.Arrival) []string {
	var all []string
	for _, value := range append(append(values(a, "host"), values(a, hostHeaders...)...), authority.FindString(a.Target)) {
		for _, piece := range append(hostSeparators.Split(value, -1), value) {
			host, _, _ := strings.Cut(strings.ToLower(piece), ":")
			all = append(all, strings.Trim(host, ". "))
		}
	}
	return distinct(all)
}
