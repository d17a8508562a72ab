//go:build !linux

package live

import "net"

// relax: elsewhere a slow client is cut without a word.
func relax(net.Conn) {}

// sleepers: elsewhere a goroutine waits for each connection.
type sleepers struct{ over chan struct{} }

func (p *sleepers) open() error        { p.over = make(chan struct{}); return nil }
func (p *sleepers) close()             {}
func (p *sleepers) interrupt()         { close(p.over) }
func (p *sleepers) sleep(*socket) bool { return false }
func (p *sleepers) forget(*socket)     {}
func (p *sleepers) watch()             { <-p.over }
