package store

import "golang.org/x/sys/unix"

// forgetPages drops a part of a file from the page cache, as far as it is clean.
func forgetPages(fd uintptr, from, n int64) {
	if int(fd) >= 0 {
		_ = unix.Fadvise(int(fd), from, n, unix.FADV_DONTNEED)
	}
}
