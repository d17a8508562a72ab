package socket

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Handler is what a connection is for.
type Handler interface {
	// Limit is how large the next message may be, in bytes.
	Limit() int
	// Hear does what a message of the client says, which is text, perhaps not in UTF-8. It is
	// called by one goroutine at a time, and no more is read until it returns.
	Hear(text []byte)
	// Control counts a ping or pong of the protocol; false leaves a ping without an answer.
	Control() bool
	// Serve sends, by [Conn.Send], some of what there is to send, after it was asked to by
	// [Conn.Wake]; more asks to be called again, after what was said meanwhile. Without ok the
	// connection is cut. It is called by one goroutine at a time.
	Serve() (more, ok bool)
	// Fail ends the connection, by [Conn.End], for what its client did. It may be called more than once.
	Fail(Fault)
	// Sweep looks at what is due; it is called about once a second.
	Sweep(now time.Time)
	// Gone is the last call, made once, of a connection that had entered; why is in the words of
	// [Farewell.Counted], or "gone".
	Gone(why string)
}

// Fault is what a client does that ends its connection.
type Fault int

// The faults.
const (
	TooLarge   Fault = iota + 1 // a message above the limit
	NotText                     // a binary message
	SlowFrame                   // a message that does not come to its end
	SlowReader                  // it does not read
)

// maxUnsent is how many bytes of answers wait to be sent before no more is read.
const maxUnsent = 64 << 10

// Conn is one connection. Its reader is whichever goroutine runs read or what read calls, its
// writer the one that runs write; there is at most one of each.
type Conn struct {
	group   *Group
	handler Handler
	ws      *websocket.Conn
	net     net.Conn // under ws
	writer  *frameWriter

	// When it began with what is under way, in Unix milliseconds; 0 for nothing.
	reading, writing, hearing atomic.Int64

	// Of the reader.
	br     *bufio.Reader
	early  bool // something came with the request
	drowsy bool
	id     int32 // among sleepers; 0 for none yet

	mu      sync.Mutex    // guards below; nothing of the handler is called with it
	out     [][]byte      // goes before what the handler serves
	unsent  int           // bytes of out
	drained chan struct{} // closed when out was sent; nil when nobody waits
	serve   bool          // the handler has something
	active  bool          // there is a writer, or will be no other
	ending  *Farewell
	ended   int64 // when ending was set, in Unix milliseconds
	lost    bool

	ping int64 // when the next one is due, in Unix milliseconds; the sweep's
}

// Farewell is how the server ends a connection.
type Farewell struct {
	Frames [][]byte // the last words
	Code   websocket.StatusCode
	Text   string // said with Code; at most 123 bytes
	// Counted is what Handler.Gone is told.
	Counted string
}

func newConn(g *Group, h Handler) *Conn { return &Conn{group: g, handler: h} }

// Enter makes the connection one of its group. It reports false when the group takes no more:
// then [Conn.End] it.
func (c *Conn) Enter() bool { return c.group.add(c) }

// Begin starts to read. What came with the request is not where an epoll would see it.
func (c *Conn) Begin() {
	go func() {
		if c.early || !c.group.sleepers.sleep(c) {
			c.read()
		}
	}()
}

// read reads what is there, then lets the connection sleep, or leaves the next message to
// another goroutine: parked, a stack must be shallow.
func (c *Conn) read() {
	for {
		if !c.readOne() {
			return
		}
		switch more, over := c.buffered(); {
		case over: // who says good-bye reads what is left
			return
		case more:
		case c.group.sleepers.sleep(c):
			return
		default:
			go c.read()
			return
		}
	}
}

// buffered reports whether the next frame began to arrive already, or the connection ends.
func (c *Conn) buffered() (more, over bool) {
	c.mu.Lock() // only after it, the writer reads
	defer c.mu.Unlock()
	if c.ending != nil || c.lost {
		return false, true
	}
	return c.br.Buffered() > 0, false
}

// readOne reads one message and does what it says. It reports whether to go on.
func (c *Conn) readOne() bool {
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return c.awoken(err) || c.lose(err)
	}
	c.reading.Store(time.Now().UnixMilli())
	text, err := readMessage(r, c.handler.Limit())
	c.reading.Store(0)
	switch {
	case errors.Is(err, errTooLarge):
		c.handler.Fail(TooLarge)
	case err != nil:
		return c.lose(err)
	case kind != websocket.MessageText:
		c.handler.Fail(NotText)
	case !c.over():
		c.hearing.Store(time.Now().UnixMilli())
		c.handler.Hear(text)
		c.hearing.Store(0)
	}
	return true
}

func (c *Conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != nil
}

var errTooLarge = errors.New("message too large")

