package socket

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
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
	net     net.Conn

	// When it began with what is under way, and when the socket last took something, in Unix
	// milliseconds; 0 for nothing.
	reading, writing, hearing, moved atomic.Int64

	// Of the reader.
	br    *bufio.Reader // nil while nothing came
	early bool          // something came with the request
	id    int32         // among sleepers; 0 for none yet

	mu      sync.Mutex    // guards below; nothing of the handler is called with it
	out     [][]byte      // goes before what the handler serves
	unsent  int           // bytes of out
	drained chan struct{} // closed when out was sent; nil when nobody waits
	pong    []byte        // to be sent; nil for none
	ending  *Farewell
	ended   int64 // when ending was set, in Unix milliseconds
	pongBy  int64 // when an answer to our ping is late, in Unix milliseconds; 0 when none is awaited
	begun   bool  // somebody reads, or will
	ping    bool  // one is to be sent
	serve   bool  // the handler has something
	active  bool  // there is a writer, or will be no other
	parted  bool  // our close frame was sent
	lost    bool

	// Of the sweep.
	nextPing int64 // when one is due, in Unix milliseconds
	late     bool  // an answer to a ping was, when it looked last
}

// Farewell is how the server ends a connection.
type Farewell struct {
	Frames [][]byte // the last words
	Code   Code
	Text   string // said with Code; at most 123 bytes
	// Counted is what Handler.Gone is told.
	Counted string

	echo bool // it is said though nothing can be read any more
}

func newConn(g *Group, h Handler) *Conn { return &Conn{group: g, handler: h} }

// Enter makes the connection one of its group. It reports false when the group takes no more:
// then [Conn.End] it.
func (c *Conn) Enter() bool { return c.group.add(c) }

// Begin starts to read. What came with the request is not where an epoll would see it.
func (c *Conn) Begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beginLocked()
}

func (c *Conn) beginLocked() {
	if c.begun {
		return
	}
	c.begun = true
	go func() {
		if c.early || !c.group.sleepers.sleep(c) {
			c.read()
		}
	}()
}

// read reads what is there, then lets the connection sleep, or leaves the next message to
// another goroutine: parked, a stack must be shallow.
func (c *Conn) read() {
	if c.br == nil {
		c.br = c.reader()
	}
	for {
		if !c.readOne() {
			return
		}
		if c.br.Buffered() > 0 {
			continue
		}
		if canSleep(c.net) {
			c.br.Reset(nil)
			readers.Put(c.br)
			c.br = nil // before it sleeps: then it is the next reader's
			if c.group.sleepers.sleep(c) {
				return
			}
		}
		go c.read()
		return
	}
}

// reader is a buffer to read with; who cannot sleep keeps it, and has a small one.
func (c *Conn) reader() *bufio.Reader {
	if !canSleep(c.net) {
		return bufio.NewReaderSize(c.net, 512)
	}
	br := readers.Get().(*bufio.Reader)
	br.Reset(c.net)
	return br
}

// readOne reads one message, or a ping or the like, and does what it says. It reports whether to go on.
func (c *Conn) readOne() bool {
	if _, err := c.br.Peek(1); err != nil {
		return c.lose()
	}
	c.reading.Store(time.Now().UnixMilli())
	text, binary, err := c.readMessage()
	c.reading.Store(0)
	switch {
	case errors.Is(err, errControl):
	case errors.Is(err, errProtocol):
		c.End(Farewell{Code: CloseProtocolError, Counted: "gone", echo: true})
		_, _ = io.Copy(io.Discard, c.br) // until the client sees it
		return c.lose()
	case err != nil:
		return c.lose()
	case c.over():
	case binary:
		c.handler.Fail(NotText)
	default:
		c.hearing.Store(time.Now().UnixMilli())
		c.handler.Hear(text)
		c.hearing.Store(0)
	}
	return true
}

var (
	// errControl: there was only a ping or pong.
	errControl = errors.New("control frame")
	// errClosed: the client said good-bye.
	errClosed = errors.New("closed")
)

// readMessage reads a message. When the connection is ending, what comes is not kept.
func (c *Conn) readMessage() (text []byte, binary bool, err error) {
	inside, over := false, c.over()
	limit := 0
	for {
		h, err := readHead(c.br)
		if err != nil {
			return nil, false, err
		}
		if h.op >= opClose {
			if err := c.readControl(h); err != nil {
				return nil, false, err
			}
			if inside {
				continue
			}
			return nil, false, errControl
		}
		if (h.op == opContinuation) != inside {
			return nil, false, errProtocol
		}
		if !inside {
			inside, binary, limit = true, h.op == opBinary, c.handler.Limit()
		}
		if !over && h.size > uint64(limit-len(text)) {
			c.handler.Fail(TooLarge)
			over = true
		}
		if over {
			text = nil
			_, err = io.CopyN(io.Discard, c.br, int64(h.size))
		} else {
			text, err = readPayload(c.br, text, h)
		}
		if err != nil {
			return nil, false, err
		}
		if h.final {
			return text, binary, nil
		}
	}
}

