package live_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/live"
)

// bare is a client that says what no library would.
type bare struct {
	*world
	net.Conn
	r *bufio.Reader
}

const upgradeRequest = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"

// bare opens a connection; early is sent in one write with the request.
func (w *world) bare(early []byte) *bare {
	w.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	conn.Write(append([]byte(upgradeRequest), early...))
	b := &bare{w, conn, bufio.NewReader(conn)}
	res, err := http.ReadResponse(b.r, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "BACScCJPNqyz+UBoqMH89VmURoA=" {
		w.Fatalf("%v: %+v", err, res)
	}
	return b
}

// Bits and opcodes of a frame's first byte (RFC 6455 section 5.2).
const (
	fin                               = 0x80
	continuation, text, binaryMessage = 0, 1, 2
	closing, ping, pong               = 8, 9, 10
)

// masked is a frame as clients send it.
func masked(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := []byte{1, 2, 3, 4}
	b = append(b, key...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

// frame reads a frame of the server.
func (b *bare) frame() (first byte, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(b.r, head); err != nil {
		return 0, nil, err
	}
	n := int(head[1])
	if n == 126 {
		var size [2]byte
		io.ReadFull(b.r, size[:])
		n = int(binary.BigEndian.Uint16(size[:]))
	} else if n > 126 {
		var size [8]byte
		io.ReadFull(b.r, size[:])
		n = int(binary.BigEndian.Uint64(size[:]))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(b.r, payload)
	return head[0], payload, err
}

// closed reads up to the close frame and returns its code, and what was said before.
func (b *bare) closed() (code int, said string) {
	for {
		first, payload, err := b.frame()
		switch {
		case err != nil:
			return 0, said
		case first == fin|closing && len(payload) >= 2:
			return int(binary.BigEndian.Uint16(payload)), said
		}
		said += string(payload) + "\n"
	}
}

// TestProtocolAbuse: what the protocol forbids ends the connection with a code, and harms nobody.
func TestProtocolAbuse(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{})
	beside := w.enter()
	beside.subscribe("a", `,"topics":["a"]`)
	unmasked := []byte{fin | text, 2, '{', '}'}
	longPing := append([]byte{fin | ping, 0x80 | 126, 0, 126, 1, 2, 3, 4}, make([]byte, 126)...)
	negative := []byte{fin | text, 0x80 | 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}
	endless := append([]byte{fin | text, 0x80 | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, make([]byte, 2<<20)...)
	for _, c := range []struct {
		name string
		send []byte
		code int
	}{
		{"unmasked", unmasked, 1002},
		{"reserved bit 1, of compression that was not agreed", masked(fin|0x40|text, "{}"), 1002},
		{"reserved bit 2", masked(fin|0x20|text, "{}"), 1002},
		{"reserved bit 3", masked(fin|0x10|ping, ""), 1002},
		{"opcode 3", masked(fin|3, ""), 1002},
		{"opcode 11", masked(fin|11, ""), 1002},
		{"ping in fragments", masked(ping, "a"), 1002},
		{"close in fragments", masked(closing, ""), 1002},
		{"ping of 126 bytes", longPing, 1002},
		{"nothing continued", masked(fin|continuation, "{}"), 1002},
		{"text inside of text", append(masked(text, "{"), masked(fin|text, "}")...), 1002},
		{"close with half a code", masked(fin|closing, "\x03"), 1002},
		{"close with a code that is never sent", masked(fin|closing, "\x03\xed"), 1002},
		{"close with code 0", masked(fin|closing, "\x00\x00"), 1002},
		{"a length of 2^64-1", negative, 1002},
		{"a length of 2^63-1, and some of it", endless, 4413},
		{"binary", masked(fin|binaryMessage, `{"type":"ping"}`), 4400},
		{"nothing", masked(fin|text, ""), 4400},
		{"no UTF-8", masked(fin|text, "{\"type\":\"ping\",\"ref\":\"\xc3\x28\"}"), 4400},
		{"no UTF-8, cut in two", append(masked(text, "{\"type\":\"ping\",\"ref\":\"\xf0\x9f"), masked(fin|continuation, "\"}")...), 4400},
		{"a surrogate in UTF-8", masked(fin|text, "{\"type\":\"ping\",\"ref\":\"\xed\xa0\x80\"}"), 4400},
		{"no JSON", masked(fin|text, "hello"), 4400},
		{"an array", masked(fin|text, "[]"), 4400},
		{"JSON of great depth", masked(fin|text, `{"type":"ping","a":`+strings.Repeat("[", 60000)), 4400},
		{"a large frame", masked(fin|text, `{"type":"publish","topic":"a","data":"`+strings.Repeat("x", 1<<20)), 4413},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := w.bare(nil)
			go b.Write(c.send)
			if code, said := b.closed(); code != c.code {
				t.Errorf("close code %d after %s", code, said)
			}
		})
	}
	w.publish("a", 0, 1)
	beside.wantAll(map[string]int{"a": 1})
}

// TestProtocol: what the protocol allows, though few do it.
func TestProtocol(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{})
	ask := masked(fin|text, `{"type":"ping","ref":"1"}`)
	next := func(t *testing.T, b *bare, first byte, has string) {
		t.Helper()
		if got, payload, err := b.frame(); err != nil || got != first || !strings.Contains(string(payload), has) {
			t.Fatalf("want %s: %x %s %v", has, got, payload, err)
		}
	}
	t.Run("together with the request", func(t *testing.T) {
		b := w.bare(append(ask, ask...))
		next(t, b, fin|text, "hello")
		next(t, b, fin|text, `"pong","ref":"1"`)
		next(t, b, fin|text, `"pong","ref":"1"`)
	})
	t.Run("byte by byte", func(t *testing.T) {
		b := w.bare(nil)
		next(t, b, fin|text, "hello")
		for i := range ask {
			b.Write(ask[i : i+1])
		}
		next(t, b, fin|text, `"pong"`)
	})
	t.Run("in fragments, with pings between", func(t *testing.T) {
		b := w.bare(nil)
		next(t, b, fin|text, "hello")
		b.Write(masked(text, `{"type":`))
		b.Write(masked(fin|ping, "one"))
		b.Write(masked(continuation, ``))
		b.Write(masked(continuation, `"ping","ref"`))
		b.Write(masked(fin|pong, "of nothing"))
		b.Write(masked(fin|continuation, `:"é"}`))
		next(t, b, fin|ping+1, "one")
		next(t, b, fin|text, `"ref":"é"`)
	})
	t.Run("a ping of 125 bytes", func(t *testing.T) {
		b := w.bare(nil)
		next(t, b, fin|text, "hello")
		b.Write(masked(fin|ping, strings.Repeat("p", 125)))
		next(t, b, fin|pong, strings.Repeat("p", 125))
	})
	t.Run("the largest frame", func(t *testing.T) {
		b := w.bare(nil)
		next(t, b, fin|text, "hello")
		b.Write(masked(fin|text, `{"type":"ping"}`+strings.Repeat(" ", 1<<20-15)))
		next(t, b, fin|text, `"pong"`)
	})
	t.Run("good-bye with a reason", func(t *testing.T) {
		b := w.bare(nil)
		next(t, b, fin|text, "hello")
		b.Write(masked(fin|closing, "\x03\xe8thanks"))
		next(t, b, fin|closing, "\x03\xe8thanks")
		if _, _, err := b.frame(); err == nil {
			t.Error("it goes on")
		}
	})
	t.Run("no more from the client", func(t *testing.T) {
		b := w.bare(nil)
		next(t, b, fin|text, "hello")
		b.Conn.(*net.TCPConn).CloseWrite()
		for {
			if _, _, err := b.frame(); err != nil {
				break
			}
		}
	})
	for _, head := range []string{"Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: short", "Connection: close", "Upgrade: h2c"} {
		name, _, _ := strings.Cut(head, ":")
		request := ""
		for line := range strings.SplitSeq(strings.TrimSuffix(upgradeRequest, "\r\n\r\n"), "\r\n") {
			if strings.HasPrefix(line, name+":") {
				line = head
			}
			request += line + "\r\n"
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, request+"\r\n")
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 400 {
			t.Errorf("%s: %v %+v", head, err, res)
		}
		conn.Close()
	}
}

// TestFloods: too many frames of any kind are refused, then the connection is closed; all
// subscriptions that one may have may come at once.
func TestFloods(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{})
	for name, frame := range map[string][]byte{
		"pings of the protocol": masked(fin|ping, "x"),
		"pongs":                 masked(fin|pong, "x"),
		"pings":                 masked(fin|text, `{"type":"ping"}`),
		"faults":                masked(fin|text, `{"type":"dance"}`),
		"bad publishes":         masked(fin|text, `{"type":"publish"}`),
		"subscriptions":         masked(fin|text, `{"type":"subscribe","sub":"x"}`),
	} {
		t.Run(name, func(t *testing.T) {
			b := w.bare(nil)
			began := time.Now()
			go func() {
				for { // faster than it may, however fast that is
					if _, err := b.Write(frame); err != nil {
						return
					}
				}
			}()
			code, said := b.closed()
			most := 110 + int(time.Since(began)/(10*time.Millisecond)) // its allowance grows meanwhile, by 100 a second
			if n := strings.Count(said, `"code":"too-many-frames"`); code != 4429 || n < 100 || n > most {
				t.Errorf("close code %d after %d refusals, of at most %d", code, n, most)
			}
		})
	}
	c := w.enter()
	for i := range 1001 {
		c.say(`{"type":"subscribe","sub":"s%d","topics":["t%d.>"]}`, i, i)
	}
	for range 1000 {
		c.wantType("subscribed")
	}
	if a := c.hear(); a.Type != "error" || a.Code != "too-many-subs" {
		t.Errorf("%+v", a)
	}
	for i := range 1000 {
		w.publish(fmt.Sprintf("t%d.x", i), 0, 1)
	}
	want := map[string]int{}
	for i := range 1000 {
		want[fmt.Sprintf("s%d", i)] = 1
	}
	c.wantAll(want)
}

