package live

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Path is a TCP proxy that behaves badly. The zero behaviour only forwards.
type Path struct {
	// Addr is where it listens.
	Addr string

	behaviour Behaviour
	to        string
	listener  net.Listener
	frozen    atomic.Bool
	ended     chan struct{}
	taken     atomic.Int64

	mu    sync.Mutex // guards below
	conns map[net.Conn]bool
	done  bool
}

// Behaviour is what a path does to what the server sends.
type Behaviour struct {
	// Cut closes each connection after this time, plus up to as much again.
	Cut time.Duration
	// Rate forwards single bytes, this many a second; 0 is as they come.
	Rate int
	// Trickle forwards single bytes without waiting.
	Trickle bool
	// Hold collects what comes, and forwards it this long after its first byte.
	Hold time.Duration
}

// NewPath starts a proxy to an address, or to none that listens.
func NewPath(to string, b Behaviour) (*Path, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Path{Addr: l.Addr().String(), behaviour: b, to: to, listener: l, conns: map[net.Conn]bool{}, ended: make(chan struct{})}
	go p.accept()
	return p, nil
}

// URL is where clients go.
func (p *Path) URL() string { return "http://" + p.Addr }

// Freeze makes the path go silent: it keeps every connection and forwards nothing more.
func (p *Path) Freeze() { p.frozen.Store(true) }

// Taken is how many connections it took.
func (p *Path) Taken() int { return int(p.taken.Load()) }

// Close ends it and every connection.
func (p *Path) Close() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.done {
		p.done = true
		close(p.ended)
	}
	for c := range p.conns {
		c.Close()
	}
}

// keep notes a connection, so that Close ends it.
func (p *Path) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Path) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

func (p *Path) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.taken.Add(1)
		go p.carry(client)
	}
}

func (p *Path) carry(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.to, 5*time.Second)
	if err != nil {
		client.Close()
		return
	}
	if !p.keep(client) || !p.keep(server) {
		client.Close()
		server.Close()
		return
	}
	defer p.drop(client, server)
	if c := p.behaviour.Cut; c > 0 {
		timer := time.AfterFunc(c+time.Duration(rand.Int64N(int64(c))), func() { p.drop(client, server) })
		defer timer.Stop()
	}
	go func() {
		p.forward(server, client, Behaviour{})
		if t, ok := server.(*net.TCPConn); ok && !p.frozen.Load() {
			t.CloseWrite()
		}
	}()
	p.forward(client, server, p.behaviour)
	if p.frozen.Load() {
		<-p.ended // the peers are not told
	}
}

// forward copies until one side ends or the path is frozen.
func (p *Path) forward(to, from net.Conn, b Behaviour) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if p.frozen.Load() {
			return
		}
		data := buf[:n]
		if b.Hold > 0 && n > 0 {
			data = collect(from, data, b.Hold)
		}
		if werr := b.write(to, data); werr != nil || err != nil {
			return
		}
	}
}

// collect adds what comes within a time, up to 1 MiB.
func collect(from net.Conn, first []byte, hold time.Duration) []byte {
	all, buf := append([]byte(nil), first...), make([]byte, 32<<10)
	from.SetReadDeadline(time.Now().Add(hold))
	defer from.SetReadDeadline(time.Time{})
	for len(all) < 1<<20 {
		n, err := from.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			break // the time is up; an end comes again at the next read
		}
	}
	return all
}

func (b Behaviour) write(to net.Conn, data []byte) error {
	if b.Rate == 0 && !b.Trickle {
		_, err := to.Write(data)
		return err
	}
	if t, ok := to.(*net.TCPConn); ok {
		t.SetNoDelay(true)
	}
	for i := range data {
		if _, err := to.Write(data[i : i+1]); err != nil {
			return err
		}
		if b.Rate > 0 {
			time.Sleep(time.Second / time.Duration(b.Rate))
		}
	}
	return nil
}

// Tap is a dialer of connections whose reading can be stopped and slowed, with
// small socket buffers, so that what is not read stays with the server.
type Tap struct {
	mu     sync.Mutex // guards below
	open   chan struct{}
	rate   int
	conns  []net.Conn
	closed bool
}

// NewTap returns an open one.
func NewTap() *Tap {
	open := make(chan struct{})
	close(open)
	return &Tap{open: open}
}

// Shut stops all reading.
func (t *Tap) Shut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.closed = make(chan struct{}), true
}

// Open lets everything through again, or rate bytes a second of each connection.
func (t *Tap) Open(rate int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate = rate
	if t.closed {
		close(t.open)
		t.closed = false
	}
}

// Cut closes every connection.
func (t *Tap) Cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		c.Close()
	}
	t.conns = nil
}

// Dial is for [Target.Dial].
func (t *Tap) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: 5 * time.Second, Control: smallBuffers}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns = append(t.conns, c)
	return &tapped{Conn: c, tap: t, gone: make(chan struct{})}, nil
}

type tapped struct {
	net.Conn
	tap  *Tap
	once sync.Once
	gone chan struct{}
}

func (c *tapped) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// Read waits while the tap is shut, before and after: what a read brings that was
// under way when the tap was shut is kept until it is open.
func (c *tapped) Read(p []byte) (int, error) {
	rate, err := c.pass()
	if err != nil {
		return 0, err
	}
	if rate > 0 {
		const step = 50 * time.Millisecond
		p = p[:min(len(p), max(1, rate/int(time.Second/step)))]
		select {
		case <-c.gone:
			return 0, net.ErrClosed
		case <-time.After(step):
		}
	}
	n, err := c.Conn.Read(p)
	if _, gone := c.pass(); gone != nil {
		return 0, gone
	}
	return n, err
}

// pass waits until the tap is open.
func (c *tapped) pass() (rate int, err error) {
	c.tap.mu.Lock()
	open, rate := c.tap.open, c.tap.rate
	c.tap.mu.Unlock()
	select {
	case <-c.gone:
		return 0, net.ErrClosed
	case <-open:
		return rate, nil
	}
}
