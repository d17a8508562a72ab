package live

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/harkhq/hark"
	ws "github.com/harkhq/hark/internal/socket"
)

// Format is how a stream is written: a row of the table of transports.
type Format struct {
	*Variant
	ContentType string
	// Prelude opens a stream at a cursor; reconnect is how soon to come back after a break.
	Prelude func(dst []byte, at hark.Cursor, reconnect time.Duration) []byte
	// Gap tells of a gap, Cursor that a silent stream moved on. Either leaves the client at its cursor.
	Gap    func(dst []byte, g *hark.Gap) []byte
	Cursor func(dst []byte, at hark.Cursor) []byte
	// KeepAlive says nothing.
	KeepAlive string
	// End is the last thing of a stream that the server ends.
	End func(dst []byte, why string, reconnect time.Duration) []byte
}

// framed puts what f says into a chunk where the body is made of chunks.
func framed(dst []byte, chunked bool, said []byte) []byte {
	if chunked {
		return appendChunk(dst, said)
	}
	return append(dst, said...)
}

func (f *Format) gap(dst []byte, chunked bool, g *hark.Gap) []byte {
	return framed(dst, chunked, f.Gap(nil, g))
}

func (f *Format) cursor(dst []byte, chunked bool, at hark.Cursor) []byte {
	return framed(dst, chunked, f.Cursor(nil, at))
}

func (f *Format) end(dst []byte, chunked bool, why string, reconnect time.Duration) []byte {
	dst = framed(dst, chunked, f.End(nil, why, reconnect))
	if chunked {
		dst = append(dst, lastChunk...)
	}
	return dst
}

func (f *Format) keepAlive(chunked bool) []byte {
	return framed(nil, chunked, []byte(f.KeepAlive))
}

// Stream is a response that goes on.
type Stream struct {
	Query
	Format *Format
	// After is where it begins; Gap, when set, is told first.
	After  hark.Offset
	Gap    *hark.Gap
	Caller Caller
	// Ended is called once, when the stream is over, however it began; nil for nobody. It
	// must be quick.
	Ended func()
}

func ended(fn func()) {
	if fn != nil {
		fn()
	}
}

// Why streams end, as [Format.End] is told.
const (
	endStopping   = "stopping"
	endExpired    = "expired"
	endRevoked    = "revoked"
	endOverloaded = "overloaded"
	endSlow       = "slow"
)

// Stream answers r with s, for as long as both sides like. It returns when the client
// is gone, or once the stream is parked. Nothing must have been written to w.
func (h *Hub) Stream(w http.ResponseWriter, r *http.Request, s *Stream) error {
	s.Query.Variant = s.Format.Variant
	head := w.Header()
	head.Set("Content-Type", s.Format.ContentType)
	head.Set("Cache-Control", "private, no-cache, no-store, must-revalidate, max-age=0")
	head.Set("X-Accel-Buffering", "no") // of nginx: or it holds events back
	head.Set("Hark-Cursor", h.start(s).String())
	if s.Gap != nil {
		head.Set("Hark-Gap", gapHeader(s.Gap))
	}
	if r.Method == http.MethodHead {
		return nil
	}
	if h.drain.begun() {
		return h.refuse(w, s, endStopping, spread(h.drain.left()))
	}
	if !h.streams.take(s.Tenant, 1) {
		return h.refuse(w, s, endOverloaded, crowded())
	}
	h.cfg.Hooks.Opened(s.Format.Name)
	if ws.CanPark && r.TLS == nil && r.ProtoMajor == 1 {
		if parked, err := h.park(w, r, s); parked || err != nil {
			return err
		}
	}
	why, err := h.serve(w, r, s)
	h.streams.leave(s.Tenant, 1)
	h.cfg.Hooks.Closed(s.Format.Name, why)
	ended(s.Ended)
	return err
}

// refuse answers with a stream that ends at once: a browser that were told 503 would never
// come back (WHATWG HTML section 9.2.3).
func (h *Hub) refuse(w http.ResponseWriter, s *Stream, why string, reconnect time.Duration) error {
	h.cfg.Hooks.Closed(s.Format.Name, why)
	defer ended(s.Ended)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(s.Format.End(nil, why, reconnect))
	return nil
}

// start is the cursor of a client that has heard nothing yet. It lies before a gap: who is
// cut off before it was told must be told again.
func (h *Hub) start(s *Stream) hark.Cursor {
	if s.Gap != nil {
		return s.Gap.From
	}
	return h.log.Cursor(s.After)
}

// opening is the first bytes of a stream's body.
func (h *Hub) opening(s *Stream) []byte {
	b := s.Format.Prelude(nil, h.start(s), spread(2*time.Second))
	if s.Gap != nil {
		b = s.Format.Gap(b, s.Gap)
	}
	return b
}

