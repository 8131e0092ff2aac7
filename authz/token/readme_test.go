package token_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every detail that a token can be refused for is documented, and no other.
func TestReadmeListsDetails(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../detail.go")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, group := range strings.Split(string(source), "// Details of ")[1:] {
		title, _, _ := strings.Cut(group, "\n")
		if !regexp.MustCompile(`malformed_credential|invalid_token|issuer_unavailable|insufficient_scope`).MatchString(title) {
			continue
		}
		for _, m := range regexp.MustCompile(`Detail = "([a-z_0-9]+)"`).FindAllStringSubmatch(group, -1) {
			want = append(want, m[1])
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\|").FindAllStringSubmatch(string(readme), -1) {
		got = append(got, m[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 25 || !slices.Equal(got, want) {
		t.Errorf("the table names\n%v\nand detail.go\n%v", got, want)
	}
}
