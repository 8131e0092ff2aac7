package telemetry

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-authz/sallyport/authz"
)

// A SubjectMode says how a subject stands in spans.
type SubjectMode string

// The ways to record a subject: a keyed hash, the id itself, or nothing.
const (
	SubjectHash SubjectMode = "hash"
	SubjectID   SubjectMode = "id"
	SubjectNone SubjectMode = "none"
)

// A Recorder turns decisions into span attributes, counters and, where
// Sallyport itself failed, a log line. It is safe for concurrent use and
// never fails.
type Recorder struct {
	t       *Telemetry
	log     *slog.Logger
	subject SubjectMode
	macs    sync.Pool // of hash.Hash, keyed: making one costs more than its use
	faults  Throttle
}

// Recorder returns the Recorder that writes to t. key is the secret of
// subject hashes.
func (t *Telemetry) Recorder(log *slog.Logger, subject SubjectMode, key []byte) *Recorder {
	r := &Recorder{t: t, log: log, subject: subject}
	r.macs.New = func() any { return hmac.New(sha256.New, key) }
	return r
}

// Record implements [authz.Recorder].
func (r *Recorder) Record(ctx context.Context, req *authz.Request, d *authz.Decision) error {
	decision := "deny"
	if d.Allowed() {
		decision = "allow"
	}
	r.t.decisions.Add(ctx, 1, metric.WithAttributes(
		attribute.String("decision", decision),
		attribute.String("reason", string(d.Reason())),
		attribute.String("route", d.Route())))
	r.t.duration.Record(ctx, d.Duration().Seconds(), metric.WithAttributes(attribute.String("decision", decision)))
	if c := d.Cache(); c != "" {
		r.t.cache.Add(ctx, 1, metric.WithAttributes(attribute.String("result", string(c))))
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		r.describe(span, req, d, decision)
	}
	// One line a second: what breaks one decision usually breaks all.
	if d.Reason() == authz.Internal && r.faults.Allow(time.Second) {
		r.log.Error("a decision failed", "decision", d.ID(), "route", d.Route(), "detail", string(d.Detail()), "error", bounded(d.Err()))
	}
	return nil
}

// bounded keeps an error that quotes a request from flooding the log.
func bounded(err error) string {
	if err == nil {
		return ""
	}
	s := err.Error()
	if len(s) > 1024 {
		s = s[:1024] + "..."
	}
	return s
}

// Hash returns the keyed hash of a subject's id, in hex.
func (r *Recorder) Hash(id string) string {
	mac := r.macs.Get().(hash.Hash)
	defer r.macs.Put(mac)
	mac.Reset()
	_, _ = io.WriteString(mac, id) // never fails
	var sum [sha256.Size]byte
	return hex.EncodeToString(mac.Sum(sum[:0])[:16])
}
