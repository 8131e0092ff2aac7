package extauthz_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
)

// The contract's table of answers.
var answers = map[authz.Reason]struct {
	status int
	code   codes.Code
}{
	authz.MalformedRequest:    {400, 3},
	authz.MalformedCredential: {400, 3},
	authz.NoCredential:        {401, 16},
	authz.InvalidToken:        {401, 16},
	authz.StepUpRequired:      {401, 16},
	authz.InsufficientScope:   {403, 7},
	authz.NoRoute:             {403, 7},
	authz.NotPermitted:        {403, 7},
	authz.AttributeMissing:    {403, 7},
	authz.IssuerUnavailable:   {503, 14},
	authz.NotReady:            {503, 14},
	authz.Deadline:            {503, 14},
	authz.Overloaded:          {503, 14},
	authz.AuditUnavailable:    {503, 14},
	authz.Internal:            {503, 14},
}

// Every reason has an answer for every kind of caller, and none is OK.
func TestEveryReason(t *testing.T) {
	if len(answers) != len(authz.Reasons()) {
		t.Fatalf("%d answers for %d reasons", len(answers), len(authz.Reasons()))
	}
	for _, reason := range authz.Reasons() {
		want, ok := answers[reason]
		if !ok {
			t.Fatalf("no answer expected for %s", reason)
		}
		for _, asError := range []bool{false, true} {
			name := string(reason)
			if asError {
				name += " as an error"
			}
			t.Run(name, func(t *testing.T) {
				w := &world{deny: authz.Refuse(reason, "", errBoom), asError: asError, challenge: `Bearer realm="r"`}
				resp := w.render(t, extauthz.Read(get(), 0))
				if got := codes.Code(resp.GetStatus().GetCode()); got != want.code {
					t.Errorf("code %v, want %v", got, want.code)
				}
				if got := resp.GetErrorResponse() != nil; got != (asError && want.status == 503) {
					t.Errorf("error_response: %v", got)
				}
				d := denial(resp)
				if got := int(d.GetStatus().GetCode()); got != want.status {
					t.Errorf("status %d, want %d", got, want.status)
				}
				if got := values(d.GetHeaders(), "cache-control"); !slices.Equal(got, []string{"no-store"}) {
					t.Errorf("cache-control %q", got)
				}
				if got := values(d.GetHeaders(), "retry-after"); (want.status == 503) != slices.Equal(got, []string{"1"}) {
					t.Errorf("retry-after %q", got)
				}
				if got := values(d.GetHeaders(), "www-authenticate"); !slices.Equal(got, []string{`Bearer realm="r"`}) {
					t.Errorf("www-authenticate %q", got)
				}
				for _, h := range d.GetHeaders() {
					if h.GetAppend() != nil {
						t.Errorf("%s has append, which loses it", h.GetHeader().GetKey())
					}
				}
				if strings.Contains(resp.String(), "boom") {
					t.Error("the cause is in the answer")
				}
				problem(t, d.GetBody(), want.status, reason)
			})
		}
	}
}

func problem(t *testing.T, body string, status int, reason authz.Reason) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if len(got) != 4 || got["title"] != http.StatusText(status) || got["status"] != float64(status) || got["reason"] != string(reason) || len(got["decision"].(string)) != 32 {
		t.Errorf("problem %v", got)
	}
}

func TestDenyGolden(t *testing.T) {
	for name, accept := range map[string]string{"problem": "application/json", "html": "text/html,*/*;q=0.8"} {
		w := &world{deny: authz.Refuse(authz.NoCredential, "", nil), challenge: `Bearer realm="sallyport"`}
		golden(t, "deny-"+name, steady(t, w.render(t, extauthz.Read(get("accept: "+accept), 0))))
	}
	w := &world{deny: authz.Refuse(authz.InsufficientScope, "", nil), challenge: `Bearer error="insufficient_scope", scope="orders"`}
	golden(t, "deny-grpc", steady(t, w.render(t, extauthz.Read(get("content-type: application/grpc+proto", "te: trailers"), 0))))
	w = &world{deny: authz.Refuse(authz.IssuerUnavailable, "", nil), asError: true}
	golden(t, "error", steady(t, w.render(t, extauthz.Read(get(), 0))))
	w = &world{
		deny:   authz.Refuse(authz.InvalidToken, "", nil),
		denied: authz.Answer{Redirect: "https://login.example.com/?back=/v1/orders", Response: []authz.Header{hdr("set-cookie", "a="), hdr("set-cookie", "b=")}},
	}
	golden(t, "deny-redirect", steady(t, w.render(t, extauthz.Read(get("accept: text/html"), 0))))
}

