package socket

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// echo says what it hears.
type echo struct {
	conn  *Conn
	limit int
	gone  chan string
	mu    sync.Mutex // guards serve
	serve [][]byte
}

func (e *echo) Limit() int       { return e.limit }
func (e *echo) Hear(text []byte) { e.conn.Say(append([]byte("heard "), text...)) }
func (e *echo) Control() bool    { return true }
func (e *echo) Sweep(time.Time)  {}
func (e *echo) Gone(why string)  { e.gone <- why }
func (e *echo) Fail(f Fault)     { e.conn.End(Farewell{Code: 4000 + Code(f), Counted: "failed"}) }
func (e *echo) Serve() (more, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.serve) == 0 {
		return false, true
	}
	b := e.serve[0]
	e.serve = e.serve[1:]
	return len(e.serve) > 0, e.conn.Send(b)
}

// door is a server whose connections are echoes.
func door(t testing.TB, cfg Config) (url string, met <-chan *echo) {
	t.Helper()
	g, err := NewGroup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan *echo, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &echo{limit: 1 << 20, gone: make(chan string, 1)}
		c, err := g.Accept(w, r, e, "test")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		e.conn = c
		c.Enter()
		c.Begin()
		all <- e
	}))
	ctx := t.Context()
	var wg sync.WaitGroup
	wg.Go(g.Watch)
	wg.Go(func() { g.Sweep(ctx) })
	t.Cleanup(func() {
		g.Stop(func(h Handler) { h.(*echo).conn.End(Farewell{Code: CloseGoingAway, Counted: "stopping"}) })
		wg.Wait()
		g.Close()
		s.Close()
	})
	return s.URL, all
}

