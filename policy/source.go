package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// A Text is a model and its rules as they stood together: one complete
// revision of a policy, not yet compiled.
type Text struct {
	ModelFile, Model string
	RulesFile, Rules string // an empty RulesFile means no rules
}

// ID tells revisions apart: two Texts with one ID compile alike, down to the
// file names in decisions and findings, given the same options.
func (t *Text) ID() [sha256.Size]byte {
	return digest(t.ModelFile, t.Model, t.RulesFile, t.Rules)
}

// digest hashes texts, each with its length before it so that no two lists are
// hashed alike.
func digest(texts ...string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, t := range texts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(t))))
		_, _ = io.WriteString(h, t)
	}
	h.Sum(sum[:0])
	return sum
}

// A Source yields complete revisions of a policy: never a model and rules that
// did not stand together, never a part of either. It does not judge them, that
// is what [Compile] does.
type Source interface {
	Read() (*Text, error)
}

// Files is the [Source] of a model and rules that are files, by their paths.
// An empty Rules means no rules. Safe for concurrent use.
type Files struct {
	Model, Rules string
}

const (
	// maxReadings bounds how often a set that keeps changing is read.
	maxReadings = 5
	// fresh is the age below which somebody may still be writing a file.
	fresh = time.Second
	// settle is how long whoever writes a fresh file has to go on before it is
	// taken for complete.
	settle = 50 * time.Millisecond
)

var errUnsettled = errors.New("keeps changing while it is read")

// Read reads both files, then both again, until two readings agree: a set is
// never taken while one half of it is swapped, as Kubernetes swaps the folder
// of a ConfigMap, or while somebody writes it. After five readings it gives
// up. Every error is an [*fs.PathError] with the path as it was given.
//
// Who writes a file in place and rests for more than 50 ms in the middle
// cannot be told from who is done: replace files by renaming. Reading files
// that changed within the last second takes those 50 ms longer, each time.
func (f Files) Read() (t *Text, err error) {
	for range maxReadings {
		var young bool
		if t, young, err = f.readOnce(); err == nil {
			if young {
				time.Sleep(settle)
			}
			if err = f.compare(t); err == nil {
				return t, nil
			}
		}
		// A file may be gone for the moment in which a folder is swapped.
		if !errors.Is(err, errUnsettled) && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return nil, err
}

// readOnce reads both files, and reports whether one of them is fresh.
func (f Files) readOnce() (t *Text, young bool, err error) {
	t = &Text{ModelFile: f.Model, RulesFile: f.Rules}
	var changed, rulesChanged time.Time
	if t.Model, changed, err = readFile(f.Model, maxModel); err != nil {
		return nil, false, err
	}
	if f.Rules != "" {
		if t.Rules, rulesChanged, err = readFile(f.Rules, maxRulesFile); err != nil {
			return nil, false, err
		}
	}
	// A time in the future, by another machine's clock, counts as fresh.
	return t, time.Since(changed) < fresh || time.Since(rulesChanged) < fresh, nil
}

// compare reads both files again and compares them with t.
func (f Files) compare(t *Text) error {
	if err := compareFile(f.Model, t.Model); err != nil || f.Rules == "" {
		return err
	}
	return compareFile(f.Rules, t.Rules)
}

// readFile reads a file of at most limit bytes, and says when it was changed.
func readFile(path string, limit int64) (string, time.Time, error) {
	f, info, err := open(path)
	if err != nil {
		return "", time.Time{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var b strings.Builder
	b.Grow(int(min(info.Size(), limit)))
	n, err := io.Copy(&b, io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return "", time.Time{}, pathError(path, err)
	case n > limit:
		return "", time.Time{}, pathError(path, fmt.Errorf("has more than %d bytes", limit))
	}
	return b.String(), info.ModTime(), nil
}

// compareFile compares a file with text, without a second copy of it.
func compareFile(path, text string) error {
	f, _, err := open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if n > len(text) || text[:n] != string(buf[:n]) {
			return pathError(path, errUnsettled)
		}
		text = text[n:]
		switch {
		case errors.Is(err, io.EOF) && text == "":
			return nil
		case errors.Is(err, io.EOF):
			return pathError(path, errUnsettled)
		case err != nil:
			return pathError(path, err)
		}
	}
}

// open opens a regular file. Opening a pipe could wait for ever.
func open(path string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, nil, pathError(path, err)
	case info.IsDir():
		return nil, nil, pathError(path, errors.New("is a folder"))
	case !info.Mode().IsRegular():
		return nil, nil, pathError(path, errors.New("is no regular file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, pathError(path, err)
	}
	return f, info, nil
}

// pathError names the path as it was given, and the cause once.
func pathError(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return &fs.PathError{Op: "read", Path: path, Err: err}
}
