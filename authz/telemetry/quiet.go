package telemetry

import (
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
)

// quiet logs the SDK's errors, a collector that is down above all, at most
// once every ten seconds: exporters report each lost batch.
func quiet(log *slog.Logger) otel.ErrorHandler {
	var every Throttle
	return otel.ErrorHandlerFunc(func(err error) {
		if every.Allow(10 * time.Second) {
			log.Warn("telemetry cannot be exported", "error", err.Error())
		}
	})
}

// A Throttle lets one event pass per interval. The zero value is ready for
// use, also concurrently.
type Throttle struct{ last atomic.Int64 }

// Allow reports whether interval has passed since it last said yes.
func (t *Throttle) Allow(interval time.Duration) bool {
	now, last := time.Now().UnixNano(), t.last.Load()
	return (last == 0 || now-last >= int64(interval)) && t.last.CompareAndSwap(last, now)
}
