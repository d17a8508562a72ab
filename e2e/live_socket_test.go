package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestLiveSocketRules: what the frames of hark.v1 may say, and what is answered to those
// that may not; the connection goes on.
func TestLiveSocketRules(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	s, err := live.OpenSocket(a.ctx, a.target)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ask := func(f live.Frame, want string) *live.Frame {
		t.Helper()
		if err := s.Send(a.ctx, f); err != nil {
			t.Fatal(err)
		}
		got, err := s.Read(a.ctx)
		if err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		if got.Type != want {
			t.Fatalf("%+v was answered %+v, want %s", f, *got, want)
		}
		return got
	}
	if got := ask(live.Frame{Type: "ping", Ref: "p"}, "pong"); got.Ref != "p" {
		t.Errorf("pong %+v", *got)
	}
	for name, f := range map[string]live.Frame{
		"a bad pattern":     {Type: "subscribe", Sub: "x", Topics: []string{"a..b"}},
		"a bad cursor":      {Type: "subscribe", Sub: "x", Topics: []string{"a"}, After: "evt_zz"},
		"a long name":       {Type: "subscribe", Sub: strings.Repeat("x", 65), Topics: []string{"a"}},
		"no name":           {Type: "subscribe", Topics: []string{"a"}},
		"two starts":        {Type: "subscribe", Sub: "x", Topics: []string{"a"}, Last: 5, From: "earliest"},
		"last beyond limit": {Type: "subscribe", Sub: "x", Topics: []string{"a"}, Last: 1001},
		"65 topics":         {Type: "subscribe", Sub: "x", Topics: slices.Repeat([]string{"a.b"}, 65)},
		"an unknown type":   {Type: "dance", Ref: "1"},
		"an unknown sub":    {Type: "unsubscribe", Sub: "nobody"},
		"a bad topic":       {Type: "publish", Ref: "1", Topic: "a..b", Data: 1},
		"a reserved topic":  {Type: "publish", Ref: "1", Topic: "hark.x", Data: 1},
	} {
		got := ask(f, "error")
		if got.Status/100 != 4 || got.Code == "" || got.Detail == "" || got.Sub != f.Sub && len(f.Sub) <= 64 || got.Ref != f.Ref {
			t.Errorf("%s was answered %+v", name, *got)
		}
	}
	// A thousand subscriptions, and not one more.
	for i := range 1000 {
		ask(live.Frame{Type: "subscribe", Sub: fmt.Sprint(i), Topics: []string{fmt.Sprintf("many.%d", i)}}, "subscribed")
	}
	if got := ask(live.Frame{Type: "subscribe", Sub: "one more", Topics: []string{"a"}}, "error"); got.Status/100 != 4 {
		t.Errorf("subscription 1001 was answered %+v", *got)
	}
	ask(live.Frame{Type: "unsubscribe", Sub: "7"}, "unsubscribed")
	ask(live.Frame{Type: "subscribe", Sub: "one more", Topics: []string{"many.8"}}, "subscribed")
	// What is published comes to each subscription that matches, and is acknowledged.
	if err := s.Send(a.ctx, live.Frame{Type: "publish", Ref: "r", Topic: "many.8", Data: 1, Idempotency: "once"}); err != nil {
		t.Fatal(err)
	}
	var got []string
	id := ""
	for range 3 {
		f, err := s.Read(a.ctx)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Type+" "+f.Sub+f.Ref)
		if f.Type == "published" {
			id = f.ID
		}
	}
	slices.Sort(got)
	if want := []string{"events 8", "events one more", "published r"}; !slices.Equal(got, want) || id == "" {
		t.Errorf("came %q, want %q", got, want)
	}
	if again := ask(live.Frame{Type: "publish", Ref: "r2", Topic: "many.8", Data: 1, Idempotency: "once"}, "published"); again.ID != id || !again.Duplicate {
		t.Errorf("the repeat was answered %+v, the first %s", *again, id)
	}
}

// TestLiveSocketDoor: who may not open a WebSocket is told so.
func TestLiveSocketDoor(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{Flags: []string{"--cors-origin=https://app.example.com"}})
	nobody := live.Target{URL: a.target.URL}
	evil, err := live.DialFrames(a.ctx, a.target, "Origin: https://evil.example.com")
	if err != nil { // a browser would not show its page any other answer
		t.Fatal(err)
	}
	defer evil.Conn.Close()
	if code, _, err := evil.Fate(enough); err != nil || code != 4403 {
		t.Errorf("a foreign origin: closed with %d, %v", code, err)
	}
	for _, origin := range []string{"https://app.example.com", a.target.URL} {
		f, err := live.DialFrames(a.ctx, a.target, "Origin: "+origin)
		if err != nil {
			t.Errorf("origin %s: %v", origin, err)
			continue
		}
		f.Conn.Close()
	}
	bad := nobody
	bad.Token = "hk_" + strings.Repeat("x", 38)
	if _, err := live.DialFrames(a.ctx, bad); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a wrong key: %v", err)
	}
	for _, by := range []string{"header", "query", "cookie", "subprotocol", "frame"} {
		to := a.target
		to.Token, to.TokenBy = a.mint("42", "1h", "a.>").Token, by
		s, err := live.OpenSocket(a.ctx, to)
		if err != nil {
			t.Errorf("the token by %s: %v", by, err)
			continue
		}
		s.Close()
	}
	// Without a credential there are ten seconds for one, and nothing else is heard.
	f, err := live.DialFrames(a.ctx, nobody)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Conn.Close()
	begin := time.Now()
	if code, _, err := f.Fate(13 * time.Second); err != nil || code != 4408 || time.Since(begin) < 8*time.Second {
		t.Errorf("without a token: closed with %d after %v, %v", code, time.Since(begin), err)
	}
	g, err := live.DialFrames(a.ctx, nobody)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Conn.Close()
	g.Conn.Write(live.Text(`{"type":"subscribe","sub":"a","topics":["a"]}`))
	if code, _, err := g.Fate(enough); err != nil || code != 4401 {
		t.Errorf("a subscription before the token: closed with %d, %v", code, err)
	}
}

