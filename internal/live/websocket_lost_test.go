package live_test

import (
	"bytes"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/live"
)

// slowCursor holds back who asks for a cursor, once it is armed.
type slowCursor struct {
	live.Log
	armed         atomic.Bool
	asked, answer chan struct{}
}

func (l *slowCursor) Cursor(o hark.Offset) hark.Cursor {
	if l.armed.CompareAndSwap(true, false) {
		close(l.asked)
		<-l.answer
	}
	return l.Log.Cursor(o)
}

// running reports whether some goroutine is in a function.
func running(name string) bool {
	stacks := make([]byte, 1<<20)
	return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte(name))
}

// TestLostWhileSubscribing: a client that is lost in the midst of subscribing to a feed that has
// something to say holds up nobody: the pump may be about to tell that very subscription.
func TestLostWhileSubscribing(t *testing.T) {
	log := &slowCursor{asked: make(chan struct{}), answer: make(chan struct{})}
	d := &door{}
	w := newWorldWith(t, live.Config{Front: d, Publisher: d}, eventlog.Config{TailEvents: 256, RetainEvery: time.Hour}, func(l live.Log) live.Log {
		log.Log = l
		return log
	})
	d.world = w
	after := w.log.End()
	query := live.Query{Tenant: 1, Patterns: []hark.Pattern{"a"}, Variant: live.List}
	telling, goOn := make(chan struct{}), make(chan struct{})
	first := w.hub.NewReader(query, after, func() {
		close(telling)
		<-goOn
	})
	defer first.Close()

	c := w.slowClient(`{"type":"subscribe","sub":"b","topics":["b"]}`)
	log.armed.Store(true)
	c.Write(masked(fin|text, `{"type":"subscribe","sub":"a","topics":["a"]}`))
	<-log.asked // it is among the readers of the feed
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Close()
	for n := 0; w.hub.Streams() > 0; n++ { // its writer finds out
		w.publish("b", n, 1)
	}
	w.publish("a", 0, 1)
	<-telling
	close(log.answer)
	w.until("the subscription is not given up", func() bool { return running("live.(*feed).remove(") })
	close(goOn)
	w.until("the pump waits for a client that is gone", func() bool { return w.hub.Feeds() == 1 })
}
