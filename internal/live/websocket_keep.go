package live

import (
	"math/rand/v2"
	"time"

	"github.com/harkhq/hark"
	ws "github.com/harkhq/hark/internal/socket"
)

const (
	// authWithin is how long one may stay without saying who it is.
	authWithin = 10 * time.Second
	// Every advanceEvery pings, subscriptions that are quiet are told how far they are.
	advanceEvery = 3
)

// sockets are the WebSocket connections of a hub.
type sockets struct {
	*ws.Group
	patterns seats // of all subscriptions
}

func (ss *sockets) init(h *Hub) (err error) {
	ss.patterns.init(h.cfg.MaxStreams * hark.MaxPatterns) // as many as all streams could have
	ss.Group, err = ws.NewGroup(ws.Config{PingEvery: h.cfg.PingEvery, SlowAfter: h.cfg.SlowAfter})
	return err
}

// drain tells all to come back within a window, and waits a moment for them to have heard it.
func (ss *sockets) drain(window, within time.Duration) {
	ss.Drain(within, func(h ws.Handler) { h.(*socket).bye(endStopping, closeStopping, spread(window)) })
}

// stop ends what is left at once, and waits for it.
func (ss *sockets) stop() {
	ss.Stop(func(h ws.Handler) { h.(*socket).bye(endStopping, closeStopping, spread(0)) })
}

// recheck ends those whose credential holds no more.
func (ss *sockets) recheck() { ss.Each(func(h ws.Handler) { h.(*socket).recheck() }) }

// recheck ends a connection whose credential holds no more. Who gives it one calls it after
// that: it may have been revoked in between.
func (s *socket) recheck() {
	s.mu.Lock()
	c := s.caller
	s.mu.Unlock()
	if c != nil && c.Recheck() != nil {
		s.bye(endRevoked, closeUnauthorized, spread(time.Second))
	}
}

// Sweep implements ws.Handler.
func (s *socket) Sweep(now time.Time) {
	s.mu.Lock()
	c := s.caller
	s.mu.Unlock()
	switch {
	case c == nil && now.Sub(time.UnixMilli(s.began)) >= authWithin:
		s.fail(closeNoAuth, &frame{}, &hark.Error{Kind: hark.Timeout, Code: "auth-timeout", Msg: "no credential came in time: send {\"type\":\"auth\",\"token\":\"…\"} first"})
	case c != nil && !c.Until().IsZero() && !now.Before(c.Until()):
		s.bye(endExpired, closeExpired, spread(time.Second))
	default:
		s.sweepPositions(now.UnixMilli())
	}
}

// sweepPositions has subscriptions that are quiet told how far they are, if it is time.
func (s *socket) sweepPositions(now int64) {
	every := s.hub.cfg.PingEvery.Milliseconds()
	switch {
	case s.telling == 0: // not all at once
		s.telling = now + (advanceEvery-1)*every + rand.Int64N(every) + 1
	case now >= s.telling:
		s.telling = now + advanceEvery*every
		s.mu.Lock()
		s.advance = true
		s.conn.Wake()
		s.mu.Unlock()
	}
}
