package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// maxBody bounds what is read of an answer, in bytes.
const maxBody = 16 << 20

// get asks one of the parts.
func get(ctx context.Context, url string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return 0, "", fmt.Errorf("answer was cut off: %w", err)
	}
	return resp.StatusCode, string(b), nil
}
