package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestLiveRollingRestart: on SIGTERM readiness turns first, then every stream ends
// politely, each told another time to come back; clients that do as they are told come
// back spread over the window and miss nothing, while publishers go on.
func TestLiveRollingRestart(t *testing.T) {
	t.Parallel()
	const window = 6 * time.Second
	a := hear(t, chance(t), testenv.Setup{Flags: []string{"--drain-window=" + window.String()}})
	for i, by := range live.Streams {
		for n := range 60 {
			c := a.client(fmt.Sprintf("%s %d", by, n), []string{"a.>", "a.one", "b"}[i])
			a.follow(c, live.Always(by), live.Patience{Obey: true})
		}
	}
	for n := range 20 {
		c := a.client(fmt.Sprintf("longpoll %d", n), "a.>")
		c.Start.Rounds = 0
		a.follow(c, live.Always(live.LongPoll), live.Patience{})
	}
	a.listening()
	stop := a.chatter(2, 3, 20*time.Millisecond, "a.one", "a.two", "b")
	time.Sleep(500 * time.Millisecond)
	first := map[*live.Client]int{}
	for _, c := range a.clients {
		first[c] = len(c.Connections())
	}
	turned := a.watchReadiness()
	time.Sleep(100 * time.Millisecond) // it is asked by now
	begin := time.Now()
	if err := a.server.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-a.server.Gone()
	took := time.Since(begin)
	ready, unready := turned()
	stop()
	a.again()
	a.took()
	stop = a.chatter(2, 3, 20*time.Millisecond, "a.one", "a.two", "b")
	ctx, cancel := context.WithTimeout(a.ctx, window+enough)
	defer cancel()
	for _, c := range a.clients {
		if err := c.WaitOpen(ctx, first[c]+1); err != nil {
			t.Error(err)
		}
	}
	stop()
	for _, topic := range []string{"a.one", "a.two", "b"} {
		a.say(0, topic)
	}
	a.settle()
	a.compare()
	a.judge()
	a.judgeFarewell(begin, ready, unready)
	a.judgeReturn(begin, window, first)
	t.Logf("the stop took %v", took.Round(time.Millisecond))
}

// watchReadiness asks /readyz all the time, until the process is gone; the function that
// it returns says when the last request was sent that was answered 200, and when the
// first 503 came: zero if the stop was too quick to see one.
func (a *audience) watchReadiness() (turned func() (ready, unready time.Time)) {
	var mu sync.Mutex
	var ready, unready time.Time
	var watchers sync.WaitGroup
	gone, url := a.server.Gone(), a.server.URL+"/readyz"
	for range 4 {
		client := testenv.NewClient()
		watchers.Go(func() {
			for {
				select {
				case <-gone:
					return
				default:
				}
				sent := time.Now()
				resp, err := client.Get(url)
				if err != nil {
					continue
				}
				resp.Body.Close()
				mu.Lock()
				switch {
				case resp.StatusCode == http.StatusOK && sent.After(ready):
					ready = sent
				case resp.StatusCode == http.StatusServiceUnavailable && unready.IsZero():
					unready = time.Now()
				}
				mu.Unlock()
			}
		})
	}
	return func() (time.Time, time.Time) {
		watchers.Wait()
		return ready, unready
	}
}

// judgeFarewell: every stream was told that the server stops, after readiness turned.
func (a *audience) judgeFarewell(begin, ready, unready time.Time) {
	a.Helper()
	earliest := time.Time{}
	for _, c := range a.clients {
		ends := c.Ends()
		if by := c.Connections()[0].By; !by.Streams() {
			continue
		} else if len(ends) != 1 || ends[0].Reason != "stopping" || ends[0].ReconnectMS <= 0 {
			a.Errorf("%s: ended %+v, errors %v", c.Name, ends, c.Errors())
			continue
		} else if by == live.WebSocket && ends[0].Close != 1001 {
			a.Errorf("%s: closed with %d", c.Name, ends[0].Close)
		}
		if earliest.IsZero() || ends[0].At.Before(earliest) {
			earliest = ends[0].At
		}
	}
	a.Logf("/readyz was last 200 %v, first 503 %v, and the first stream ended %v after the signal", ready.Sub(begin), unready.Sub(begin), earliest.Sub(begin))
	if ready.After(earliest) {
		a.Errorf("%v after the first stream had ended, /readyz was asked and answered 200", ready.Sub(earliest))
	}
}

// judgeReturn: those who obeyed came back spread over the window.
func (a *audience) judgeReturn(begin time.Time, window time.Duration, first map[*live.Client]int) {
	a.Helper()
	const parts = 5
	window += 500 * time.Millisecond // nobody comes back sooner than that
	told, came := make([]int, parts), make([]int, parts+1)
	n := 0
	for _, c := range a.clients {
		ends, conns := c.Ends(), c.Connections()
		if !conns[0].By.Streams() || len(ends) == 0 || len(conns) <= first[c] {
			continue
		}
		n++
		wait := time.Duration(ends[0].ReconnectMS) * time.Millisecond
		if wait > window {
			a.Errorf("%s was told to come back after %v, beyond the window of %v", c.Name, wait, window)
		}
		told[min(parts-1, int(wait*parts/window))]++
		came[min(parts, int(conns[first[c]].At.Sub(begin)*parts/window))]++
	}
	a.Logf("told to come back, by fifths of the window: %v; came: %v", told, came)
	for i := range told {
		if told[i] > n*9/20 {
			a.Errorf("%d of %d are told to come back within the same fifth of the window: %v", told[i], n, told)
		}
	}
	if most := slices.Max(came); most > n/2 {
		a.Errorf("%d of %d came back within the same fifth of the window: %v", most, n, came)
	}
}
