package rawhead

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// handshakeTimeout bounds a TLS handshake.
const handshakeTimeout = 10 * time.Second

// Config says what a [Listener] does.
type Config struct {
	// TLS ends TLS on each connection; nil for none.
	TLS *tls.Config
	// Keep tells whether the head of a request with this target is wanted. Whoever
	// serves the requests it wants must call [Of] for each.
	Keep func(target []byte) bool
	// Serve answers plain requests whose head is wanted, without net/http; nil for none. It must
	// be what the server of the listener calls. Idle is how long a connection then waits for
	// the next request, as the server's IdleTimeout is.
	Serve http.Handler
	Idle  time.Duration
}

// Listener wraps the connections of another one.
type Listener struct {
	net.Listener
	cfg   Config
	ready chan net.Conn
	errs  chan error

	start  sync.Once // of the handshakes
	ctx    context.Context
	cancel context.CancelFunc

	serving     atomic.Int64 // plain requests under way
	servingCtx  context.Context
	stopServing context.CancelFunc
}

// New wraps l.
func New(l net.Listener, cfg Config) *Listener {
	w := &Listener{Listener: l, cfg: cfg, ready: make(chan net.Conn), errs: make(chan error)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.servingCtx, w.stopServing = context.WithCancel(context.Background())
	return w
}

// Accept implements net.Listener. With TLS, the handshake of what it returns is over;
// slow ones hold up nobody.
func (l *Listener) Accept() (net.Conn, error) {
	if l.cfg.TLS == nil {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		return l.wrap(c, nil), nil
	}
	l.start.Do(func() { go l.acceptTLS() })
	select {
	case c := <-l.ready:
		return c, nil
	case err := <-l.errs:
		return nil, err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; handshakes under way end.
func (l *Listener) Close() error {
	l.cancel()
	return l.Listener.Close()
}

// acceptTLS: as many handshakes at once as the inner listener lets in.
func (l *Listener) acceptTLS() {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			go l.handshake(c)
			continue
		}
		select {
		case l.errs <- err: // the server decides; it waits before it asks again
		case <-l.ctx.Done():
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (l *Listener) handshake(inner net.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	defer cancel()
	c := tls.Server(inner, l.cfg.TLS)
	if err := c.HandshakeContext(ctx); err != nil {
		// As net/http does for who forgot the s of https.
		if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && plain.Conn != nil && looksLikeHTTP(plain.RecordHeader) {
			plain.Conn.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(plain.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		}
		inner.Close()
		return
	}
	state := c.ConnectionState()
	var out net.Conn = c
	if state.NegotiatedProtocol != "h2" {
		out = l.wrap(c, &state)
	}
	select {
	case l.ready <- out:
	case <-l.ctx.Done():
		c.Close()
	}
}

func looksLikeHTTP(record [5]byte) bool {
	switch string(record[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PATCH", "DELET":
		return true
	}
	return false
}

func (l *Listener) wrap(c net.Conn, state *tls.ConnectionState) *conn {
	w := &conn{Conn: c, tls: state, listener: l}
	w.frame.keep, w.frame.took = l.cfg.Keep, w.took
	return w
}

// conn is a connection that keeps heads.
type conn struct {
	net.Conn
	tls      *tls.ConnectionState
	listener *Listener

	// between: net/http has answered, and waits for the next request.
	between atomic.Bool
	// Of whoever reads, one at a time: what was read and net/http has not seen yet.
	ahead []byte
	idle  *idleReader
	// Of plain requests, from the first on; the goroutine's that serves them.
	ctx    context.Context
	remote string

	mu    sync.Mutex // guards below: net/http also reads while a handler runs
	frame frame
	heads []string // complete, in order, not taken yet
	one   [1]string
	// serving: a plain request is under way. closing: the connection is to be closed after it.
	serving, closing bool
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if c.between.Load() {
		return c.readIdle(p)
	}
	var n int
	var err error
	if len(c.ahead) > 0 {
		n = copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil // an idle connection holds none
		}
	} else {
		n, err = c.Conn.Read(p)
	}
	if n > 0 {
		c.mu.Lock()
		c.frame.feed(p[:n])
		c.mu.Unlock()
	}
	return n, err
}

// NetConn returns the connection under it, as tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite lets the server end its side first, where the connection can.
func (c *conn) CloseWrite() error {
	if inner, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return inner.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *conn) took(head string) {
	if len(c.heads) == 0 {
		c.heads = c.one[:0] // nearly always the only one
	}
	c.heads = append(c.heads, head)
}

// take returns the head of r, and forgets those before it.
func (c *conn) take(r *http.Request) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, head := range c.heads {
		if begins(head, r) {
			c.heads = c.heads[i+1:]
			if len(c.heads) == 0 {
				c.heads, c.one[0] = nil, ""
			}
			return head
		}
	}
	return ""
}

// begins reports whether head has the request line of r.
func begins(head string, r *http.Request) bool {
	for _, want := range [...]string{r.Method, " ", r.RequestURI, " ", r.Proto} {
		var ok bool
		if head, ok = strings.CutPrefix(head, want); !ok {
			return false
		}
	}
	return len(head) > 0 && (head[0] == '\r' || head[0] == '\n')
}

// off ends the following of a connection.
func (c *conn) off() {
	c.mu.Lock()
	c.frame.place, c.frame.part, c.heads, c.one[0] = lost, nil, nil, ""
	c.mu.Unlock()
}

type contextKey struct{}

// ConnContext is for http.Server.ConnContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if w, ok := c.(*conn); ok {
		return context.WithValue(ctx, contextKey{}, w)
	}
	return ctx
}

// ConnState is for http.Server.ConnState: what a handler took over is no HTTP any more.
func ConnState(c net.Conn, state http.ConnState) {
	w, ok := c.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateIdle:
		w.between.Store(w.listener.cfg.Serve != nil && w.atBoundary())
	case http.StateActive:
		w.between.Store(false)
	case http.StateHijacked:
		w.off()
		if len(w.ahead) > 0 {
			// Who takes over watches the socket, where this would not be seen to have come. It
			// came before the answer, which such clients must wait for (RFC 6455 section 4.1).
			w.Conn.Close()
		}
	}
}

// atBoundary reports whether all that was read belongs to requests that are over.
func (c *conn) atBoundary() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frame.place == inHead && c.frame.part == nil && !c.frame.stray
}

// Handler gives requests of HTTP/1 over TLS their TLS state. Put it around all others.
func Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			if c, ok := r.Context().Value(contextKey{}).(*conn); ok {
				r.TLS = c.tls
			}
		}
		h.ServeHTTP(w, r)
	})
}

// Of returns the request line and header fields of r as they were sent, up to and with
// the empty line; "" for HTTP/2, for a target that was not to be kept, and at a second call.
func Of(r *http.Request) string {
	if r.ProtoMajor != 1 {
		return ""
	}
	c, ok := r.Context().Value(contextKey{}).(*conn)
	if !ok {
		return ""
	}
	return c.take(r)
}
