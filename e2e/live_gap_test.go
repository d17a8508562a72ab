package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// forgetful makes retention take events after seconds.
var forgetful = []string{"--retain-age=3s", "--max-hold=3s", "--store-bucket-age=300ms", "--store-bucket-bytes=65536",
	"--store-retain-every=200ms", "--store-memtable=262144", "--store-tail=65536"}

// TestLiveGap: whose position retention passed is told on every transport what it
// missed, once, and goes on behind it. Who starts at the earliest is told nothing.
func TestLiveGap(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{Flags: forgetful})
	stops := map[*live.Client]func(){}
	for _, by := range live.All {
		c := a.client(string(by), "a.>")
		stops[c] = a.follow(c, live.Always(by), live.Patience{})
	}
	a.listening()
	seen := a.say(0, "a.seen")
	a.settle()
	for _, stop := range stops {
		stop()
	}
	missed := a.say(0, "a.missed", "a.missed")
	a.gone(missed, "other")
	kept := a.say(0, "a.kept")
	for i, by := range live.All {
		a.follow(a.clients[i], live.Always(by), live.Patience{})
		c := a.client(string(by)+" from earliest", "a.>")
		c.Start.From = "earliest"
		a.follow(c, live.Always(by), live.Patience{})
	}
	a.settle()
	a.judge()
	for i, c := range a.clients {
		gaps, events := c.Gaps(), c.Events()
		if conns := c.Connections(); i < len(live.All) && c.Name != string(live.WebSocket) && conns[len(conns)-1].Head.Get("Hark-Gap") == "" {
			t.Errorf("%s: the head does not tell the gap", c.Name)
		}
		switch i < len(live.All) {
		case true:
			if len(gaps) != 1 || gaps[0].From != seen || gaps[0].To < missed || gaps[0].To >= kept || gaps[0].Reason != "retention" {
				t.Errorf("%s: seen %s, missed %s, kept %s, and told %+v", c.Name, seen, missed, kept, gaps)
			}
		case false:
			if len(gaps) > 0 || len(events) != 1 || events[0].ID != kept {
				t.Errorf("%s: events %v, gaps %+v; want %s and no gap", c.Name, events, gaps, kept)
			}
		}
	}
}

// TestLiveQuiet: a client of a quiet topic is told positions, so that it is told no
// gap when retention has taken all the others' events and it comes back.
func TestLiveQuiet(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{Flags: append(slices.Clone(forgetful), "--retain-age=1h", "--retain-bytes=200000")})
	stops := []func(){}
	for _, by := range live.All {
		c := a.client(string(by), "quiet.>")
		c.Start.Wait = 2 * time.Second
		stops = append(stops, a.follow(c, live.Always(by), live.Patience{}))
	}
	a.listening()
	a.say(0, "quiet.first")
	a.settle()
	var noise string
	for range 100 {
		noise = a.say(1000, "noise.a", "noise.b", "noise.c")
	}
	time.Sleep(500 * time.Millisecond) // older than a bucket becomes: the next event begins another
	last := a.say(0, "noise.last")
	// The positions come without a matching event, on a stream with one in four keep-alives.
	ctx, cancel := context.WithTimeout(a.ctx, 100*time.Second)
	defer cancel()
	for i, c := range a.clients {
		if err := c.WaitFor(ctx, last); err != nil {
			t.Fatal(err)
		}
		stops[i]()
		if c.Count() != 1 {
			t.Errorf("%s saw %v", c.Name, c.Events())
		}
	}
	a.gone(noise, "quiet.later")
	for i, c := range a.clients {
		a.follow(c, live.Always(live.All[(i+1)%len(live.All)]), live.Patience{})
	}
	a.say(0, "quiet.last")
	a.settle()
	a.judge()
}

// TestLiveRestore: whose position was lost with a restore is told so on every
// transport; a position that the backup holds stays good.
func TestLiveRestore(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	stops := map[*live.Client]func(){}
	follow := func(name string) {
		for _, by := range live.All {
			c := a.client(string(by)+name, "a.>")
			stops[c] = a.follow(c, live.Always(by), live.Patience{})
		}
	}
	follow(", of before")
	follow(", of after")
	a.listening()
	old := a.say(0, "a.kept", "a.kept")
	a.settle()
	file := a.backUp()
	for i := range live.All {
		stops[a.clients[i]]()
	}
	lost := a.say(0, "a.lost", "a.lost")
	ctx, cancel := context.WithTimeout(a.ctx, enough)
	defer cancel()
	for i, c := range a.clients {
		if i >= len(live.All) {
			if err := c.WaitFor(ctx, lost); err != nil {
				t.Fatal(err)
			}
			stops[c]()
		}
	}
	a.stop()
	a.restore(file)
	a.took()
	for i, c := range a.clients {
		c.Target.URL, c.Target.Token = a.server.URL, a.server.Key
		a.follow(c, live.Always(live.All[i%len(live.All)]), live.Patience{})
	}
	a.say(0, "a.new")
	a.settle()
	for i, c := range a.clients {
		gaps := c.Gaps()
		if i < len(live.All) { // of before: nothing it saw is lost; what it did not see may be told
			if len(gaps) > 0 && (gaps[0].From < old || gaps[0].Reason != "restore") {
				t.Errorf("%s: told %+v", c.Name, gaps)
			}
			continue
		}
		if len(gaps) != 1 || gaps[0].Reason != "restore" || gaps[0].From < old || gaps[0].From > lost || gaps[0].To <= lost {
			t.Errorf("%s: stood at %s, the backup ends at %s; told %+v", c.Name, lost, old, gaps)
		}
	}
	a.book.Undone(old, lost)
	a.judge()
}
