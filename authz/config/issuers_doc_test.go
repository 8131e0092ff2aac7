package config_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/sallyport-authz/sallyport/authz/config"
)

// The issuer settings in the documents load.
func TestDocumentedIssuers(t *testing.T) {
	text, err := os.ReadFile("../token/README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(issuers:\n.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 8 {
		t.Errorf("found %d settings only", len(blocks))
	}
	for _, b := range blocks {
		if _, problems := config.Parse("doc.yaml", []byte(b[1]+"routes: [{match: /, allow: true}]\n")); len(problems) > 0 {
			t.Errorf("%s\n%v", b[1], problems)
		}
	}
}
