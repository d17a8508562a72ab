package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestCrashLive kills the server again and again in the middle of a fan-out, while
// publishers run. Followers come back on the same transport or on another, each
// with its one position: they see everything acknowledged, once, in order, and
// nothing that a kill took away again.
func TestCrashLive(t *testing.T) {
	t.Parallel()
	rounds, seed := soak(t, 8)
	a := hear(t, seed, testenv.Setup{Flags: []string{"--store-memtable=262144", "--store-tail=262144"}})
	topics := []string{"a.one", "a.two", "a.three", "b.one", "b.two", "c.much.deeper", "rare"}
	for _, by := range live.All {
		a.follow(a.client(string(by), "a.*", "b.>"), live.Always(by), live.Patience{})
	}
	for i, topics := range [][]string{nil, {">"}, {"a.one"}, {"rare"}, {"*.two", "c.>"}, {"nothing.at.all"}} {
		a.follow(a.client(fmt.Sprintf("hand-over %d", i), topics...), a.mixed(), live.Patience{})
	}
	// A client that never stays.
	short := a.client("restless", "b.>")
	short.Start.Rounds = 1
	a.follow(short, a.mixed(live.Poll, live.LongPoll), live.Patience{})
	a.listening()
	for round := range rounds {
		stop := a.chatter(3, 12, 2*time.Millisecond, topics...)
		a.pause(100*time.Millisecond, 900*time.Millisecond)
		a.kill()
		stop()
		a.rise(round)
		a.took()
	}
	for _, topic := range topics {
		a.say(0, topic) // a kill may have come before the first of a topic
	}
	a.settle()
	a.compare()
	a.judge()
	for _, c := range a.clients {
		if gaps := c.Gaps(); len(gaps) > 0 {
			t.Errorf("%s: nothing was taken by retention, and it was told %+v", c.Name, gaps)
		}
	}
	t.Logf("%d kills, slowest start %v", len(a.kills), a.slow.Round(time.Millisecond))
}