// slowClient does not read; it has little room for what comes.
func (w *world) slowClient(sub string) *bare {
	w.Helper()
	b := w.bare(masked(fin|text, sub))
	b.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	for range 2 { // hello, subscribed
		b.frame()
	}
	return b
}

// TestSlowSocket: who reads nothing holds nobody up; who reads again
// in time has lost nothing; who does not is cut, and finds the reason when it looks.
func TestSlowSocket(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{SlowAfter: 5 * time.Second})
	slow := w.slowClient(`{"type":"subscribe","sub":"s","topics":["a"]}`)
	never := w.slowClient(`{"type":"subscribe","sub":"s","topics":["a"]}`)
	quick := w.enter()
	quick.subscribe("q", `,"topics":["a"]`)
	const rounds, each = 10, 1000
	for i := range rounds { // more than sockets hold
		w.publish("a", i*each, each)
		quick.wantAll(map[string]int{"q": (i + 1) * each})
	}
	take := func(b *bare) (n int, last answer) {
		for {
			first, payload, err := b.frame()
			var a answer
			switch {
			case err != nil:
				t.Fatalf("after %d events: %v", n, err)
			case first == fin|closing:
				if binary.BigEndian.Uint16(payload) != 4002 {
					t.Errorf("close code %x", payload)
				}
				return n, last
			case json.Unmarshal(payload, &a) != nil:
				t.Fatalf("%x %s", first, payload)
			}
			for _, e := range a.Events {
				if e.Data.N != n {
					t.Fatalf("%d comes for %d", e.Data.N, n)
				}
				n++
			}
			if last = a; n == rounds*each && b == slow {
				return n, last
			}
		}
	}
	if n, _ := take(slow); n != rounds*each {
		t.Errorf("%d events", n)
	}
	w.until("it is still there", func() bool { return w.hub.Streams() <= 2 })
	n, last := take(never)
	if last.Type != "end" || last.Reason != "slow" || last.Reconnect == 0 {
		t.Errorf("after %d events: %+v", n, last)
	}
	t.Logf("it had %d events", n)
}

