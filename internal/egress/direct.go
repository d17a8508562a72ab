package egress

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// direct carries plain HTTP/1.1. It does what http.Transport does for it, with
// net/http's own reading and writing, but in the goroutine of the caller:
// Transport hands each request to one goroutine and each answer to another, and
// those hand-overs are a third of what a small request costs. TLS, where a
// connection may turn out to speak HTTP/2, and proxies stay with Transport.
type direct struct {
	client *Client

	mu    sync.Mutex // guards below
	idle  map[string][]*wire
	kept  int
	sweep *time.Timer // set while anything is kept
}

// wire is one connection with its buffers.
type wire struct {
	nc     net.Conn
	key    string
	r      *bufio.Reader
	w      *bufio.Writer
	budget int64 // bytes that may still be read before the answer's header is over; < 0 for no bound
	heard  bool  // something of an answer arrived
	broken error // why writing failed
	since  time.Time
	reused bool
}

var errHeaderTooLarge = &Error{Fault: FaultTooLarge, Msg: "the header of the answer is too large"}

// Read reads from the connection within the budget.
func (w *wire) Read(b []byte) (int, error) {
	if w.budget == 0 {
		return 0, errHeaderTooLarge
	}
	if w.budget > 0 && int64(len(b)) > w.budget {
		b = b[:w.budget]
	}
	n, err := w.nc.Read(b)
	w.heard = w.heard || n > 0
	if w.budget > 0 {
		w.budget -= int64(n)
	}
	return n, err
}

// Write writes to the connection and remembers why it failed: net/http wraps
// that in an error that tells nothing.
func (w *wire) Write(b []byte) (int, error) {
	n, err := w.nc.Write(b)
	if err != nil {
		w.broken = err
	}
	return n, err
}

// roundTrip sends req, whose URL is plain http, and returns when the header of
// the answer is there. The body must be read to its end or closed.
func (d *direct) roundTrip(ctx context.Context, req *http.Request) (*http.Response, *wire, error) {
	key := req.URL.Host
	if req.URL.Port() == "" {
		key = net.JoinHostPort(req.URL.Hostname(), "80")
	}
	w := d.take(key)
	if w != nil {
		res, err := d.try(ctx, w, req)
		if err == nil || w.heard || ctx.Err() != nil || !rewind(req) {
			return res, w, err
		}
		// The peer closed a kept connection just now, and the request says that it
		// may be repeated.
	}
	nc, err := d.client.dial(ctx, "tcp", key)
	if err != nil {
		return nil, nil, err
	}
	w = &wire{nc: nc, key: key}
	w.r, w.w = bufio.NewReader(w), bufio.NewWriter(w)
	res, err := d.try(ctx, w, req)
	return res, w, err
}

// rewind makes a request ready to be sent again, if it may be: net/http's rule.
func rewind(req *http.Request) bool {
	_, declared := req.Header["Idempotency-Key"]
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		declared = true
	}
	if !declared {
		return false
	}
	if req.Body == nil || req.Body == http.NoBody {
		return true
	}
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	if err != nil {
		return false
	}
	req.Body = body
	return true
}

// try sends req on one connection.
func (d *direct) try(ctx context.Context, w *wire, req *http.Request) (*http.Response, error) {
	w.heard = false
	deadline, _ := ctx.Deadline()
	w.nc.SetDeadline(deadline)
	// A cancelled context ends whatever read or write is under way.
	release := context.AfterFunc(ctx, func() { w.nc.SetDeadline(time.Unix(1, 0)) })
	res, err := w.exchange(req, d.client.cfg.MaxHeader)
	if err != nil {
		release()
		w.nc.Close()
		return nil, err
	}
	body := &wireBody{direct: d, wire: w, inner: res.Body, keep: !res.Close && !req.Close && res.ProtoAtLeast(1, 1), release: release}
	if res.Body == http.NoBody || res.ContentLength == 0 {
		body.end()
		res.Body = http.NoBody
	} else {
		res.Body = body
	}
	return res, nil
}

// maxInterim bounds the 1xx answers before the real one.
const maxInterim = 5

