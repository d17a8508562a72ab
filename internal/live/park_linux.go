package live

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

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