func TestKindOfCaller(t *testing.T) {
	cases := []struct {
		name    string
		headers []string
		want    string // content type
	}{
		{"no accept", nil, "application/problem+json"},
		{"curl", []string{"accept: */*"}, "application/problem+json"},
		{"firefox", []string{"accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "text/html; charset=utf-8"},
		{"chrome", []string{"accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"}, "text/html; charset=utf-8"},
		{"axios", []string{"accept: application/json, text/plain, */*"}, "application/problem+json"},
		{"jquery", []string{"accept: text/html, */*; q=0.01"}, "text/html; charset=utf-8"},
		{"html beside a full wildcard", []string{"accept: text/html, */*"}, "text/html; charset=utf-8"},
		{"json first", []string{"accept: application/json, text/html;q=0.9"}, "application/problem+json"},
		{"html and json alike", []string{"accept: text/html, application/json"}, "application/problem+json"},
		{"html before json", []string{"accept: application/json;q=0.5, text/html;q=0.501"}, "text/html; charset=utf-8"},
		{"problem before html", []string{"accept: text/html;q=0.5, application/problem+json"}, "application/problem+json"},
		{"html refused", []string{"accept: text/html;q=0, */*"}, "application/problem+json"},
		{"html refused with decimals", []string{"accept: text/html;q=0.000"}, "application/problem+json"},
		{"wildcard before html", []string{"accept: */*, text/html;q=0.5"}, "application/problem+json"},
		{"text wildcard", []string{"accept: text/*"}, "application/problem+json"},
		{"parameters", []string{"accept: text/html;level=1;Q=0.9"}, "text/html; charset=utf-8"},
		{"upper case", []string{"accept: TEXT/HTML"}, "text/html; charset=utf-8"},
		{"spaces", []string{"accept:  text/html ; q=1.000 "}, "text/html; charset=utf-8"},
		{"weight over one", []string{"accept: text/html;q=9"}, "application/problem+json"},
		{"weight 1.5", []string{"accept: text/html;q=1.5"}, "application/problem+json"},
		{"weight that is no number", []string{"accept: text/html;q=NaN"}, "application/problem+json"},
		{"weight in hex", []string{"accept: text/html;q=0x1"}, "application/problem+json"},
		{"weight with an exponent", []string{"accept: text/html;q=1.e0"}, "application/problem+json"},
		{"empty weight", []string{"accept: text/html;q="}, "application/problem+json"},
		{"several lines", []string{"accept: application/json;q=0.1", "accept: text/html"}, "text/html; charset=utf-8"},
		{"more than anybody sends", []string{"accept: " + strings.Repeat("a/b,", 40) + "text/html"}, "application/problem+json"},
		{"grpc-web", []string{"content-type: application/grpc-web+proto"}, "application/problem+json"},
		{"grpc with a parameter", []string{"content-type: application/grpc;charset=utf-8"}, "application/problem+json"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := &world{deny: authz.Refuse(authz.NotPermitted, "", nil)}
			d := w.render(t, extauthz.Read(get(c.headers...), 0)).GetDeniedResponse()
			if got := values(d.GetHeaders(), "content-type"); !slices.Equal(got, []string{c.want}) {
				t.Errorf("content type %q, want %q", got, c.want)
			}
			if !strings.Contains(d.GetBody(), "not_permitted") {
				t.Errorf("body %q has no reason", d.GetBody())
			}
		})
	}
}

// A gRPC caller gets the status in headers and no body: Envoy would overwrite
// the message with it.
func TestGRPCCaller(t *testing.T) {
	for _, reason := range authz.Reasons() {
		t.Run(string(reason), func(t *testing.T) {
			body := "sorry"
			w := &world{
				deny: authz.Refuse(reason, "", nil), challenge: "Bearer",
				denied: authz.Answer{
					Body: &body, Redirect: "https://login.example.com/",
					Response: []authz.Header{hdr("grpc-status", "0"), hdr("grpc-message", "forged"), hdr("content-type", "text/plain"), hdr("x-why", "1")},
				},
			}
			d := w.render(t, extauthz.Read(get("content-type: application/grpc", "accept: text/html"), 0)).GetDeniedResponse()
			if d.GetBody() != "" || int(d.GetStatus().GetCode()) != answers[reason].status {
				t.Errorf("status %d, body %q", d.GetStatus().GetCode(), d.GetBody())
			}
			if got := values(d.GetHeaders(), "grpc-status"); !slices.Equal(got, []string{strconv.Itoa(int(answers[reason].code))}) {
				t.Errorf("grpc-status %q", got)
			}
			if got := values(d.GetHeaders(), "grpc-message"); len(got) != 1 || !strings.Contains(got[0], "("+string(reason)+", decision ") || strings.Contains(got[0], "%") {
				t.Errorf("grpc-message %q", got)
			}
			if values(d.GetHeaders(), "content-type") != nil || values(d.GetHeaders(), "location") != nil {
				t.Errorf("headers %v", d.GetHeaders())
			}
			if values(d.GetHeaders(), "www-authenticate") == nil || values(d.GetHeaders(), "x-why") == nil || values(d.GetHeaders(), "cache-control") == nil {
				t.Errorf("headers %v", d.GetHeaders())
			}
		})
	}
}

func TestRouteAnswers(t *testing.T) {
	text := func(s string) *string { return &s }
	html, plain := []string{"accept: text/html"}, []string{"accept: */*"}
	cases := []struct {
		name     string
		reason   authz.Reason
		headers  []string
		answer   authz.Answer
		status   int
		body     string // "" for none, "*" for the default one
		ctype    string
		location string
		code     codes.Code
	}{
		{"own body", authz.NotPermitted, plain, authz.Answer{Body: text("sorry")}, 403, "sorry", "text/plain; charset=utf-8", "", 7},
		{"own body for browsers", authz.NotPermitted, html, authz.Answer{Body: text("sorry")}, 403, "sorry", "text/plain; charset=utf-8", "", 7},
		{"own body and type", authz.NotPermitted, plain, authz.Answer{Body: text("<p>"), Response: []authz.Header{hdr("content-type", "text/html")}}, 403, "<p>", "text/html", "", 7},
		{"empty body", authz.NotPermitted, plain, authz.Answer{Body: text("")}, 403, "", "text/plain; charset=utf-8", "", 7},
		{"type without a body", authz.NotPermitted, plain, authz.Answer{Response: []authz.Header{hdr("content-type", "text/csv")}}, 403, "*", "application/problem+json", "", 7},
		{"body that is not UTF-8", authz.NotPermitted, plain, authz.Answer{Body: text("a\xff")}, 403, "*", "application/problem+json", "", 7},
		{"body too large", authz.NotPermitted, plain, authz.Answer{Body: text(strings.Repeat("a", 64<<10+1))}, 403, "*", "application/problem+json", "", 7},
		{"redirect", authz.NoCredential, html, authz.Answer{Redirect: "https://login.example.com/"}, 302, "", "", "https://login.example.com/", 16},
		{"redirect for an invalid token", authz.InvalidToken, html, authz.Answer{Redirect: "/login", Body: text("sorry")}, 302, "", "", "/login", 16},
		{"no redirect for programs", authz.NoCredential, plain, authz.Answer{Redirect: "/login"}, 401, "*", "application/problem+json", "", 16},
		{"no redirect where a token does not help", authz.NotPermitted, html, authz.Answer{Redirect: "/login"}, 403, "*", "text/html; charset=utf-8", "", 7},
		{"no redirect for step-up", authz.StepUpRequired, html, authz.Answer{Redirect: "/login"}, 401, "*", "text/html; charset=utf-8", "", 16},
		{"no redirect for failures", authz.IssuerUnavailable, html, authz.Answer{Redirect: "/login"}, 503, "*", "text/html; charset=utf-8", "", 14},
		{"redirect that is no URI", authz.NoCredential, html, authz.Answer{Redirect: "/a b"}, 401, "*", "text/html; charset=utf-8", "", 16},
		{"redirect with non-ASCII", authz.NoCredential, html, authz.Answer{Redirect: "/é"}, 401, "*", "text/html; charset=utf-8", "", 16},
		{"redirect over a location header", authz.NoCredential, html, authz.Answer{Redirect: "/login", Response: []authz.Header{hdr("location", "/other")}}, 302, "", "", "/login", 16},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := &world{deny: authz.Refuse(c.reason, "", nil), denied: c.answer}
			resp := w.render(t, extauthz.Read(get(c.headers...), 0))
			d := resp.GetDeniedResponse()
			if int(d.GetStatus().GetCode()) != c.status || codes.Code(resp.GetStatus().GetCode()) != c.code {
				t.Errorf("status %d code %d, want %d %d", d.GetStatus().GetCode(), resp.GetStatus().GetCode(), c.status, c.code)
			}
			if c.body == "*" && !strings.Contains(d.GetBody(), string(c.reason)) || c.body != "*" && d.GetBody() != c.body {
				t.Errorf("body %.80q, want %q", d.GetBody(), c.body)
			}
			if got := strings.Join(values(d.GetHeaders(), "content-type"), "|"); got != c.ctype {
				t.Errorf("content type %q, want %q", got, c.ctype)
			}
			if got := strings.Join(values(d.GetHeaders(), "location"), "|"); got != c.location {
				t.Errorf("location %q, want %q", got, c.location)
			}
			if c.status == 302 && values(d.GetHeaders(), "www-authenticate") != nil {
				t.Error("a redirect carries a challenge")
			}
		})
	}
}

