package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// metric is a figure of /metrics; 0 for one that was never counted.
func (a *audience) metric(series string) float64 {
	a.Helper()
	answer, err := a.api.Do(a.ctx, "GET", "/metrics", nil)
	if err != nil || !answer.OK() {
		a.Fatal(answer, err)
	}
	for line := range strings.Lines(string(answer.Body)) {
		if text, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				a.Fatal(line, err)
			}
			return v
		}
	}
	return 0
}

// grows waits until a figure is as much more than it was.
func (a *audience) grows(series string, before, by float64) {
	a.Helper()
	deadline := time.Now().Add(enough)
	for a.metric(series) != before+by {
		if time.Now().After(deadline) {
			a.Errorf("%s went from %v to %v, want %v", series, before, a.metric(series), before+by)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func closedBy(by live.Transport, reason string) string {
	return fmt.Sprintf(`hark_live_closed_total{reason=%q,transport=%q}`, reason, by)
}

// TestLiveNoRoom: who comes when there is no room is told when to come back, with the close code
// 4003 over a WebSocket, is counted, and has a place as soon as somebody leaves.
func TestLiveNoRoom(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{Flags: []string{"--max-streams=4"}})
	var open []*live.Socket
	for range 4 {
		s, err := live.OpenSocket(a.ctx, a.target)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Abort()
		open = append(open, s)
	}
	for _, by := range live.Streams {
		c := live.NewClient("late "+string(by), a.target, "a.>")
		err := c.Connect(a.ctx, by)
		ends := c.Ends()
		if len(ends) != 1 || ends[0].Reason != "overloaded" || ends[0].ReconnectMS < 5000 || ends[0].ReconnectMS > 30_000 {
			t.Errorf("%s was told %+v, %v", by, ends, err)
		}
		var closed *live.Closed
		if by == live.WebSocket && (!errors.As(err, &closed) || closed.Code != 4003) {
			t.Errorf("the WebSocket ended with %v, want 4003", err)
		}
		if said := c.Complaints(); len(said) > 0 {
			t.Errorf("%s: %q", by, said)
		}
		a.grows(closedBy(by, "overloaded"), 0, 1)
	}
	if n := a.metric("hark_live_streams"); n != 4 {
		t.Errorf("%v streams are open", n)
	}
	open[0].Close()
	c := a.client("patient", "a.>")
	a.follow(c, live.Always(live.WebSocket), live.Patience{})
	a.listening()
	a.say(0, "a.one")
	a.settle()
	a.judge()
}

// TestLiveTooSlow: who takes nothing for --slow-after while something waits is sent away, finds
// the reason when it reads again (4002 over a WebSocket), is counted, and has missed nothing
// when it comes back.
func TestLiveTooSlow(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{Flags: []string{"--slow-after=10s"}})
	steady := a.client("steady", "big.>")
	a.follow(steady, live.Always(live.SSE), live.Patience{})
	tap := live.NewTap()
	for _, by := range live.Streams {
		c := a.client("slow "+string(by), "big.>")
		c.Target.Dial = tap.Dial
		a.follow(c, live.Always(by), live.Patience{})
	}
	a.listening()
	tap.Shut()
	for range 120 { // 20 MB, more than sockets hold
		a.say(8<<10, "big.a", "big.b", "big.c", "big.d", "big.e", "big.a", "big.b", "big.c", "big.d", "big.e", "big.a", "big.b", "big.c", "big.d", "big.e", "big.a", "big.b", "big.c", "big.d", "big.e")
	}
	for _, by := range live.Streams {
		a.grows(closedBy(by, "slow"), 0, 1)
	}
	tap.Open(0)
	a.settle()
	a.judge()
	for _, c := range a.clients[1:] {
		ends := c.Ends()
		if c.Connections()[0].By == live.WebSocket && (len(ends) != 1 || ends[0].Reason != "slow" || ends[0].Close != 4002) {
			t.Errorf("%s was told %+v", c.Name, ends)
		}
		if n := len(c.Connections()); n != 2 {
			t.Errorf("%s needed %d connections: %v", c.Name, n, c.Errors())
		}
	}
}

// TestLiveRefusalsAreCounted: every refused credential is counted under the code that its client
// was told, and so is every WebSocket that was refused for what it did.
func TestLiveRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	brief := a.mint("42", "1s", "a.>").Token
	time.Sleep(2 * time.Second) // until it ended
	told := map[string]float64{}
	for name, token := range map[string]string{
		"none": "", "a key that never was": "hk_" + strings.Repeat("x", 38), "no token at all": "nonsense",
		"a token that ended": brief, "a token that was changed": a.mint("42", "1h", "a.>").Token + "x",
	} {
		api := testenv.API{Base: a.server.URL, Key: token, Client: a.api.Client}
		for _, path := range []string{"/v1/events", "/v1/stream", "/v1/scheduled"} {
			answer, err := api.Do(a.ctx, "GET", path, nil)
			if err != nil || answer.Status != 401 {
				t.Fatal(name, path, answer.Status, err)
			}
			var problem struct{ Code string }
			if json.Unmarshal(answer.Body, &problem); problem.Code == "" {
				t.Fatalf("%s: %s", name, answer.Body)
			}
			told[problem.Code]++
			a.grows(fmt.Sprintf(`hark_auth_refused_total{code=%q}`, problem.Code), 0, told[problem.Code])
		}
	}

	if len(told) < 4 {
		t.Errorf("the codes are %v", told)
	}
	refused := closedBy(live.WebSocket, "refused")
	for _, bad := range []struct {
		what  string
		code  int
		token string
		say   []byte
	}{
		{"no JSON", 4400, a.server.Key, live.Text("hello")},
		{"a wrong token", 4401, "", live.Text(`{"type":"auth","token":"nonsense"}`)},
		{"nothing of whom", 4401, "", live.Text(`{"type":"subscribe","sub":"a"}`)},
		{"too much", 4413, a.server.Key, live.Promise(1 << 40)},
	} {
		before := a.metric(refused)
		f, err := live.DialFrames(a.ctx, live.Target{URL: a.target.URL, Token: bad.token})
		if err != nil {
			t.Fatal(err)
		}
		f.Conn.Write(bad.say)
		if bad.code == 4413 { // it has to go on sending to be found out
			go f.Conn.Write(make([]byte, 4<<20))
		}
		if code, last, err := f.Fate(enough); err != nil || code != bad.code {
			t.Errorf("%s: closed with %d after %.200s, %v; want %d", bad.what, code, last, err, bad.code)
		}
		f.Conn.Close()
		a.grows(refused, before, 1)
	}
	ctx, cancel := context.WithTimeout(a.ctx, enough)
	defer cancel()
	if s, err := live.OpenSocket(ctx, a.target); err != nil {
		t.Error("after all that nobody is let in:", err)
	} else {
		s.Close()
	}
}