// park takes the connection over and leaves it to a shard. Without an error, and not
// parked, nothing happened.
func (h *Hub) park(w http.ResponseWriter, r *http.Request, s *Stream) (parked bool, err error) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false, nil
	}
	var own bytes.Buffer
	chunked := r.ProtoAtLeast(1, 1)
	writeHead(&own, w.Header(), chunked)
	s.Query.chunked = chunked
	// The kernel is more patient than we: who reads nothing is sent away as slow, and is not just gone.
	fd, err := ws.Unpark(conn, h.cfg.SlowAfter+30*time.Second)
	if err != nil { // it is lost: nobody can answer any more
		conn.Close()
		h.streams.leave(s.Tenant, 1)
		h.cfg.Hooks.Closed(s.Format.Name, "gone")
		ended(s.Ended)
		return true, nil
	}
	sh := h.shards[int(h.next.Add(1))%len(h.shards)]
	st := &stream{shard: sh, fd: fd, format: s.Format, caller: s.Caller, ended: s.Ended, chunked: chunked, told: s.After,
		feed: h.acquire(s.Query), spot: spot{pos: s.After}, own: framed(own.Bytes(), chunked, h.opening(s))}
	if s.Caller != nil && !s.Caller.Until().IsZero() {
		st.until = s.Caller.Until().Unix()
	}
	// Here and not in the shard, which has others to serve.
	if n, _ := writeSocket(fd, st.own); n == len(st.own) {
		st.own = nil
	} else {
		st.own = st.own[n:]
	}
	sh.post(message{kind: attach, stream: st})
	return true, nil
}

// writeHead writes a response's head.
func writeHead(b *bytes.Buffer, h http.Header, chunked bool) {
	if chunked {
		b.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n")
	} else {
		b.WriteString("HTTP/1.0 200 OK\r\n")
	}
	b.WriteString("Connection: close\r\nDate: ")
	b.WriteString(time.Now().UTC().Format(http.TimeFormat))
	b.WriteString("\r\n")
	_ = h.Write(b) // to memory
	b.WriteString("\r\n")
}

func gapHeader(g *hark.Gap) string { return fmt.Sprintf("%s %s %s", g.From, g.To, g.Reason) }

// takeBytes is how much a served stream writes at once.
const takeBytes = 64 << 10

// serve writes a stream in its handler's goroutine: HTTP/2, TLS, and systems that cannot park.
func (h *Hub) serve(w http.ResponseWriter, r *http.Request, s *Stream) (why string, err error) {
	rc := http.NewResponseController(w)
	moved := make(chan struct{}, 1)
	reader := h.NewReader(s.Query, s.After, func() {
		select {
		case moved <- struct{}{}:
		default:
		}
	})
	defer reader.Close()
	ends := h.drain.watch(s.Caller)
	defer ends.stop()
	v := server{hub: h, stream: s, w: w, rc: rc, reader: reader, told: s.After}
	w.WriteHeader(http.StatusOK)
	if !v.write(h.opening(s)) {
		return "gone", nil
	}
	beat := time.NewTimer(h.silence())
	defer beat.Stop()
	for {
		wrote, ok := v.flush(r.Context())
		if !ok {
			return "gone", nil
		}
		if wrote {
			beat.Reset(h.silence())
		}
		select {
		case <-r.Context().Done():
			return "gone", nil
		case why := <-ends.why:
			v.write(s.Format.End(nil, why, spread(h.drain.left())))
			return why, nil
		case <-moved:
		case <-beat.C:
			if !v.keepAlive() {
				return "gone", nil
			}
			beat.Reset(h.silence())
		}
	}
}

// silence is how long a stream may say nothing.
func (h *Hub) silence() time.Duration { return h.cfg.KeepAlive + spread(h.cfg.KeepAlive/3)/2 }

// server is a stream that its handler serves.
type server struct {
	hub    *Hub
	stream *Stream
	w      http.ResponseWriter
	rc     *http.ResponseController
	reader *Reader
	buf    []byte
	told   hark.Offset
	beats  int
}

func (v *server) write(b []byte) bool {
	_ = v.rc.SetWriteDeadline(time.Now().Add(v.hub.cfg.SlowAfter))
	if _, err := v.w.Write(b); err != nil {
		return false
	}
	return v.rc.Flush() == nil
}

// flush writes all there is.
func (v *server) flush(ctx context.Context) (wrote, ok bool) {
	for ctx.Err() == nil {
		b, more, err := v.reader.Take(v.buf[:0], takeBytes)
		if err != nil {
			return wrote, false
		}
		if g := v.reader.Gap(); g != nil {
			b = v.stream.Format.Gap(b, g)
		}
		if len(b) > 0 {
			wrote = true
			if !v.write(b) {
				return wrote, false
			}
		}
		v.buf = b
		if !more {
			if cap(v.buf) > takeBytes/4 {
				v.buf = nil // a silent stream holds nothing
			}
			return wrote, true
		}
	}
	return wrote, false
}

func (v *server) keepAlive() bool {
	v.beats++
	if at := v.reader.Position(); v.beats%cursorEvery == 0 && at > v.told {
		v.told = at
		return v.write(v.stream.Format.Cursor(nil, v.hub.log.Cursor(at)))
	}
	return v.write([]byte(v.stream.Format.KeepAlive))
}
