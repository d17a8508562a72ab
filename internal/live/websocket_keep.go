package live

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/harkhq/hark"
)

// What happens with time, looked at by a sweep over all connections: a timer for each of
// many parked ones would cost more than they do.
const (
	sweepEvery = time.Second
	// authWithin is how long one may stay without saying who it is, frameWithin how long a
	// frame may take to arrive, farewellWithin how long the last words may.
	authWithin     = 10 * time.Second
	frameWithin    = 30 * time.Second
	farewellWithin = 3 * time.Second
	// handshakeWithin is how long the library takes for a close handshake, at most.
	handshakeWithin = 12 * time.Second
	// A pong has two fifths of the time between pings, 10 s, and no less than minPong.
	minPong = 3 * time.Second
	// Every advanceEvery pings, subscriptions that are quiet are told how far they are.
	advanceEvery = 3
)

// sockets are the WebSocket connections of a hub.
type sockets struct {
	hub      *Hub
	sleepers sleepers
	patterns seats // of all subscriptions

	mu     sync.Mutex // guards below
	all    map[*socket]struct{}
	closed bool          // no more come
	empty  chan struct{} // closed when closed and none is left
}

func (ss *sockets) init(h *Hub) error {
	ss.hub, ss.all, ss.empty = h, map[*socket]struct{}{}, make(chan struct{})
	ss.patterns.init(h.cfg.MaxStreams * hark.MaxPatterns) // as many as all streams could have
	return ss.sleepers.open()
}

func (ss *sockets) add(s *socket) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if !ss.closed {
		ss.all[s] = struct{}{}
	}
	return !ss.closed
}

// remove reports whether s was there.
func (ss *sockets) remove(s *socket) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if _, there := ss.all[s]; !there {
		return false
	}
	delete(ss.all, s)
	if ss.closed && len(ss.all) == 0 {
		close(ss.empty)
	}
	return true
}

func (ss *sockets) list() []*socket {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	list := make([]*socket, 0, len(ss.all))
	for s := range ss.all {
		list = append(list, s)
	}
	return list
}

// drain tells all to come back within a window, and waits a moment for them to have heard it.
func (ss *sockets) drain(window, within time.Duration) {
	ss.mu.Lock()
	first := !ss.closed
	ss.closed = true
	if first && len(ss.all) == 0 {
		close(ss.empty)
	}
	ss.mu.Unlock()
	for _, s := range ss.list() {
		s.bye(endStopping, closeStopping, spread(window))
	}
	patience := time.NewTimer(within)
	defer patience.Stop()
	select {
	case <-ss.empty:
	case <-patience.C:
	}
}

// stop ends what is left at once, and waits for it.
func (ss *sockets) stop() {
	ss.drain(0, 0)
	for _, s := range ss.list() {
		s.cut()
	}
	<-ss.empty
	ss.sleepers.interrupt()
}

// recheck ends those whose credential holds no more.
func (ss *sockets) recheck() {
	for _, s := range ss.list() {
		s.recheck()
	}
}

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

// sweep looks at all connections now and then.
func (ss *sockets) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		for _, s := range ss.list() {
			s.sweep(now)
		}
	}
}

// clock is what a connection's sweep remembers, in Unix milliseconds.
type clock struct {
	began, ping int64 // ping is when the next one is due
	pings       int
}

func (c *clock) begin(now int64) { c.began = now }

// since is how long ago a moment was; 0 for one that is not set.
func since(now time.Time, ms int64) time.Duration {
	if ms == 0 {
		return 0
	}
	return now.Sub(time.UnixMilli(ms))
}

// sweep does what is due.
func (s *socket) sweep(now time.Time) {
	s.mu.Lock()
	c, ending := s.caller, s.ending
	s.mu.Unlock()
	writing := s.writing.Load() != 0
	switch {
	case ending != nil:
		// Its reader sees it, its writer buries it.
		if took := since(now, ending.at); took >= handshakeWithin || writing && took >= farewellWithin {
			s.cut()
		}
	case c == nil && since(now, s.pings.began) >= authWithin:
		s.fail(closeNoAuth, &frame{}, &hark.Error{Kind: hark.Timeout, Code: "auth-timeout", Msg: "no credential came in time: send {\"type\":\"auth\",\"token\":\"…\"} first"})
	case c != nil && !c.Until().IsZero() && !now.Before(c.Until()):
		s.bye(endExpired, closeExpired, spread(time.Second))
	case since(now, s.reading.Load()) >= frameWithin:
		s.fail(closeBadFrame, &frame{}, &hark.Error{Kind: hark.Timeout, Code: "frame-timeout", Msg: "a frame did not arrive in time"})
	case writing && since(now, s.writer.moved.Load()) >= s.hub.cfg.SlowAfter:
		// What it has not read waits in the kernel, and the last words may go there as well.
		relax(s.net)
		s.bye(endSlow, closeSlow, spread(time.Second))
	default:
		s.ping(now)
	}
}

// stuck reports whether a pong may be late without anything being wrong.
func (s *socket) stuck() bool { return s.writing.Load() != 0 || s.publishing.Load() != 0 }

// ping sends a ping if one is due.
func (s *socket) ping(now time.Time) {
	every := s.hub.cfg.PingEvery
	p := &s.pings
	if p.ping == 0 { // not all at once
		p.ping = now.UnixMilli() + rand.Int64N(every.Milliseconds()) + 1
		return
	}
	if now.UnixMilli() < p.ping || s.stuck() {
		return
	}
	p.ping = now.Add(every).UnixMilli()
	if p.pings++; p.pings%advanceEvery == 0 {
		s.mu.Lock()
		s.advance = true
		s.startLocked()
		s.mu.Unlock()
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), max(every*2/5, minPong))
		defer cancel()
		if s.conn.Ping(ctx) != nil && !s.stuck() {
			s.cut() // whoever is there no more hears nothing
		}
	}()
}
