package socket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Refusal is what is wrong with a request for a WebSocket.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Accept does the handshake, with the first of the subprotocols that the client offers. The
// request's Origin is not looked at. Without an error there is no connection if the client
// went away. With a [Refusal], the request is not answered yet.
func (g *Group) Accept(w http.ResponseWriter, r *http.Request, h Handler, subprotocols ...string) (*Conn, error) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return nil, Refusal("the request must ask for a WebSocket with \"Connection: Upgrade\" and \"Upgrade: websocket\"")
	}
	up := &upgrade{ResponseWriter: w, slowAfter: g.cfg.SlowAfter}
	c := newConn(g, h)
	ws, err := websocket.Accept(up, r, &websocket.AcceptOptions{
		Subprotocols:       subprotocols,
		InsecureSkipVerify: true, // the caller knows more
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     func(context.Context, []byte) bool { return c.control() && !c.stuck() },
		OnPongReceived:     func(context.Context, []byte) { c.control() },
	})
	switch {
	case err == nil:
		ws.SetReadLimit(-1) // ours depends on who sends
		c.ws, c.net, c.writer, c.br, c.early = ws, up.conn, up.writer, up.br, up.early
		return c, nil
	case up.conn != nil || !up.refused:
		return nil, nil
	}
	why := strings.TrimSpace(up.why.String())
	return nil, Refusal(strings.TrimPrefix(why, "WebSocket protocol violation: "))
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
	if !CanPark {
		return c, nil
	}
	// The kernel's patience is longer than ours: the last words are to be sent.
	fd, err := Unpark(c, slowAfter+30*time.Second)
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
