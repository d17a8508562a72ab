package server

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// limitListener bounds the connections that are open at once; those beyond wait to be accepted.
// A connection that is closed here gives its place back, also when its socket lives on as a parked stream.
type limitListener struct {
	net.Listener
	places chan struct{}
	done   chan struct{}
	close  sync.Once
}

func newLimitListener(l net.Listener, n int) *limitListener {
	return &limitListener{Listener: l, places: make(chan struct{}, n), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: c, listener: l}, nil
}

// Close implements net.Listener.
func (l *limitListener) Close() error {
	l.close.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	listener *limitListener
	released sync.Once
}

// NetConn returns the connection under it.
func (c *limitedConn) NetConn() net.Conn { return c.Conn }

// SyscallConn implements syscall.Conn: nothing of what is read is changed here.
func (c *limitedConn) SyscallConn() (syscall.RawConn, error) {
	if open, ok := c.Conn.(syscall.Conn); ok {
		return open.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite ends our side.
func (c *limitedConn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return c.Conn.Close()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.released.Do(func() { <-c.listener.places })
	return err
}
