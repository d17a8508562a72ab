package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Told is a gap, and what was found out about it at once.
type Told struct {
	Gap
	By Transport
	// Doubt says why the gap cannot be true; "" if it may.
	Doubt string
}

// Ended is a polite end of a connection.
type Ended struct {
	End
	By Transport
	At time.Time
	// Close is the code of the close frame, for WebSocket.
	Close int
}

// Connection is one that was taken up.
type Connection struct {
	By       Transport
	At       time.Time
	Position string // of the client when it asked
	Fresh    bool   // it asked for no position
	Head     http.Header
}

// Client follows topics through any number of connections, and keeps the record.
type Client struct {
	Name   string
	Target Target
	// Start says what to follow; After, From and Last are for the first connection
	// that is taken up.
	Start Start
	// Reach is what a client that names no topics is owed; nil is everything.
	Reach []string
	// Check finds out at once why a gap is false; nil believes it.
	Check func(ctx context.Context, g Gap) (doubt string)

	mu     sync.Mutex // guards below
	first  string     // the first position told: what comes later must arrive
	cursor string
	events []Event
	told   []Told
	ended  []Ended
	conns  []Connection
	errs   []error
	said   []string
	alive  int
	news   chan struct{} // closed and replaced when something came
	retry  time.Duration
}

// NewClient returns a client that follows from now.
func NewClient(name string, to Target, topics ...string) *Client {
	return &Client{Name: name, Target: to, Start: Start{Topics: topics}, news: make(chan struct{})}
}

// Patience is how a client comes back.
type Patience struct {
	// Least is the pause after a cut or a refused connection; 0 is 20 ms.
	Least time.Duration
	// Obey waits as long as the server's end says; else Least.
	Obey bool
	// Stop ends the run when the server refuses for good (4xx) instead of complaining.
	Stop bool
}

// Run connects, and again when a connection ends, until ctx is over.
func (c *Client) Run(ctx context.Context, next func() Transport, p Patience) {
	for ctx.Err() == nil {
		by := next()
		err := c.Connect(ctx, by)
		var refused *Refused
		if errors.As(err, &refused) && refused.Status < 500 {
			if p.Stop {
				return
			}
			c.complain("%s: %v", by, err)
		}
		pause := max(p.Least, 20*time.Millisecond)
		if p.Obey {
			pause = max(pause, c.pause())
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// pause is what the last connection's end asked for; 0 for a cut.
func (c *Client) pause() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retry
}

// Connect makes one connection, from the client's position, to its end.
func (c *Client) Connect(ctx context.Context, by Transport) error {
	start := c.Start
	c.mu.Lock()
	c.retry = 0
	if c.cursor != "" && (len(c.conns) > 0 || len(start.Extra) == 0) {
		start.Extra = nil
		start.After, start.From, start.Last = c.cursor, "", 0
	}
	c.mu.Unlock()
	err := Follow(ctx, c.Target, by, start, func(n Note) error { return c.take(ctx, by, start, n) })
	c.mu.Lock()
	defer c.mu.Unlock()
	var breach *Broken
	if errors.As(err, &breach) {
		c.said = append(c.said, fmt.Sprintf("%s: %v", by, breach))
	}
	var closed *Closed
	if errors.As(err, &closed) && len(c.ended) > 0 && c.ended[len(c.ended)-1].Close == 0 && c.retry > 0 {
		c.ended[len(c.ended)-1].Close = closed.Code
	}
	if ctx.Err() == nil || errors.Is(err, io.EOF) {
		c.errs = append(c.errs, err)
	}
	c.notify()
	return err
}

func (c *Client) notify() {
	close(c.news)
	c.news = make(chan struct{})
}

func (c *Client) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.complainLocked(format, args...)
}

func (c *Client) complainLocked(format string, args ...any) {
	if len(c.said) < 20 {
		c.said = append(c.said, fmt.Sprintf(format, args...))
	}
}

// Tell puts into the record what somebody else's client was told.
func (c *Client) Tell(ctx context.Context, by Transport, n Note) {
	c.take(ctx, by, Start{After: c.Cursor()}, n)
}

// Saw is [Client.Tell] for the JSON of an event under an id.
func (c *Client) Saw(ctx context.Context, by Transport, id, text string) {
	e, err := event([]byte(text))
	if err == nil && e.ID != id {
		err = broken("the id %q came with %.200q", id, text)
	}
	if err != nil {
		c.complain("%s: %v", by, err)
		return
	}
	c.Tell(ctx, by, Note{Event: e})
}

// take is told everything that a connection learns.
func (c *Client) take(ctx context.Context, by Transport, start Start, n Note) error {
	doubt := ""
	if n.Gap != nil && c.Check != nil {
		doubt = c.Check(ctx, *n.Gap)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case n.Opened != nil:
		fresh := start.After == "" && start.From == "" && start.Last == 0
		c.conns = append(c.conns, Connection{by, time.Now(), start.After, fresh, n.Opened})
		if start.After != "" && c.first == "" {
			c.first, c.cursor = start.After, start.After
		}
	case n.Event != nil:
		c.takeEventLocked(by, n.Event)
	case n.Gap != nil:
		c.takeGapLocked(by, Told{*n.Gap, by, doubt})
	case n.Cursor != "":
		if n.Cursor < c.cursor {
			c.complainLocked("%s: the cursor goes back from %s to %s", by, c.cursor, n.Cursor)
			return nil
		}
		c.moveLocked(n.Cursor)
	case n.End != nil:
		c.ended = append(c.ended, Ended{End: *n.End, By: by, At: time.Now()})
		c.retry = time.Duration(n.End.ReconnectMS) * time.Millisecond
	case n.Alive:
		c.alive++
	}
	c.notify()
	return nil
}

func (c *Client) takeEventLocked(by Transport, e *Event) {
	if e.ID <= c.cursor {
		what := "out of order"
		if slices.ContainsFunc(c.events, func(old Event) bool { return old.ID == e.ID }) {
			what = "again"
		}
		c.complainLocked("%s: %s (%s) comes %s, at position %s", by, e.ID, e.Token, what, c.cursor)
		return
	}
	c.events = append(c.events, *e)
	c.moveLocked(e.ID)
}

func (c *Client) takeGapLocked(by Transport, g Told) {
	c.told = append(c.told, g)
	switch {
	case g.Reason != "retention" && g.Reason != "restore":
		c.complainLocked("%s: a gap for the reason %q", by, g.Reason)
	case g.To <= g.From:
		c.complainLocked("%s: a gap of nothing: %+v", by, g.Gap)
	case c.cursor != "" && g.From < c.cursor:
		c.complainLocked("%s: the gap %+v reaches back behind the position %s", by, g.Gap, c.cursor)
	case g.Doubt != "":
		c.complainLocked("%s: a false gap %+v: %s", by, g.Gap, g.Doubt)
	}
	if g.To > c.cursor {
		c.moveLocked(g.To)
	}
}

func (c *Client) moveLocked(to string) {
	if c.first == "" {
		c.first = to
	}
	c.cursor = to
}

// Topics are the patterns of what the client must see.
func (c *Client) Topics() []string {
	if len(c.Start.Topics) == 0 {
		return c.Reach
	}
	return c.Start.Topics
}

// Cursor is the client's position.
func (c *Client) Cursor() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cursor
}

