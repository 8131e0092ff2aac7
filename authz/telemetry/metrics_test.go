package telemetry

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz"
)

// However many routes there are, each has its counter, and none is folded
// into a series without labels.
func TestEveryRouteHasItsCounter(t *testing.T) {
	clear(t)
	tel, err := Start(t.Context(), "test", quietLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	const n = 5000
	routes := make([]string, n)
	for i := range routes {
		routes[i] = fmt.Sprintf("route%d", i)
	}
	tel.Expect(nil, nil, routes)
	text := scrape(t, tel, "text/plain")
	if got := strings.Count(text, "\nauthz_decisions_total{"); got != n {
		t.Errorf("%d series for %d routes", got, n)
	}
	if strings.Contains(text, "overflow") {
		t.Error("counters without their labels")
	}
}

// A refusal that never happened stands at zero, so that the first is an
// increase.
func TestRefusalsStandAtZero(t *testing.T) {
	clear(t)
	tel, err := Start(t.Context(), "test", quietLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	tel.Expect(nil, nil, []string{"orders"})
	text := scrape(t, tel, "text/plain")
	for _, route := range []string{"orders", ""} {
		for _, reason := range authz.Reasons() {
			if want := fmt.Sprintf("authz_decisions_total{decision=\"deny\",reason=%q,route=%q} 0\n", reason, route); !strings.Contains(text, want) {
				t.Errorf("%s is not in the scrape", want)
			}
		}
	}
}

// What was lost is counted, and stands at zero before anything is.
func TestAuditDropped(t *testing.T) {
	clear(t)
	tel, err := Start(t.Context(), "test", quietLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	for _, want := range []string{"\nauthz_audit_dropped_total 0\n", "\nauthz_audit_dropped_total 7\n"} {
		if text := scrape(t, tel, "text/plain"); !strings.Contains(text, want) {
			t.Errorf("%q is not in the scrape", want)
		}
		tel.AuditDropped(3)
		tel.AuditDropped(4)
	}
}
