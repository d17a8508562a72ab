package live

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

// Log is what live readers need of the event log.
type Log interface {
	Next(ctx context.Context, after hark.Offset, limit int) ([]*hark.Event, error)
	Read(t hark.TenantID, q eventlog.Query) (eventlog.Page, error)
	Latest(t hark.TenantID, patterns []hark.Pattern, n int) (hark.Offset, error)
	Position(c hark.Cursor) (hark.Offset, *hark.Gap, error)
	Locate(id hark.EventID) (hark.Offset, error)
	Cursor(o hark.Offset) hark.Cursor
	FindTime(t hark.TenantID, at time.Time) (hark.Offset, error)
	Floor(t hark.TenantID) hark.Offset
	End() hark.Offset
}

// Caller is who reads.
type Caller interface {
	TenantID() hark.TenantID
	// Reach is what the caller reads when it names no pattern.
	Reach() []hark.Pattern
	// MaySubscribe tells whether the caller may read all that patterns match.
	MaySubscribe(patterns []hark.Pattern) error
	// Until is when its credential ends; zero for never.
	Until() time.Time
	// Recheck tells whether its credential still holds.
	Recheck() error
}

// Config is what a [Hub] is made of. The zero value of each but Log and CallerOf is usable.
type Config struct {
	Log Log
	// CallerOf returns who makes a request.
	CallerOf func(context.Context) Caller
	// ClientOf tells clients apart, those who poll too often; nil for by their addresses.
	ClientOf func(*http.Request) string
	// Front and Publisher serve the WebSocket; without a Publisher nobody publishes there.
	Front     Front
	Publisher Publisher
	// PingEvery is how often a WebSocket client is asked whether it is there. Default 25 s.
	PingEvery time.Duration
	// MaxStreams bounds streams that go on; default 10,000.
	MaxStreams int
	// KeepAlive is the shortest silence before a comment; it comes up to a third later. Default 15 s.
	KeepAlive time.Duration
	// SlowAfter is how long a socket may take nothing while there is something for it. Default 2 min.
	SlowAfter time.Duration
	// PageBytes bounds the encoded pages that readers who catch up share. Default 32 MiB.
	PageBytes int
	// CatchUps bounds how many pages are read at once; default half of the processors: reading the
	// log is work without a pause, and whoever has live events must find one that is free.
	CatchUps int
	// Hooks tell what happens.
	Hooks Hooks
}

// Hooks are called synchronously and must be quick; nil ones are left out.
type Hooks struct {
	// Opened and Closed count streams; why is "gone", "slow", or a reason of [Hub.Drain] and its like.
	Opened func(transport string)
	Closed func(transport, why string)
}