func dialed(t testing.TB, url string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{"other", "test"}})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// TestEcho: messages of every size in both directions, with a client that is not ours.
func TestEcho(t *testing.T) {
	url, met := door(t, Config{PingEvery: time.Hour, SlowAfter: time.Minute})
	c := dialed(t, url)
	e := <-met
	if c.Subprotocol() != "test" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	for _, n := range []int{0, 1, 7, 8, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 300000, 1 << 20} {
		text := strings.Repeat("x", n)
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Read(t.Context())
		if err != nil || string(got) != "heard "+text {
			t.Fatalf("of %d bytes come %d: %v", n, len(got), err)
		}
	}
	e.mu.Lock()
	e.serve = [][]byte{[]byte("one"), []byte("two")}
	e.mu.Unlock()
	e.conn.Wake()
	for _, want := range []string{"one", "two"} {
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	go c.Read(t.Context())
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Close(4321, "thanks"); err != nil {
		t.Error(err)
	}
	if why := <-e.gone; why != "gone" {
		t.Errorf("gone for %q", why)
	}
}

// tardy is a connection on which a ping's write returns after its answer was heard.
type tardy struct {
	net.Conn
	heard chan struct{}
}

func (c tardy) Write(b []byte) (n int, err error) {
	n, err = c.Conn.Write(b)
	if bytes.Equal(b, []byte{0x80 | opPing, 0}) {
		<-c.heard
	}
	return n, err
}

// attentive tells of pongs.
type attentive struct {
	*echo
	heard chan struct{}
}

func (a attentive) Control() bool { a.heard <- struct{}{}; return true }

// TestPongFirst: a client may answer a ping before its write returned, and stays.
func TestPongFirst(t *testing.T) {
	g, err := NewGroup(Config{PingEvery: time.Minute, SlowAfter: time.Minute, PongWithin: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	here, there := net.Pipe()
	defer there.Close()
	a := attentive{&echo{limit: 100, gone: make(chan string, 1)}, make(chan struct{})}
	a.conn = newConn(g, a)
	a.conn.net = tardy{here, a.heard}
	a.conn.Enter()
	a.conn.Begin()
	now := time.Now()
	for range 3 {
		a.conn.sweep(now)
		now = now.Add(2 * g.cfg.PingEvery)
		a.conn.sweep(now) // pings
		var ping [2]byte
		if _, err := io.ReadFull(there, ping[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := there.Write([]byte{0x80 | opPong, 0x80, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		for done := false; !done; runtime.Gosched() {
			a.conn.mu.Lock()
			done = !a.conn.active
			a.conn.mu.Unlock()
		}
		for range 2 { // once more than it takes to be cut
			now = now.Add(2 * g.cfg.PongWithin)
			a.conn.sweep(now)
		}
	}
	select {
	case why := <-a.gone:
		t.Errorf("a client that answered is gone: %s", why)
	default:
	}
	a.conn.Cut()
	<-a.gone
}

// TestEnds: who ends it, how, and what the other is told.
func TestEnds(t *testing.T) {
	url, met := door(t, Config{PingEvery: time.Hour, SlowAfter: time.Minute})
	for _, c := range []struct {
		kind websocket.MessageType
		size int
		code websocket.StatusCode
	}{{websocket.MessageText, 1<<20 + 1, 4000 + websocket.StatusCode(TooLarge)}, {websocket.MessageBinary, 1, 4000 + websocket.StatusCode(NotText)}} {
		conn := dialed(t, url)
		e := <-met
		if err := conn.Write(t.Context(), c.kind, make([]byte, c.size)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != c.code {
			t.Errorf("ended with %v", err)
		}
		if why := <-e.gone; why != "failed" {
			t.Errorf("gone for %q", why)
		}
	}
	conn := dialed(t, url)
	e := <-met
	e.conn.End(Farewell{Frames: [][]byte{[]byte("bye")}, Code: 4001, Text: strings.Repeat("x", 200), Counted: "why"})
	if _, got, err := conn.Read(t.Context()); string(got) != "bye" {
		t.Errorf("%q, %v", got, err)
	}
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != 4001 {
		t.Errorf("ended with %v", err)
	}
	if why := <-e.gone; why != "why" {
		t.Errorf("gone for %q", why)
	}
	conn = dialed(t, url)
	e = <-met
	conn.CloseNow()
	if why := <-e.gone; why != "gone" {
		t.Errorf("gone for %q", why)
	}
}

// TestRefusals: requests that are none for a WebSocket are told so.
func TestRefusals(t *testing.T) {
	url, _ := door(t, Config{PingEvery: time.Hour, SlowAfter: time.Minute})
	for _, change := range []string{"Connection: close", "Upgrade: h2c", "Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: short", "Sec-WebSocket-Key:"} {
		request := "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
		name, _, _ := strings.Cut(change, ":")
		at := strings.Index(request, name+":")
		request = request[:at] + change + request[at+strings.Index(request[at:], "\r\n"):]
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, request)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 400 {
			t.Errorf("%s: %+v, %v", change, resp, err)
		}
		conn.Close()
	}
}

// FuzzFrames: whatever a client sends is read within bounds, or refused.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x81, 0x82, 0, 0, 0, 0, 'h', 'i'})
	f.Add([]byte{0x01, 0x81, 1, 2, 3, 4, 'h', 0x89, 0x80, 0, 0, 0, 0, 0x80, 0x81, 0, 0, 0, 0, 'i'})
	f.Add([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8})
	f.Add([]byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		br := bufio.NewReaderSize(bytes.NewReader(sent), 16)
		read := 0
		for {
			h, err := readHead(br)
			if err != nil {
				if !errors.Is(err, errProtocol) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				return
			}
			if h.op >= opClose && (h.size > maxControl || !h.final) {
				t.Fatalf("%+v is taken", h)
			}
			payload, err := readPayload(br, nil, h)
			if err != nil {
				return
			}
			if read += len(payload); uint64(len(payload)) != h.size || read > len(sent) {
				t.Fatalf("%d bytes of %d", len(payload), h.size)
			}
		}
	})
}
