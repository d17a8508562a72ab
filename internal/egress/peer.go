package egress

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Peer is how requests to a service that counts its clients' connections are sent: over
// a few HTTP/2 connections that are kept, one dialled at a time, each filled before the
// next. The package documentation says what for.
type Peer struct {
	// Name tells apart the peers at one address: connections are never shared between
	// two names, for instance of credentials that a connection is bound to. The rest of a
	// Peer must be the same wherever its name is.
	Name string

	MaxConns int // connections to one address, default 8

	// Proves, unless nil, holds a new connection to one request at a time until it says
	// true of an answer's status.
	Proves func(status int) bool

	// IdleTimeout is how long a connection without requests is kept, default
	// Config.IdleTimeout. It is asked by pings whether it is there.
	IdleTimeout time.Duration
}

type peerKey struct{}

// WithPeer makes Do send https requests as p says. Others go their usual way.
func WithPeer(ctx context.Context, p *Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

const (
	// peerTries is how often a request is sent that the peer says it did not process. A
	// connection that served others before it left does not count, up to peerMaxTries.
	peerTries, peerMaxTries = 5, 50
	// peerPatience is how long the first request of a connection may hold up the others
	// before another connection is tried.
	peerPatience = 2 * time.Second
	// A peer that refuses connections, or ends them without an answer, three times in a
	// row is left alone for so long, doubled each time.
	peerPause, peerMaxPause = 500 * time.Millisecond, 30 * time.Second
)

type poolID struct{ name, addr string }

// pool holds the connections to a peer at one address.
type pool struct {
	client *Client
	id     poolID
	url    *url.URL // scheme and host
	peer   Peer

	hasWaiting atomic.Bool // a hint for stateChanged
	scheduled  atomic.Bool // a dispatch is on its way

	mu       sync.Mutex // guards below; never held while a connection is closed or a request sent
	conns    []*peerConn
	waiting  list.List // of *waiter
	dialing  bool
	patience *time.Timer // runs while a connection that is not proven holds up others
	forget   *time.Timer // runs while there is nothing but the strikes to remember
	strikes  int         // connections that failed or answered nothing, in a row
	pausedTo time.Time
	lastErr  *Error // of the last strike
}

// peerConn is guarded by its pool's mu.
type peerConn struct {
	cc      *http.ClientConn
	taken   int // requests it was given, until their answer is read
	ceiling int // how many it may have, below what its SETTINGS allow; 0 for as those say
	proven  bool
	useful  bool   // it answered
	leaving bool   // it takes no more
	fault   *Error // why
	asked   time.Time
	idle    *time.Timer
}

type waiter struct {
	done chan struct{}
	conn *peerConn // set with err before done is closed
	err  error
}

// pools are all pools of a client.
type pools struct {
	mu sync.Mutex // guards below; taken before a pool's
	by map[poolID]*pool
}

func (c *Client) preparePeers() {
	t := c.transport.Clone()
	t.IdleConnTimeout = 0
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP2(true)
	if t.DialTLSContext != nil {
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return c.dialTLSWith(ctx, network, addr, []string{"h2"})
		}
	} else {
		t.TLSClientConfig = c.tls.Clone()
		t.TLSClientConfig.NextProtos = []string{"h2"}
	}
	c.peerTransport = t
}

func (c *Client) pool(p *Peer, u *url.URL) *pool {
	host, port := u.Hostname(), cmp.Or(u.Port(), "443")
	id := poolID{p.Name, net.JoinHostPort(strings.ToLower(host), port)}
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	have := c.peers.by[id]
	if have == nil {
		have = &pool{client: c, id: id, url: &url.URL{Scheme: "https", Host: u.Host}, peer: *p}
		have.peer.MaxConns = cmp.Or(p.MaxConns, 8)
		have.peer.IdleTimeout = cmp.Or(p.IdleTimeout, c.cfg.IdleTimeout)
		if c.peers.by == nil {
			c.peers.by = make(map[poolID]*pool)
		}
		c.peers.by[id] = have
	}
	return have
}

// closeIdlePeers closes the connections of all pools that carry nothing and forgets pools
// without one.
func (c *Client) closeIdlePeers() {
	c.peers.mu.Lock()
	all := make([]*pool, 0, len(c.peers.by))
	for _, p := range c.peers.by {
		all = append(all, p)
	}
	c.peers.mu.Unlock()
	for _, p := range all {
		p.closeIdle(func(pc *peerConn) bool { return true })
	}
}

