package live

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// play publishes 20 events, of which the client follows all but every fifth, and
// has retention take the first 12 while the client is away.
func play(t *testing.T, f *fake, by Transport) (*Book, *Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	api := testenv.API{Base: f.URL, Client: f.Client()}
	book := &Book{}
	c := NewClient(string(by), Target{URL: f.URL}, "a.>")
	c.Check = book.Doubts(func() testenv.API { return api })
	follow := func() (stop func()) {
		connected, hangUp := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			c.Run(connected, Always(by), Patience{})
			close(done)
		}()
		return func() { hangUp(); <-done }
	}
	publish := func(topics ...string) {
		if _, err := book.Must(ctx, api, 0, topics...); err != nil {
			t.Fatal(err)
		}
	}
	stop := follow()
	if err := c.WaitOpen(ctx, 1); err != nil {
		t.Fatal(err)
	}
	publish("a.one", "a.two", "a.three", "a.four", "b.five")
	if err := c.Until(ctx, "at 4", func(c *Client) bool { return c.Cursor() >= fakeID(4) || len(c.Complaints()) > 0 }); err != nil {
		t.Fatal(err)
	}
	publish("a.one", "a.two", "a.three", "a.four", "b.five")
	c.Until(ctx, "at 9", func(c *Client) bool { return c.Cursor() >= fakeID(9) || len(c.Complaints()) > 0 })
	stop()
	publish("a.one", "a.two", "a.three", "a.four", "b.five")
	f.mu.Lock()
	f.floor = 12
	f.mu.Unlock()
	stop = follow()
	publish("a.one", "a.two", "a.three", "a.four", "b.five")
	c.Until(ctx, "at the end", func(c *Client) bool { return c.Cursor() >= fakeID(19) || len(c.Complaints()) > 0 })
	stop()
	return book, c
}

// TestJudge: who keeps the contract is not complained of, and every breach is found on
// every transport.
func TestJudge(t *testing.T) {
	for fault, want := range map[string]string{
		"": "", "loss": "is missing", "a repeat": "again", "disorder": "out of order", "a false gap": "false gap",
		"a missed gap": "is missing", "an invention": "was never published", "a foreign topic": "is not of the topics",
		"a cursor that skips": "is missing", "a gap without header": "not told in the header",
	} {
		for _, by := range All {
			if fault == "a gap without header" && by != Poll && by != LongPoll {
				continue // streams may tell gaps later
			}
			t.Run(fault+"/"+string(by), func(t *testing.T) {
				t.Parallel()
				book, c := play(t, newFake(t, fault), by)
				said := book.Judge(c)
				if want == "" && len(said) > 0 {
					t.Errorf("complaints about nothing: %q", said)
				}
				if want != "" && !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, want) }) {
					t.Errorf("no complaint that something %s: %q; %v", want, said, c.Events())
				}
				if fault == "" && (c.Count() < 12 || len(c.Gaps()) != 1) {
					t.Errorf("%d events, gaps %+v", c.Count(), c.Gaps())
				}
			})
		}
	}
}

// TestHandOver: one position through all transports, cut at random, ended politely.
func TestHandOver(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	f := newFake(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path, err := NewPath(f.Listener.Addr().String(), Behaviour{Cut: 20 * time.Millisecond, Trickle: true})
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	book, api := &Book{}, testenv.API{Base: f.URL, Client: f.Client()}
	c := NewClient("hand-over", Target{URL: path.URL()}, "a.*")
	c.Start.Rounds = 3
	go c.Run(ctx, AtRandom(random, All...), Patience{Obey: true})
	if err := c.WaitOpen(ctx, 1); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, err := book.Must(ctx, api, 10, "a.x", "b.x", "a.y"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	f.halt()
	if _, err := book.Must(ctx, api, 10, "a.x"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFor(ctx, book.Last("a.*")); err != nil {
		t.Fatal(err)
	}
	if err := c.Until(ctx, "ended politely", func(c *Client) bool { return len(c.Ends()) > 3 }); err != nil {
		t.Fatal(err)
	}
	if said := book.Judge(c); len(said) > 0 || c.Count() != 401 {
		t.Errorf("%d events; %q", c.Count(), said)
	}
	t.Logf("%d connections", len(c.Connections()))
}

// TestFrozenPath: who is behind a path that went silent is told nothing.
func TestFrozenPath(t *testing.T) {
	f := newFake(t, "")
	path, err := NewPath(f.Listener.Addr().String(), Behaviour{})
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	book, api := &Book{}, testenv.API{Base: f.URL, Client: f.Client()}
	c := NewClient("frozen", Target{URL: path.URL()}, "a")
	go c.Run(ctx, Always(SSE), Patience{})
	if err := c.WaitOpen(ctx, 1); err != nil {
		t.Fatal(err)
	}
	path.Freeze()
	book.Must(ctx, api, 0, "a")
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if err := c.WaitFor(short, book.Last("a")); err == nil || len(c.Errors()) > 0 {
		t.Errorf("the frozen path let %v through, or ended: %v", c.Events(), c.Errors())
	}
}

// TestTap: what is shut off comes later, whole.
func TestTap(t *testing.T) {
	f, tap := newFake(t, ""), NewTap()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	book, api := &Book{}, testenv.API{Base: f.URL, Client: f.Client()}
	c := NewClient("tapped", Target{URL: f.URL, Dial: tap.Dial}, "a")
	go c.Run(ctx, Always(NDJSON), Patience{})
	if err := c.WaitOpen(ctx, 1); err != nil {
		t.Fatal(err)
	}
	tap.Shut()
	for range 100 {
		book.Must(ctx, api, 100, "a")
	}
	if c.Count() > 1 {
		t.Errorf("%d events came through a shut tap", c.Count())
	}
	tap.Open(10000)
	if err := c.Until(ctx, "slow", func(c *Client) bool { return c.Count() > 10 }); err != nil {
		t.Fatal(err)
	}
	tap.Open(0)
	if err := c.WaitFor(ctx, book.Last("a")); err != nil {
		t.Fatal(err)
	}
	if said := book.Judge(c); len(said) > 0 || len(c.Connections()) != 1 {
		t.Errorf("%d connections; %q", len(c.Connections()), said)
	}
}

// TestEndBeforeHello: a WebSocket that is ended politely before it began is no breach, and
// the client comes back.
func TestEndBeforeHello(t *testing.T) {
	f := newFake(t, "")
	f.busy = 2
	book, c := play(t, f, WebSocket)
	if said := book.Judge(c); len(said) > 0 {
		t.Error(said)
	}
	ends := c.Ends()
	if len(ends) != 2 {
		t.Fatalf("%+v", ends)
	}
	for _, e := range ends {
		if e.Reason != "overloaded" || e.ReconnectMS != 30 || e.Close != 4003 {
			t.Errorf("%+v", e)
		}
	}
}
