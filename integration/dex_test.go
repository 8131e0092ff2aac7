package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sallyport-authz/sallyport/integration/harness"
)

// startDex runs dex with one client and one user, and returns its issuer URL.
func startDex(t *testing.T) string {
	t.Helper()
	binary := need(t, top+"/.tools/dex", nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()                                                                   // dex takes no listener, so the port is free for a moment
	hash, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.DefaultCost) // dex takes no less
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://" + addr + "/dex"
	dir := t.TempDir()
	config := fmt.Sprintf(`issuer: %s
storage: {type: memory}
web: {http: %s}
oauth2: {passwordConnector: local}
enablePasswordDB: true
staticClients:
  - {id: orders-api, secret: secret, name: orders, redirectURIs: ["http://127.0.0.1/callback"]}
staticPasswords:
  - {email: bob@example.com, hash: %q, username: bob, userID: "7", groups: [clerk]}
`, issuer, addr, hash)
	if err := os.WriteFile(dir+"/dex.yaml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := harness.Start("dex", dir+"/dex.log", os.Environ(), binary, "serve", dir+"/dex.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	eventually(t, "dex", func() bool {
		resp, err := client.Get(issuer + "/.well-known/openid-configuration")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return issuer
}

// dexToken gets an access token by the password grant.
func dexToken(t *testing.T, issuer string) string {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {"bob@example.com"}, "password": {"password"}, "scope": {"openid groups email profile"}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("orders-api", "secret")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		AccessToken string `json:"access_token"`
		Error       string
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("no token: %v %s: %s", err, answer.Error, answer.Description)
	}
	return answer.AccessToken
}

// A real provider: discovery, keys and a password-grant token, whose access
// tokens look like its ID tokens, so that both have to be asked for.
func TestDex(t *testing.T) {
	t.Parallel()
	issuer := startDex(t)
	token := dexToken(t, issuer)
	for _, c := range []struct {
		accept string
		want   int
		reason string
	}{
		{", types: [JWT], acceptIDTokens: true", 200, ""},
		{", types: [JWT]", 401, "invalid_token"},
		{"", 401, "invalid_token"},
	} {
		w := newWorld(t, setup{files: map[string]string{"sallyport.yaml": `server:
  grpc: {listen: "127.0.0.1:0"}
  admin: {listen: "127.0.0.1:0"}
issuers:
  - {name: dex, issuer: "` + issuer + `", audiences: [orders-api], claims: {roles: groups}` + c.accept + `}
policies:
  api: {model: model.conf, rules: policy.csv}
routes:
  - {match: /orders, policy: api, onAllow: {requestHeaders: {set: {x-roles: 'subject.roles.join(",")', x-user: subject.id}}}}
`}})
		resp, body := w.ask("GET", "/orders", "Authorization", "Bearer "+token)
		if resp.StatusCode != c.want || !strings.Contains(body, c.reason) {
			t.Errorf("%q: %d %s, want %d", c.accept, resp.StatusCode, body, c.want)
		}
		if c.want == 200 {
			e := echo(t, resp, body)
			if got := e.Headers["x-roles"]; len(got) != 1 || got[0] != "clerk" {
				t.Errorf("x-roles %q", got)
			}
			if got := e.Headers["x-user"]; len(got) != 1 || !strings.HasPrefix(got[0], "user:dex/") {
				t.Errorf("x-user %q", got)
			}
		}
	}
}