// readControl reads a control frame and does what it says.
func (c *Conn) readControl(h frameHead) error {
	payload, err := readPayload(c.br, make([]byte, 0, h.size), h)
	if err != nil {
		return err
	}
	switch h.op {
	case opClose:
		if !checkClose(payload) {
			return errProtocol
		}
		c.farewell(payload)
		return errClosed
	case opPong:
		c.mu.Lock()
		c.pongBy = 0
		c.mu.Unlock()
		if !c.over() {
			c.handler.Control()
		}
	case opPing:
		if c.over() || !c.handler.Control() {
			return nil
		}
		c.mu.Lock()
		c.pong = payload // the newest one is enough (section 5.5.3)
		c.startLocked()
		c.mu.Unlock()
	}
	return nil
}

// farewell answers the client's close frame, unless it is an answer itself.
func (c *Conn) farewell(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == nil && !c.lost {
		f := Farewell{Code: closeNone, Counted: "gone", echo: true}
		if len(payload) >= 2 {
			f.Code, f.Text = Code(binary.BigEndian.Uint16(payload)), string(payload[2:])
		}
		c.endLocked(f)
		c.out = nil // it reads no more
	}
}

func (c *Conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != nil
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
	c.endLocked(f)
}

func (c *Conn) endLocked(f Farewell) {
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
func (c *Conn) lose() bool {
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
	c.lose() // nobody may be reading
}

// work is what a writer does next.
type work struct {
	out    [][]byte
	pong   []byte
	ending *Farewell
	ping   bool
	serve  bool
	lost   bool
}

// next returns what is to be done; nothing ends the writer.
func (c *Conn) next() (w work, some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.parted && c.lost:
		return work{lost: true}, true
	case c.parted: // the client has the last word
		c.active = false
		return w, false
	}
	w = work{out: c.out, pong: c.pong, ping: c.ping, ending: c.ending, lost: c.lost}
	c.out, c.pong, c.ping = nil, nil, false
	c.freeLocked()
	switch {
	case len(w.out) > 0 || w.pong != nil || w.ping || w.ending != nil || w.lost:
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
		if !c.do(&w) {
			c.bury()
			return
		}
	}
}

// do does a writer's work; false ends the connection.
func (c *Conn) do(w *work) (ok bool) {
	if w.lost && (w.ending == nil || !w.ending.echo) {
		return false
	}
	if w.pong != nil && c.writeFrame(opPong, w.pong) != nil {
		return false
	}
	if w.ping && !c.sendPing() {
		return false
	}
	for _, b := range w.out {
		if !c.Send(b) {
			return false
		}
	}
	switch {
	case w.ending != nil:
		return c.part(w.ending) && !w.lost
	case w.serve:
		more, ok := c.handler.Serve()
		if ok && more {
			c.mu.Lock()
			c.serve = true
			c.mu.Unlock()
		}
		return ok
	}
	return true
}

// Send writes one message; it is for Handler.Serve alone. There is no deadline but the sweep's:
// a slow client is not a lost one. Without ok, the connection is gone.
func (c *Conn) Send(b []byte) (ok bool) { return c.writeFrame(opText, b) == nil }

// sendPing sends a ping. Its answer is awaited from before: it may come before the write returns.
func (c *Conn) sendPing() (ok bool) {
	c.mu.Lock()
	c.pongBy = c.pongLate()
	c.mu.Unlock()
	if c.writeFrame(opPing, nil) != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pongBy != 0 { // a slow write is not a late answer
		c.pongBy = c.pongLate()
	}
	return true
}

// pongLate is when an answer to a ping that is sent now is late, in Unix milliseconds.
func (c *Conn) pongLate() int64 { return time.Now().Add(c.group.cfg.PongWithin).UnixMilli() }

// handshakeWithin is how long a client may take to answer our close frame.
const handshakeWithin = 5 * time.Second

// part says good-bye. The reader hears the client's.
func (c *Conn) part(f *Farewell) (ok bool) {
	for _, b := range f.Frames {
		if !c.Send(b) {
			return false
		}
	}
	var payload []byte
	if f.Code != closeNone {
		payload = append(binary.BigEndian.AppendUint16(nil, uint16(f.Code)), f.Text[:min(len(f.Text), maxControl-2)]...)
	}
	if c.writeFrame(opClose, payload) != nil {
		return false
	}
	time.AfterFunc(handshakeWithin, c.Cut)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parted = true
	c.beginLocked()
	return true
}

// bury gives back what the connection had. Its writer does it last, and stays active for ever.
func (c *Conn) bury() {
	_ = c.net.Close()
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