// Stand sets the position of a client that tells it in its own way the first time.
func (c *Client) Stand(at string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first, c.cursor = at, at
}

// Events are the events so far.
func (c *Client) Events() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// Count is how many events came so far.
func (c *Client) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.events)
}

// Gaps are the gaps told so far.
func (c *Client) Gaps() []Told {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.told)
}

// Ends are the polite ends so far.
func (c *Client) Ends() []Ended {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ended)
}

// Connections are those that were taken up so far.
func (c *Client) Connections() []Connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.conns)
}

// Errors are the ends of connections so far, as errors.
func (c *Client) Errors() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.errs)
}

// Complaints are what was wrong in itself; [Book.Judge] finds the rest.
func (c *Client) Complaints() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.said)
}

// Alive is how many signs of life came that say nothing.
func (c *Client) Alive() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alive
}

// Until waits until ok, which is asked again when something came.
func (c *Client) Until(ctx context.Context, what string, ok func(*Client) bool) error {
	for {
		c.mu.Lock()
		news := c.news
		c.mu.Unlock()
		if ok(c) {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%s: not %s in time; at %s after %d events, %d connections; errors %v, complaints %q",
				c.Name, what, c.Cursor(), c.Count(), len(c.Connections()), c.lastErrors(), c.Complaints())
		}
	}
}

func (c *Client) lastErrors() []error {
	errs := c.Errors()
	return errs[max(0, len(errs)-3):]
}

// WaitFor waits until the client's position is at an id or beyond.
func (c *Client) WaitFor(ctx context.Context, id string) error {
	return c.Until(ctx, "at "+id, func(c *Client) bool { return c.Cursor() >= id })
}

// WaitOpen waits until n connections were taken up and a position is known.
func (c *Client) WaitOpen(ctx context.Context, n int) error {
	return c.Until(ctx, fmt.Sprintf("connected %d times", n), func(c *Client) bool {
		return len(c.Connections()) >= n && c.Cursor() != ""
	})
}
