package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestLiveBacklog: among a million events, a recent cursor is answered at once on
// every transport, and 50,000 missed events come in one resume, in order, once.
func TestLiveBacklog(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	const missed = 50_000
	begin := time.Now()
	a.hay(1_000_000 - missed)
	t.Logf("%d events published in %v", 1_000_000-missed, time.Since(begin).Round(time.Millisecond))
	old := a.say(0, "old.last")
	for n := 0; n < missed; n += 500 {
		batch := make([]string, 500)
		for i := range batch {
			batch[i] = "missed." + string(rune('a'+i%5))
		}
		batch[250] = "needle"
		a.say(100, batch...)
	}
	needles := a.book.Acked("needle")
	before, err := testenv.RSS(a.server.PID())
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range live.All {
		a.recent(by, needles[len(needles)-11].ID, 10)
		a.recent(by, old, len(needles))
	}
	for _, by := range live.All {
		c := a.resume(by, old, "missed.>", "needle")
		begin := time.Now()
		stop := a.follow(c, live.Always(by), live.Patience{Least: time.Minute})
		a.arrive(c, 30*time.Second)
		t.Logf("%s: %d missed events in %v", by, c.Count(), time.Since(begin).Round(time.Millisecond))
		stop()
		if n := len(c.Connections()); n != 1 || c.Count() != missed {
			t.Errorf("%s: %d events over %d connections, want %d over 1", by, c.Count(), n, missed)
		}
	}
	a.judge()
	after, err := testenv.RSS(a.server.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("memory %d MiB, then %d MiB", before>>20, after>>20)
	if after-before > 150<<20 {
		t.Errorf("memory grew by %d MiB", (after-before)>>20)
	}
}

// hay publishes n events that nobody looks for.
func (a *audience) hay(n int) {
	a.Helper()
	const size, publishers = 1000, 4
	var lines bytes.Buffer
	for i := range size {
		fmt.Fprintf(&lines, `{"topic":"hay.%d","data":{"straw":%d}}`+"\n", i%50, i)
	}
	body := testenv.Raw{Type: "application/x-ndjson", Body: lines.Bytes()}
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for range n / size / publishers {
				if answer, err := a.api.Do(a.ctx, "POST", "/v1/events", body); err != nil || !answer.OK() {
					a.Errorf("%s %v", answer, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// resume adds a client that stands at a position.
func (a *audience) resume(by live.Transport, after string, topics ...string) *live.Client {
	c := a.client(string(by)+" after "+after, topics...)
	c.Start.After, c.Start.Rounds, c.Start.Limit = after, 0, 1000
	if by == live.SSE && a.random.IntN(2) == 0 {
		names := []string{"after", "lastEventId", "last_event_id", "lastEventID", "Last-Event-ID"}
		c.Start.After, c.Start.Extra = "", url.Values{names[a.random.IntN(len(names))]: {after}}
		c.Stand(after)
	}
	return c
}

// arrive waits for one client.
func (a *audience) arrive(c *live.Client, within time.Duration) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.ctx, within)
	defer cancel()
	if err := c.WaitFor(ctx, a.book.Last(c.Topics()...)); err != nil {
		a.Fatal(err)
	}
}

// recent: n needles after a position come at once.
func (a *audience) recent(by live.Transport, after string, n int) {
	a.Helper()
	c := a.resume(by, after, "needle")
	begin := time.Now()
	stop := a.follow(c, live.Always(by), live.Patience{})
	a.arrive(c, 10*time.Second)
	took := time.Since(begin)
	stop()
	a.Logf("%s: %d needles in %v", by, c.Count(), took.Round(time.Millisecond))
	if c.Count() != n || took > 2*time.Second {
		a.Errorf("%s: %d events after %v, want %d at once", by, c.Count(), took, n)
	}
}
