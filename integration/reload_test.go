package integration

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A change on disk decides within two seconds, however it was written.
func TestReloadThroughEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	bob := w.token("bob", "clerk")
	post := func() int {
		resp, _ := w.ask("POST", "/orders", "Authorization", bob)
		return resp.StatusCode
	}
	within := func(what string, want int, change func()) {
		t.Helper()
		start := time.Now()
		change()
		eventually(t, what, func() bool { return post() == want })
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s took %v, the contract says 2 s", what, d)
		}
	}
	more := rbacRules + "p, role:clerk, /orders, POST\n"
	if got := post(); got != 403 {
		t.Fatalf("got %d before any change", got)
	}
	within("written in place", 200, func() { w.write("policy.csv", more) })
	within("renamed over", 403, func() {
		w.write("policy.new", rbacRules)
		if err := os.Rename(w.path("policy.new"), w.path("policy.csv")); err != nil {
			t.Fatal(err)
		}
	})
	within("swapped as a ConfigMap is", 200, func() {
		if err := os.Mkdir(w.path("..v1"), 0o700); err != nil {
			t.Fatal(err)
		}
		w.write("..v1/policy.csv", more)
		for _, link := range [][2]string{{"..v1", "..data"}, {"..data/policy.csv", "policy.link"}} {
			if err := os.Symlink(link[0], w.path(link[1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(w.path("policy.link"), w.path("policy.csv")); err != nil {
			t.Fatal(err)
		}
	})
	within("swapped again", 403, func() {
		if err := os.Mkdir(w.path("..v2"), 0o700); err != nil {
			t.Fatal(err)
		}
		w.write("..v2/policy.csv", rbacRules)
		if err := os.Symlink("..v2", w.path("..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(w.path("..tmp"), w.path("..data")); err != nil {
			t.Fatal(err)
		}
	})
	within("configuration", 401, func() {
		w.write("sallyport.yaml", strings.ReplaceAll(w.config(setup{}), "https://api.example.com", "https://another.example.com"))
	})
}

// What does not load is refused whole, said with its line, and the last good
// generation decides on. SIGHUP asks for a reload at once.
func TestBrokenReloadKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	bob := w.token("bob", "clerk")
	get := func() int {
		resp, _ := w.ask("GET", "/orders", "Authorization", bob)
		return resp.StatusCode
	}
	for _, c := range []struct{ file, text, says string }{
		{"policy.csv", "p, role:clerk, /orders\n", "policy.csv:1: p takes 3 columns"},
		{"policy.csv", `p, "role:clerk, /orders, GET` + "\n", "policy.csv:1: "},
		{"model.conf", "[request_definition]\nr = sub\n", "model.conf"},
		{"model.conf", strings.ReplaceAll(rbacModel, "keyMatch2", "keyMatch22"), "keyMatch22"},
		{"sallyport.yaml", "routes: [", "sallyport.yaml:1: "},
		{"sallyport.yaml", strings.ReplaceAll(w.config(setup{}), "token: none", "tokn: none"), "tokn: unknown key (did you mean token)"},
	} {
		good, err := os.ReadFile(w.path(c.file))
		if err != nil {
			t.Fatal(err)
		}
		w.write(c.file, c.text)
		if err := w.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		w.said("reload refused", c.says)
		if got := get(); got != http.StatusOK {
			t.Errorf("%s with %.30q: %d, want the last good generation", c.file, c.text, got)
		}
		w.write(c.file, string(good))
	}
	w.write("policy.csv", "")
	w.said("policy warning", "policy.csv")
	eventually(t, "a policy without rules refuses everybody", func() bool { return get() == http.StatusForbidden })
}
