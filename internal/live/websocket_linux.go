package live

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// roomForLast is how much a slow client's socket may hold for its last words.
	roomForLast = 4 << 20
	// smallBuffer is what the kernel may have left a socket with that never was quick. Larger
	// ones it grew by itself, beyond what we may set.
	smallBuffer = 400 << 10
)

// relax lets a socket take more, though its peer reads nothing: so that what is being
// written, and why the connection ends, is there when it reads again.
func relax(c net.Conn) {
	for {
		under, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = under.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	// Both wake who waits to write. If they fail, the client is cut without a word.
	_ = raw.Control(func(fd uintptr) {
		if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF); err == nil && n < smallBuffer {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, roomForLast)
		}
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, roomForLast)
	})
}
