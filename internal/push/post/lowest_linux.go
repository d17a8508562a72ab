package post

import (
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Possible says whether there are workers on this system.
const Possible = true

// Yield lets others have the processor that want it: even the lowest priority is owed a share
// (EEVDF, eevdf in Documentation/scheduler), which it would take in one piece of milliseconds.
func Yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// Lowest has the kernel run this process only when nothing else wants a processor (sched(7),
// SCHED_IDLE). It must be called before there is much to do.
func Lowest() error {
	// The policy is each thread's, and new ones take it from who makes them: until none is left
	// that was made meanwhile.
	done := map[int]bool{}
	for before := -1; before != len(done); {
		before = len(done)
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil || done[id] {
				continue
			}
			attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}
			if err := unix.SchedSetAttr(id, &attr, 0); err != nil && err != unix.ESRCH {
				return os.NewSyscallError("sched_setattr", err)
			}
			done[id] = true
		}
	}
	return nil
}

// socketPair returns both ends of a connection, the other as a file to hand on.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "push worker")
	defer ours.Close()
	theirs := os.NewFile(uintptr(fds[1]), "push worker")
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}
