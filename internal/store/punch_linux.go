package store

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// punch gives the whole pages between two offsets of a file back to the file system. It does
// nothing, and says so, for a file that is gone or has another name, as in a backup.
func punch(name string, from, to int64) bool {
	const page = valueBytes
	from, to = (from+page-1)/page*page, to/page*page
	if from >= to {
		return true
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Nlink != 1 {
		return false
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from) == nil
}
