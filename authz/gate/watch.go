package gate

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// debounce is how long files must be quiet before they are read: an
	// editor or a kubelet writes several times for one change.
	debounce = 250 * time.Millisecond
	// settle bounds the debounce, so that a file that never rests is still
	// read within the two seconds that the contract gives.
	settle = time.Second
	// poll is how often contents are compared where notification does not
	// work, as on some network file systems and subPath mounts.
	poll = 10 * time.Second
)

// A watcher says when files may have changed. It watches folders, not files:
// a watch on a file dies when the file is replaced, as editors and ConfigMaps
// do. A spurious wake-up costs one comparison of contents.
type watcher struct {
	fs  *fsnotify.Watcher // nil where the system has no watches left
	log *slog.Logger
	dir map[string]bool
}

func newWatcher(log *slog.Logger) *watcher {
	w := &watcher{log: log, dir: map[string]bool{}}
	var err error
	if w.fs, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("files are polled, not watched", "error", err, "interval", poll)
		w.fs = nil
	}
	return w
}

// follow watches the folders of files, of what they link to, and no others.
func (w *watcher) follow(files []string) {
	if w.fs == nil {
		return
	}
	want := map[string]bool{}
	for _, f := range files {
		want[filepath.Dir(f)] = true
		if real, err := filepath.EvalSymlinks(f); err == nil {
			want[filepath.Dir(real)] = true
		}
	}
	for dir := range want {
		// Add again even when known: a folder that was replaced has lost
		// its watch.
		if err := w.fs.Add(dir); err != nil {
			w.log.Warn("folder is polled, not watched", "folder", dir, "error", err, "interval", poll)
			delete(want, dir)
		}
	}
	for dir := range w.dir {
		if !want[dir] {
			_ = w.fs.Remove(dir) // it may be gone already
		}
	}
	w.dir = want
}

// wait blocks until files may have changed and are quiet again, the poll is
// due, now is told, or ctx ends.
func (w *watcher) wait(ctx context.Context, now <-chan os.Signal) {
	var events chan fsnotify.Event
	var errs chan error
	if w.fs != nil {
		events, errs = w.fs.Events, w.fs.Errors
	}
	timer := time.NewTimer(poll)
	defer timer.Stop()
	var latest time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-now:
			return
		case <-timer.C:
			return
		case err := <-errs:
			w.log.Warn("a file notification was lost", "error", err)
			return
		case e := <-events:
			if e.Op == fsnotify.Chmod {
				continue
			}
			if latest.IsZero() {
				latest = time.Now().Add(settle)
			}
			timer.Reset(min(debounce, time.Until(latest)))
		}
	}
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close() // nothing is left to lose
	}
}
