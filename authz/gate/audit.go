package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/audit"
	"github.com/sallyport-authz/sallyport/authz/config"
	"github.com/sallyport-authz/sallyport/authz/expr"
)

// An auditLog is where records go, and what it was made from. Generations that
// want the same share it.
type auditLog struct {
	*audit.Log
	id string
}

// An archive opens audit logs. The zero value opens none: a check only looks
// whether it could.
type archive struct {
	out     io.Writer // what stdout stands for; nil: open nothing
	wait    time.Duration
	subject func(*authz.Subject) string
	dropped func(n int)
	log     *slog.Logger
	before  *auditLog // of the generation before
}

// loadAudit makes or keeps the log that the configuration asks for.
func (b *build) loadAudit(a archive) {
	c := &b.cfg.Audit
	opts := []audit.Option{audit.WithQueue(c.Queue), audit.WithMask(c.Mask)}
	fields := make([]audit.Field, 0, len(c.Fields))
	for _, e := range c.Fields {
		if p := b.compile(e.Expr, expr.Answer, expr.Any); p != nil {
			fields = append(fields, field(e.Name, p))
		}
	}
	opts = append(opts, audit.WithFields(fields))
	for _, name := range c.Mask {
		if !slices.Contains(audit.Maskable(), name) {
			b.problem(b.cfg.Line("audit.mask"), "audit.mask", "records have no field %q that can be masked (%s)", name, strings.Join(audit.Maskable(), ", "))
		}
	}
	if len(b.problems) > 0 {
		return
	}
	// The rest is judged before anything is opened.
	dry, err := audit.New(audit.None(), opts...)
	if err != nil {
		b.problem(b.cfg.Line("audit.fields"), "audit.fields", "%v", errors.Unwrap(err))
		return
	}
	path := b.cfg.AuditPath()
	if a.out == nil {
		folder, err := os.Stat(filepath.Dir(path))
		if path != "" && (err != nil || !folder.IsDir()) {
			b.problem(b.cfg.Line("audit.file"), "audit.file", "%s: there is no such folder", filepath.Dir(path))
		}
		if file, err := os.Stat(path); err == nil && file.IsDir() {
			b.problem(b.cfg.Line("audit.file"), "audit.file", "%s is a folder", path)
		}
		b.audit = &auditLog{Log: dry}
		return
	}
	id := fmt.Sprintf("%q %+v %v", path, *c, b.hidden())
	if a.before != nil && a.before.id == id {
		b.audit = a.before
		return
	}
	if c.Mode == config.AuditRequired {
		opts = append(opts, audit.WithRequired(), audit.WithWait(a.wait))
	}
	opts = append(opts, audit.WithSubject(a.subject), audit.WithDropped(a.dropped), audit.WithLogger(a.log))
	sink := audit.Writer(a.out)
	if path != "" {
		sink = audit.File(path)
	} else if c.File.Value == config.AuditNone {
		sink = audit.None()
	}
	log, err := audit.New(sink, opts...)
	if err != nil {
		b.problem(b.cfg.Line("audit.file"), "audit.file", "%s", readable(errors.Unwrap(err)))
		return
	}
	b.audit = &auditLog{log, id}
}

// abandon closes a log that was opened for a generation that is not taken.
func (b *build) abandon(current *auditLog) {
	if b.audit != nil && b.audit != current {
		_ = b.audit.Close(context.Background()) // nothing was written
	}
}

// closeAudit closes all logs, at the end.
func (g *Gate) closeAudit() {
	g.retired.Wait()
	gen := g.current.Load()
	if gen == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if err := gen.audit.Close(ctx); err != nil {
		g.log.Error("the audit log was not closed", "error", err)
	}
}

// subject is how records show a subject: as spans do.
func subject(mode string, hash func(id string) string) func(*authz.Subject) string {
	return func(s *authz.Subject) string {
		switch mode {
		case config.SubjectID:
			return s.ID
		case config.SubjectHash:
			return "hash:" + hash(s.ID)
		}
		return ""
	}
}

// field is one extra of the records.
func field(name string, p *expr.Program) audit.Field {
	return audit.Field{Name: name, Value: func(r *authz.Request, d *authz.Decision) (any, bool) {
		if r == nil {
			return nil, false
		}
		return p.Metadata(expr.NewScope(r, d.Subject(), d.Route(), d))
	}}
}

// A recorder records what the server refuses by itself, before there is a
// generation to ask: too many checks, a message that is none. Like a pipeline
// it tells the audit log first.
type recorder struct {
	gate *Gate
	then authz.Recorder
}

// Record implements [authz.Recorder].
func (r recorder) Record(ctx context.Context, req *authz.Request, d *authz.Decision) error {
	if gen := r.gate.current.Load(); gen != nil {
		if err := gen.audit.Record(ctx, req, d); err != nil {
			lost := authz.Refusal(err)
			return errors.Join(err, r.then.Record(ctx, req, &lost))
		}
	}
	return r.then.Record(ctx, req, d)
}
