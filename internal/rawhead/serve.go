package rawhead

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what a handler left unread of a plain request's body: so much is read away, for so
// long, that the connection can go on; beyond it is closed.
const (
	maxSkipped  = 256 << 10
	skipTimeout = 5 * time.Second
	// lingering is how long a connection that is closed may still send, so that its other side
	// reads the answer before it is told that nobody reads.
	lingering = 500 * time.Millisecond
)

// readIdle is [conn.Read] while net/http waits for the next request: plain ones are served, and it
// sees the first byte of what is none.
func (c *conn) readIdle(p []byte) (int, error) {
	read, err := c.next(p)
	for err == nil && len(read) > 0 {
		r, head, ok := c.plain(read)
		if !ok {
			break
		}
		rest, keep := c.serve(r, head, read[len(head):])
		if !keep {
			c.idle.release()
			return 0, io.EOF
		}
		// Whatever deadline the handler left: also when the next request has begun, as net/http sets
		// its own no sooner than it has four bytes of it.
		idleUntil := time.Time{}
		if idle := c.listener.cfg.Idle; idle > 0 {
			idleUntil = time.Now().Add(idle)
		}
		c.Conn.SetReadDeadline(idleUntil)
		// Line ends after a body: net/http allows them after a POST of its own.
		for read = bytes.TrimLeft(rest, "\r\n"); len(read) == 0 && err == nil; read = bytes.TrimLeft(read, "\r\n") {
			c.idle.release()
			read, err = c.next(p)
		}
	}
	c.between.Store(false)
	n := copy(p, read)
	if n < len(read) {
		c.ahead, err = bytes.Clone(read[n:]), nil
	}
	c.idle.release()
	if n > 0 {
		c.mu.Lock()
		c.frame.feed(p[:n])
		c.mu.Unlock()
	}
	return n, err
}

// next returns what came, in p or in memory of its own.
func (c *conn) next(p []byte) (read []byte, err error) {
	if len(c.ahead) > 0 {
		read, c.ahead = c.ahead, nil
		return read, nil
	}
	if c.idle == nil {
		c.idle = newIdleReader(c.Conn)
	}
	if read, ok, err := c.idle.next(); ok {
		return read, err
	}
	n, err := c.Conn.Read(p)
	return p[:n], err
}

// plain returns the request at the beginning of p, if it is a plain one whose head is there.
func (c *conn) plain(p []byte) (r *http.Request, head string, ok bool) {
	target, isPost := bytes.CutPrefix(p, []byte("POST "))
	if !isPost {
		return nil, "", false
	}
	if i := bytes.IndexByte(target, ' '); i < 0 || !c.listener.cfg.Keep(target[:i]) {
		return nil, "", false
	}
	end := headEnd(p, 0)
	if end == 0 {
		return nil, "", false
	}
	head = string(p[:end])
	plain, ok := plainHead(head)
	if !ok {
		return nil, "", false
	}
	if c.ctx == nil {
		c.ctx, c.remote = context.WithValue(c.listener.servingCtx, contextKey{}, c), c.RemoteAddr().String()
	}
	r = plain.WithContext(c.ctx)
	r.RemoteAddr = c.remote
	if c.tls != nil {
		r.TLS = c.tls
	}
	return r, head, true
}

// serve has a request answered. It returns what was read behind it, and whether the connection goes on.
func (c *conn) serve(r *http.Request, head string, read []byte) (rest []byte, keep bool) {
	if !c.begin(head) {
		return nil, false
	}
	defer c.end()
	body := &plainBody{conn: c.Conn, read: read[:min(int64(len(read)), r.ContentLength)], left: r.ContentLength}
	rest = read[len(body.read):]
	r.Body = body
	if r.ContentLength == 0 {
		r.Body = http.NoBody
	}
	w := answers.Get().(*answer)
	w.conn = c.Conn
	defer w.release()
	c.listener.cfg.Serve.ServeHTTP(w, r)
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.closes = w.closes || body.left > maxSkipped || c.isClosing()
	keep = !w.closes && body.skip()
	_, err := c.Conn.Write(w.finish())
	if err == nil && !keep && body.err == nil && body.left > 0 {
		c.CloseWrite()
		time.Sleep(lingering)
	}
	return rest, err == nil && keep
}

// begin: net/http takes the connection for an idle one, which it closes when it shuts down. So that
// waits for the end of the request.
func (c *conn) begin(head string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.serving = true
	c.listener.serving.Add(1)
	c.one[0] = head
	c.heads = c.one[:1]
	return true
}

func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving, c.heads, c.one[0] = false, nil, ""
	c.listener.serving.Add(-1)
	if c.closing {
		c.Conn.Close()
	}
}

func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// Close implements net.Conn. An answer under way is sent first.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing = true; c.serving {
		return nil
	}
	return c.Conn.Close()
}

