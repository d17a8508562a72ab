package socket

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	sweepEvery = time.Second
	// frameWithin is how long a message may take to arrive, farewellWithin how long the last words may.
	frameWithin    = 30 * time.Second
	farewellWithin = 3 * time.Second
	// A pong has two fifths of the time between pings, 10 s, and no less than minPong.
	minPong = 3 * time.Second
)

// Config says how patient a group is.
type Config struct {
	// PingEvery is how often each connection is pinged.
	PingEvery time.Duration
	// SlowAfter is how long a client may take nothing of what is sent to it.
	SlowAfter time.Duration
	// PongWithin is how long a pong may take; 0 for two fifths of PingEvery, and 3 s at least.
	PongWithin time.Duration
}

// Group is the connections of one room.
type Group struct {
	cfg      Config
	sleepers sleepers

	mu     sync.Mutex // guards below
	all    map[*Conn]struct{}
	closed bool          // no more come
	empty  chan struct{} // closed when closed and none is left
}

// NewGroup makes a group. It runs while [Group.Watch] and [Group.Sweep] do.
func NewGroup(cfg Config) (*Group, error) {
	if cfg.PongWithin == 0 {
		cfg.PongWithin = max(cfg.PingEvery*2/5, minPong)
	}
	g := &Group{cfg: cfg, all: map[*Conn]struct{}{}, empty: make(chan struct{})}
	return g, g.sleepers.open()
}

// Close gives back what NewGroup took, after Watch returned.
func (g *Group) Close() { g.sleepers.close() }

// Len counts the connections.
func (g *Group) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.all)
}

func (g *Group) add(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.all[c] = struct{}{}
	}
	return !g.closed
}

// leave takes c out, and tells its handler if it was in.
func (g *Group) leave(c *Conn, why string) {
	g.mu.Lock()
	_, there := g.all[c]
	g.mu.Unlock()
	if !there {
		return
	}
	c.handler.Gone(why)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all, c)
	if g.closed && len(g.all) == 0 {
		close(g.empty)
	}
}

// Each calls fn for the handler of every connection.
func (g *Group) Each(fn func(Handler)) {
	for _, c := range g.list() {
		fn(c.handler)
	}
}

func (g *Group) list() []*Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*Conn, 0, len(g.all))
	for c := range g.all {
		list = append(list, c)
	}
	return list
}

// Drain takes no more connections, has all told to go, and waits a moment for them to have heard it.
func (g *Group) Drain(within time.Duration, tell func(Handler)) {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	if first && len(g.all) == 0 {
		close(g.empty)
	}
	g.mu.Unlock()
	g.Each(tell)
	patience := time.NewTimer(within)
	defer patience.Stop()
	select {
	case <-g.empty:
	case <-patience.C:
	}
}

// Stop ends what is left at once, waits for it, and has Watch return.
func (g *Group) Stop(tell func(Handler)) {
	g.Drain(0, tell)
	for _, c := range g.list() {
		c.Cut()
	}
	<-g.empty
	g.sleepers.interrupt()
}

// Watch wakes the connections from which something came, until Stop.
func (g *Group) Watch() { g.sleepers.watch() }

// Sweep looks at all connections now and then, until ctx ends.
func (g *Group) Sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		for _, c := range g.list() {
			c.sweep(now)
		}
	}
}

// since is how long ago a moment was; 0 for one that is not set.
func since(now time.Time, ms int64) time.Duration {
	if ms == 0 {
		return 0
	}
	return now.Sub(time.UnixMilli(ms))
}

// sweep does what is due.
func (c *Conn) sweep(now time.Time) {
	c.mu.Lock()
	ending, ended, pongBy := c.ending != nil, c.ended, c.pongBy
	c.mu.Unlock()
	writing := c.writing.Load() != 0
	if ending {
		// Its reader sees it, its writer buries it.
		if took := since(now, ended); took >= farewellWithin+handshakeWithin || writing && took >= farewellWithin {
			c.Cut()
		}
		return
	}
	c.handler.Sweep(now)
	switch {
	case c.over():
	case since(now, c.reading.Load()) >= frameWithin:
		c.handler.Fail(SlowFrame)
	case writing && since(now, c.moved.Load()) >= c.group.cfg.SlowAfter:
		// What it has not read waits in the kernel, and the last words may go there as well.
		relax(c.net)
		c.handler.Fail(SlowReader)
	case c.stuck():
	case pongBy == 0 || now.UnixMilli() <= pongBy:
		c.late = false
		c.sweepPing(now)
	case !c.late: // if it was us who stood still, the answer is read meanwhile
		c.late = true
	default:
		c.Cut() // whoever is there no more hears nothing
	}
}

// stuck reports whether a pong may be late without anything being wrong.
func (c *Conn) stuck() bool { return c.writing.Load() != 0 || c.hearing.Load() != 0 }

// sweepPing sends a ping if one is due.
func (c *Conn) sweepPing(now time.Time) {
	every := c.group.cfg.PingEvery
	switch {
	case c.nextPing == 0: // not all at once
		c.nextPing = now.UnixMilli() + rand.Int64N(every.Milliseconds()) + 1
	case now.UnixMilli() >= c.nextPing:
		c.nextPing = now.Add(every).UnixMilli()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pongBy == 0 { // else one is under way
			c.ping = true
			c.startLocked()
		}
	}
}
