//go:build !linux

package eventlog

import (
	"errors"
	"os"
)

// reserve makes a file that takes size bytes of the disk.
func reserve(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for n := int64(0); n < size && err == nil; n += int64(len(block)) {
		_, err = f.Write(block)
	}
	return errors.Join(err, f.Close())
}