// Drain waits for the plain requests under way, after the server that accepts from l was shut
// down. When ctx ends their contexts do.
func (l *Listener) Drain(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.serving.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.stopServing()
			return
		}
	}
}

// plainBody is a body of known length, part of which was read with the head.
type plainBody struct {
	conn net.Conn
	read []byte
	left int64
	err  error // of the connection
}

// Read implements io.Reader. Its last bytes come with io.EOF, as net/http's do.
func (b *plainBody) Read(p []byte) (n int, err error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	case len(b.read) > 0:
		n = copy(p, b.read)
		b.read = b.read[n:]
	default:
		n, err = b.conn.Read(p[:min(int64(len(p)), b.left)])
	}
	if b.left -= int64(n); b.left == 0 {
		return n, io.EOF
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return n, err
}

// Buffered returns what of the body was read with the head and not yet by the caller; it holds
// until the handler returns.
func (b *plainBody) Buffered() []byte { return b.read }

// Close implements io.Closer: what is left is skipped later.
func (b *plainBody) Close() error { return nil }

// skip reads away what the handler left, and reports whether the next request may follow.
func (b *plainBody) skip() bool {
	if b.left -= int64(len(b.read)); b.left > 0 && b.err == nil {
		b.conn.SetReadDeadline(time.Now().Add(skipTimeout))
		var n int64
		n, b.err = io.CopyN(io.Discard, b.conn, b.left)
		b.left -= n
	}
	return b.left == 0
}

// answer is an http.ResponseWriter that keeps an answer until it is whole.
type answer struct {
	conn   net.Conn
	header http.Header
	status int
	out    []byte // status line and fields, as they were at WriteHeader
	body   []byte
	typed  bool // the handler gave a Content-Type
	closes bool
}

var answers = sync.Pool{New: func() any { return &answer{header: make(http.Header, 8)} }}

// maxKeptAnswer is how long an answer may be whose memory is used again.
const maxKeptAnswer = 16 << 10

func (w *answer) release() {
	if cap(w.out)+cap(w.body) > maxKeptAnswer {
		return
	}
	clear(w.header)
	*w = answer{header: w.header, out: w.out[:0], body: w.body[:0]}
	answers.Put(w)
}

// Header implements http.ResponseWriter.
func (w *answer) Header() http.Header { return w.header }

// ours are fields that follow from the answer itself.
var ours = map[string]bool{"Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Date": true, "Trailer": true}

// WriteHeader implements http.ResponseWriter.
func (w *answer) WriteHeader(status int) {
	if w.status != 0 || status < 200 {
		return
	}
	w.status = status
	_, w.typed = w.header["Content-Type"]
	w.closes = w.header.Get("Connection") == "close"
	w.out = append(w.out, "HTTP/1.1 "...)
	w.out = strconv.AppendInt(w.out, int64(status), 10)
	w.out = append(w.out, ' ')
	if text := http.StatusText(status); text != "" {
		w.out = append(w.out, text...)
	} else {
		w.out = strconv.AppendInt(append(w.out, "status code "...), int64(status), 10)
	}
	w.out = append(w.out, "\r\n"...)
	w.header.WriteSubset((*fieldWriter)(w), ours)
}

// fieldWriter appends to the head of an answer.
type fieldWriter answer

func (w *fieldWriter) Write(p []byte) (int, error) {
	w.out = append(w.out, p...)
	return len(p), nil
}

func (w *fieldWriter) WriteString(s string) (int, error) {
	w.out = append(w.out, s...)
	return len(s), nil
}

// Write implements io.Writer.
func (w *answer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

// SetReadDeadline is for http.ResponseController.
func (w *answer) SetReadDeadline(t time.Time) error { return w.conn.SetReadDeadline(t) }

// SetWriteDeadline is for http.ResponseController.
func (w *answer) SetWriteDeadline(t time.Time) error { return w.conn.SetWriteDeadline(t) }

// finish returns the whole answer.
func (w *answer) finish() []byte {
	w.out = append(append(append(w.out, "Date: "...), date()...), "\r\n"...)
	if w.status != http.StatusNoContent && w.status != http.StatusNotModified {
		w.out = append(strconv.AppendInt(append(w.out, "Content-Length: "...), int64(len(w.body)), 10), "\r\n"...)
		if !w.typed && len(w.body) > 0 {
			w.out = append(append(append(w.out, "Content-Type: "...), http.DetectContentType(w.body)...), "\r\n"...)
		}
	}
	if w.closes {
		w.out = append(w.out, "Connection: close\r\n"...)
	}
	w.out = append(w.out, "\r\n"...)
	w.out = append(w.out, w.body...)
	return w.out
}

// dated is a second as an answer's Date.
type dated struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[dated]

func date() string {
	now := time.Now()
	d := lastDate.Load()
	if d == nil || d.second != now.Unix() {
		d = &dated{now.Unix(), now.UTC().Format(http.TimeFormat)}
		lastDate.Store(d)
	}
	return d.text
}
