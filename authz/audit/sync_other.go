//go:build !linux

package audit

import "os"

// datasync makes the content of f durable.
func datasync(f *os.File) error { return f.Sync() }