// TestLiveRenewal: a WebSocket whose token is renewed in time goes on past the first one's end.
func TestLiveRenewal(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	const ttl = 3 * time.Second
	check := a.renewed(ttl)
	time.Sleep(ttl + 1500*time.Millisecond)
	check(a.say(0, "a.after"))
}

// renewed opens a WebSocket with a token that ends soon and sends a new one; the
// function that it returns checks that an event came after the first one's end.
func (a *audience) renewed(ttl time.Duration) (check func(id string)) {
	a.Helper()
	to := a.target
	to.Token = a.mint("42", ttl.String(), "a.>").Token
	s, err := live.OpenSocket(a.ctx, to)
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(s.Abort)
	for _, f := range []live.Frame{{Type: "subscribe", Sub: "r", Topics: []string{"a.>"}}, {Type: "auth", Token: a.mint("42", "1h", "a.>").Token}} {
		if err := s.Send(a.ctx, f); err != nil {
			a.Fatal(err)
		}
	}
	return func(id string) {
		a.Helper()
		ctx, cancel := context.WithTimeout(a.ctx, enough)
		defer cancel()
		authenticated := false
		for {
			f, err := s.Read(ctx)
			if err != nil {
				a.Errorf("the renewed WebSocket: %v", err)
				return
			}
			authenticated = authenticated || f.Type == "authenticated"
			if f.Type == "events" && f.Cursor >= id {
				break
			}
		}
		if !authenticated {
			a.Error("the renewal was not answered")
		}
	}
}

// TestLiveSilentPeers: peers that are gone without a word (a path that went silent) are
// let go in bounded time over WebSocket, whose pings they do not answer; over the others
// they hold their socket's buffer and nothing else, and others notice nothing.
func TestLiveSilentPeers(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	path, err := live.NewPath(a.server.Setup.Addr, live.Behaviour{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(path.Close)
	to := a.target
	to.URL = path.URL()
	f, err := live.DialFrames(a.ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Conn.Close()
	for i := range 60 {
		topic := "a.>"
		if live.Streams[i%3] == live.WebSocket { // one that is being written to is slow, not gone
			topic = "quiet"
		}
		c := live.NewClient("silent", to, topic)
		a.follow(c, live.Always(live.Streams[i%3]), live.Patience{})
		if err := c.WaitOpen(a.ctx, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, by := range live.All {
		a.follow(a.client("beside, "+string(by), "a.>"), live.Always(by), live.Patience{})
	}
	a.listening()
	before, began := a.memory(), time.Now()
	sockets := a.gauge("websocket")
	path.Freeze()
	for range 100 {
		a.say(4000, slices.Repeat([]string{"a.x"}, 20)...) // 8 MB
	}
	a.settle()
	grown := a.memory() - before
	t.Logf("memory grew by %d MiB", grown>>20)
	if grown > 100<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	// 25 s until the next ping, 10 s for its pong.
	eventually(t, enough, func() string {
		if now := a.gauge("websocket"); now > sockets-20 {
			return fmt.Sprintf("%d WebSockets are open, %d were", now, sockets)
		}
		return ""
	})
	t.Logf("silent WebSockets were let go after %v", time.Since(began).Round(time.Second))
	a.judge()
}

// gauge is how many streams of a transport are open, as /metrics tells.
func (a *audience) gauge(transport string) (open int) {
	a.Helper()
	answer, err := a.api.Do(a.ctx, "GET", "/metrics", nil)
	if err != nil || !answer.OK() {
		a.Fatal(answer, err)
	}
	opened := false
	for line := range strings.Lines(string(answer.Body)) {
		if !strings.Contains(line, `transport="`+transport+`"`) {
			continue
		}
		n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:len(line)-1], 64)
		switch {
		case err != nil:
			a.Fatal(line, err)
		case strings.HasPrefix(line, "hark_live_opened_total"):
			opened, open = true, open+int(n)
		case strings.HasPrefix(line, "hark_live_closed_total"):
			open -= int(n)
		}
	}
	if !opened {
		a.Fatal("no metric hark_live_opened_total for " + transport)
	}
	return open
}
