package live

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark"
)

// The WebSocket transport (RFC 6455): text frames of one JSON object each, many
// subscriptions on one connection, each with a cursor of its own; docs/websocket.md is the
// contract. Files: websocket.go (the way in), websocket_frame.go (what is said),
// websocket_conn.go (a connection: who reads, who writes), websocket_keep.go (what happens
// with time: pings, ends, stops).
//
// A connection that is idle has no goroutine (on Linux and without TLS; elsewhere one, parked
// with a shallow stack). One epoll starts a reader when something came, and who writes is
// started when there is something to write; both end when there is nothing more. There is no queue of events: a subscription is a
// [Reader], so a slow client keeps only positions.
//
// Messages are not compressed (RFC 7692): an event's frame is encoded once and shared by
// all who get it, while deflate would run again for each connection and hold 32 KiB or
// more of window; and a secret beside text of an attacker's choice must not be compressed together with it.

// subprotocol is what clients ask for.
const subprotocol = "hark.v1"

// Close codes: 4000 to 4399 mean come back, 4400 to 4499 do not.
const (
	closeStopping     = websocket.StatusGoingAway
	closeExpired      = websocket.StatusCode(4001)
	closeSlow         = websocket.StatusCode(4002)
	closeOverloaded   = websocket.StatusCode(4003)
	closeBadFrame     = websocket.StatusCode(4400)
	closeUnauthorized = websocket.StatusCode(4401)
	closeForbidden    = websocket.StatusCode(4403)
	closeNoAuth       = websocket.StatusCode(4408)
	closeTooLarge     = websocket.StatusCode(4413)
	closeFlood        = websocket.StatusCode(4429)
)

// Fault is an error as a client is told it.
type Fault struct {
	Status              int // as HTTP has it
	Code, Detail, Field string
}

// Front is what the WebSocket needs of the server around it.
type Front interface {
	// CheckOrigin tells whether the web page that sent a request, if one did, may open a WebSocket.
	CheckOrigin(r *http.Request) error
	// CallerByToken says whose a key or token is.
	CallerByToken(token string) (Caller, error)
	// Explain turns an error into what a client may know of it.
	Explain(err error) Fault
}

// Entrant is a caller whose credential may come later.
type Entrant interface {
	Caller
	// Refusal is why the credential that the request showed does not count; nil if it does, or
	// there was none.
	Refusal() error
	// Stranger reports whether there was none and nothing may be done without.
	Stranger() bool
}

// Publisher appends what clients publish, by the rules of POST /v1/events.
type Publisher interface {
	// MaxFrame is how large a frame may be with which c publishes; 0 when c may not.
	MaxFrame(c Caller) int
	// Publish appends an event, given as the body of POST /v1/events, with an idempotency
	// key or "". It returns after the commit.
	Publish(ctx context.Context, c Caller, event []byte, key string) (id hark.EventID, duplicate bool, err error)
}

// websocketName is what metrics call it.
const websocketName = "websocket"

// ServeWebSocket answers GET /v1/ws. It returns when the connection is its own.
func (h *Hub) ServeWebSocket(w http.ResponseWriter, r *http.Request) error {
	c, err := h.entrant(r)
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		return cmp.Or(err, stays(c), badUpgrade("this URL speaks WebSocket: the request must ask for it with \"Connection: Upgrade\" and \"Upgrade: websocket\""))
	}
	if err != nil && r.Header.Get("Origin") == "" { // a browser shows its page no answer: that gets a frame
		return err
	}
	if err := versioned(r); err != nil {
		return err
	}
	s, acceptErr := h.accept(w, r)
	if s == nil {
		return acceptErr
	}
	if s.caller = c; c != nil {
		s.seat = c.TenantID()
	}
	switch {
	case hark.KindOf(err) == hark.TooMany, hark.KindOf(err) == hark.Unavailable:
		e, _ := errors.AsType[*hark.Error](err)
		s.refuse(endOverloaded, closeOverloaded, max(e.RetryAfter, time.Second)+spread(time.Second))
	case err != nil:
		s.turnAway(err)
	case h.drain.begun():
		s.refuse(endStopping, closeStopping, spread(h.drain.left()))
	case !h.streams.take(s.seat, 1):
		s.refuse(endOverloaded, closeOverloaded, crowded())
	case !h.sockets.add(s):
		h.streams.leave(s.seat, 1)
		s.refuse(endStopping, closeStopping, spread(h.drain.left()))
	default:
		h.cfg.Hooks.Opened(websocketName)
		s.say(appendHello(nil, h.cfg.PingEvery))
		s.recheck()
		go s.begin()
	}
	return nil
}

// entrant finds out who comes; nil without error for who has yet to say so.
func (h *Hub) entrant(r *http.Request) (Caller, error) {
	if err := h.cfg.Front.CheckOrigin(r); err != nil {
		return nil, err
	}
	c := h.cfg.CallerOf(r.Context())
	if e, ok := c.(Entrant); ok && (e.Refusal() != nil || e.Stranger()) {
		return nil, e.Refusal()
	}
	return c, nil
}

// stays is the answer to who shows no credential, and cannot later.
func stays(c Caller) error {
	if c == nil {
		return noCredential()
	}
	return nil
}

func noCredential() error {
	return &hark.Error{Kind: hark.Unauthenticated, Code: "no-credential", Msg: `say who you are first: {"type":"auth","token":"…"}`}
}

// versioned refuses who offers subprotocols without ours: a browser fails when none of
// what it offered is chosen.
func versioned(r *http.Request) error {
	offered := r.Header["Sec-Websocket-Protocol"]
	for _, line := range offered {
		for p := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(p), subprotocol) {
				return nil
			}
		}
	}
	if len(offered) > 0 {
		return badUpgrade("offer the subprotocol hark.v1 among others, or none")
	}
	return nil
}

