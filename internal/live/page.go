package live

import (
	"container/list"
	"context"
	"slices"
	"sort"
	"sync"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

// pageEvents is how many events a page holds at most; the log bounds its bytes.
const pageEvents = 1000

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

// get returns a page that holds what comes behind a position, reading it if it has to.
// A page without frames moves its reader on all the same. A gap is told with the page
// after it. The page's end is the position that was given when there is nothing more.
func (s *pages) get(f *feed, after hark.Offset) (*segment, *hark.Gap, error) {
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
		seg, gap, err := s.read(f, after, bound)
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
func (s *pages) read(f *feed, after, bound hark.Offset) (*segment, *hark.Gap, error) {
	got, err := s.hub.log.Read(f.query.Tenant, eventlog.Query{Patterns: f.query.Patterns, After: after, Limit: pageEvents})
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

// fetchQueue is the parked streams that wish for what comes next, in turn. Each is in it at most
// once, and not when it is closed: who comes and goes in a hurry leaves no work behind.
type fetchQueue struct {
	mu      sync.Mutex // guards below, and the streams' turns
	streams list.List  // of *stream
	wake    chan struct{}
}

func (q *fetchQueue) push(st *stream) {
	q.mu.Lock()
	st.turn = q.streams.PushBack(st)
	q.mu.Unlock()
	q.signal()
}

// drop takes a stream out that is in it, perhaps.
func (q *fetchQueue) drop(st *stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if st.turn != nil {
		q.streams.Remove(st.turn)
		st.turn = nil
	}
}

func (q *fetchQueue) pop() *stream {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := q.streams.Front()
	if first == nil {
		return nil
	}
	st := q.streams.Remove(first).(*stream)
	st.turn = nil
	if q.streams.Len() > 0 { // one signal may stand for many
		q.signal()
	}
	return st
}

func (q *fetchQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// fetchLoop reads pages for parked streams.
func (h *Hub) fetchLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.fetches.wake:
		}
		for st := h.fetches.pop(); st != nil; st = h.fetches.pop() {
			m := message{kind: pageCame, stream: st}
			m.page, m.gap, m.err = h.pages.get(st.feed, st.asked)
			st.shard.post(m)
		}
	}
}
