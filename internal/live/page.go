package live

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

const (
	// pageEvents is how many events a page holds at most; the log bounds its bytes.
	pageEvents = 1000
	// sharedStretch is how much of the log those read at once who do it in turn, in bytes,
	// about: the store's cache holds several.
	sharedStretch = 4 << 20
)

// pages are encoded stretches of the log, shared by the readers of one query that
// catch up. Those of one query never overlap.
type pages struct {
	hub *Hub

	mu    sync.Mutex // guards below
	byKey map[feedKey]*chapter
	used  *list.List // of *page, the newest use first
	bytes int
}

// chapter is the pages of one query, in order.
type chapter struct {
	pages []*page
	users int
	turn  chan struct{} // held by who reads the log for it
}

type page struct {
	*segment
	key  feedKey
	used *list.Element
}

// pageOverhead is what a page costs besides its bytes.
const pageOverhead = 256

func (p *page) bytes() int { return cap(p.buf) + 16*cap(p.marks) + pageOverhead }

func (s *pages) init(h *Hub) {
	s.hub, s.byKey, s.used = h, map[feedKey]*chapter{}, list.New()
}

// get returns a page that holds what comes behind a position, reading it if it has to, and
// then not more of the log than a stretch, unless that is 0.
// A page without frames moves its reader on all the same. A gap is told with the page
// after it. The page's end is the position that was given when there is nothing more.
func (s *pages) get(f *feed, after hark.Offset, stretch int) (*segment, *hark.Gap, error) {
	for {
		c, p, bound := s.find(f.key, after)
		if p != nil {
			return p, nil, nil
		}
		select {
		case c.turn <- struct{}{}:
		default: // somebody reads for this query: perhaps the same
			c.turn <- struct{}{}
			<-c.turn
			s.done(f.key, c)
			continue
		}
		seg, gap, err := s.read(f, after, bound, stretch)
		if err == nil && gap == nil && seg.to > after {
			s.keep(f.key, c, seg)
		}
		<-c.turn
		s.done(f.key, c)
		return seg, gap, err
	}
}

// find returns the page that covers what comes behind after. Otherwise the caller has
// the chapter, until done, and bound is where the next page begins; 0 for none.
func (s *pages) find(key feedKey, after hark.Offset) (c *chapter, found *segment, bound hark.Offset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c = s.byKey[key]
	if c == nil {
		c = &chapter{turn: make(chan struct{}, 1)}
		s.byKey[key] = c
	}
	i := sort.Search(len(c.pages), func(i int) bool { return c.pages[i].to > after })
	if i < len(c.pages) {
		if p := c.pages[i]; p.from <= after {
			s.used.MoveToFront(p.used)
			return c, p.segment, 0
		}
		bound = c.pages[i].from
	}
	c.users++
	return c, nil, bound
}

func (s *pages) done(key feedKey, c *chapter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.users--
	s.forget(key, c)
}

func (s *pages) forget(key feedKey, c *chapter) {
	if c.users == 0 && len(c.pages) == 0 && s.byKey[key] == c {
		delete(s.byKey, key)
	}
}

// keep remembers a page, and forgets those used longest ago.
func (s *pages) keep(key feedKey, c *chapter, seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &page{segment: seg, key: key}
	if p.bytes() > s.hub.cfg.PageBytes/4 {
		return
	}
	at := sort.Search(len(c.pages), func(i int) bool { return c.pages[i].from >= seg.from })
	if at > 0 && c.pages[at-1].to > seg.from || at < len(c.pages) && c.pages[at].from < seg.to {
		return
	}
	c.pages = slices.Insert(c.pages, at, p)
	p.used = s.used.PushFront(p)
	for s.bytes += p.bytes(); s.bytes > s.hub.cfg.PageBytes; {
		s.drop(s.used.Back())
	}
}

func (s *pages) drop(e *list.Element) {
	p := s.used.Remove(e).(*page)
	s.bytes -= p.bytes()
	c := s.byKey[p.key]
	c.pages = slices.DeleteFunc(c.pages, func(other *page) bool { return other == p })
	s.forget(p.key, c)
}