// refuse ends a connection that nothing is wrong with.
func (s *socket) refuse(why string, code websocket.StatusCode, reconnect time.Duration) {
	s.hub.cfg.Hooks.Closed(websocketName, why)
	s.bye(why, code, reconnect)
}

// turnAway ends the connection of somebody who may not have one.
func (s *socket) turnAway(err error) {
	s.hub.cfg.Hooks.Closed(websocketName, "refused")
	code := closeUnauthorized
	if hark.KindOf(err) == hark.Forbidden {
		code = closeForbidden
	}
	s.fail(code, &frame{}, err)
}

func badUpgrade(why string) error {
	return &hark.Error{Kind: hark.Invalid, Code: "bad-upgrade", Msg: why}
}

// accept does the handshake. Without an error there is no socket if the client went away.
func (h *Hub) accept(w http.ResponseWriter, r *http.Request) (*socket, error) {
	up := &upgrade{ResponseWriter: w, slowAfter: h.cfg.SlowAfter}
	s := newSocket(h)
	conn, err := websocket.Accept(up, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // CheckOrigin knows more
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     func(context.Context, []byte) bool { return s.control() && !s.stuck() },
		OnPongReceived:     func(context.Context, []byte) { s.control() },
	})
	switch {
	case err == nil:
		conn.SetReadLimit(-1) // ours depends on who sends
		s.conn, s.net, s.writer, s.br, s.early = conn, up.conn, up.writer, up.br, up.early
		return s, nil
	case up.conn != nil || !up.refused:
		return nil, nil
	}
	why := strings.TrimSpace(up.why.String())
	return nil, badUpgrade(strings.TrimPrefix(why, "WebSocket protocol violation: "))
}

// Sizes of a connection's buffers. What is larger goes past them: they are for heads of frames.
const (
	readBuffer  = 512
	writeBuffer = 128 // a control frame fits
)

// upgrade hands a connection to the library with buffers of our sizes, and keeps what
// it has to say against a request.
type upgrade struct {
	http.ResponseWriter
	slowAfter time.Duration
	conn      net.Conn
	writer    *frameWriter
	br        *bufio.Reader
	early     bool // the client said something already
	refused   bool
	why       bytes.Buffer
}

// WriteHeader implements http.ResponseWriter.
func (u *upgrade) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		u.refused = true
		return
	}
	u.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (u *upgrade) Write(b []byte) (int, error) {
	if u.refused {
		return u.why.Write(b)
	}
	return u.ResponseWriter.Write(b)
}

// Hijack implements http.Hijacker.
func (u *upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := buf.Reader.Peek(buf.Reader.Buffered()) // of a client that does not wait for our answer
	br := bufio.NewReaderSize(bytes.NewReader(bytes.Clone(early)), max(readBuffer, len(early)))
	_, _ = br.Peek(len(early))
	u.br, u.early = br, len(early) > 0
	if u.conn, err = lean(conn, u.slowAfter); err != nil {
		conn.Close()
		return nil, nil, err
	}
	u.writer = &frameWriter{conn: u.conn}
	return u.conn, bufio.NewReadWriter(br, bufio.NewWriterSize(u.writer, writeBuffer)), nil
}

// lean takes a connection out of what the listeners wrapped around it: their buffers, and
// their count of connections that make requests.
func lean(c net.Conn, slowAfter time.Duration) (net.Conn, error) {
	if !canPark {
		return c, nil
	}
	// The kernel's patience is longer than ours: the last words are to be sent.
	fd, err := unpark(c, slowAfter+30*time.Second)
	if errors.Is(err, errors.ErrUnsupported) { // TLS
		return c, nil
	} else if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "websocket")
	defer f.Close()
	return net.FileConn(f)
}

// frameWriter makes one write of a frame: what comes from its bufio.Writer is a frame's head
// with the first bytes, then the rest.
type frameWriter struct {
	conn net.Conn
	held []byte
	left int // of the frame
	// moved is when the socket last took something, in Unix milliseconds.
	moved atomic.Int64
}

// writePart is how much is written at once: between two of them a slow client is seen to move.
const writePart = 64 << 10

// Write implements io.Writer.
func (w *frameWriter) Write(p []byte) (int, error) {
	if w.left == 0 {
		w.left = frameSize(p)
	}
	if w.left -= len(p); w.left > 0 {
		w.held = append(w.held, p...)
		return len(p), nil
	}
	w.left = 0
	size, held := len(p), w.held
	w.held = nil
	for first := true; first || len(p) > 0; first = false {
		n := min(len(p), writePart)
		parts := net.Buffers{held, p[:n]}
		if len(held) == 0 {
			parts = parts[1:]
		}
		if _, err := parts.WriteTo(w.conn); err != nil {
			return 0, err
		}
		w.moved.Store(time.Now().UnixMilli())
		held, p = nil, p[n:]
	}
	return size, nil
}

// frameSize reads the size of a frame, head and all, from its beginning (RFC 6455 section 5.2).
// Servers do not mask.
func frameSize(p []byte) int {
	if len(p) < 2 {
		return len(p)
	}
	switch n := int(p[1] & 127); {
	case n == 126 && len(p) >= 4:
		return 4 + int(p[2])<<8 + int(p[3])
	case n == 127 && len(p) >= 10:
		size := 0
		for _, c := range p[2:10] {
			size = size<<8 + int(c)
		}
		return 10 + size
	default:
		return 2 + n
	}
}

// readFrame reads a message of at most limit bytes.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	b := make([]byte, 0, 512)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return nil, &hark.Error{Kind: hark.TooLarge, Code: "frame-too-large", Msg: "your frames may have " + strconv.Itoa(limit) + " bytes at most"}
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
