package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// EnvoyPath is where the pinned Envoy is, below the top of the repository.
const EnvoyPath = ".tools/envoy-1.40.0/envoy"

// FindEnvoy returns the Envoy that the environment variable ENVOY names, or
// the pinned one below top.
func FindEnvoy(top string) (string, error) {
	path := os.Getenv("ENVOY")
	if path == "" {
		path = filepath.Join(top, EnvoyPath)
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("no Envoy at %s: get it with integration/tools/envoy/fetch.sh, or name another with ENVOY=/path/to/envoy", path)
	}
	return path, nil
}

// An Envoy is a real one, listening.
type Envoy struct {
	*Process
	Listener string // HOST:PORT
	Admin    string
}

// StartEnvoy runs Envoy with this bootstrap and waits until it takes requests.
// Its bootstrap and its log are in folder.
func StartEnvoy(ctx context.Context, binary string, bootstrap []byte, folder string) (*Envoy, error) {
	bootstrap, err := fit(ctx, binary, bootstrap)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "envoy.yaml")
	if err := os.WriteFile(config, bootstrap, 0o600); err != nil {
		return nil, err
	}
	adminFile := filepath.Join(folder, "envoy.admin")
	p, err := Start("envoy", filepath.Join(folder, "envoy.log"), os.Environ(), binary, "-c", config,
		"--admin-address-path", adminFile,
		"--disable-hot-restart", // several may run on one machine
		"--concurrency", "2",    // workers
		"--file-flush-interval-msec", "100", // of the access log
		"--log-level", "warning",
		"--drain-time-s", "1", "--parent-shutdown-time-s", "2")
	if err != nil {
		return nil, fmt.Errorf("envoy does not start: %w", err)
	}
	e := &Envoy{Process: p}
	if err := e.await(ctx, adminFile); err != nil {
		p.Kill()
		return nil, fmt.Errorf("envoy does not listen: %w; its last output: %s", err, p.Log.Tail(5))
	}
	return e, nil
}

// await waits until the admin interface says that Envoy is live, which is
// after the first health check of its clusters, and where it listens.
func (e *Envoy) await(ctx context.Context, adminFile string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if e.look(ctx, adminFile) {
			return nil
		}
		select {
		case <-tick.C:
		case <-e.Done():
			return fmt.Errorf("it ended (%v)", e.cmd.ProcessState)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look asks the admin interface once.
func (e *Envoy) look(ctx context.Context, adminFile string) bool {
	addr, err := os.ReadFile(adminFile)
	if err != nil || len(addr) == 0 {
		return false
	}
	e.Admin = strings.TrimSpace(string(addr))
	if ready, err := e.Get(ctx, "/ready"); err != nil || strings.TrimSpace(ready) != "LIVE" {
		return false
	}
	var listeners struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    uint16 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	text, err := e.Get(ctx, "/listeners?format=json")
	if err != nil || json.Unmarshal([]byte(text), &listeners) != nil {
		return false
	}
	for _, l := range listeners.Statuses {
		if s := l.Address.Socket; l.Name == "ingress" && s.Port != 0 {
			e.Listener = net.JoinHostPort(s.Address, strconv.Itoa(int(s.Port)))
		}
	}
	return e.Listener != ""
}

// Get asks the admin interface.
func (e *Envoy) Get(ctx context.Context, path string) (string, error) {
	status, body, err := get(ctx, "http://"+e.Admin+path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("envoy answers %d to %s", status, path)
	}
	return body, err
}
