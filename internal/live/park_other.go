//go:build !linux

package live

import "errors"

func closeSocket(int32)                      {}
func finish(int32)                           {}
func writeSocket(int32, []byte) (int, error) { return 0, errors.ErrUnsupported }

type poller struct{ over chan struct{} }

func (p *poller) open() error                    { p.over = make(chan struct{}); return nil }
func (p *poller) close()                         {}
func (p *poller) interrupt()                     { close(p.over) }
func (p *poller) add(int32, int32, uint32) error { return errors.ErrUnsupported }
func (s *shard) poll()                           { <-s.poller.over }
