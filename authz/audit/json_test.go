package audit

import (
	"testing"
	"time"
)

// Every time has nine digits, whatever its zeros, so that lines sort as text.
func TestTimesSortAsText(t *testing.T) {
	for _, n := range []int{0, 1, 100, 500, 120_000_000, 123_456_789, 999_999_990, 999_999_999} {
		at := time.Date(2026, 1, 2, 3, 4, 5, n, time.FixedZone("", 3600))
		want := `"` + at.UTC().Format("2006-01-02T15:04:05.000000000Z") + `"`
		if got := string(appendTime(nil, at)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
