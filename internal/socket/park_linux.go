package socket

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CanPark: this system has what parking needs.
const CanPark = true

// notSent is how many bytes a socket holds at most that were not sent yet: a client that
// does not read must not have megabytes of the kernel's memory (TCP_NOTSENT_LOWAT, tcp(7)).
const notSent = 256 << 10

// Unpark takes a connection's descriptor away from the runtime: it is what is left of
// it, and the caller's. The kernel gives a peer up that acknowledges nothing for slowAfter. The
// error is [errors.ErrUnsupported] when something between changes bytes, such as TLS.
func Unpark(c net.Conn, slowAfter time.Duration) (fd int32, err error) {
	sc, ok := bare(c)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var dup int
	ctlErr := raw.Control(func(old uintptr) {
		dup, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(ctlErr, err); err != nil {
		return 0, err
	}
	c.Close()
	// Neither is worth a refusal.
	_ = unix.SetsockoptInt(dup, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
	_ = unix.SetsockoptInt(dup, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(slowAfter/time.Millisecond))
	return int32(dup), nil
}

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

// sleepers are connections from which nothing is to be read now: nobody waits for them but
// one epoll for all. The zero sleepers let none sleep.
type sleepers struct {
	epoll, event int

	mu   sync.Mutex // guards below
	byID map[int32]*Conn
	last int32
}

// wakeAll is the id that ends watch.
const wakeAll = 0

func (p *sleepers) open() (err error) {
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if p.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(p.epoll)
		return err
	}
	p.byID = map[int32]*Conn{}
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeAll})
}

func (p *sleepers) close() {
	unix.Close(p.epoll)
	unix.Close(p.event)
}

func (p *sleepers) interrupt() { _, _ = unix.Write(p.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// canSleep reports whether a connection's descriptor tells all that came; TLS may hold some.
func canSleep(c net.Conn) bool {
	_, ok := c.(*net.TCPConn)
	return ok
}

// sleep has c read once when there is something to read, or its peer is gone. It reports
// whether it will.
func (p *sleepers) sleep(c *Conn) bool {
	raw, ok := c.net.(*net.TCPConn)
	if !ok {
		return false
	}
	rc, err := raw.SyscallConn()
	if err != nil {
		return false
	}
	op := unix.EPOLL_CTL_MOD
	p.mu.Lock()
	if c.id == 0 {
		op = unix.EPOLL_CTL_ADD
		for c.id == 0 || p.byID[c.id] != nil {
			p.last = max(p.last+1, 1) // it may begin anew
			c.id = p.last
		}
		p.byID[c.id] = c
	}
	p.mu.Unlock()
	ctlErr := rc.Control(func(fd uintptr) {
		err = unix.EpollCtl(p.epoll, op, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: c.id})
	})
	if ctlErr != nil || err != nil {
		p.forget(c) // it may be buried already, and nobody does that twice
		return false
	}
	return true
}

// forget lets go of c.
func (p *sleepers) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byID[c.id] == c {
		delete(p.byID, c.id)
	}
}

// watch wakes sleepers until it is interrupted.
func (p *sleepers) watch() {
	var events [128]unix.EpollEvent
	for {
		n, err := unix.EpollWait(p.epoll, events[:], -1)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd == wakeAll {
				return
			}
			p.mu.Lock()
			c := p.byID[e.Fd]
			p.mu.Unlock()
			if c != nil {
				go c.read()
			}
		}
	}
}