func (c Config) withDefaults() Config {
	if c.ClientOf == nil {
		c.ClientOf = func(r *http.Request) string { host, _, _ := net.SplitHostPort(r.RemoteAddr); return host }
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 10000
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 15 * time.Second
	}
	if c.PingEvery == 0 {
		c.PingEvery = 25 * time.Second
	}
	if c.SlowAfter == 0 {
		c.SlowAfter = 2 * time.Minute
	}
	if c.PageBytes == 0 {
		c.PageBytes = 32 << 20
	}
	if c.CatchUps == 0 {
		c.CatchUps = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if c.Hooks.Opened == nil {
		c.Hooks.Opened = func(string) {}
	}
	if c.Hooks.Closed == nil {
		c.Hooks.Closed = func(string, string) {}
	}
	return c
}

// Hub feeds everyone who is connected.
type Hub struct {
	cfg     Config
	log     Log
	mark    atomic.Uint64 // what the pump has put into the feeds; moves under mu
	streams seats
	polls   seats // that wait
	pages   pages
	fetches fetchQueue
	readers chan struct{} // held by a Reader that reads a page
	shards  []*shard
	next    atomic.Uint32 // shard of the next stream
	drain   drain

	impatient impatient
	sockets   sockets
	batch     atomic.Uint64
	fed       atomic.Int64 // when a feed last had something, in Unix milliseconds

	mu    sync.RWMutex // guards below; the pump holds it for reading
	feeds map[feedKey]*feed
	index map[hark.TenantID]*hark.TopicIndex[*feed]
}

// New makes a Hub. Nothing is live before [Hub.Run].
func New(cfg Config) (*Hub, error) {
	h := &Hub{cfg: cfg.withDefaults(), log: cfg.Log, feeds: map[feedKey]*feed{}, index: map[hark.TenantID]*hark.TopicIndex[*feed]{}}
	h.mark.Store(uint64(h.log.End()))
	h.fetches.wake = make(chan struct{}, 1)
	h.readers = make(chan struct{}, h.cfg.CatchUps)
	h.pages.init(h)
	h.streams.init(h.cfg.MaxStreams)
	h.polls.init(maxPolls)
	h.drain.init()
	if err := h.sockets.init(h); err != nil {
		return nil, err
	}
	for i := range max(2, runtime.GOMAXPROCS(0)) {
		s, err := newShard(h, i)
		if err != nil {
			h.closeShards()
			return nil, err
		}
		h.shards = append(h.shards, s)
	}
	return h, nil
}

// Run feeds readers until ctx ends, then closes what is still open. Call [Hub.Drain] before.
func (h *Hub) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, s := range h.shards {
		wg.Go(func() { s.run(inner) })
		wg.Go(func() { s.poll() })
	}
	for range h.cfg.CatchUps {
		wg.Go(func() { h.fetchLoop(inner) })
	}
	wg.Go(func() { h.coolLoop(inner) })
	wg.Go(func() { h.sockets.Sweep(inner) })
	wg.Go(h.sockets.Watch)
	err := h.pump(inner)
	cancel()
	h.drain.begin(0)
	h.sockets.stop()
	wg.Wait()
	h.closeShards()
	if ctx.Err() != nil || eventlog.IsStopped(err) {
		return nil
	}
	return err
}

func (h *Hub) closeShards() {
	for _, s := range h.shards {
		s.close()
	}
	h.sockets.Close()
}

// Streams is how many streams are open.
func (h *Hub) Streams() int { return h.streams.taken() }

// pumpEvents is how many events one round of the pump takes.
const pumpEvents = 512

// pump puts what is new into the feeds.
func (h *Hub) pump(ctx context.Context) error {
	e := encoder{frames: map[frameKey][]byte{}}
	for {
		events, err := h.log.Next(ctx, hark.Offset(h.mark.Load()), pumpEvents)
		if err != nil {
			return err
		}
		for _, f := range h.put(events, &e) {
			f.kick()
		}
		e.release()
	}
}

// put appends events to the feeds that they match, and returns those.
func (h *Hub) put(events []*hark.Event, enc *encoder) []*feed {
	h.mu.RLock()
	defer h.mu.RUnlock()
	batch, now := h.batch.Add(1), time.Now()
	most := min(max(chainBytes/uint64(len(h.feeds)+1), stallLag), maxLag)
	for _, e := range events {
		x := h.index[e.Tenant]
		if x == nil {
			continue
		}
		enc.begin(e)
		o := e.ID.Offset
		x.Match(e.Topic, func(f *feed) {
			if f.seen >= o || !f.query.matches(e) { // a second pattern of it
				return
			}
			if f.batch != batch {
				enc.touched = append(enc.touched, f)
			}
			f.append(o, enc.frame(&f.query), batch, now, most)
		})
	}
	h.mark.Store(uint64(events[len(events)-1].ID.Offset))
	if len(enc.touched) > 0 {
		h.fed.Store(now.UnixMilli())
	}
	return enc.touched
}

// frameKey tells forms of one event apart.
type frameKey struct {
	variant *Variant
	chunked bool
}

