package live_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/harkhq/hark/internal/live"
)

// late dials as somebody who says later who it is.
func (w *world) late() *ws {
	w.Helper()
	c := w.dial(&websocket.DialOptions{HTTPHeader: http.Header{"Unknown": {"1"}}})
	c.wantType("hello")
	return c
}

// TestPatternsOfManyTenants: a tenant whose subscriptions take all the patterns that there may
// be leaves some to others, and what ends makes room.
func TestPatternsOfManyTenants(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{MaxStreams: 32}) // 2048 patterns, of which 64 are for those who have few
	topics := make([]string, 64)
	for i := range topics {
		topics[i] = fmt.Sprintf(`"t%d"`, i)
	}
	wide := fmt.Sprintf(`,"topics":[%s]`, strings.Join(topics, ","))
	take := func(c *ws, sub string) bool {
		c.say(`{"type":"subscribe","sub":"%s"%s}`, sub, wide)
		a := c.hear()
		if a.Type == "error" && (a.Code != "too-many-subs" || a.Status != 503) {
			t.Fatalf("%+v", a)
		}
		return a.Type == "subscribed"
	}

	greedy := w.enter()
	n := 0
	for take(greedy, fmt.Sprint("s", n)) {
		n++
	}
	if n != 31 {
		t.Errorf("the greedy tenant has %d subscriptions", n)
	}
	other := w.late()
	other.say(`{"type":"auth","token":"other"}`)
	other.wantType("authenticated")
	if !take(other, "a") {
		t.Error("nothing is left for a tenant that has none")
	}
	if take(other, "b") || take(greedy, "more") {
		t.Error("there are more than there may be")
	}

	greedy.say(`{"type":"unsubscribe","sub":"s0"}`)
	greedy.wantType("unsubscribed")
	if take(greedy, "more") || take(other, "b") {
		t.Error("what came free is not kept for tenants that have few")
	}
	other.CloseNow()
	w.until("a connection that is gone left its patterns", func() bool { return take(greedy, "again") })
	if take(greedy, "more") {
		t.Error("what ended made more room than it had taken")
	}
}

// TestSeatOfWhoSaysLater: who says later who it is has a seat of its tenant from then on.
func TestSeatOfWhoSaysLater(t *testing.T) {
	w, _ := newSocketWorld(t, live.Config{MaxStreams: 64}) // of which 2 are for those who have few
	for range 62 {
		c := w.late()
		c.say(`{"type":"auth","token":"good"}`)
		c.wantType("authenticated")
		c.say(`{"type":"auth","token":"good"}`) // again: it has a seat
		c.wantType("authenticated")
	}
	c := w.late()
	c.say(`{"type":"auth","token":"good"}`)
	if said := c.wantClose(4003); len(said) != 1 || said[0].Reason != "overloaded" || said[0].Reconnect < 5000 {
		t.Errorf("%+v", said)
	}
	w.until("it leaves", func() bool { return w.hub.Streams() == 62 })
	for range 2 {
		c = w.late()
		c.say(`{"type":"auth","token":"other"}`)
		c.wantType("authenticated")
	}
	if n := w.hub.Streams(); n != 64 {
		t.Errorf("%d streams", n)
	}
}