// TestSocketGap: what retention took is told, before what comes after it.
func TestSocketGap(t *testing.T) {
	d := &door{}
	w := newWorldWith(t, live.Config{Front: d}, eventlog.Config{BucketBytes: 4096, RetainEvery: 10 * time.Millisecond, TailEvents: 64,
		Policy: func(hark.TenantID) eventlog.Policy { return eventlog.Policy{MaxBytes: 64 << 10} }})
	d.world = w
	c := w.enter()
	old := c.subscribe("a", `,"topics":["a"]`).Cursor
	c.say(`{"type":"unsubscribe","sub":"a"}`)
	c.wantType("unsubscribed")
	n := 0
	for ; w.log.Floor(1) < 2000; n += 500 {
		w.publish("a", n, 500)
	}
	w.settle(64 << 10)
	c.last = map[string]string{}
	if a := c.subscribe("b", `,"topics":["a"],"after":"`+old+`"`); a.Cursor < old {
		t.Errorf("%+v", a)
	}
	a := c.wantType("gap")
	if a.Sub != "b" || a.Gap.From != old || a.Gap.To <= old || a.Gap.Reason != "retention" {
		t.Fatalf("%+v", a)
	}
	events := c.hear()
	if events.Type != "events" || events.Events[0].ID <= a.Gap.To {
		t.Fatalf("%+v", events)
	}
	c.next["b"] = events.Events[0].Data.N
	c.count(events)
	c.wantAll(map[string]int{"b": n})
	c.say(`{"type":"publish","topic":"a","data":1}`)
	if a := c.hear(); a.Type != "error" || a.Field != "type" {
		t.Errorf("without a publisher: %+v", a)
	}
}

// TestSocketsChurn: connections that come and go in the midst of everything leave nothing behind.
func TestSocketsChurn(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n += 20 {
			select {
			case <-stop:
				return
			default:
				w.publish("a", n, 20)
			}
		}
	}()
	for round := range 8 {
		var open []*ws
		for i := range 8 {
			c := w.dial(nil)
			c.say(`{"type":"subscribe","sub":"a","topics":["a"],"last":%d}`, 1+round)
			c.say(`{"type":"subscribe","sub":"b","from":"earliest"}`)
			if i%2 == 0 {
				c.say(`{"type":"unsubscribe","sub":"a"}`)
			}
			open = append(open, c)
		}
		for i, c := range open {
			for range i {
				c.hear()
			}
			if i%3 == 0 {
				go c.Close(websocket.StatusNormalClosure, "")
			} else {
				c.CloseNow()
			}
		}
	}
	close(stop)
	<-done
	w.until("connections are left", func() bool { return w.hub.Streams() == 0 })
	if n := w.hub.Feeds(); n != 0 {
		t.Errorf("%d feeds are left", n)
	}
}
