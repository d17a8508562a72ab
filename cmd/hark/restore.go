package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/store"
)

type restoreCmd struct {
	File string `arg:"" help:"The backup; - for the standard input."`
	Data string `help:"The data folder to make; it must be missing or empty (hark-data)." placeholder:"DIR" env:"HARK_DATA" type:"path" default:"hark-data"`
}

func (*restoreCmd) Help() string {
	return `Events published after the restore get ids that were never used before.

Example:
  hark restore hark-2026-01-31.tar --data /var/lib/hark`
}

func (r *restoreCmd) Run(a *app) error {
	in := a.stdin
	if r.File != "-" {
		f, err := os.Open(r.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if err := mustBeEmpty(r.Data); err != nil {
		return err
	}
	incarnation, err := restore(bufio.NewReaderSize(in, 1<<20), r.Data)
	if err != nil {
		return err
	}
	return a.answer(map[string]any{"data": r.Data, "incarnation": incarnation}, func() {
		a.printf("%s is restored\n", r.Data)
		a.note("next: hark serve --data %s", r.Data)
	})
}

func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return wrongUse("--data with a new folder; or move this one away", "%s is not empty, and nothing in it is overwritten", dir)
	}
	return nil
}

// restore unpacks beside dir and renames at the end, so that dir is there whole or not.
func restore(in io.Reader, dir string) (incarnation uint64, err error) {
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return 0, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".restoring-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	if err := unpack(in, tmp); err != nil {
		return 0, err
	}
	if incarnation, err = store.Restored(tmp, time.Now()); err != nil {
		return 0, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return 0, err
	}
	return incarnation, syncDir(filepath.Dir(dir))
}

// unpack writes the archive's files below dir, which nothing in it can leave.
func unpack(in io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewReader(in)
	folders := map[string]bool{".": true}
	last := ""
	for {
		entry, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil && last == "" {
			return notBackup(errors.New("it is no tar archive"))
		}
		if err != nil {
			return notBackup(err)
		}
		last = entry.Name
		name := filepath.Clean(filepath.FromSlash(strings.TrimPrefix(entry.Name, "./")))
		switch entry.Typeflag {
		case tar.TypeDir:
			folders[name] = true
			err = root.MkdirAll(name, 0o700)
		case tar.TypeReg:
			folders[filepath.Dir(name)] = true
			if name != completeEntry {
				err = unpackFile(root, name, archive)
			}
		default:
			return notBackup(errors.New(entry.Name + " is neither a file nor a folder"))
		}
		if err != nil {
			return err
		}
	}
	if last == "" {
		return notBackup(errors.New("it is empty"))
	}
	if last != completeEntry {
		return notBackup(io.ErrUnexpectedEOF)
	}
	for folder := range folders {
		if err := syncDir(filepath.Join(dir, folder)); err != nil {
			return err
		}
	}
	return nil
}

func unpackFile(root *os.Root, name string, in io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = notBackup(err)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func notBackup(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return failed("another backup", "the backup is not whole: it was cut off")
	}
	return failed("a file that hark backup made", "this is not a backup: %v", err)
}
