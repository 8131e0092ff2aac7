package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/admin"
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/extauthz"
	"github.com/sallyport-authz/sallyport/authz/telemetry"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// A Version is what the build knows of itself.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source
	Go       string `json:"go"`
}

const (
	// flushTime bounds how long spans may take to leave at the end.
	flushTime = 3 * time.Second
	// minHashKey is the least length of a subject hash key in bytes: 128
	// bits, below which a hash of a guessable name can be undone.
	minHashKey = 16
)

// Serve runs the server until ctx ends, then drains. Its error is of type
// [config.Problems] where the configuration or a policy does not load, and
// anything else where the server cannot run.
// out is what audit.file: stdout stands for.
func Serve(ctx context.Context, path string, out io.Writer, log *slog.Logger, v Version) error {
	tel, err := telemetry.Start(ctx, v.Version, log)
	if err != nil {
		return err
	}
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		if err := tel.Shutdown(flush); err != nil {
			log.Warn("telemetry was not flushed", "error", err)
		}
	}()

	for _, s := range survived { // Ignore without arguments ignores everything
		signal.Ignore(s)
	}
	// What runs in the background outlives ctx: keys are fetched until the
	// last check in flight is answered.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	g := &Gate{path: path, log: log, tel: tel}
	g.parts = parts{
		ring:    newKeyring(background),
		archive: archive{out: out, dropped: tel.AuditDropped, log: log},
		options: []authz.Option{authz.WithTracer(tel.Tracer())},
		observe: tel.TokenValidated,
	}
	g.parts.ring.opts = g.keyOptions
	defer g.closeAudit()
	defer g.parts.ring.wait.Wait()
	defer stop()

	server, b, problems := g.open()
	for _, w := range b.warnings {
		log.Warn("policy warning", "problem", w.String())
	}
	if server != nil {
		problems = b.gen.failures(ctx)
	}
	if len(problems) > 0 {
		b.abandon(nil)
		return problems
	}
	g.take(b.gen)
	tel.Watch(g.ages())
	return g.run(background, ctx.Done(), server, b, v)
}

// open loads the first generation and all that is read at the start only. It
// uses no network. Either there are a server and a generation or there are
// problems.
func (g *Gate) open() (*extauthz.Server, *build, config.Problems) {
	cfg, problems := config.Load(g.path)
	if cfg == nil {
		return nil, &build{}, problems
	}
	key, err := hashKey(cfg.Telemetry)
	if err != nil {
		k := cfg.Telemetry.HashKeyFile
		problems = append(problems, cfg.Problem(k.Line, k.Key, "%s", readable(err)))
	}
	g.parts.recorder = discard{}
	if g.tel != nil {
		rec := g.tel.Recorder(g.log, telemetry.SubjectMode(cfg.Telemetry.Subject), key)
		g.parts.recorder = rec
		g.parts.archive.wait = cfg.Server.Deadline
		g.parts.archive.subject = subject(cfg.Telemetry.Subject, rec.Hash)
	}
	b := load(g.path, g.parts)
	t := cfg.Server.GRPC.TLS
	incomplete := t != nil && b.cfg != nil && b.missing(t.Certificate, t.Key, t.ClientCA)
	problems = append(problems, b.problems...)
	if incomplete {
		problems.Sort()
		return nil, b, problems
	}
	server, err := g.server(cfg.Server)
	if err != nil {
		problems = append(problems, cfg.Problem(cfg.Line("server.grpc.tls"), "server.grpc.tls", "%s", readable(err)))
	}
	if len(problems) > 0 {
		problems.Sort()
		return nil, b, problems
	}
	return server, b, nil
}

// hashKey returns the secret of subject hashes: the file's, or a random one
// for the life of the process.
func hashKey(t config.Telemetry) ([]byte, error) {
	if t.HashKeyFile.Path == "" {
		key := make([]byte, 32)
		rand.Read(key) // never fails
		return key, nil
	}
	key, err := os.ReadFile(t.HashKeyFile.Path)
	if err != nil {
		return nil, err
	}
	if len(key) < minHashKey {
		return nil, fmt.Errorf("%s: a key needs at least %d bytes, this one has %d", t.HashKeyFile.Path, minHashKey, len(key))
	}
	return key, nil
}

