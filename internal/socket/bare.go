package socket

import (
	"crypto/tls"
	"net"
	"syscall"
)

// bare returns the socket under a connection, if nothing between them changes bytes.
func bare(c net.Conn) (syscall.Conn, bool) {
	for range 8 {
		switch wrapped := c.(type) {
		case *tls.Conn:
			return nil, false
		case syscall.Conn:
			return wrapped, true
		case interface{ NetConn() net.Conn }:
			c = wrapped.NetConn()
		default:
			return nil, false
		}
	}
	return nil, false
}
