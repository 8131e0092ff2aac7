package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Sallyport is the built binary, serving.
type Sallyport struct {
	*Process
	GRPC  string // HOST:PORT, or unix:///PATH
	Admin string
}

// StartSallyport runs `sallyport serve` and waits until it listens, which says
// nothing of whether it is ready. Its log is sallyport.log in the folder logs.
func StartSallyport(ctx context.Context, binary, config, logs string, env []string) (*Sallyport, error) {
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("no sallyport at %s", binary)
	}
	p, err := Start("sallyport", filepath.Join(logs, "sallyport.log"), env, binary, "serve", "-c", config, "--log-format", "json")
	if err != nil {
		return nil, fmt.Errorf("sallyport does not start: %w", err)
	}
	s := &Sallyport{Process: p}
	_, err = p.Log.Await(ctx, func(line string) bool {
		var entry struct{ Msg, GRPC, Admin string }
		if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &entry) != nil || entry.Msg != "listening" {
			return false
		}
		s.GRPC, s.Admin = entry.GRPC, entry.Admin
		return true
	})
	if err != nil {
		p.Kill()
		return nil, fmt.Errorf("sallyport does not listen: %w", err)
	}
	return s, nil
}

// Get asks the admin listener.
func (s *Sallyport) Get(ctx context.Context, path string) (status int, body string, err error) {
	return get(ctx, "http://"+s.Admin+path)
}

// AwaitReady waits until the policies are loaded and the issuers' keys are
// there.
func (s *Sallyport) AwaitReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if status, _, err := s.Get(ctx, "/readyz"); err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.Done():
			return fmt.Errorf("sallyport ended: %s", s.Log.Tail(5))
		case <-ctx.Done():
			return fmt.Errorf("sallyport is not ready: %w: %s", context.Cause(ctx), s.Log.Tail(5))
		}
	}
}
