package token

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
)

// What those get who wait for somebody else's verification, by how that ended.
func TestFlight(t *testing.T) {
	theirs, own := &verified{}, &verified{}
	bad := errors.New("bad signature")
	for name, tt := range map[string]struct {
		verify func() (*verified, error) // of the leader
		t      *verified
		err    error
	}{
		"accepted":            {func() (*verified, error) { return theirs, nil }, theirs, nil},
		"refused":             {func() (*verified, error) { return nil, bad }, nil, bad},
		"leader hung up":      {func() (*verified, error) { return nil, fmt.Errorf("waiting: %w", context.Canceled) }, own, nil},
		"leader ran out":      {func() (*verified, error) { return nil, fmt.Errorf("waiting: %w", context.DeadlineExceeded) }, own, nil},
		"verification panics": {func() (*verified, error) { panic("x") }, nil, errPanicked},
	} {
		synctest.Test(t, func(t *testing.T) {
			var f flights
			var both sync.WaitGroup
			end := make(chan struct{})
			both.Go(func() {
				defer func() {
					if r := recover(); r != nil && r != "x" {
						panic(r)
					}
				}()
				_, _ = f.do(t.Context(), cacheKey{1}, func() (*verified, error) { <-end; return tt.verify() })
			})
			synctest.Wait()
			verified := func() (*verified, error) { return own, nil }
			both.Go(func() {
				if got, err := f.do(t.Context(), cacheKey{1}, verified); got != tt.t || !errors.Is(err, tt.err) {
					t.Errorf("%s: got %p, %v, want %p, %v", name, got, err, tt.t, tt.err)
				}
			})
			synctest.Wait()
			if got, err := f.do(t.Context(), cacheKey{2}, verified); got != own || err != nil { // another token waits for nobody
				t.Errorf("%s: another token got %p, %v", name, got, err)
			}
			gone, hangUp := context.WithCancel(t.Context())
			hangUp()
			if _, err := f.do(gone, cacheKey{1}, verified); !errors.Is(err, context.Canceled) { // whose own time is up
				t.Errorf("%s: got %v", name, err)
			}
			close(end)
			both.Wait()
			if len(f.m) != 0 {
				t.Errorf("%s: %d flights are left", name, len(f.m))
			}
		})
	}
}
