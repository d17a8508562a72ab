package e2e

import (
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestLivePaths: followers behind networks that cut every connection (300 ms here for
// the 5 s of the field), that trickle bytes one by one, and that hold back what comes.
func TestLivePaths(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	cuts := map[*live.Client]bool{}
	for name, b := range map[string]live.Behaviour{
		"cut": {Cut: 300 * time.Millisecond}, "trickle": {Trickle: true}, "slow": {Rate: 2000}, "hold": {Hold: 200 * time.Millisecond},
		"cut and trickle": {Cut: 300 * time.Millisecond, Trickle: true},
	} {
		path, err := live.NewPath(a.server.Setup.Addr, b)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(path.Close)
		for _, by := range append([]live.Transport{""}, live.All...) {
			topics := []string{"a.>"}
			if name == "slow" {
				topics = []string{"a.seldom"}
			}
			c, next := a.client(name+" "+string(by), topics...), live.Always(by)
			if by == "" {
				next = a.mixed()
			}
			c.Target.URL = path.URL()
			cuts[c] = b.Cut > 0 && by != live.Poll && by != live.LongPoll // a GET that is cut is made again below us
			a.follow(c, next, live.Patience{})
		}
	}
	a.listening()
	stop := a.chatter(2, 6, 10*time.Millisecond, "a.one", "a.two", "b")
	for range 10 {
		time.Sleep(300 * time.Millisecond)
		a.say(10, "a.seldom")
	}
	stop()
	a.say(0, "a.seldom")
	a.settle()
	a.judge()
	for c, cut := range cuts {
		if n := len(c.Connections()); cut && n < 3 {
			t.Errorf("%s: only %d connections: the path does not cut", c.Name, n)
		}
	}
}
