//go:build !linux

package socket

import (
	"errors"
	"net"
	"time"
)

// CanPark: elsewhere the runtime keeps every connection.
const CanPark = false

// Unpark is for systems that can park.
func Unpark(net.Conn, time.Duration) (int32, error) { return 0, errors.ErrUnsupported }

// relax: elsewhere a slow client is cut without a word.
func relax(net.Conn) {}

// sleepers: elsewhere a goroutine waits for each connection.
type sleepers struct{ over chan struct{} }

func (p *sleepers) open() error      { p.over = make(chan struct{}); return nil }
func (p *sleepers) close()           {}
func (p *sleepers) interrupt()       { close(p.over) }
func (p *sleepers) sleep(*Conn) bool { return false }
func (p *sleepers) forget(*Conn)     {}
func (p *sleepers) watch()           { <-p.over }

func canSleep(net.Conn) bool { return false }
