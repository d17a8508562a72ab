//go:build unix

package main

import "syscall"

// diskSpace tells how much a user may still write below dir.
func diskSpace(dir string) (free, total uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	block := uint64(s.Bsize)
	return uint64(s.Bavail) * block, uint64(s.Blocks) * block, nil
}

// openFiles: each connection is one, in and out.
func openFiles() symptom {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return doubtful("", "not checked: %v", err)
	}
	// Go raises the soft limit to the hard one by itself.
	n := uint64(limit.Max)
	switch {
	case n < 1024:
		return wrong("ulimit -Hn 65536, or LimitNOFILE=65536 in the service", "at most %d, too few to serve", n)
	case n < 20_000:
		return doubtful("LimitNOFILE=65536 in the service", "at most %d; fewer connections than hark could use", n)
	}
	return fine("at most %d", n)
}
