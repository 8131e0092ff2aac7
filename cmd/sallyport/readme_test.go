package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What the README shows is what the commands print, but for ids and revisions;
// a line of three dots stands for any lines.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("../demo/world")
	blocks := regexp.MustCompile(`(?m)^    \$ sallyport (.*)\n((?:    .*\n)*)`).FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d commands in README.md", len(blocks))
	}
	ids := regexp.MustCompile(`"decision":"[0-9a-f]{32}"|revision [0-9a-f]{12}`)
	for _, b := range blocks {
		_, stdout, stderr := execute(t.Context(), strings.Fields(b[1])...)
		want := regexp.MustCompile(`(?m)^    `).ReplaceAllString(b[2], "")
		pattern := ids.ReplaceAllString(stdout, "ID")
		shown := regexp.QuoteMeta(ids.ReplaceAllString(want, "ID"))
		shown = regexp.MustCompile(`(?m)^ *\\\.\\\.\\\.\n`).ReplaceAllString(shown, "(?:.*\n)+")
		if !regexp.MustCompile(`^` + shown + `$`).MatchString(pattern) {
			t.Errorf("sallyport %s prints\n%s%s\nREADME.md shows\n%s", b[1], stdout, stderr, want)
		}
	}
}
