package rig

import (
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fanWriter writes the frames for half of a bare program's connections, on a thread of its own.
type fanWriter struct {
	mode LiveMode

	mu      sync.Mutex // guards below
	more    *sync.Cond
	pending []logged
	conns   []*bareConn
	topics  map[int][]*bareConn

	behind []*bareConn // the thread's own: those whose buffers were full
}

func newFanWriter(mode LiveMode) *fanWriter {
	w := &fanWriter{mode: mode, topics: map[int][]*bareConn{}}
	w.more = sync.NewCond(&w.mu)
	return w
}

func (w *fanWriter) join(c *bareConn, topic int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mode == LiveSynced {
		w.topics[topic] = append(w.topics[topic], c)
		return
	}
	w.conns = append(w.conns, c)
}

func (w *fanWriter) add(frame []byte, topic int) {
	w.mu.Lock()
	w.pending = append(w.pending, logged{frame: frame, topic: topic})
	w.mu.Unlock()
	w.more.Signal()
}

func (w *fanWriter) run() {
	runtime.LockOSThread()
	var frames []logged
	var conns []*bareConn
	for {
		w.mu.Lock()
		for len(w.pending) == 0 && len(w.behind) == 0 {
			w.more.Wait()
		}
		frames, w.pending = w.pending, frames[:0]
		conns = w.conns // it only grows
		w.mu.Unlock()
		w.catchUp()
		switch w.mode {
		case LiveCoalesce:
			w.joined(conns, frames)
		case LiveSynced:
			for _, f := range frames {
				w.mu.Lock()
				own := w.topics[f.topic]
				w.mu.Unlock()
				w.each(own, f.frame)
			}
		default:
			for _, f := range frames {
				w.each(conns, f.frame)
			}
		}
		if len(w.behind) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

func (w *fanWriter) joined(conns []*bareConn, frames []logged) {
	var bytes []byte
	for _, f := range frames {
		bytes = append(bytes, f.frame...)
	}
	if len(bytes) > 0 {
		w.each(conns, bytes)
	}
}

func (w *fanWriter) each(conns []*bareConn, bytes []byte) {
	for _, c := range conns {
		late := len(c.rest) > 0
		c.write(bytes)
		if !late && len(c.rest) > 0 {
			w.behind = append(w.behind, c)
		}
	}
}

// catchUp writes what did not fit into a connection's buffer before.
func (w *fanWriter) catchUp() {
	still := w.behind[:0]
	for _, c := range w.behind {
		c.write(nil)
		if len(c.rest) > 0 {
			still = append(still, c)
		}
	}
	w.behind = still
}

// bareConn is a hijacked connection.
type bareConn struct {
	conn net.Conn // holds the descriptor
	fd   int
	rest []byte
	dead bool
}

func newBareConn(conn net.Conn) *bareConn {
	c := &bareConn{conn: conn, fd: -1}
	if raw, err := conn.(syscall.Conn).SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { c.fd = int(fd) })
	}
	return c
}

func (c *bareConn) write(bytes []byte) {
	if c.dead {
		return
	}
	if len(c.rest) > 0 {
		c.rest = append(c.rest, bytes...)
		bytes = c.rest
	}
	n, err := 0, error(nil)
	if len(bytes) > 0 {
		n, err = unix.Write(c.fd, bytes)
	}
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		n = 0
	case err != nil:
		c.dead, c.rest = true, nil
		return
	}
	if n == len(bytes) {
		c.rest = nil
		return
	}
	c.rest = append([]byte(nil), bytes[n:]...)
}

func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
