package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-authz/sallyport/authz"
)

// scrape asks the admin listener for metrics in one of their formats.
func (w *world) scrape(accept string) string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", "http://"+w.Admin+"/metrics", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), accept) {
		w.t.Fatalf("scrape: %d %s %v", resp.StatusCode, resp.Header.Get("Content-Type"), err)
	}
	return string(text)
}

var (
	sampleLine = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
	metricName = regexp.MustCompile(`\b((?:authz|process|go)_[a-z_]+)(?:\{([^}]*)\})?`)
	labelLists = regexp.MustCompile(`\b(?:by|on|group_left) \(([^)]*)\)`)
	labelUse   = regexp.MustCompile(`\{\{ ?(?:\$labels\.)?([a-z_]+) ?\}\}|\$labels\.([a-z_]+)`)
)

// metricLabels are the labels that one metric was seen with, and their values.
type metricLabels map[string][]string

func parseScrape(text string) map[string]metricLabels {
	found := map[string]metricLabels{}
	for _, m := range sampleLine.FindAllStringSubmatch(text, -1) {
		if found[m[1]] == nil {
			found[m[1]] = metricLabels{"job": nil, "instance": nil} // Prometheus' own
		}
		for _, p := range labelPair.FindAllStringSubmatch(m[2], -1) {
			found[m[1]][p[1]] = append(found[m[1]][p[1]], p[3])
		}
	}
	return found
}

// An expression is PromQL with what is written of its result.
type expression struct{ where, promql, text string }

func dashboard(t *testing.T) (found []expression) {
	t.Helper()
	file, err := os.ReadFile(top + "/envoy/grafana/sallyport.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID        string
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			ID          int
			Type, Title string
			Datasource  *struct{ UID string }
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(file, &d); err != nil {
		t.Fatal(err)
	}
	if d.UID != "sallyport" || strings.Contains(string(file), "__inputs") {
		t.Error("the dashboard is an export of one Grafana, not a file for any")
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q has the id of another", p.Title)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Datasource == nil || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %q is bound to one data source", p.Title)
		}
		if len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			found = append(found, expression{"panel " + p.Title, target.Expr, target.LegendFormat})
		}
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			found = append(found, expression{"variable " + v.Name, v.Definition, ""})
		}
	}
	return found
}

func alerts(t *testing.T) (found []expression) {
	t.Helper()
	file, err := os.ReadFile(top + "/envoy/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(file, &d); err != nil {
		t.Fatal(err)
	}
	for _, g := range d.Groups {
		for _, r := range g.Rules {
			found = append(found, expression{"alert " + r.Alert, r.Expr, r.Annotations["summary"] + r.Annotations["description"]})
		}
	}
	return found
}

// Each metric, label and value that the dashboard and the alert rules name is
// in a scrape of the running binary, and the dashboard has a place for each
// metric that is ours.
func TestDashboardAndRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	for _, token := range []string{w.token("bob", "clerk"), w.token("eve")} { // one allow, one denial
		w.ask("GET", "/orders", "Authorization", token)
	}
	scraped := parseScrape(w.scrape("text/plain"))
	shown := map[string]bool{}
	panels, rules := dashboard(t), alerts(t)
	if len(panels) < 15 || len(rules) < 5 {
		t.Fatalf("%d expressions in the dashboard and %d in the rules only", len(panels), len(rules))
	}
	for _, e := range append(panels, rules...) {
		labels := map[string]bool{"job": true, "instance": true}
		metrics := metricName.FindAllStringSubmatch(e.promql, -1)
		if len(metrics) == 0 && !strings.Contains(e.promql, "up{") { // up is Prometheus' own
			t.Errorf("%s: no metric in %s", e.where, e.promql)
		}
		for _, m := range metrics {
			name := m[1]
			shown[name] = shown[name] || strings.HasPrefix(e.where, "panel ")
			s, ok := scraped[name]
			if !ok {
				t.Errorf("%s: metric %s is not in a scrape", e.where, name)
			}
			for label := range s {
				labels[label] = true
			}
			for _, p := range labelPair.FindAllStringSubmatch(m[2], -1) {
				values, ok := s[p[1]]
				if !ok {
					t.Errorf("%s: metric %s has no label %s", e.where, name, p[1])
				}
				if p[1] == "reason" { // stands in a scrape once it happened
					values = nil
					for _, r := range authz.Reasons() {
						values = append(values, string(r))
					}
				}
				for v := range strings.SplitSeq(p[3], "|") {
					if p[1] != "job" && p[1] != "instance" && !slices.Contains(values, v) {
						t.Errorf("%s: %s of metric %s is never %q", e.where, p[1], name, v)
					}
				}
			}
		}
		for _, l := range labelLists.FindAllStringSubmatch(e.promql, -1) {
			for label := range strings.SplitSeq(l[1], ",") {
				if label = strings.TrimSpace(label); label != "" && !labels[label] {
					t.Errorf("%s: there is no label %s in %s", e.where, label, e.promql)
				}
			}
		}
		for _, u := range labelUse.FindAllStringSubmatch(e.text, -1) {
			if label := u[1] + u[2]; label != "" && !labels[label] {
				t.Errorf("%s: there is no label %s to write", e.where, label)
			}
		}
	}
	for name := range scraped {
		base := strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
		if strings.HasPrefix(name, "authz_") && !shown[name] && !shown[base+"_bucket"] {
			t.Errorf("metric %s has no place in the dashboard", name)
		}
	}
}

// The rules and the dashboard name every reason for a 503, so that none is
// missed by either.
func TestEveryFailureAlerts(t *testing.T) {
	t.Parallel()
	var failures []string
	for _, r := range authz.Reasons() {
		if r.Failed() {
			failures = append(failures, string(r))
		}
	}
	slices.Sort(failures)
	found := 0
	for _, e := range append(dashboard(t), alerts(t)...) {
		for _, p := range labelPair.FindAllStringSubmatch(e.promql, -1) {
			if p[1] != "reason" {
				continue
			}
			found++
			got := strings.Split(p[3], "|")
			if slices.Sort(got); !slices.Equal(got, failures) {
				t.Errorf("%s: reasons %q, want %q", e.where, got, failures)
			}
		}
	}
	if found < 2 {
		t.Errorf("%d expressions look at reasons", found)
	}
}

// From a slow bucket, or from a reason that is counted, to the trace of one
// such request: scrapers that read OpenMetrics get its id.
func TestExemplarsLeadToTraces(t *testing.T) {
	t.Parallel()
	s := newSink(t, 0)
	w := newWorld(t, setup{env: traced(s.addr), otel: s.addr})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	if resp, body := w.ask("POST", "/orders", "Authorization", w.token("bob", "clerk"), "traceparent", "00-"+trace+"-b7ad6b7169203331-01"); resp.StatusCode != 403 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	text := w.scrape("application/openmetrics-text")
	for _, want := range []string{
		`(?m)^authz_decision_duration_seconds_bucket\{decision="deny",le="[^"]+"\} 1 # \{[^}]*trace_id="` + trace + `"`,
		`(?m)^authz_decisions_total\{decision="deny",reason="not_permitted",route="orders"\} 1\.0 # \{[^}]*trace_id="` + trace + `"`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s is not in the scrape", want)
		}
	}
}
