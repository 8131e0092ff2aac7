package telemetry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sallyport-authz/sallyport/authz"
)

// instruments are all metrics of the process. Units are those of the
// OpenTelemetry conventions; names get their Prometheus suffix in a scrape.
type instruments struct {
	decisions   metric.Int64Counter
	validations metric.Int64Counter
	refreshes   metric.Int64Counter
	reloads     metric.Int64Counter
	cache       metric.Int64Counter
	dropped     metric.Int64Counter
	duration    metric.Float64Histogram

	mu   sync.Mutex
	ages Ages
}

// Ages says how old what a generation relies on is. Either function may be
// nil.
type Ages struct {
	Keys   func(yield func(issuer string, age time.Duration))
	Policy func(yield func(policy string, age time.Duration))
}

// The results that counters are labelled with, so that each stands in a
// scrape from the start.
var (
	cacheOutcomes = []authz.CacheOutcome{authz.CacheHit, authz.CacheMiss, authz.CacheOff}
	reloadResults = []string{"ok", "unchanged", "rejected"}
)

// durations are the buckets of authz.decision.duration in seconds: from the
// 50 microseconds of a cached token to Envoy's default limit of 200 ms.
var durations = []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3}

func newInstruments(m metric.Meter) (*instruments, error) {
	i := &instruments{}
	var errs [9]error
	i.decisions, errs[0] = m.Int64Counter("authz.decisions", metric.WithDescription("Decisions by outcome, reason and route."))
	i.validations, errs[1] = m.Int64Counter("authz.token.validations", metric.WithDescription("Tokens validated by issuer and result."))
	i.refreshes, errs[2] = m.Int64Counter("authz.jwks.refresh", metric.WithDescription("Key fetches by issuer and result."))
	i.reloads, errs[3] = m.Int64Counter("authz.policy.reloads", metric.WithDescription("Reloads of configuration and policies by result."))
	i.cache, errs[4] = m.Int64Counter("authz.cache.requests", metric.WithDescription("Look-ups in the cache of verified tokens by result."))
	i.dropped, errs[5] = m.Int64Counter("authz.audit.dropped", metric.WithDescription("Audit records that were lost, because the queue was full or the file could not be written."))
	i.duration, errs[6] = m.Float64Histogram("authz.decision.duration", metric.WithUnit("s"),
		metric.WithDescription("Time to decide, without recording."), metric.WithExplicitBucketBoundaries(durations...))
	_, errs[7] = m.Float64ObservableGauge("authz.jwks.age", metric.WithUnit("s"),
		metric.WithDescription("Time since an issuer's keys were last fetched."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			i.observe(o, "issuer", func(a Ages) func(func(string, time.Duration)) { return a.Keys })
			return nil
		}))
	_, errs[8] = m.Float64ObservableGauge("authz.policy.age", metric.WithUnit("s"),
		metric.WithDescription("Time since a policy was loaded."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			i.observe(o, "policy", func(a Ages) func(func(string, time.Duration)) { return a.Policy })
			return nil
		}))
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
	}
	i.zero()
	return i, nil
}

// zero makes counters whose labels are known stand in a scrape from the start.
func (i *instruments) zero() {
	ctx := context.Background()
	i.dropped.Add(ctx, 0)
	for _, o := range cacheOutcomes {
		i.cache.Add(ctx, 0, metric.WithAttributes(attribute.String("result", string(o))))
	}
	for _, r := range reloadResults {
		i.reloads.Add(ctx, 0, metric.WithAttributes(attribute.String("result", r)))
	}
}

func (i *instruments) observe(o metric.Float64Observer, label string, of func(Ages) func(func(string, time.Duration))) {
	i.mu.Lock()
	each := of(i.ages)
	i.mu.Unlock()
	if each == nil {
		return
	}
	each(func(name string, age time.Duration) {
		o.Observe(age.Seconds(), metric.WithAttributes(attribute.String(label, name)))
	})
}

// maxZeros bounds how many counters of refusals stand in a scrape before any
// happened: each route has one for each reason.
const maxZeros = 2000

// Expect makes the counters of these issuers and routes stand in a scrape
// before anything is counted, so that the first event is an increase. With
// more than about a hundred routes, refusals stand there once they happen; so
// do failed validations of tokens, which have many results.
func (i *instruments) Expect(issuers, refreshResults, routes []string) {
	ctx := context.Background()
	for _, issuer := range issuers {
		i.validations.Add(ctx, 0, metric.WithAttributes(attribute.String("issuer", issuer), attribute.String("result", "ok")))
		for _, result := range refreshResults {
			i.refreshes.Add(ctx, 0, metric.WithAttributes(attribute.String("issuer", issuer), attribute.String("result", result)))
		}
	}
	for _, route := range routes {
		i.decisions.Add(ctx, 0, metric.WithAttributes(
			attribute.String("decision", "allow"), attribute.String("reason", string(authz.Allowed)), attribute.String("route", route)))
	}
	reasons := authz.Reasons()
	if (len(routes)+1)*len(reasons) > maxZeros {
		return
	}
	for _, route := range append(slices.Clone(routes), "") { // refused before there is a route
		for _, reason := range reasons {
			i.decisions.Add(ctx, 0, metric.WithAttributes(
				attribute.String("decision", "deny"), attribute.String("reason", string(reason)), attribute.String("route", route)))
		}
	}
}

// Watch says where the ages of keys and policies come from.
func (i *instruments) Watch(a Ages) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ages = a
}

// TokenValidated counts one validation of a token. issuer is a configured
// name or empty, result comes from a closed set.
func (i *instruments) TokenValidated(issuer, result string) {
	i.validations.Add(context.Background(), 1, metric.WithAttributes(
		attribute.String("issuer", issuer), attribute.String("result", result)))
}

// KeysRefreshed counts one fetch of an issuer's keys.
func (i *instruments) KeysRefreshed(issuer, result string) {
	i.refreshes.Add(context.Background(), 1, metric.WithAttributes(
		attribute.String("issuer", issuer), attribute.String("result", result)))
}

// Reloaded counts one attempt to take a new generation: ok, unchanged or
// rejected.
func (i *instruments) Reloaded(result string) {
	i.reloads.Add(context.Background(), 1, metric.WithAttributes(attribute.String("result", result)))
}

// AuditDropped counts n audit records that were lost.
func (i *instruments) AuditDropped(n int) {
	i.dropped.Add(context.Background(), int64(n))
}
