//go:build !linux

package live

import "net"

// relax: elsewhere a slow client is cut without a word.
func relax(net.Conn) {}