// read reads one page behind a position, up to bound. It ends at what the pump has put
// into the feeds, so that its reader can go on there.
func (s *pages) read(f *feed, after, bound hark.Offset, stretch int) (*segment, *hark.Gap, error) {
	got, err := s.hub.log.Read(f.query.Tenant, eventlog.Query{Patterns: f.query.Patterns, After: after, Limit: pageEvents, Stretch: stretch})
	if err != nil {
		return nil, nil, err
	}
	from := after
	if got.Gap != nil {
		from = got.Gap.To.Offset
	}
	seg := &segment{from: from, to: max(got.Next, after)}
	if bound != 0 && seg.to > bound {
		seg.to = bound
	}
	enc := encoder{frames: map[frameKey][]byte{}}
	var buf []byte
	marks := make([]mark, 0, len(got.Events))
	for _, e := range got.Events {
		if e.ID.Offset > seg.to {
			break
		}
		if !f.query.matches(e) {
			continue
		}
		enc.begin(e)
		buf = append(buf, enc.frame(&f.query)...)
		marks = append(marks, mark{int32(len(buf)), e.ID.Offset})
	}
	seg.buf, seg.marks = buf[:len(buf):len(buf)], marks
	seg.count.Store(int32(len(marks)))
	return seg, got.Gap, nil
}

// fetchQueue is the parked streams that wish for what comes next. Each is in it at most
// once, and not when it is closed: who comes and goes in a hurry leaves no work behind.
//
// They have their turns in rounds, and in a round in the order of the log: those that are at
// one place follow each other, and find in memory what the first of them had to read.
type fetchQueue struct {
	mu      sync.Mutex // guards below, and the streams' turns
	waiting list.List  // of *stream, for the next round
	round   list.List  // of *stream
	many    bool       // the round began with several
	wake    chan struct{}
}

func (q *fetchQueue) push(st *stream) {
	q.mu.Lock()
	st.turn = q.waiting.PushBack(st)
	q.mu.Unlock()
	q.signal()
}

// drop takes a stream out that is in it, perhaps.
func (q *fetchQueue) drop(st *stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if st.turn != nil {
		q.waiting.Remove(st.turn) // of one list, and the other does nothing
		q.round.Remove(st.turn)
		st.turn = nil
	}
}

// pop returns the next stream, or nil, and whether there are others in its round.
func (q *fetchQueue) pop() (st *stream, many bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.round.Len() == 0 {
		q.beginLocked()
	}
	first := q.round.Front()
	if first == nil {
		return nil, false
	}
	st = q.round.Remove(first).(*stream)
	st.turn = nil
	if q.round.Len()+q.waiting.Len() > 0 { // one signal may stand for many
		q.signal()
	}
	return st, q.many
}

// beginLocked begins a round with all who wait.
func (q *fetchQueue) beginLocked() {
	streams := make([]*stream, 0, q.waiting.Len())
	for e := q.waiting.Front(); e != nil; e = e.Next() {
		streams = append(streams, e.Value.(*stream))
	}
	q.waiting.Init()
	slices.SortFunc(streams, func(a, b *stream) int {
		return cmp.Or(cmp.Compare(a.feed.query.Tenant, b.feed.query.Tenant), cmp.Compare(a.asked, b.asked))
	})
	for _, st := range streams {
		st.turn = q.round.PushBack(st)
	}
	q.many = len(streams) > 1
}

func (q *fetchQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pace keeps who catches up from taking a processor all the time while there are live events:
// reading is work without a pause, and whoever has those must find a processor that is free.
type pace struct {
	owed time.Duration
}

const (
	// restFrom is how long is read before there is a rest: shorter ones take longer than was asked for.
	restFrom = time.Millisecond
	// liveFor is how long after a live event the next one is expected.
	liveFor = 100 * time.Millisecond
)

// rest lets as much time go by as was worked, if there are live events.
func (p *pace) rest(ctx context.Context, h *Hub, worked time.Duration) {
	now := time.Now()
	if now.Sub(time.UnixMilli(h.fed.Load())) > liveFor {
		p.owed = 0
		return
	}
	if p.owed += worked; p.owed < restFrom {
		return
	}
	select {
	case <-time.After(p.owed):
	case <-ctx.Done():
	}
	p.owed = max(p.owed-time.Since(now), -restFrom)
}

// fetchLoop reads pages for parked streams.
func (h *Hub) fetchLoop(ctx context.Context) {
	var pace pace
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.fetches.wake:
		}
		for st, many := h.fetches.pop(); st != nil; st, many = h.fetches.pop() {
			stretch := 0
			if many {
				stretch = sharedStretch
			}
			m, began := message{kind: pageCame, stream: st}, time.Now()
			m.page, m.gap, m.err = h.pages.get(st.feed, st.asked, stretch)
			st.shard.post(m)
			if many {
				pace.rest(ctx, h, time.Since(began))
			}
		}
	}
}
