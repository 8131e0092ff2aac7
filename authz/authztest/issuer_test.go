package authztest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport-authz/sallyport/authz/authztest"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestIssuerServesItsKeysAndBreaks(t *testing.T) {
	iss := authztest.NewIssuer()
	if err := iss.Listen(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = iss.Close() })

	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	_, body := get(t, iss.URL()+authztest.DiscoveryPath)
	if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Issuer != iss.URL() || doc.JWKSURI != iss.KeysURL() {
		t.Fatalf("discovery: %v %+v", err, doc)
	}
	old := iss.Key("ES256")
	fresh := iss.Rotate("ES256")
	if _, body = get(t, doc.JWKSURI); !strings.Contains(body, old.ID) || !strings.Contains(body, fresh.ID) {
		t.Errorf("rotation has no overlap: %s", body)
	}
	iss.Withdraw(old)
	if _, body = get(t, doc.JWKSURI); strings.Contains(body, `"`+old.ID+`"`) {
		t.Errorf("withdrawn key still served: %s", body)
	}
	iss.BreakKeys(authztest.Fault{Kind: authztest.ServerError})
	if code, _ := get(t, doc.JWKSURI); code != http.StatusInternalServerError {
		t.Errorf("status %d under a fault, want 500", code)
	}
	iss.Heal()
	if code, _ := get(t, doc.JWKSURI); code != http.StatusOK {
		t.Errorf("status %d after Heal, want 200", code)
	}
	if iss.Fetches() != 4 || iss.Discoveries() != 1 {
		t.Errorf("counted %d fetches and %d discoveries, want 4 and 1", iss.Fetches(), iss.Discoveries())
	}
}

func TestListenRefusesOtherAddresses(t *testing.T) {
	if err := authztest.NewIssuer(authztest.WithAlgorithms()).Listen("0.0.0.0:0"); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v, want a refusal that names loopback", err)
	}
}