// readMessage reads a message of at most limit bytes.
func readMessage(r io.Reader, limit int) ([]byte, error) {
	b := make([]byte, 0, 512)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return nil, errTooLarge
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return nil, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// drowse has the library stop waiting for a message after a ping or pong, when nothing of the next
// frame is there: else a goroutine would wait for each connection that ever had one. The
// deadline is over before anything is read, so nothing is lost.
func (c *Conn) drowse() {
	if _, ok := c.net.(*net.TCPConn); ok && c.reading.Load() == 0 && c.br.Buffered() == 0 {
		c.drowsy = true
		_ = c.net.SetReadDeadline(time.Unix(1, 0))
	}
}

// awoken reports whether a read ended for drowse alone.
func (c *Conn) awoken(err error) bool {
	if !c.drowsy {
		return false
	}
	c.drowsy = false
	_ = c.net.SetReadDeadline(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// control counts a ping or pong of the protocol, and reports whether it is to be answered.
func (c *Conn) control() bool {
	if c.over() { // the writer reads now, too
		return false
	}
	ok := c.handler.Control()
	c.drowse()
	return ok
}

// Put sends a message before whatever is served next. It never waits.
func (c *Conn) Put(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(b)
}

func (c *Conn) putLocked(b []byte) {
	if c.ending == nil && !c.lost {
		c.out = append(c.out, b)
		c.unsent += len(b)
		c.startLocked()
	}
}

// Say is Put for answers: it waits while the client does not read. It is for the reader alone.
func (c *Conn) Say(b []byte) {
	c.mu.Lock()
	c.putLocked(b)
	var wait chan struct{}
	if c.unsent > maxUnsent && !c.lost && c.ending == nil {
		if c.drained == nil {
			c.drained = make(chan struct{})
		}
		wait = c.drained
	}
	c.mu.Unlock()
	if wait != nil {
		<-wait
	}
}

// Wake asks for a call of Handler.Serve.
func (c *Conn) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serve = true
	c.startLocked()
}

// startLocked sees to it that there is a writer.
func (c *Conn) startLocked() {
	if !c.active {
		c.active = true
		go c.write()
	}
}

// End ends the connection, once what was said is sent. The first to do so decides how.
func (c *Conn) End(f Farewell) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == nil && !c.lost {
		c.ended = time.Now().UnixMilli()
		c.ending = &f
		c.freeLocked()
		c.startLocked()
	}
}

// freeLocked lets the reader go on that waits for its answers to be sent.
func (c *Conn) freeLocked() {
	c.unsent = 0
	if c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
}

// lose: nothing can be read any more. It returns false.
func (c *Conn) lose(err error) bool {
	if websocket.CloseStatus(err) == -1 && !errors.Is(err, net.ErrClosed) {
		// A fault of the protocol, unless the network's: the library may have said so, or not.
		c.End(Farewell{Code: websocket.StatusProtocolError, Counted: "gone"})
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
	c.freeLocked()
	c.startLocked()
	return false
}

// Cut ends the connection at once.
func (c *Conn) Cut() {
	_ = c.net.Close()
	c.lose(net.ErrClosed) // nobody may be reading
}

// work is what a writer does next.
type work struct {
	out    [][]byte
	ending *Farewell
	serve  bool
	lost   bool
}

// next returns what is to be done; nothing ends the writer.
func (c *Conn) next() (w work, some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w = work{out: c.out, ending: c.ending, lost: c.lost}
	c.out = nil
	c.freeLocked()
	switch {
	case len(w.out) > 0 || w.ending != nil || w.lost:
		return w, true
	case c.serve:
		c.serve = false
		w.serve = true
		return w, true
	}
	c.active = false
	return w, false
}

// write sends what there is, and ends.
func (c *Conn) write() {
	for {
		w, some := c.next()
		if !some {
			return
		}
		ok := !w.lost
		for _, b := range w.out {
			ok = ok && c.Send(b)
		}
		switch {
		case ok && w.ending != nil:
			c.part(w.ending)
			ok = false
		case ok && w.serve:
			var more bool
			if more, ok = c.handler.Serve(); ok && more {
				c.mu.Lock()
				c.serve = true
				c.mu.Unlock()
			}
		}
		if !ok {
			c.bury()
			return
		}
	}
}

// Send writes one message; it is for Handler.Serve alone. There is no deadline but the sweep's:
// a slow client is not a lost one. Without ok, the connection is gone.
func (c *Conn) Send(b []byte) (ok bool) {
	now := time.Now().UnixMilli()
	c.writer.moved.Store(now)
	c.writing.Store(now)
	err := c.ws.Write(context.Background(), websocket.MessageText, b)
	c.writing.Store(0)
	return err == nil
}

// part says good-bye, and waits for the client to do so.
func (c *Conn) part(f *Farewell) {
	for _, b := range f.Frames {
		c.Send(b)
	}
	_ = c.ws.Close(f.Code, f.Text)
}

// bury gives back what the connection had. Its writer does it last, and stays active for ever.
func (c *Conn) bury() {
	_ = c.net.Close()
	_ = c.ws.CloseNow()
	c.mu.Lock()
	c.lost = true
	c.freeLocked()
	c.out = nil
	why := "gone"
	if c.ending != nil {
		why = c.ending.Counted
	}
	c.mu.Unlock()
	c.group.sleepers.forget(c)
	c.group.leave(c, why)
}
