package main

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/integration/harness"
)

//go:embed world
var world embed.FS

// audience is whom the demo's tokens are for, as in world/sallyport.yaml.
const audience = "https://api.demo.example"

// people are who lives in the demo's world, and the roles their tokens carry.
var people = map[string][]string{
	"ada": {"director"},
	"max": {"manager"},
	"bob": {"clerk"},
	"eve": {},
}

// settle writes the world's files into a folder, with the issuer's address and
// free ports in place of those that the files have.
func settle(folder, issuer string) error {
	files, err := fs.ReadDir(world, "world")
	if err != nil {
		return err
	}
	addresses := strings.NewReplacer("http://127.0.0.1:9000", issuer, "127.0.0.1:9191", `"127.0.0.1:0"`, "127.0.0.1:9192", `"127.0.0.1:0"`)
	for _, f := range files {
		text, err := fs.ReadFile(world, "world/"+f.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, f.Name()), []byte(addresses.Replace(string(text))), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// newIssuer returns the demo's issuer, not listening yet.
func newIssuer() *authztest.Issuer {
	return authztest.NewIssuer(authztest.WithAudience(audience), authztest.WithAlgorithms("ES256"), authztest.WithLifetime(time.Hour))
}

// upstream is what stands behind Envoy: the service, which echoes what it got,
// and for the sake of the demo a place to get tokens.
func upstream(issuer *authztest.Issuer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", harness.ServeEcho)
	mux.HandleFunc("GET /demo/token", func(w http.ResponseWriter, r *http.Request) {
		user := r.URL.Query().Get("user")
		roles, ok := people[user]
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprintf(w, "nobody of that name lives here: ask for ?user=%s\n", strings.Join(names(), ", ?user="))
			return
		}
		_, _ = fmt.Fprint(w, issuer.Mint(map[string]any{"sub": user, "roles": roles}))
	})
	return mux
}

func names() []string {
	var out []string
	for name := range people {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
