package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A smallDisk is one that fills up, and can be given room while sallyport runs.
type smallDisk struct {
	name string
	run  string // how sallyport is started on it, with $1 and more its command; disk/ is in its folder
	room func(w *world) error
}

// Where a kernel lets nobody mount, a limit on the size of files stands in: a
// write stops half way, then none gets through, as on a full disk.
var smallDisks = []smallDisk{
	{
		name: "tmpfs",
		run:  `exec unshare --mount sh -c 'mount -t tmpfs -o size=64k audit disk && head -c 32768 /dev/zero >disk/ballast && exec "$@"' sh "$@"`,
		room: func(w *world) error { return os.Remove(w.inside("ballast")) },
	},
	{
		name: "tmpfs of a user",
		run:  `exec unshare --mount --map-root-user sh -c 'mount -t tmpfs -o size=64k audit disk && head -c 32768 /dev/zero >disk/ballast && exec "$@"' sh "$@"`,
		room: func(w *world) error { return os.Remove(w.inside("ballast")) },
	},
	{
		name: "limit",
		run:  `exec prlimit --fsize=32768:unlimited "$@"`,
		room: func(w *world) error {
			return exec.Command("prlimit", "--pid", strconv.Itoa(w.PID()), "--fsize=1048576").Run()
		},
	},
}

// works reports whether this machine can make such a disk.
func (d *smallDisk) works(t *testing.T) bool {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "disk"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "set -- true\n"+d.run)
	cmd.Dir = dir
	return cmd.Run() == nil
}

// inside is the path of a file on the disk as everybody sees it, also where
// only sallyport has it mounted.
func (w *world) inside(name string) string {
	return filepath.Join("/proc", strconv.Itoa(w.PID()), "root", w.path("disk"), name)
}

// onSmallDisk starts a trial whose audit log is on the first kind of small
// disk that there is.
func onSmallDisk(t *testing.T, audit string) (*world, *smallDisk) {
	t.Helper()
	for i := range smallDisks {
		d := &smallDisks[i]
		if !d.works(t) {
			continue
		}
		t.Logf("the small disk is: %s", d.name)
		return newTrial(t, trial{
			config: `
server:` + quick + `
issuers:
  - {name: corp, issuer: "ISSUER", audiences: ["https://api.example.com"], keys: {refresh: 1h}}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {name: watched, match: "/watched/{order}", policy: api, mode: shadow}
  - {name: orders, match: [/orders, "/orders/{order}"], policy: api, onAllow: {responseHeaders: {set: {x-decision: decision.id}}}}
audit: ` + audit + "\n",
			ready: func(w *world) {
				if err := os.Mkdir(w.path("disk"), 0o700); err != nil {
					t.Fatal(err)
				}
			},
			run: "cd \"$(dirname \"$0\")\"\n" + d.run,
		}), d
	}
	t.Fatal("no way to make a small disk here")
	return nil, nil
}

// With a record required, a full disk means that nothing passes, and room
// again means service again, without a restart. What was answered is recorded,
// and nothing else is.
func TestFullDiskRefuses(t *testing.T) {
	t.Parallel()
	w, disk := onSmallDisk(t, `{file: disk/audit.jsonl, mode: required}`)
	bob := w.token("bob", "clerk")
	answered := map[string]bool{}
	ask := func() (*http.Response, string) {
		resp, body := w.ask("GET", "/orders/"+strings.Repeat("7", 1000), "Authorization", bob)
		if resp.StatusCode == 200 {
			answered[decisionOf(resp, body)] = true
		}
		return resp, body
	}
	recorded := func(when string) {
		t.Helper()
		decisions, _ := facts(t, w.inside("audit.jsonl"))
		records := byID(t, decisions)
		for id := range answered {
			if _, ok := records[id]; !ok {
				t.Errorf("%s: %s passed without its record", when, id)
			}
		}
		if len(records) != len(answered) {
			t.Errorf("%s: %d records of %d answers", when, len(records), len(answered))
		}
	}
	var resp *http.Response
	var body string
	for range 200 { // there is room for 40
		if resp, body = ask(); resp.StatusCode != 200 {
			break
		}
	}
	if len(answered) < 10 {
		t.Fatalf("only %d were answered: %d %s", len(answered), resp.StatusCode, body)
	}
	for n := range 10 {
		if n > 0 {
			resp, body = ask()
		}
		if resp.StatusCode != 503 || !strings.Contains(body, `"audit_unavailable"`) || resp.Header.Get("Retry-After") == "" {
			t.Errorf("on a full disk: %d %s, %v", resp.StatusCode, body, resp.Header)
		}
	}
	// A refusal is not answered otherwise, and nothing passes in shadow mode.
	for method, path := range map[string]string{"POST": "/orders/", "GET": "/watched/"} {
		if resp, body := w.ask(method, path+strings.Repeat("7", 1000), "Authorization", bob); resp.StatusCode != 503 || !strings.Contains(body, `"audit_unavailable"`) {
			t.Errorf("%s %s on a full disk: %d %s", method, path, resp.StatusCode, body)
		}
	}
	w.said("audit records are lost")
	recorded("while full")
	if got := w.counted("authz_decisions_total", `reason="audit_unavailable"`); got != 12 {
		t.Errorf("%v decisions counted as audit_unavailable, want 12", got)
	}
	if status, _, err := w.Get(t.Context(), "/readyz"); err != nil || status != 200 {
		t.Errorf("/readyz on a full disk: %d %v", status, err)
	}

	if err := disk.room(w); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if resp, body := ask(); resp.StatusCode != 200 {
			t.Errorf("with room again: %d %s", resp.StatusCode, body)
		}
	}
	recorded("with room again")
	if got := w.counted("authz_audit_dropped_total"); got != 12 {
		t.Errorf("%v records counted as dropped, want 12", got)
	}
}

// Where records are not required, service goes on and the missing ones are
// counted.
func TestFullDiskDrops(t *testing.T) {
	t.Parallel()
	w, disk := onSmallDisk(t, `{file: disk/audit.jsonl}`)
	bob := w.token("bob", "clerk")
	asked := 0
	ask := func(n int) {
		for range n {
			asked++
			if resp, body := w.ask("GET", "/orders/"+strings.Repeat("7", 1000), "Authorization", bob); resp.StatusCode != 200 {
				t.Errorf("request %d: %d %s", asked, resp.StatusCode, body)
			}
		}
	}
	ask(100)
	w.said("audit records are lost")
	balanced := func(when string) {
		t.Helper()
		eventually(t, "records and drops are all requests, "+when, func() bool {
			text, err := os.ReadFile(w.inside("audit.jsonl"))
			return err == nil && bytes.Count(text, []byte(`"decision_id"`))+int(w.counted("authz_audit_dropped_total")) == asked
		})
	}
	balanced("while full")
	if dropped := w.counted("authz_audit_dropped_total"); dropped < 20 {
		t.Errorf("%v dropped of 100 on a disk for 40", dropped)
	}
	before, _ := facts(t, w.inside("audit.jsonl"))
	if err := disk.room(w); err != nil {
		t.Fatal(err)
	}
	ask(5)
	balanced("with room again")
	after, _ := facts(t, w.inside("audit.jsonl"))
	byID(t, after)
	if len(after) != len(before)+5 {
		t.Errorf("with room again: %d records, want 5 more than %d", len(after), len(before))
	}
	if err := w.Stop(20 * time.Second); err != nil {
		t.Error(fmt.Errorf("drain: %w", err))
	}
}
