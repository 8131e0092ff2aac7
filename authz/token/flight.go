package token

import (
	"context"
	"errors"
	"sync"
)

// flights lets many requests with one new token share one verification.
type flights struct {
	mu sync.Mutex
	m  map[cacheKey]*flight
}

type flight struct {
	done chan struct{}
	t    *verified
	err  error
}

// errPanicked is what those get who waited for a verification that panicked.
var errPanicked = errors.New("verification panicked")

// do returns what verify returns, or what it returned to somebody who is
// verifying the same token now. Whose leader ran out of time verifies alone.
func (f *flights) do(ctx context.Context, key cacheKey, verify func() (*verified, error)) (*verified, error) {
	f.mu.Lock()
	if fl := f.m[key]; fl != nil {
		f.mu.Unlock()
		select {
		case <-fl.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if errors.Is(fl.err, context.Canceled) || errors.Is(fl.err, context.DeadlineExceeded) {
			return verify()
		}
		return fl.t, fl.err
	}
	fl := &flight{done: make(chan struct{}), err: errPanicked}
	if f.m == nil {
		f.m = map[cacheKey]*flight{}
	}
	f.m[key] = fl
	f.mu.Unlock()

	defer func() { // also when verify panics
		f.mu.Lock()
		delete(f.m, key)
		f.mu.Unlock()
		close(fl.done)
	}()
	fl.t, fl.err = verify()
	return fl.t, fl.err
}
