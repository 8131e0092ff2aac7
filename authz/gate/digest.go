package gate

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
)

// A fingerprint tells contents apart.
type fingerprint = [sha256.Size]byte

// digest is the hash of the contents of files, and of those that match where
// one is a pattern. A file that cannot be read counts as such: its return is a
// change.
func digest(files []string) fingerprint {
	h := sha256.New()
	var n [8]byte
	var all []string
	for _, name := range files {
		all = append(all, expand(name)...)
	}
	for _, name := range all {
		binary.BigEndian.PutUint64(n[:], uint64(len(name)))
		h.Write(n[:])
		h.Write([]byte(name))
		size := int64(-1)
		if f, err := os.Open(name); err == nil {
			inner := sha256.New()
			if size, err = io.Copy(inner, f); err != nil {
				size = -1
			}
			_ = f.Close() // read only
			h.Write(inner.Sum(nil))
		}
		binary.BigEndian.PutUint64(n[:], uint64(size)) //nolint:gosec // -1 is as good a mark as any
		h.Write(n[:])
	}
	return fingerprint(h.Sum(nil))
}
