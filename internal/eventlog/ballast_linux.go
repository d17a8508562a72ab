package eventlog

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve makes a file that takes size bytes of the disk.
func reserve(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, size), f.Close())
}
