package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestLiveStalled: readers that stop reading, or read 1 KB a second, cost neither the
// others' time nor the server's memory, and get everything when they read again, over
// the same connection.
func TestLiveStalled(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	stalled, slow := live.NewTap(), live.NewTap()
	for _, by := range live.All {
		a.follow(a.client("steady "+string(by), "big.>"), live.Always(by), live.Patience{})
	}
	steady := slices.Clone(a.clients)
	for _, by := range live.Streams {
		for range 3 {
			c := a.client("stalled "+string(by), "big.>")
			c.Target.Dial = stalled.Dial
			a.follow(c, live.Always(by), live.Patience{})
			c = a.client("slow "+string(by), "big.>")
			c.Target.Dial = slow.Dial
			a.follow(c, live.Always(by), live.Patience{})
		}
	}
	a.listening()
	stalled.Shut()
	slow.Open(1 << 10)
	before := a.memory()
	most, late := before, time.Duration(0)
	const events, size = 3000, 8 << 10 // 24 MB for each
	for n := 0; n < events; n += 20 {
		id := a.say(size, slices.Repeat([]string{"big.one"}, 20)...)
		if n%500 == 0 {
			late = max(late, a.reached(steady, id))
			most = max(most, a.memory())
		}
	}
	late = max(late, a.reached(steady, a.book.Last("big.>")))
	most = max(most, a.memory())
	t.Logf("the others were at most %v late; memory %d MiB, at most %d MiB", late.Round(time.Millisecond), before>>20, most>>20)
	if late > 10*time.Second { // of the two minutes that whoever stalls is waited for
		t.Errorf("beside stalled readers the others were %v late", late)
	}
	if most-before > 160<<20 {
		t.Errorf("memory grew by %d MiB", (most-before)>>20)
	}
	for _, c := range a.clients[len(steady):] {
		if c.Count() > events*2/3 {
			t.Errorf("%s has %d events already: it does not stall", c.Name, c.Count())
		}
	}
	stalled.Open(0)
	slow.Open(0)
	a.settle()
	a.judge()
	for _, c := range a.clients {
		if n := len(c.Connections()); c.Start.Rounds == 0 && n != 1 {
			t.Errorf("%s needed %d connections: %v", c.Name, n, c.Errors())
		}
	}
}

// memory is the server's resident memory.
func (a *audience) memory() int64 {
	a.Helper()
	rss, err := testenv.RSS(a.server.PID())
	if err != nil {
		a.Fatal(err)
	}
	return rss
}

// reached returns how long it takes until all of them are at an id.
func (a *audience) reached(clients []*live.Client, id string) time.Duration {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.ctx, enough)
	defer cancel()
	begin := time.Now()
	for _, c := range clients {
		if err := c.WaitFor(ctx, id); err != nil {
			a.Fatal(err)
		}
	}
	return time.Since(begin)
}
