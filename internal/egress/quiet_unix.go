//go:build unix

package egress

import (
	"net"
	"syscall"
)

// quiet reports whether a kept connection is still open and has nothing to read:
// a peer that closed it, or that speaks out of turn, is found before a request is
// risked on it.
func quiet(nc net.Conn) bool {
	c, ok := nc.(*conn)
	if !ok {
		return false
	}
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	})
	return err == nil && open
}
