package gate

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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

// maxLinks bounds how many symbolic links are followed to one file; Linux
// gives up at 40.
const maxLinks = 40

// A watcher says when files may have changed. It watches folders, not files:
// a watch on a file dies when the file is replaced, as editors and ConfigMaps
// do. A spurious wake-up costs one comparison of contents.
type watcher struct {
	fs    *fsnotify.Watcher // nil where the system has no watches left
	log   *slog.Logger
	dirs  map[string]bool
	names map[string]bool // what counts in these folders: files, and links on the way to them
}

func newWatcher(log *slog.Logger) *watcher {
	w := &watcher{log: log, dirs: map[string]bool{}}
	var err error
	if w.fs, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("files are polled, not watched", "error", err, "interval", poll)
		w.fs = nil
	}
	return w
}

// follow watches files, what they link to, the links on the way there, and
// nothing else.
func (w *watcher) follow(files []string) {
	if w.fs == nil {
		return
	}
	dirs := map[string]bool{}
	w.names = map[string]bool{}
	for _, f := range files {
		if abs, err := filepath.Abs(f); err == nil {
			w.trace(abs, dirs, maxLinks)
		}
	}
	for dir := range dirs {
		// Add again even when known: a folder that was replaced has lost
		// its watch.
		if err := w.fs.Add(dir); err != nil {
			if !w.dirs[dir] {
				w.log.Warn("folder is polled, not watched", "folder", dir, "error", err, "interval", poll)
			}
			delete(dirs, dir)
		}
	}
	for dir := range w.dirs {
		if !dirs[dir] {
			_ = w.fs.Remove(dir) // it may be gone already
		}
	}
	w.dirs = dirs
}

// trace adds a file and, for each part of its path that is a symbolic link,
// the link and what it leads to: a ConfigMap or a checked-out revision is
// replaced by swapping a link to a folder.
func (w *watcher) trace(path string, dirs map[string]bool, links int) {
	if w.names[path] {
		return
	}
	w.names[path] = true
	dirs[filepath.Dir(path)] = true
	for part := path; part != filepath.Dir(part); part = filepath.Dir(part) {
		to, err := os.Readlink(part)
		if err != nil || links == 0 {
			continue
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(part), to)
		}
		w.names[part] = true
		dirs[filepath.Dir(part)] = true
		w.trace(filepath.Join(to, strings.TrimPrefix(path, part)), dirs, links-1)
	}
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
			if e.Op == fsnotify.Chmod || !w.names[filepath.Clean(e.Name)] {
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
