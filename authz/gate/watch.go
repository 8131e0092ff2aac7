package gate

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// rest is how long contents must stay as they are before they are read.
	// Whoever writes a file in place empties it first, and an empty list of
	// revocations is a valid one.
	rest = 250 * time.Millisecond
	// patience bounds the wait for that, so that a file that never rests is
	// still read within the two seconds that the contract gives.
	patience = 1500 * time.Millisecond
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
	globs []string        // patterns of names that count too
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
	w.names, w.globs = map[string]bool{}, nil
	for _, f := range files {
		abs, err := filepath.Abs(f)
		if err != nil {
			continue
		}
		for _, name := range expand(abs) {
			w.trace(name, dirs, maxLinks)
		}
		if isPattern(abs) {
			w.globs = append(w.globs, abs)
			for _, dir := range expand(filepath.Dir(abs)) {
				dirs[dir] = true
			}
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

// wait blocks until files may have changed, the poll is due or ctx ends. It
// returns true at once when now is told.
func (w *watcher) wait(ctx context.Context, now <-chan os.Signal) bool {
	var events chan fsnotify.Event
	var errs chan error
	if w.fs != nil {
		events, errs = w.fs.Events, w.fs.Errors
	}
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-now:
			return true
		case <-timer.C:
			return false
		case err := <-errs:
			w.log.Warn("a file notification was lost", "error", err)
			return false
		case e := <-events:
			if e.Op != fsnotify.Chmod && w.counts(filepath.Clean(e.Name)) {
				return false
			}
		}
	}
}

// counts reports whether a change of this name may be a change of a file.
func (w *watcher) counts(name string) bool {
	return w.names[name] || slices.ContainsFunc(w.globs, func(pattern string) bool {
		ok, err := filepath.Match(pattern, name)
		return ok && err == nil
	})
}

// settle waits until files rest and returns their digest.
func settle(ctx context.Context, files []string) fingerprint {
	last := digest(files)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return last
		case <-time.After(rest):
		}
		next := digest(files)
		if next == last {
			break
		}
		last = next
	}
	return last
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close() // nothing is left to lose
	}
}
