package keys_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/authz/authztest"
	"github.com/sallyport-authz/sallyport/authz/token/jws"
	"github.com/sallyport-authz/sallyport/authz/token/keys"
)

// A request that waits for a fetch waits no longer than it has time.
func TestWaitEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	h := hold(t, newIssuer(t), keys.Config{Timeout: 30 * time.Second}).ready()
	h.issuer.BreakKeys(authztest.Fault{Kind: authztest.Hang})
	tok, _ := jws.Parse(h.issuer.Mint(nil, authztest.Header("kid", "new")))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := h.set.Verify(ctx, tok)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// Keys that become too old while a request waits for others verify nothing.
func TestKeysAgeWhileWaiting(t *testing.T) {
	t.Parallel()
	h := hold(t, newIssuer(t), keys.Config{Timeout: time.Minute, MaxAge: time.Hour}).ready()
	h.issuer.BreakKeys(authztest.Fault{Kind: authztest.Hang})
	tok, err := jws.Parse(h.issuer.Mint(nil, authztest.Header("kid", "new")))
	if err != nil {
		t.Fatal(err)
	}
	fetches := h.issuer.Fetches()
	ended := make(chan error)
	go func() { _, err := h.set.Verify(context.Background(), tok); ended <- err }()
	h.eventually("the fetch", func() bool { return h.issuer.Fetches() > fetches })
	h.advance(2 * time.Hour)
	h.issuer.Heal() // lets go of the fetch with an answer that is no key set
	h.issuer.BreakKeys(authztest.Fault{Kind: authztest.ServerError})
	h.refused(<-ended, authz.IssuerUnavailable, authz.KeysStale)
}

// A set that nobody runs waits for nothing, and who waits for one that ends is
// let go.
func TestNobodyRefreshes(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, i.KeySet(), 0o600); err != nil {
		t.Fatal(err)
	}
	h := &holder{t: t, issuer: i}
	var err error
	if h.set, err = keys.New(keys.Config{JWKSFile: path}); err != nil {
		t.Fatal(err)
	}
	h.accepted(i.Mint(nil))
	unknown := i.Mint(nil, authztest.Header("kid", "new"))
	h.refused(h.verify(unknown), authz.InvalidToken, authz.UnknownKey)

	h = hold(t, i, keys.Config{Timeout: time.Minute}).ready()
	i.BreakKeys(authztest.Fault{Kind: authztest.Hang})
	tok, err := jws.Parse(unknown)
	if err != nil {
		t.Fatal(err)
	}
	fetches := i.Fetches()
	ended := make(chan error)
	go func() { _, err := h.set.Verify(context.Background(), tok); ended <- err }()
	h.eventually("the fetch", func() bool { return i.Fetches() > fetches })
	results := len(h.counts())
	h.stop()
	h.refused(<-ended, authz.InvalidToken, authz.UnknownKey)
	h.refused(h.verify(unknown), authz.InvalidToken, authz.UnknownKey)
	if len(h.counts()) != results { // the end of Run is no failure of the issuer
		t.Errorf("results %v", h.counts())
	}
}

// When refreshes come: each few minutes while all is well, also where a key of
// the set is no use; soon after a failure, then less and less often.
func TestPauses(t *testing.T) {
	i := authztest.NewIssuer(authztest.WithURL("https://id.example.com"), authztest.WithAlgorithms("ES256"))
	i.AddJWK(weakJWK)
	var fetches atomic.Int64
	var down atomic.Bool
	uri := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write(i.KeySet())
	})
	synctest.Test(t, func(t *testing.T) {
		h := hold(t, i, keys.Config{Issuer: i.URL(), JWKSURI: uri, Refresh: 5 * time.Minute}).ready()
		after := func(d time.Duration, least, most int64) {
			t.Helper()
			before := fetches.Load()
			time.Sleep(d)
			if got := fetches.Load() - before; got < least || got > most {
				t.Errorf("%d fetches in %v, want %d to %d", got, d, least, most)
			}
		}
		until := func(result string) {
			t.Helper()
			before := h.counts()[result]
			for start := time.Now(); h.counts()[result] == before; time.Sleep(100 * time.Millisecond) {
				if time.Since(start) > 331*time.Second {
					t.Fatalf("no refresh came to %s", result)
				}
			}
		}
		after(269*time.Second, 0, 0)
		after(62*time.Second, 1, 1)
		after(time.Hour, 10, 14)
		down.Store(true)
		until(keys.ResultStatus)
		after(40*time.Second, 6, 6) // after 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s
		after(5*time.Minute, 9, 12) // and each 30 s
		down.Store(false)
		until(keys.ResultUnchanged)
		after(269*time.Second, 0, 0)
		after(62*time.Second, 1, 1)
		i.Rotate("ES256")
		until(keys.ResultOK) // and one of its keys is no use
		after(269*time.Second, 0, 0)
	})
}

// Each fetch is a span: of the request that asked for it, where one did.
func TestSpans(t *testing.T) {
	t.Parallel()
	rec := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec)).Tracer("")
	ended := func(n int) func() bool { return func() bool { return len(rec.Ended()) >= n } }

	i := newIssuer(t)
	i.SetKeySet([]byte(`{"keys":[]}`))
	h := hold(t, i, keys.Config{Refresh: time.Minute}, keys.WithTracer(tracer)) // retried in half a second
	h.eventually("no keys", ended(1))
	i.SetKeySet(nil)
	h.ready()
	h.eventually("keys", ended(2))
	ctx, asking := tracer.Start(t.Context(), "check")
	tok, err := jws.Parse(i.Mint(nil, authztest.Header("kid", "new")))
	if err != nil {
		t.Fatal(err)
	}
	i.BreakKeys(authztest.Fault{Kind: authztest.ServerError})
	_, err = h.set.Verify(ctx, tok)
	h.refused(err, authz.InvalidToken, authz.UnknownKey)
	h.eventually("a failed fetch", ended(3))

	for n, want := range []struct {
		status      codes.Code
		description string
		parent      trace.SpanContext
	}{{codes.Error, keys.ResultDocument, trace.SpanContext{}}, {codes.Unset, "", trace.SpanContext{}}, {codes.Error, keys.ResultStatus, asking.SpanContext()}} {
		s := rec.Ended()[n]
		if s.Name() != "authz.jwks.fetch" || s.SpanKind() != trace.SpanKindClient || s.Attributes()[0].Value.AsString() != i.URL() {
			t.Errorf("span %d is %s %v %v", n, s.Name(), s.SpanKind(), s.Attributes())
		}
		if s.Status().Code != want.status || s.Status().Description != want.description || s.Parent().SpanID() != want.parent.SpanID() {
			t.Errorf("span %d: %v below %v, want %v", n, s.Status(), s.Parent().SpanID(), want)
		}
	}

	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, i.KeySet(), 0o600); err != nil {
		t.Fatal(err)
	}
	before := len(rec.Started())
	file := hold(t, i, keys.Config{JWKSFile: path}, keys.WithTracer(tracer))
	fresh := i.Rotate("ES256")
	if err := os.WriteFile(path, i.KeySet(), 0o600); err != nil {
		t.Fatal(err)
	}
	file.eventually("the changed file", func() bool { return file.verify(i.Mint(nil, authztest.SignedBy(fresh))) == nil })
	if got := len(rec.Started()) - before; got != 0 {
		t.Errorf("%d spans for a file", got)
	}
	if got := file.counts(); got[keys.ResultUnchanged] != 0 || got[keys.ResultOK] != 1 {
		t.Errorf("results %v, want the change alone", got)
	}
}
