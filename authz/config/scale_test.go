package config

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The time of checking grows with the file, not with its square: a reload
// shares the machine with decisions. An eighth of the largest file is enough
// to see that.
func TestLargeFiles(t *testing.T) {
	const size = maxFile / 8
	fill := func(head, line, tail string) string {
		var b strings.Builder
		b.WriteString(head)
		for i := 0; b.Len()+len(line)+10+len(tail) < size; i++ {
			b.WriteString(strings.ReplaceAll(line, "NN", strconv.Itoa(i)))
		}
		return b.String() + tail
	}
	policies := func(n int) string {
		var b strings.Builder
		b.WriteString("policies:\n")
		for i := range n {
			fmt.Fprintf(&b, "  p%d: {model: m, rules: r}\n", i)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"unknown keys":            fill("", "servNN: 1\n", ""),
		"empty routes":            fill("routes:\n", "- {}\n", ""),
		"routes without value":    fill("routes:\n", "-\n", ""),
		"routes without policy":   fill("policies: {api: {model: m, rules: r}}\nroutes:\n", "- {match: /, policy: apoNN}\n", ""),
		"many policies":           fill(policies(1000)+"routes:\n", "- {match: /, policy: qNN}\n", ""),
		"issuers":                 fill("issuers:\n", "- {issuer: 'https://aNN.example', audiences: [a]}\n", "routes: [{match: /, policy: api, issuers: [b]}]\n"),
		"headers set and removed": fill("routes:\n- onAllow:\n    requestHeaders:\n      set:\n", "        x-NN: a\n", "      remove: [x-1, x-2]\n"),
		"comments":                fill("", "# a\n", ""),
		"open brackets":           fill("a: ", "{a: 1, ", ""),
		"open list":               fill("routes: [", "{match: /},\n", ""),
		"long value":              "realm: " + strings.Repeat("a", size-10),
		"long key":                strings.Repeat("a", size-10) + ": 1",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if _, ps := Parse("s.yaml", []byte(text)); len(ps) == 0 {
				t.Error("no problems")
			}
			if took := time.Since(start); took > 10*time.Second { // with -race, on a busy machine
				t.Errorf("took %v", took)
			}
		})
	}
}
