package live_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/live"
)

// stall opens a stream and reads nothing of it but its head.
func (w *world) stall(query string, header ...string) net.Conn {
	w.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close() })
	conn.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(conn, "GET /stream?%s HTTP/1.1\r\nHost: h\r\n%s\r\n", query, strings.Join(header, ""))
	if res, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil); err != nil || res.StatusCode != 200 {
		w.Fatal(res, err)
	}
	return conn
}

// until waits for something to become true.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatal(what)
		}
	}
}

// TestStalledPastItsEnd: whoever takes nothing is let go after SlowAfter also when its
// credential has ended meanwhile.
func TestStalledPastItsEnd(t *testing.T) {
	w := newWorld(t, live.Config{SlowAfter: 2 * time.Second})
	w.stall("topic=a", "Until: "+time.Now().Add(time.Second).Format(time.RFC3339Nano)+"\r\n")
	for n := 0; n < 20_000; n += 500 {
		w.publish("a", n, 500)
	}
	w.until("the stream stays open", func() bool { return w.hub.Streams() == 0 })
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestStalledHoldNothing: readers that stop in the midst of catching up keep a position,
// and not the page that they were reading.
func TestStalledHoldNothing(t *testing.T) {
	w := newWorld(t, live.Config{PageBytes: 1 << 20})
	from := w.log.Cursor(w.log.End()).String()
	for n := 0; n < 20_000; n += 500 {
		w.publish("a", n, 500)
	}
	before := heap()
	const clients = 150
	for i := range clients { // each asks for something else, so that nothing is shared
		w.stall(fmt.Sprintf("topic=a&topic=x.%d&after=%s", i, from))
	}
	var grown int64
	w.until("they hold the pages that they read", func() bool {
		grown = int64(heap()) - int64(before)
		return w.hub.Streams() == clients && grown < clients*(80<<10)
	})
	t.Logf("%d KiB for each", grown/clients>>10)
}

// gatedLog holds reads back.
type gatedLog struct {
	live.Log
	gate, waiting chan struct{}
	reads         atomic.Int32
}

func (l *gatedLog) Read(t hark.TenantID, q eventlog.Query) (eventlog.Page, error) {
	l.reads.Add(1)
	select {
	case l.waiting <- struct{}{}:
	default:
	}
	<-l.gate
	return l.Log.Read(t, q)
}

// TestEndWhileCatchingUp: a stream that waits for a page ends as politely as others.
func TestEndWhileCatchingUp(t *testing.T) {
	gated := &gatedLog{gate: make(chan struct{}), waiting: make(chan struct{}, 1)}
	w := newWorldWith(t, live.Config{}, eventlog.Config{TailEvents: 256, RetainEvery: time.Hour}, func(l live.Log) live.Log {
		gated.Log = l
		return gated
	})
	defer close(gated.gate)
	from := w.log.Cursor(w.log.End()).String()
	w.publish("a", 0, 1000)
	c := w.stream("topic=a&after=" + from)
	if f, err := c.next(); err != nil || f.id != from {
		t.Fatal(f, err)
	}
	<-gated.waiting
	w.hub.Drain(time.Minute)
	if f := c.event(); f.event != "end" || !strings.Contains(f.data, "stopping") {
		t.Errorf("%+v", f)
	}
}

// TestGoneBeforeItsTurn: nothing is read any more for clients that are gone by then.
func TestGoneBeforeItsTurn(t *testing.T) {
	gated := &gatedLog{gate: make(chan struct{}), waiting: make(chan struct{}, 1)}
	w := newWorldWith(t, live.Config{CatchUps: 1}, eventlog.Config{TailEvents: 256, RetainEvery: time.Hour}, func(l live.Log) live.Log {
		gated.Log = l
		return gated
	})
	from := w.log.Cursor(w.log.End()).String()
	w.publish("a", 0, 1000)
	for i := range 50 {
		w.stream(fmt.Sprintf("topic=a&topic=x.%d&after=%s", i, from)).body.Close()
	}
	<-gated.waiting
	w.until("they are not gone", func() bool { return w.hub.Streams() == 0 })
	close(gated.gate)
	w.stream("topic=a&after="+from).want(0, 1000)
	if n := gated.reads.Load(); n > 10 {
		t.Errorf("the log was read %d times", n)
	}
}
