package audit

import (
	"log/slog"
	"sync"
	"time"
)

// quiet is how long no second line about the same trouble is logged.
const quiet = 10 * time.Second

// complaints says in the log that records are lost, without ever holding up
// who lost one: the log may be as stuck as the audit file.
type complaints struct {
	log *slog.Logger

	mu      sync.Mutex
	last    time.Time
	talking bool // a line is being written
}

func (c *complaints) complain(now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.talking || now.Sub(c.last) < quiet {
		return
	}
	c.last, c.talking = now, true
	go func() {
		c.log.Error("audit records are lost", "error", err.Error())
		c.mu.Lock()
		defer c.mu.Unlock()
		c.talking = false
	}()
}