func (g *Gate) keyOptions(issuer string, set func() *keys.Set) []keys.Option {
	var prints thumbprints
	return []keys.Option{
		keys.WithTracer(g.tel.Tracer()),
		keys.WithObserver(func(result string, err error) {
			g.tel.KeysRefreshed(issuer, result)
			if c, changed := prints.change(issuer, set().Thumbprints()); changed {
				g.changed(c)
			}
			if err != nil {
				g.log.Warn("keys were not refreshed", "issuer", issuer, "result", result, "error", err)
			}
		}),
	}
}

// run opens the listeners, serves, and drains once done is closed.
func (g *Gate) run(ctx context.Context, done <-chan struct{}, server *extauthz.Server, b *build, v Version) error {
	settings := g.current.Load().cfg.Server
	checks, err := extauthz.Listen(ctx, settings.GRPC.Listen)
	if err != nil {
		return err
	}
	pages, err := extauthz.Listen(ctx, settings.Admin.Listen)
	if err != nil {
		return errors.Join(err, checks.Close())
	}
	g.log.Info("listening", "grpc", address(checks), "admin", address(pages), "version", v.Version)

	life, end := context.WithCancel(ctx)
	defer end()
	var tasks errgroup.Group
	failed := make(chan error, 2)
	tasks.Go(func() error {
		err := server.Serve(checks)
		if err != nil {
			failed <- err
		}
		return err
	})
	var serving, draining atomic.Bool
	ready := func() bool { return serving.Load() && !draining.Load() }
	tasks.Go(func() error {
		err := admin.Serve(life, pages, admin.Handler(admin.Source{Ready: ready, Metrics: g.tel.Metrics(), Version: v}), g.log)
		if err != nil {
			failed <- err
		}
		return err
	})
	tasks.Go(func() error {
		g.awaitReady(life, func() {
			server.SetServing(true)
			serving.Store(true) // after health: who sees ready finds it serving
			g.log.Info("ready")
		})
		return nil
	})
	tasks.Go(func() error {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		defer signal.Stop(hup)
		g.watch(life, b.files(), b.seen, hup)
		return nil
	})

	select {
	case <-done:
		g.log.Info("draining", "limit", settings.Drain)
	case err = <-failed:
	}
	draining.Store(true)
	limit, cancel := context.WithTimeout(ctx, settings.Drain)
	defer cancel()
	if late := server.Shutdown(limit); late != nil {
		g.log.Warn("checks in flight were cut off", "error", late)
	}
	end()
	return errors.Join(err, tasks.Wait())
}

// server builds the server, which reads its TLS files and does not listen yet.
func (g *Gate) server(settings config.Server) (*extauthz.Server, error) {
	opts := []extauthz.Option{
		extauthz.WithDeadline(settings.Deadline),
		extauthz.WithMaxInFlight(settings.GRPC.MaxInFlight),
		extauthz.WithTrustedHops(settings.TrustedHops),
		extauthz.WithRecorder(recorder{g, g.parts.recorder}),
		extauthz.WithLogger(g.log),
	}
	if g.tel != nil {
		opts = append(opts, extauthz.WithTracerProvider(g.tel.TracerProvider()), extauthz.WithPropagators(g.tel.Propagators()))
	}
	if settings.OnError == config.OnErrorEnvoy {
		opts = append(opts, extauthz.WithOverloadAsError())
	}
	if settings.GRPC.Reflection {
		opts = append(opts, extauthz.WithReflection())
	}
	if t := settings.GRPC.TLS; t != nil {
		opts = append(opts, extauthz.WithTLS(extauthz.TLSFiles{
			Certificate: t.Certificate.Path, Key: t.Key.Path, ClientCA: t.ClientCA.Path, ClientNames: t.ClientNames,
		}))
	}
	return extauthz.NewServer(g, opts...)
}

// address is how a listener came out, as the configuration would write it.
func address(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix://" + l.Addr().String()
	}
	return l.Addr().String()
}
