package store

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS ends the process at the first write or sync of the write-ahead log, or of a
// file of values, that fails. Pebble itself reports most of these through its logger, but a failure
// while it changes to the next log file is a panic there, which ends in a deadlock
// or a stack trace, depending on who holds what.
type guardFS struct {
	vfs.FS
	fatal func(format string, args ...any)
}

func isWAL(name string) bool {
	return strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".values")
}

func (g *guardFS) guard(name string, f vfs.File, err error) (vfs.File, error) {
	if !isWAL(name) {
		return f, err
	}
	if err != nil {
		g.fatal("making the log %s: %v", name, err)
	}
	return &guardFile{File: f, name: name, fatal: g.fatal}, nil
}

func (g *guardFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	return g.guard(name, f, err)
}

func (g *guardFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(old, name, c)
	return g.guard(name, f, err)
}

// Unwrap implements [vfs.FS].
func (g *guardFS) Unwrap() vfs.FS { return g.FS }

// guardFile is a log file that is being written.
type guardFile struct {
	vfs.File
	name  string
	fatal func(format string, args ...any)
}

func (f *guardFile) must(what string, err error) error {
	if err != nil {
		f.fatal("%s the log %s: %v", what, f.name, err)
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (f *guardFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.must("writing", err)
}

func (f *guardFile) Sync() error     { return f.must("syncing", f.File.Sync()) }
func (f *guardFile) SyncData() error { return f.must("syncing", f.File.SyncData()) }

func (f *guardFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.must("syncing", err)
}

func (f *guardFile) Close() error { return f.must("closing", f.File.Close()) }
