package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// rule is what the tour adds to the policy, and takes away again. It changes
// no cell of the table, so that whoever asks meanwhile gets the table.
const rule = "p, role:clerk, /orders/:order, PUT"

// A step is one command of the tour.
type step struct {
	says         string
	method, path string
	user         string // whose token, empty for none
}

var steps = []step{
	{"no token is needed here", "GET", "/healthz", ""},
	{"a token is needed here, and there is none", "GET", "/orders", ""},
	{"bob is a clerk: he may read orders", "GET", "/orders", "bob"},
	{"but not make one", "POST", "/orders", "bob"},
	{"max is a manager: he may", "POST", "/orders", "max"},
	{"bob's account is for bob", "GET", "/accounts/bob", "bob"},
	{"a good token, but for another person", "GET", "/accounts/bob", "max"},
	{"nobody may change an order: no rule says so", "PUT", "/orders/7", "bob"},
}

// The table of who may do what. An empty user is nobody.
var (
	users  = []string{"", "eve", "bob", "max", "ada"}
	things = []string{"GET /healthz", "GET /orders", "GET /orders/7", "POST /orders", "DELETE /orders/7", "GET /accounts/bob"}
)

// tour runs every command through Envoy and prints it with what it answered.
func (s *stage) tour(ctx context.Context, w io.Writer) error {
	fmt.Fprintf(w, "Envoy listens on %s and asks Sallyport about every request. Copy and paste:\n\n", s.envoy.Listener)
	for _, user := range names() {
		fmt.Fprintf(w, "  %s=$(curl -s '%s/demo/token?user=%s')\n", strings.ToUpper(user), s.envoy.Listener, user)
	}
	for _, st := range steps {
		answer, err := s.ask(ctx, st)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\n  # %s\n  %s\n  %s\n", st.says, s.curl(st), answer)
	}
	if err := s.change(ctx, w); err != nil {
		return err
	}
	if err := s.table(ctx, w); err != nil {
		return err
	}
	if err := s.why(ctx, w); err != nil {
		return err
	}
	s.whereabouts(w)
	return nil
}

// curl is a step as somebody would type it.
func (s *stage) curl(st step) string {
	c := "curl -s "
	if st.method != "GET" {
		c += "-X " + st.method + " "
	}
	if st.user != "" {
		c += `-H "Authorization: Bearer $` + strings.ToUpper(st.user) + `" `
	}
	return c + s.envoy.Listener + st.path
}

// An answer is what a step got.
type answer struct {
	status int
	body   string
}

// String shows what a caller saw of a refusal, and what the upstream saw of an
// allow.
func (a answer) String() string {
	var echo harness.Echo
	if a.status == http.StatusOK && json.Unmarshal([]byte(a.body), &echo) == nil {
		var seen []string
		for _, name := range []string{"x-user", "x-roles"} {
			if v := echo.Headers[name]; len(v) > 0 {
				seen = append(seen, name+": "+strings.Join(v, ","))
			}
		}
		if len(seen) > 0 {
			return "-> 200, and the upstream got " + strings.Join(seen, ", ")
		}
		return "-> 200"
	}
	return fmt.Sprintf("-> %d %s", a.status, strings.TrimSpace(a.body))
}

func (s *stage) ask(ctx context.Context, st step) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, st.method, "http://"+s.envoy.Listener+st.path, nil)
	if err != nil {
		return answer{}, err
	}
	if st.user != "" {
		token, err := s.token(ctx, st.user)
		if err != nil {
			return answer{}, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return answer{resp.StatusCode, string(body)}, err
}

func (s *stage) token(ctx context.Context, user string) (string, error) {
	a, err := s.ask(ctx, step{method: "GET", path: "/demo/token?user=" + user})
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("no token for %s: %s", user, a)
	}
	return a.body, err
}

// change edits the policy, waits until the answer follows, and puts the file
// back for whoever wants to try it.
func (s *stage) change(ctx context.Context, w io.Writer) error {
	st := step{"a new rule decides within two seconds, without a restart", "PUT", "/orders/7", "bob"}
	policy := s.file("policy.csv")
	before, err := os.ReadFile(policy)
	if err != nil {
		return err
	}
	if err := os.WriteFile(policy, append(before, rule+"\n"...), 0o600); err != nil {
		return err
	}
	a, err := s.await(ctx, st, http.StatusOK)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\n  # %s\n  echo '%s' >> %s\n  %s\n  %s\n", st.says, rule, policy, s.curl(st), a)
	if err := os.WriteFile(policy, before, 0o600); err != nil {
		return err
	}
	_, err = s.await(ctx, st, http.StatusForbidden)
	return err
}

// await asks until the status is this one.
func (s *stage) await(ctx context.Context, st step, status int) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, fmt.Errorf("%s %s did not become %d", st.method, st.path, status))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		a, err := s.ask(ctx, st)
		if err == nil && a.status == status {
			return a, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return a, context.Cause(ctx)
		}
	}
}

// table asks for every cell of the table and prints what came.
func (s *stage) table(ctx context.Context, w io.Writer) error {
	fmt.Fprint(w, "\nWho may do what, as Envoy just answered:\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows := []string{"  \tanonymous\teve\tbob\tmax\tada\n"}
	for _, thing := range things {
		method, path, _ := strings.Cut(thing, " ")
		row := "  " + thing
		for _, user := range users {
			a, err := s.ask(ctx, step{method: method, path: path, user: user})
			if err != nil {
				return err
			}
			row += fmt.Sprintf("\t%d", a.status)
		}
		rows = append(rows, row+"\n")
	}
	if _, err := io.WriteString(t, strings.Join(rows, "")); err != nil {
		return err
	}
	return t.Flush()
}

// whereabouts says where to look.
func (s *stage) whereabouts(w io.Writer) {
	fmt.Fprintf(w, `
Configuration, policy and logs:  %s
Metrics, health:                 curl -s %s/metrics, /readyz, /version
Envoy's admin interface:         %s
`, s.folder, s.sallyport.Admin, s.envoy.Admin)
	s.traces.say(w)
	fmt.Fprint(w, "\nCtrl-C stops everything and leaves nothing behind.\n")
}