// encoder encodes each event once for each form.
type encoder struct {
	event   *hark.Event
	line    []byte
	frames  map[frameKey][]byte
	arena   []byte
	touched []*feed
}

func (c *encoder) begin(e *hark.Event) {
	c.event, c.line, c.arena = e, c.line[:0], c.arena[:0]
	clear(c.frames)
}

// frame returns the event's frame for a query; one of up to sharedFrame bytes is valid until
// the next begin.
func (c *encoder) frame(q *Query) []byte {
	key := frameKey{q.Variant, q.chunked}
	if f, ok := c.frames[key]; ok {
		return f
	}
	if len(c.line) == 0 {
		c.line = hark.AppendEventJSONLine(c.line, c.event)
	}
	start := len(c.arena)
	c.arena = q.appendFrame(c.arena, c.event, c.line)
	f := c.arena[start:len(c.arena):len(c.arena)]
	if len(f) > sharedFrame {
		f, c.arena = bytes.Clone(f), c.arena[:start]
	}
	c.frames[key] = f
	return f
}

// release lets go of what one round held.
func (c *encoder) release() {
	clear(c.touched)
	clear(c.frames)
	c.touched, c.event = c.touched[:0], nil
	if cap(c.arena) > 1<<20 {
		c.arena, c.line = nil, nil
	}
}

// acquire returns the feed of a query, for one more reader.
func (h *Hub) acquire(q Query) *feed {
	key := q.key()
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[key]
	if f == nil {
		f = newFeed(q, key, hark.Offset(h.mark.Load()), len(h.shards))
		h.feeds[key] = f
		x := h.index[q.Tenant]
		if x == nil {
			x = new(hark.TopicIndex[*feed])
			h.index[q.Tenant] = x
		}
		for _, p := range q.Patterns {
			x.Add(p, f)
		}
	}
	f.refs++
	return f
}

// release gives a feed back; the last reader takes it away.
func (h *Hub) release(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.refs--; f.refs > 0 {
		return
	}
	delete(h.feeds, f.key)
	x := h.index[f.query.Tenant]
	for _, p := range f.query.Patterns {
		x.Remove(p, f)
	}
	if x.Empty() {
		delete(h.index, f.query.Tenant)
	}
}

// coolLoop makes feeds that went quiet give up large segments.
func (h *Hub) coolLoop(ctx context.Context) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	last := h.batch.Load()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.cool(last)
		last = h.batch.Load()
	}
}

// cool gives up the large segments of feeds that had nothing since a batch.
func (h *Hub) cool(since uint64) {
	var cooled []*feed
	h.mu.RLock()
	for _, f := range h.feeds {
		if f.cool(since) {
			cooled = append(cooled, f)
		}
	}
	h.mu.RUnlock()
	for _, f := range cooled {
		f.kick()
	}
}

// Recheck asks of every parked stream whether its credential still holds; call it when
// keys or tokens were revoked. Streams that a handler serves ask by themselves.
func (h *Hub) Recheck() {
	for _, s := range h.shards {
		s.post(message{kind: recheckAll})
	}
	h.drain.recheck()
	h.sockets.recheck()
}

// Drain ends every stream politely: each client is told to come back at its own time
// within a window, so that they arrive evenly. It returns when they were told.
func (h *Hub) Drain(window time.Duration) {
	h.drain.begin(window)
	var wg sync.WaitGroup
	for _, s := range h.shards {
		wg.Add(1)
		s.post(message{kind: endAll, window: window, done: wg.Done})
	}
	wg.Go(func() { h.sockets.drain(window, hearWithin) })
	wg.Wait()
}

// hearWithin is how long a stop waits for WebSocket clients to have heard of it.
const hearWithin = 2 * time.Second

// spread returns a time to come back within a window.
func spread(window time.Duration) time.Duration {
	return time.Second/2 + rand.N(max(window, time.Second))
}

// crowded returns a time to come back when there was no seat.
func crowded() time.Duration { return 5*time.Second + spread(20*time.Second) }
