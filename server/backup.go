package server

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// backupPrefix names the folders inside the data folder in which checkpoints are made.
const backupPrefix = "backup-"

// backup makes a checkpoint out of hard links, streams it as a tar archive, and
// removes it. The server goes on meanwhile.
func (s *Server) backup(ctx context.Context, w io.Writer) (err error) {
	dir, err := os.MkdirTemp(s.cfg.Data, backupPrefix)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := s.store.Checkpoint(filepath.Join(dir, "copy")); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	archive := tar.NewWriter(w)
	root, err := os.OpenRoot(filepath.Join(dir, "copy"))
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer root.Close()
	if err := archive.AddFS(contextFS{ctx, root.FS()}); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	// A reader that finds this last entry has the whole of it.
	done := []byte("hark backup of " + time.Now().UTC().Format(time.RFC3339) + "\n")
	if err := archive.WriteHeader(&tar.Header{Name: "COMPLETE", Mode: 0o600, Size: int64(len(done)), ModTime: time.Now()}); err != nil {
		return err
	}
	if _, err := archive.Write(done); err != nil {
		return err
	}
	return archive.Close()
}

// removeBackups takes away what a backup left when the process was killed.
func removeBackups(data string) {
	left, _ := filepath.Glob(filepath.Join(data, backupPrefix+"*"))
	for _, dir := range left {
		os.RemoveAll(dir)
	}
}
