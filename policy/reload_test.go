package policy_test

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-authz/sallyport/authz"
	"github.com/sallyport-authz/sallyport/policy"
)

// TestReload decides all the time while revisions are compiled and swapped in:
// each answer is that of the snapshot that was asked.
func TestReload(t *testing.T) {
	const n = 20_000
	w := workloads[0]
	texts := make([]*policy.Text, 2)
	for i := range texts {
		// Only the second revision has a rule for PATCH.
		texts[i] = &policy.Text{ModelFile: "m", Model: w.model, RulesFile: "p", Rules: w.rules(n) + strings.Repeat("p, role:r0, /v1/things0/:id, PATCH\n", i)}
	}
	type revision struct {
		*policy.Snapshot
		patch bool
	}
	var current atomic.Pointer[revision]
	swap := func(i int) {
		s, fs := policy.Compile(texts[i%2])
		if s == nil {
			t.Fatalf("findings: %v", fs)
		}
		current.Store(&revision{s, i%2 == 1})
	}
	swap(0)
	done := make(chan struct{})
	var wg sync.WaitGroup
	var asked atomic.Int64
	for range 2 {
		wg.Go(func() {
			allow, deny := w.allow(n), w.deny(n)
			patch := &policy.Query{Subject: "user:x/y", Roles: []string{"r0"}, Args: []any{"user:x/y", "/v1/things0/7", "PATCH"}}
			for {
				select {
				case <-done:
					return
				default:
				}
				r := current.Load()
				_, allowed := r.Decide(allow)
				_, denied := r.Decide(deny)
				_, patched := r.Decide(patch)
				asked.Add(3)
				if allowed != nil || authz.DetailOf(denied) != authz.NoRuleMatched || (patched == nil) != r.patch || patched != nil && authz.DetailOf(patched) != authz.NoRuleMatched {
					t.Errorf("got %v, %v, and for PATCH %v where it is allowed: %v", allowed, denied, patched, r.patch)
					return
				}
			}
		})
	}
	for i := range 3 {
		swap(i + 1)
	}
	close(done)
	wg.Wait()
	if asked.Load() < 500 {
		t.Errorf("only %d decisions were made", asked.Load())
	}
}

// A traffic asks the current snapshot at a steady rate.
type traffic struct {
	current     *atomic.Pointer[policy.Snapshot]
	allow, deny *policy.Query
	wrong       atomic.Int64
}

const askers = 2

// ask makes one decision and reports whether it is right.
func (tr *traffic) ask(i int) {
	s := tr.current.Load()
	if i%2 == 0 {
		if _, err := s.Decide(tr.allow); err != nil {
			tr.wrong.Add(1)
		}
	} else if _, err := s.Decide(tr.deny); authz.DetailOf(err) != authz.NoRuleMatched {
		tr.wrong.Add(1)
	}
}

// peak returns how many decisions a second there are when nobody waits.
func (tr *traffic) peak(d time.Duration) float64 {
	var n atomic.Int64
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			i := 0
			for end := time.Now().Add(d); time.Now().Before(end); i++ {
				tr.ask(i)
			}
			n.Add(int64(i))
		})
	}
	wg.Wait()
	return float64(n.Load()) / d.Seconds()
}

// steady asks at a rate until done is closed, and returns the 99th percentile
// of how late a decision was, waiting included. Decisions come in bursts, one
// each millisecond: timers are no finer.
func (tr *traffic) steady(perSecond float64, done <-chan struct{}) time.Duration {
	var mu sync.Mutex
	var wg sync.WaitGroup
	total := make([]int64, 200_000)
	burst := max(1, int(perSecond/1000/askers))
	for range askers {
		wg.Go(func() {
			late := make([]int64, len(total))
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				for i, n := range late {
					total[i] += n
				}
			}()
			for due := time.Now(); ; due = due.Add(time.Millisecond) {
				select {
				case <-done:
					return
				default:
				}
				time.Sleep(time.Until(due))
				for i := range burst {
					tr.ask(i)
					late[min(int(time.Since(due).Microseconds()), len(late)-1)]++
				}
			}
		})
	}
	wg.Wait()
	return percentile(total, 0.99)
}

func percentile(counts []int64, p float64) time.Duration {
	all := int64(0)
	for _, n := range counts {
		all += n
	}
	seen := int64(0)
	for i, n := range counts {
		if seen += n; float64(seen) >= p*float64(all) {
			return time.Duration(i) * time.Microsecond
		}
	}
	return 0
}

// peakMemory samples what the process holds until done is closed.
func peakMemory(done <-chan struct{}) float64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	peak := 0.0
	for {
		metrics.Read(samples)
		peak = max(peak, float64(samples[0].Value.Uint64()-samples[1].Value.Uint64()))
		select {
		case <-done:
			return peak
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// cpuTime is what this process used of the processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReload holds what a load of a million rules and 100,000 links may
// cost, alone and beside traffic at a quarter of the peak. Time is that of the
// processors, so that a busy machine does not count; for the same reason a
// reload is repeated when decisions were late.
func BenchmarkReload(b *testing.B) {
	for _, w := range workloads {
		b.Run(w.name, func(b *testing.B) {
			for b.Loop() {
				reload(b, w)
			}
		})
	}
}

// rounds is how often a reload is tried.
const rounds = 5

func reload(b *testing.B, w workload) {
	const n = 1_000_000
	text := &policy.Text{ModelFile: "m", Model: w.model, RulesFile: "p", Rules: w.rules(n)}
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := cpuTime(b)
	s, fs := policy.Compile(text)
	cpu = cpuTime(b) - cpu
	if s == nil {
		b.Fatalf("findings: %v", fs)
	}
	runtime.GC()
	runtime.GC() // what the first one put into pools
	runtime.ReadMemStats(&after)
	live := float64(after.HeapAlloc) - float64(before.HeapAlloc)

	var current atomic.Pointer[policy.Snapshot]
	current.Store(s)
	tr := &traffic{current: &current, allow: w.allow(n), deny: w.deny(n)}
	rate := tr.peak(300*time.Millisecond) / 4
	var memory float64
	var late error
	was, is := time.Hour, time.Hour // the best of all rounds
	for range rounds {
		done := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(done) })
		was = min(was, tr.steady(rate, done))

		done = make(chan struct{})
		peak := make(chan float64, 1)
		go func() { peak <- peakMemory(done) }()
		go func() {
			defer close(done)
			s, _ := policy.Compile(text)
			current.Store(s)
		}()
		is = min(is, tr.steady(rate, done))
		memory = max(memory, <-peak)
		if late = within("ms until 99% are decided during a reload", is.Seconds()*1e3, max(2*was, was+5*time.Millisecond).Seconds()*1e3); late == nil {
			break
		}
	}
	b.Logf("%s: at %.0f decisions a second, 99%% are made within %v, and within %v during a reload", w.name, rate, was, is)
	b.ReportMetric(cpu.Seconds(), "s-cpu/load")
	b.ReportMetric(live/1e6, "MB-live")
	b.ReportMetric(memory/1e6, "MB-peak")
	if err := errors.Join(late,
		within("seconds of a load", cpu.Seconds(), 5),
		within("MB of a snapshot", live/1e6, 450),
		within("MB at the peak", memory/1e6, 1200),
		within("wrong decisions", float64(tr.wrong.Load()), 0),
	); err != nil {
		b.Fatal(err)
	}
}

func within(what string, got, limit float64) error {
	if got <= limit {
		return nil
	}
	return fmt.Errorf("%s: %.3g, the limit is %.3g", what, got, limit)
}