// roundTripPeer sends req over one of p's connections, again if the peer says that it
// did not process it.
func (c *Client) roundTripPeer(ctx context.Context, p *Peer, req *http.Request, t *trace) (*http.Response, error) {
	pool := c.pool(p, req.URL)
	req = req.WithContext(ctx)
	for try, tries := 1, peerTries; ; try++ {
		pc, err := pool.acquire(ctx, try > 1)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		res, err := pc.cc.RoundTrip(req)
		if err == nil && res.ProtoMajor < 2 {
			res.Body.Close()
			pc.cc.Close()
			res, err = nil, &Error{Fault: FaultProtocol, Msg: "the server does not speak HTTP/2"}
		}
		if err == nil {
			if t != nil {
				t.reused = pool.isUseful(pc)
			}
			pool.answered(pc, res.StatusCode)
			res.Body = &peerBody{ReadCloser: res.Body, release: func() { pool.release(pc, nil) }}
			return res, nil
		}
		pool.release(pc, err)
		if isGoodbye(err) && tries < peerMaxTries && pool.isUseful(pc) {
			tries++
		}
		if try == tries || ctx.Err() != nil || !isUnprocessed(err) {
			return nil, err
		}
		if req = again(req); req == nil {
			return nil, err
		}
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// again returns req with its body as it was; nil if that is not possible.
func again(req *http.Request) *http.Request {
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	if req.GetBody == nil {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	fresh := *req
	fresh.Body = body
	return &fresh
}

// peerBody gives the request's place back when the answer was read.
type peerBody struct {
	io.ReadCloser
	once    sync.Once
	release func()
}

func (b *peerBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.release)
	return err
}

// acquire returns a connection that has room for one more request. Who comes again goes
// to the head of the queue.
func (p *pool) acquire(ctx context.Context, isAgain bool) (*peerConn, error) {
	p.mu.Lock()
	w := &waiter{done: make(chan struct{})}
	var place *list.Element
	if isAgain {
		place = p.waiting.PushFront(w)
	} else {
		place = p.waiting.PushBack(w)
	}
	p.dispatchLocked()
	p.mu.Unlock()
	select {
	case <-w.done:
		return w.conn, w.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.done: // it was served at that moment
		if w.conn != nil {
			w.conn.taken--
			p.dispatchLocked()
		}
	default:
		p.waiting.Remove(place)
		p.hasWaiting.Store(p.waiting.Len() > 0)
	}
	return nil, ctx.Err()
}

// dispatchLocked serves those who wait, and dials if they need more connections.
func (p *pool) dispatchLocked() {
	p.conns = slices.DeleteFunc(p.conns, func(pc *peerConn) bool { return p.isOver(pc) })
	for p.waiting.Len() > 0 {
		pc := p.roomiestLocked()
		if pc == nil {
			break
		}
		if !pc.proven && pc.taken == 0 {
			pc.asked = time.Now()
		}
		pc.taken++
		pc.idle.Stop()
		p.serveLocked(pc, nil)
	}
	if p.waiting.Len() > 0 {
		p.growLocked()
	}
	p.hasWaiting.Store(p.waiting.Len() > 0)
	if len(p.conns) == 0 && !p.dialing && p.waiting.Len() == 0 && p.forget == nil {
		p.forget = time.AfterFunc(p.peer.IdleTimeout, func() { p.closeIdle(func(*peerConn) bool { return false }) })
	}
}

// isOver reports whether nothing more comes over pc. A connection that is leaving closes
// by itself.
func (p *pool) isOver(pc *peerConn) bool {
	if pc.taken > 0 || pc.cc.Err() == nil && !pc.leaving {
		return false
	}
	pc.idle.Stop()
	if !pc.useful {
		p.strikeLocked(cmp.Or(pc.fault, &Error{Fault: FaultReset, Msg: "the server closed a new connection without an answer"}))
	}
	return true
}

func (p *pool) serveLocked(pc *peerConn, err error) {
	w := p.waiting.Remove(p.waiting.Front()).(*waiter)
	w.conn, w.err = pc, err
	close(w.done)
}

// roomiestLocked returns the connection with the fewest requests of those that have room.
func (p *pool) roomiestLocked() (best *peerConn) {
	for _, pc := range p.conns {
		if pc.room() > 0 && (best == nil || pc.taken < best.taken) {
			best = pc
		}
	}
	return best
}

// room is how many more requests pc may have. Available and InFlight are asked one after
// the other and may be off by one together: the connection itself then waits.
func (pc *peerConn) room() int {
	if pc.leaving {
		return 0
	}
	limit := pc.cc.Available() + pc.cc.InFlight()
	if !pc.proven {
		limit = min(limit, 1)
	}
	if pc.ceiling > 0 {
		limit = min(limit, pc.ceiling)
	}
	return limit - pc.taken
}

// growLocked dials, unless enough is there or under way, and tells those who wait if
// there is nothing to wait for.
func (p *pool) growLocked() {
	now := time.Now()
	live := 0
	for _, pc := range p.conns {
		if pc.leaving || pc.cc.Err() != nil {
			continue
		}
		live++
		if left := peerPatience - now.Sub(pc.asked); !pc.proven && left > 0 {
			p.waitLocked(left) // it will soon have room for many
			return
		}
	}
	switch {
	case p.dialing || live >= p.peer.MaxConns:
	case now.Before(p.pausedTo) && live == 0:
		for p.waiting.Len() > 0 {
			p.serveLocked(nil, p.lastErr)
		}
	case now.Before(p.pausedTo):
		p.waitLocked(p.pausedTo.Sub(now))
	default:
		p.dialing = true
		go p.dial()
	}
}

// waitLocked looks again after d.
func (p *pool) waitLocked(d time.Duration) {
	if p.patience != nil {
		return
	}
	p.patience = time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.patience = nil
		p.dispatchLocked()
	})
}

