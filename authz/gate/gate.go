// Package gate turns a configuration file into the running server.
//
// A [Gate] holds one generation at a time: a configuration with its policies
// and checks, built whole or not at all, and swapped atomically. Each decision
// uses exactly one. A change on disk that does not load is refused whole; the
// last good generation goes on deciding. Keys of issuers and snapshots of
// policies that did not change are carried over.
//
// This is the only place where parts meet: routes.go gives a route its duties,
// tokens.go its issuers, policies.go its policy, audit.go its records, serve.go
// its listeners. What is asked without Envoy goes through the same pipeline:
// tests.go runs policy tests, explain.go explains a decision, recall.go one
// that was recorded, rehearse.go says who asks.
package gate

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/telemetry"
)

// A Gate decides by the current generation. It is safe for concurrent use.
type Gate struct {
	path  string
	log   *slog.Logger
	tel   *telemetry.Telemetry
	parts parts

	first   *config.Config // what was read at the start
	current atomic.Pointer[generation]
	retired sync.WaitGroup // logs that are being closed

	reopening sync.Mutex
	ready     atomic.Bool
}

// Decide decides by one generation.
func (g *Gate) Decide(ctx context.Context, r *authz.Request) authz.Decision {
	gen := g.current.Load()
	if gen == nil {
		return authz.Refusal(authz.Refuse(authz.NotReady, "", nil))
	}
	return gen.pipeline.Decide(ctx, r)
}

// Ready reports whether the policies are loaded and every required issuer has
// had keys. Once true it stays true: a later outage does not revert it.
func (g *Gate) Ready() bool {
	if g.ready.Load() {
		return true
	}
	gen := g.current.Load()
	if gen == nil {
		return false
	}
	for _, k := range gen.keys {
		if k.required && !k.set.Ready() {
			return false
		}
	}
	g.ready.Store(true)
	return true
}

// awaitReady calls then once the gate is ready, unless ctx ends first.
func (g *Gate) awaitReady(ctx context.Context, then func()) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !g.Ready() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	then()
}

// take makes gen the current generation.
func (g *Gate) take(gen *generation) {
	g.parts.policies, g.parts.tokens = gen.policies, gen.tokens
	if g.first == nil {
		g.first, g.parts.server = gen.cfg, &gen.cfg.Server
	}
	if gen.tokens != nil {
		gen.tokens.live.Store(gen.tokens.list)
	}
	g.expect(gen)
	old := g.current.Swap(gen)
	g.parts.ring.keep(gen.keys)
	g.parts.archive.before = gen.audit
	g.recordTaken(old, gen)
	if old != nil && old.audit != gen.audit {
		g.retire(old.audit)
	}
}

// retire closes a log once no decision can still want to write to it.
func (g *Gate) retire(l *auditLog) {
	g.retired.Go(func() {
		time.Sleep(2 * g.parts.server.Deadline)
		if err := l.Close(context.Background()); err != nil {
			g.log.Warn("an audit log was not closed", "error", err)
		}
	})
}

// watch reloads when files are no longer what was seen, at once when now is
// told, until ctx ends.
func (g *Gate) watch(ctx context.Context, files []string, seen fingerprint, now <-chan os.Signal) {
	w := newWatcher(g.log)
	defer w.close()
	for ctx.Err() == nil {
		w.follow(files)
		// What changed while nobody watched is found without waiting.
		told := digest(files) == seen && w.wait(ctx, now)
		if told {
			go g.reopen() // a disk that hangs must not hold up reloads
		}
		latest := digest(files)
		if latest != seen && !told {
			latest = settle(ctx, files)
		}
		if ctx.Err() != nil {
			return
		}
		if latest == seen {
			if told {
				g.tel.Reloaded("unchanged")
			}
			continue
		}
		b := g.reload()
		if seen = b.seen; b.cfg != nil {
			files = b.files()
		} else {
			seen = latest // it cannot be read, and names no files
		}
	}
}

// reopen opens the audit file anew, for whoever rotates it.
func (g *Gate) reopen() {
	if !g.reopening.TryLock() {
		return
	}
	defer g.reopening.Unlock()
	if err := g.current.Load().audit.Reopen(); err != nil {
		g.log.Error("the audit file stays as it was", "error", err)
	}
}

// reload builds the next generation and takes it if it loads.
func (g *Gate) reload() *build {
	b := load(g.path, g.parts)
	for _, w := range b.warnings {
		g.log.Warn("policy warning", "problem", w.String())
	}
	bad := b.problems
	if b.gen != nil {
		bad = b.gen.failures(context.Background())
	}
	if len(bad) > 0 {
		for _, p := range bad {
			g.log.Error("reload refused, the last good generation stays", "problem", p.String())
		}
		b.abandon(g.parts.archive.before)
		g.tel.Reloaded("rejected")
		g.recordRefused(bad)
		return b
	}
	gen := b.gen
	g.take(gen)
	g.tel.Reloaded("ok")
	g.log.Info("reloaded", "configuration", gen.String(), "revisions", gen.revisions())
	for _, section := range restart(g.first, gen.cfg) {
		g.log.Warn("a change takes effect after a restart only", "section", section)
	}
	return b
}

// ages tells the metrics how old keys and policies are.
func (g *Gate) ages() telemetry.Ages {
	return telemetry.Ages{
		Keys: func(yield func(string, time.Duration)) {
			if gen := g.current.Load(); gen != nil {
				for _, k := range gen.keys {
					if age, ok := k.set.Age(); ok {
						yield(k.name, age)
					}
				}
			}
		},
		Policy: func(yield func(string, time.Duration)) {
			if gen := g.current.Load(); gen != nil {
				for name, p := range gen.policies {
					yield(name, time.Since(p.at))
				}
			}
		},
	}
}

// revisions returns the revision of each policy.
func (g *generation) revisions() map[string]string {
	m := make(map[string]string, len(g.policies))
	for name, p := range g.policies {
		m[name] = p.revision()
	}
	return m
}

// A Report is what Check found out.
type Report struct {
	Warnings config.Problems
	Failed   config.Problems // policy tests
	summary  string
}

// String says what the configuration comes to.
func (r Report) String() string { return r.summary }

// Check loads all that Serve would load, without network, and runs the policy
// tests. Its error is of type [config.Problems].
func Check(path string) (Report, error) {
	g := &Gate{path: path, log: slog.New(slog.DiscardHandler), parts: parts{ring: newOfflineKeyring()}}
	server, b, problems := g.open()
	report := Report{Warnings: b.warnings}
	if server == nil {
		return report, problems
	}
	report.Failed = b.gen.failures(context.Background())
	report.summary = b.gen.String()
	return report, server.Shutdown(context.Background()) // nobody was served
}

// discard records nothing: what is rehearsed was not asked.
type discard struct{}

func (discard) Record(context.Context, *authz.Request, *authz.Decision) error { return nil }
