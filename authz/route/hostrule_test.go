package route

import (
	"strings"
	"testing"
)

func TestParseHostRule(t *testing.T) {
	for _, tt := range []struct {
		text string
		want hostRule
	}{
		{"API.example.com", hostRule{exactHost, "api.example.com"}},
		{"api.example.com.", hostRule{exactHost, "api.example.com"}},
		{"*.Example.com", hostRule{suffixHost, ".example.com"}},
		{"*-eu.example.com", hostRule{suffixHost, "-eu.example.com"}},
		{"*example.com", hostRule{suffixHost, "example.com"}},
		{"api.*", hostRule{prefixHost, "api."}},
		{"api-*", hostRule{prefixHost, "api-"}},
		{"*", hostRule{kind: anyHost}},
		{"[2001:DB8::1]", hostRule{exactHost, "[2001:db8::1]"}},
		{"10.0.0.1", hostRule{exactHost, "10.0.0.1"}},
		{"my_service", hostRule{exactHost, "my_service"}},
	} {
		if got, err := parseHostRule(tt.text); err != nil || got != tt.want {
			t.Errorf("%s: got %v, %v; want %v", tt.text, got, err, tt.want)
		}
	}
	for reason, rules := range map[string][]string{
		"is empty":                      {""},
		"has a port":                    {"api.example.com:443", "*:80", "*.example.com:80", "[::1]:80", "api.*:80"},
		"is a URL or has a path":        {"https://api.example.com", "api.example.com/x"},
		"more than one *":               {"**", "*.a.*", "*.*"},
		"neither first nor last":        {"api.*.com"},
		"without brackets":              {"::1", "2001:db8::1"},
		"not an IPv6 address":           {"[x]", "[::1", "[::1]x"},
		"is not a host name":            {"a b", "a..b", ".a", "a,b", "*..a", "*.", "a..*", ".", "u@h", "bücher.de"},
		"is too long":                   {strings.Repeat("a", 300)},
		"host \"a b\" is not a host na": {"a b"},
	} {
		for _, text := range rules {
			got, err := parseHostRule(text)
			if err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%q: got %v, %v; want %q", text, got, err, reason)
			}
		}
	}
}
