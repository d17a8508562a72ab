package live

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// canPark: this system has what parking needs.
const canPark = true

// notSent is how many bytes a socket holds at most that were not sent yet: a client that
// does not read must not have megabytes of the kernel's memory (TCP_NOTSENT_LOWAT, tcp(7)).
const notSent = 256 << 10

// unpark takes a connection's descriptor away from the runtime: it is what is left of
// it, and the caller's.
func unpark(c net.Conn, slowAfter time.Duration) (fd int32, err error) {
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

func closeSocket(fd int32) { _ = unix.Close(int(fd)) }

// finish sends what was written and ends our side.
func finish(fd int32) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) }

// writeSocket never blocks: the error is EAGAIN when the socket takes no more.
func writeSocket(fd int32, b []byte) (n int, err error) {
	for {
		n, err = unix.Write(int(fd), b)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}

// poller tells a shard what becomes of its sockets.
type poller struct {
	epoll, event int
}

// interruptSlot is what wakes the poller to end it.
const interruptSlot = -1

func (p *poller) open() (err error) {
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if p.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(p.epoll)
		return err
	}
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: interruptSlot})
}

func (p *poller) close() {
	unix.Close(p.epoll)
	unix.Close(p.event)
}

func (p *poller) interrupt() { _, _ = unix.Write(p.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// add watches a socket, edge-triggered: one message when it takes bytes again, one when
// its peer is gone.
func (p *poller) add(fd, slot int32, gen uint32) error {
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{
		Events: unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: slot, Pad: int32(gen)})
}

// poll waits for sockets until it is interrupted.
func (s *shard) poll() {
	var events [128]unix.EpollEvent
	for {
		n, err := unix.EpollWait(s.epoll, events[:], -1)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd == interruptSlot {
				return
			}
			s.post(message{kind: socketMoved, socket: socketEvent{
				slot: e.Fd, gen: uint32(e.Pad), writable: e.Events&unix.EPOLLOUT != 0,
				gone: e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0,
			}})
		}
	}
}
