package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// completeEntry is the last entry of a backup: an archive without it was cut off.
const completeEntry = "COMPLETE"

type backupCmd struct {
	File  string `arg:"" help:"File to write; - for the standard output."`
	Force bool   `help:"Replace the file if it exists."`
	remote
}

func (*backupCmd) Help() string {
	return `The server goes on meanwhile. It needs an admin key.

Example:
  hark backup hark-$(date +%F).tar`
}

func (b *backupCmd) Run(a *app) (err error) {
	c, err := b.client()
	if err != nil {
		return err
	}
	if _, err := os.Stat(b.File); err == nil && b.File != "-" && !b.Force {
		return wrongUse("--force, or another name", "%s exists", b.File)
	}
	stream, err := c.Backup(a.ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	if b.File == "-" {
		_, err := copyBackup(a.stdout, stream)
		return err
	}
	n, err := writeWhole(b.File, func(w io.Writer) (int64, error) { return copyBackup(w, stream) })
	if err != nil {
		return err
	}
	return a.answer(map[string]any{"file": b.File, "bytes": n}, func() { a.printf("%s: %s\n", b.File, bytesText(uint64(n))) })
}

// writeWhole writes a file that is there whole, and durable, or not at all.
func writeWhole(path string, write func(io.Writer) (int64, error)) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if n, err = write(w); err != nil {
		return n, err
	}
	if err := errors.Join(w.Flush(), f.Sync(), f.Close()); err != nil {
		return n, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return n, err
	}
	return n, syncDir(filepath.Dir(path))
}

// copyBackup copies an archive and reads along to see that it is whole.
func copyBackup(w io.Writer, r io.Reader) (n int64, err error) {
	count := &counter{w: w}
	along := io.TeeReader(r, count)
	archive := tar.NewReader(along)
	whole := false
	for {
		entry, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return count.n, cutOff(err)
		}
		whole = entry.Name == completeEntry
	}
	if !whole {
		return count.n, cutOff(nil)
	}
	_, err = io.Copy(io.Discard, along) // what pads the archive
	return count.n, err
}

func cutOff(err error) error {
	msg := "the backup is not whole: the server stopped in the middle of it"
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		msg = "the backup cannot be read: " + err.Error()
	}
	return failed("again; the server's log says why it stopped", "%s", msg)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}