// dial adds a connection. It belongs to no request, so that none of them can end it.
func (p *pool) dial() {
	cfg := &p.client.cfg
	ctx, cancel := context.WithTimeout(context.Background(), cfg.DialTimeout+cfg.TLSTimeout)
	defer cancel()
	cc, err := p.client.dialPeer(ctx, p.url, p.id.addr)
	p.mu.Lock()
	p.dialing = false
	if err != nil {
		p.strikeLocked(requestFault(ctx, err))
		if len(p.conns) == 0 {
			for p.waiting.Len() > 0 {
				p.serveLocked(nil, p.lastErr)
			}
		}
	} else {
		pc := &peerConn{cc: cc, proven: p.peer.Proves == nil}
		pc.idle = time.AfterFunc(p.peer.IdleTimeout, func() { p.closeIdle(func(other *peerConn) bool { return other == pc }) })
		p.conns = append(p.conns, pc)
	}
	p.dispatchLocked()
	p.mu.Unlock()
	if err == nil {
		cc.SetStateHook(p.stateChanged)
	}
}

func (c *Client) dialPeer(ctx context.Context, u *url.URL, addr string) (*http.ClientConn, error) {
	if c.cfg.ProxyURL != nil {
		// Transport asks about the host alone: the port is checked here.
		if err := c.checkTarget(ctx, u); err != nil {
			return nil, err
		}
	}
	return c.peerTransport.NewClientConn(ctx, "https", addr)
}

// strikeLocked counts a connection that was for nothing.
func (p *pool) strikeLocked(err *Error) {
	p.strikes++
	p.lastErr = err
	if p.strikes > 2 {
		pause := min(peerPause<<min(p.strikes-3, 16), peerMaxPause)
		p.pausedTo = time.Now().Add(pause)
	}
}

// stateChanged is told when a connection has more room, or is closed. It may be called
// from within a request, with locks of net/http held.
func (p *pool) stateChanged(*http.ClientConn) {
	if p.hasWaiting.Load() && p.scheduled.CompareAndSwap(false, true) {
		go func() {
			p.scheduled.Store(false)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.dispatchLocked()
		}()
	}
}

func (p *pool) isUseful(pc *peerConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pc.useful
}

// answered notes that a connection answered.
func (p *pool) answered(pc *peerConn, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.strikes, pc.useful = 0, true
	pc.proven = pc.proven || p.peer.Proves(status)
	if pc.ceiling > 0 {
		pc.ceiling++
	}
}

// release gives back the place of a request that ended, with the error of one that got
// no answer.
func (p *pool) release(pc *peerConn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pc.taken--
	switch {
	case err == nil:
	case isRefusedStream(err):
		// It takes fewer than it says: go on from there.
		pc.ceiling = max(pc.taken, 1)
	case isGoodbye(err):
		pc.leaving, pc.fault = true, requestFault(context.Background(), err)
	}
	if pc.taken == 0 {
		pc.idle.Reset(p.peer.IdleTimeout)
	}
	p.dispatchLocked()
}

// closeIdle closes those idle connections that which picks, and forgets the pool if it
// was the last one.
func (p *pool) closeIdle(which func(*peerConn) bool) {
	p.client.peers.mu.Lock()
	p.mu.Lock()
	var idle []*peerConn
	p.conns = slices.DeleteFunc(p.conns, func(pc *peerConn) bool {
		if pc.taken > 0 || !which(pc) {
			return false
		}
		pc.idle.Stop()
		idle = append(idle, pc)
		return true
	})
	p.forget = nil
	if len(p.conns) == 0 && p.waiting.Len() == 0 && !p.dialing && p.client.peers.by[p.id] == p {
		delete(p.client.peers.by, p.id)
	}
	p.mu.Unlock()
	p.client.peers.mu.Unlock()
	for _, pc := range idle {
		pc.cc.Close()
	}
}

// streamError has the fields of net/http's own, which fills it in.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamError) Error() string { return "stream error" }

const refusedStream = 7 // RFC 9113, section 7

func isRefusedStream(err error) bool {
	var e streamError
	return errors.As(err, &e) && e.Code == refusedStream
}

// The texts of net/http for a request that came too late for its connection: after, or
// above the last stream of, a GOAWAY.
const (
	goAwayText         = "http2: Transport received Server's graceful shutdown GOAWAY"
	unusableText       = "http2: client conn not usable"
	notEstablishedText = "http2: client conn could not be established"
)

// isUnprocessed reports whether the peer certainly did nothing with the request.
func isUnprocessed(err error) bool {
	text := err.Error()
	return text == goAwayText || text == unusableText || text == notEstablishedText || isRefusedStream(err)
}

// isGoodbye reports whether the connection takes no more requests.
func isGoodbye(err error) bool {
	text := err.Error()
	return strings.Contains(text, "GOAWAY") || text == unusableText || text == notEstablishedText
}