func TestDenyHeaders(t *testing.T) {
	w := &world{
		deny: authz.Refuse(authz.NoCredential, "", nil), challenge: "Bearer",
		denied: authz.Answer{Response: []authz.Header{
			hdr("x-b", "1"), hdr("set-cookie", "b=2"), hdr("set-cookie", "a=1"), hdr("cache-control", "private"), hdr("www-authenticate", "Basic"), hdr("x-a", "1"),
		}},
	}
	var got []string
	for _, h := range w.render(t, extauthz.Read(get(), 0)).GetDeniedResponse().GetHeaders() {
		got = append(got, h.GetHeader().GetKey()+": "+h.GetHeader().GetValue())
	}
	want := []string{
		"cache-control: private", "content-type: application/problem+json", "set-cookie: b=2", "set-cookie: a=1",
		"www-authenticate: Basic", "www-authenticate: Bearer", "x-a: 1", "x-b: 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Without a challenge of the route's, a 401 still has one, and nothing else
// does.
func TestChallengeOfLastResort(t *testing.T) {
	for _, reason := range authz.Reasons() {
		w := &world{deny: authz.Refuse(reason, "", nil)}
		got := values(w.render(t, extauthz.Read(get(), 0)).GetDeniedResponse().GetHeaders(), "www-authenticate")
		if want := answers[reason].status == 401; want != slices.Equal(got, []string{"Bearer"}) {
			t.Errorf("%s: www-authenticate %q", reason, got)
		}
	}
}

// A TCP check has no caller to answer; Envoy reads the code alone.
func TestDenyTCP(t *testing.T) {
	resp := (&world{noRoute: true}).render(t, extauthz.Read(nil, 0))
	if resp.GetStatus().GetCode() != 7 {
		t.Errorf("code %d, want 7", resp.GetStatus().GetCode())
	}
}