func (w *wire) exchange(req *http.Request, maxHeader int64) (*http.Response, error) {
	w.budget = maxHeader
	err := req.Write(w.w)
	if err == nil {
		err = w.w.Flush()
	}
	if w.broken != nil {
		return nil, w.broken
	}
	if err != nil {
		return nil, err
	}
	for range maxInterim {
		res, err := http.ReadResponse(w.r, req)
		if w.budget == 0 {
			return nil, errHeaderTooLarge
		}
		if err != nil {
			return nil, err
		}
		if res.StatusCode < 100 || res.StatusCode > 199 || res.StatusCode == http.StatusSwitchingProtocols {
			w.budget = -1
			return res, nil
		}
	}
	return nil, errors.New("net/http: too many 1xx informational responses")
}

// wireBody is the body of an answer; its end gives the connection back.
type wireBody struct {
	direct  *direct
	wire    *wire
	inner   io.ReadCloser
	keep    bool
	release func() bool
	over    atomic.Bool // the connection was given back or closed
}

// Read implements io.Reader.
func (b *wireBody) Read(p []byte) (int, error) {
	n, err := b.inner.Read(p)
	if err == io.EOF {
		b.end()
	}
	return n, err
}

// Close closes the connection unless the body was read to its end. It may be
// called while a Read hangs.
func (b *wireBody) Close() error {
	if b.over.CompareAndSwap(false, true) {
		b.release()
		return b.wire.nc.Close()
	}
	return nil
}

// end is the body's end: the connection is free.
func (b *wireBody) end() {
	if !b.over.CompareAndSwap(false, true) {
		return
	}
	// A context that was cancelled is still spoiling the deadline.
	if b.release() && b.keep && b.wire.r.Buffered() == 0 {
		b.direct.put(b.wire)
		return
	}
	b.wire.nc.Close()
}

// take returns a kept connection that is still open, or nil.
func (d *direct) take(key string) *wire {
	for {
		d.mu.Lock()
		list := d.idle[key]
		n := len(list)
		if n == 0 {
			d.mu.Unlock()
			return nil
		}
		w := list[n-1] // the one used last: the others get a chance to grow old
		list[n-1] = nil
		if n == 1 {
			delete(d.idle, key)
		} else {
			d.idle[key] = list[:n-1]
		}
		d.kept--
		d.mu.Unlock()
		if time.Since(w.since) < d.client.cfg.IdleTimeout && quiet(w.nc) {
			w.reused = true
			return w
		}
		w.nc.Close()
	}
}

// put keeps a connection for the next request.
func (d *direct) put(w *wire) {
	w.since = time.Now()
	d.mu.Lock()
	if d.kept >= d.client.cfg.MaxIdle || len(d.idle[w.key]) >= d.client.cfg.MaxIdlePerHost {
		d.mu.Unlock()
		w.nc.Close()
		return
	}
	d.idle[w.key] = append(d.idle[w.key], w)
	d.kept++
	if d.sweep == nil {
		d.sweep = time.AfterFunc(d.client.cfg.IdleTimeout, d.sweepOnce)
	}
	d.mu.Unlock()
}

// sweepOnce closes what nobody has used for the idle time, or everything when
// that is what all ages come to.
func (d *direct) sweepOnce() { d.closeOlder(d.client.cfg.IdleTimeout) }

func (d *direct) closeOlder(age time.Duration) {
	var old []*wire
	d.mu.Lock()
	for key, list := range d.idle {
		keep := 0
		for keep < len(list) && time.Since(list[keep].since) >= age { // oldest first
			keep++
		}
		old = append(old, list[:keep]...)
		if keep == len(list) {
			delete(d.idle, key)
		} else if keep > 0 {
			d.idle[key] = append([]*wire(nil), list[keep:]...)
		}
	}
	d.kept -= len(old)
	if d.kept > 0 && d.sweep != nil {
		d.sweep.Reset(max(d.client.cfg.IdleTimeout/4, time.Second))
	} else if d.sweep != nil {
		d.sweep.Stop()
		d.sweep = nil
	}
	d.mu.Unlock()
	for _, w := range old {
		w.nc.Close()
	}
}
