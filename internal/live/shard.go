package live

import (
	"container/list"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/harkhq/hark"
)

// Turns: how much one stream, and one feed, does before others have theirs.
const (
	turnStreams = 64
	turnBytes   = 64 << 10
)

// shard owns some of the parked streams. Everything but its mail is its goroutine's own.
type shard struct {
	hub   *Hub
	index int
	poller
	mail mail

	slots []*stream // by slot; nil when free
	gens  []uint32  // how often a slot was used
	free  []int32
	turns []*members // feeds whose streams have something, in turn
	ready []*stream  // streams that go on by themselves, in turn
	wheel wheel
	now   int64 // Unix seconds, as of the last tick
}

// members are the streams of one feed in one shard.
type members struct {
	shard  *shard
	n      atomic.Int32
	queued atomic.Bool // a message says so

	streams []*stream
	left    int  // of this pass
	passing bool // it is among the turns
	again   bool // the feed moved since the pass began
}

// stream is a response that nobody waits for.
type stream struct {
	shard   *shard
	feed    *feed
	members *members
	format  *Format
	caller  Caller
	ended   func()
	fd      int32
	slot    int32
	index   int32 // among members
	state   streamState
	queued  bool // it is among the ready
	chunked bool

	spot  spot
	asked hark.Offset   // what it fetches behind
	turn  *list.Element // to fetch; the queue's
	told  hark.Offset   // the newest position its client knows
	own   []byte        // goes out before anything else; only between frames
	// ending is why it ends; it does once own is out.
	ending    string
	reconnect time.Duration

	wrote   int64 // when, in Unix seconds
	blocked int64 // since when its socket takes nothing; 0 for not
	until   int64 // when its credential ends; 0 for never
	beats   uint32

	before, after *stream // in the wheel
	tick          int8    // of the wheel; -1 for none
}

type streamState uint8

const (
	open     streamState = iota
	stalled              // its socket takes nothing
	fetching             // a page is on its way
	closed
)

type messageKind uint8

const (
	feedMoved messageKind = iota
	attach
	pageCame
	socketMoved
	recheckAll
	endAll
)

// message is what others want of a shard.
type message struct {
	kind    messageKind
	members *members
	stream  *stream
	page    *segment
	gap     *hark.Gap
	err     error
	socket  socketEvent
	window  time.Duration
	done    func()
}

// socketEvent is what became of a socket.
type socketEvent struct {
	slot           int32
	gen            uint32
	writable, gone bool
}

// mail is the only way into a shard.
type mail struct {
	mu     sync.Mutex // guards below
	box    []message
	closed bool
	wake   chan struct{}
}

func newShard(h *Hub, index int) (*shard, error) {
	s := &shard{hub: h, index: index, now: time.Now().Unix()}
	s.mail.wake = make(chan struct{}, 1)
	s.wheel.init(s.now)
	return s, s.poller.open()
}

func (s *shard) post(m message) {
	s.mail.mu.Lock()
	refused := s.mail.closed
	if !refused {
		s.mail.box = append(s.mail.box, m)
	}
	first := len(s.mail.box) == 1
	s.mail.mu.Unlock()
	switch {
	case refused:
		s.refuse(m)
	case first:
		select {
		case s.mail.wake <- struct{}{}:
		default:
		}
	}
}

// refuse: nobody reads mail any more.
func (s *shard) refuse(m message) {
	if m.kind == attach {
		closeSocket(m.stream.fd)
		s.over(m.stream, endStopping)
	}
	if m.done != nil {
		m.done()
	}
}

// run is the shard's goroutine.
func (s *shard) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var box []message
	for {
		s.mail.mu.Lock()
		box, s.mail.box = s.mail.box, box[:0]
		s.mail.mu.Unlock()
		for i := range box {
			s.handle(&box[i])
		}
		clear(box)
		busy := s.turn()
		select {
		case <-tick.C:
			s.beat(time.Now().Unix())
			continue
		case <-ctx.Done():
			s.stop()
			return
		default:
		}
		if busy || len(box) > 0 {
			continue
		}
		select {
		case <-s.mail.wake:
		case <-tick.C:
			s.beat(time.Now().Unix())
		case <-ctx.Done():
			s.stop()
			return
		}
	}
}

// stop closes what is left.
func (s *shard) stop() {
	s.mail.mu.Lock()
	s.mail.closed = true
	box := s.mail.box
	s.mail.box = nil
	s.mail.mu.Unlock()
	for i := range box {
		if box[i].kind == attach || box[i].done != nil {
			s.refuse(box[i])
		}
	}
	for _, st := range s.slots {
		if st != nil {
			s.remove(st, endStopping)
		}
	}
	s.poller.interrupt()
}

func (s *shard) handle(m *message) {
	switch m.kind {
	case feedMoved:
		m.members.queued.Store(false)
		s.begin(m.members)
	case attach:
		s.attach(m.stream)
	case pageCame:
		s.paged(m)
	case socketMoved:
		s.socket(m.socket)
	case recheckAll:
		s.recheck()
	case endAll:
		s.endAll(m)
	}
}

// begin starts a pass over a feed's streams.
func (s *shard) begin(m *members) {
	if m.passing {
		m.again = true
		return
	}
	m.passing, m.again, m.left = true, false, len(m.streams)
	s.turns = append(s.turns, m)
}

// turn does a bounded amount of work and reports whether there was some.
func (s *shard) turn() bool {
	busy := false
	if len(s.turns) > 0 {
		busy = true
		m := s.turns[0]
		s.turns = shift(s.turns)
		m.left = min(m.left, len(m.streams)) // some may have gone
		for n := 0; n < turnStreams && m.left > 0; n++ {
			m.left--
			s.flush(m.streams[m.left])
			m.left = min(m.left, len(m.streams))
		}
		switch {
		case m.left > 0:
			s.turns = append(s.turns, m)
		case m.again:
			m.passing = false
			s.begin(m)
		default:
			m.passing = false
		}
	}
	if len(s.ready) > 0 {
		busy = true
		st := s.ready[0]
		s.ready = shift(s.ready)
		st.queued = false
		s.flush(st)
	}
	return busy
}

// shift takes the first away without holding on to it.
func shift[T any](queue []*T) []*T {
	queue[0] = nil
	if len(queue) == 1 {
		return queue[:0:0]
	}
	return queue[1:]
}

// later gives a stream another turn.
func (s *shard) later(st *stream) {
	if !st.queued {
		st.queued = true
		s.ready = append(s.ready, st)
	}
}

// flush writes what there is for a stream, up to a turn's worth.
func (s *shard) flush(st *stream) {
	if lag := st.feed.lag(&st.spot); lag > maxLag || st.state == stalled && lag > stallLag {
		st.spot.leave() // only its position is kept
	}
	if st.state != open {
		return
	}
	for left := turnBytes; ; {
		b, own := s.next(st)
		switch {
		case st.state != open:
			return
		case len(b) == 0:
			return
		case left <= 0:
			s.later(st)
			return
		}
		n, err := writeSocket(st.fd, b[:min(len(b), left)])
		left -= n
		if n > 0 {
			st.wrote, st.blocked = s.now, 0
		}
		if own {
			if st.own = st.own[n:]; len(st.own) == 0 {
				st.own = nil
			}
		} else {
			st.spot.took(n)
		}
		switch {
		case err == nil:
		case errors.Is(err, syscall.EAGAIN):
			st.state = stalled
			if st.blocked == 0 {
				st.blocked = s.now
			}
			if st.spot.holdsPage(stallLag) {
				st.spot.leave()
			}
			return
		default:
			s.remove(st, "gone")
			return
		}
	}
}

// next returns the bytes to write, and whether they are the stream's own. Without any,
// the stream has had everything, waits for a page, or is gone.
func (s *shard) next(st *stream) (b []byte, own bool) {
	for {
		if len(st.own) > 0 {
			return st.own, true
		}
		if st.ending != "" && st.format == nil {
			s.remove(st, st.ending)
			return nil, false
		}
		if st.ending != "" && st.spot.whole() {
			s.goodbye(st)
			continue
		}
		if b = st.spot.ready(); b != nil {
			if st.ending != "" {
				b = b[:st.spot.rest()]
			}
			return b, false
		}
		if st.spot.seg != nil {
			return nil, false
		}
		if !st.feed.join(&st.spot) {
			st.state, st.asked = fetching, st.spot.pos
			s.hub.fetches.push(st)
			return nil, false
		}
	}
}

// goodbye puts the last block into own. The stream ends when that is out.
func (s *shard) goodbye(st *stream) {
	s.tell(st)
	st.own = st.format.end(st.own, st.chunked, st.ending, st.reconnect)
	st.format = nil // said
}

// paged: the page that a stream waited for is there.
func (s *shard) paged(m *message) {
	st := m.stream
	if st.state != fetching {
		return
	}
	st.state = open
	switch {
	case m.err != nil && st.spot.whole():
		s.end(st, endStopping, spread(time.Second))
		return
	case m.err != nil:
		s.remove(st, endStopping) // it had half of a frame: a clean end cannot be
		return
	case m.gap != nil && st.spot.skip > 0:
		s.remove(st, "gap") // what it had half of is gone
		return
	case m.gap != nil:
		st.spot.pos = max(st.spot.pos, m.page.from)
		st.own = st.format.gap(st.own, st.chunked, m.gap)
	}
	if st.spot.seg == nil {
		st.spot.enter(m.page)
	}
	s.later(st)
}

func (s *shard) socket(e socketEvent) {
	if int(e.slot) >= len(s.slots) || s.gens[e.slot] != e.gen || s.slots[e.slot] == nil {
		return
	}
	st := s.slots[e.slot]
	switch {
	case e.gone:
		s.remove(st, "gone")
	case st.state == stalled:
		st.state = open
		s.later(st)
	}
}

// attach takes a stream over.
func (s *shard) attach(st *stream) {
	if n := len(s.free); n > 0 {
		st.slot, s.free = s.free[n-1], s.free[:n-1]
	} else {
		st.slot = int32(len(s.slots))
		s.slots, s.gens = append(s.slots, nil), append(s.gens, 0)
	}
	s.gens[st.slot]++
	s.slots[st.slot] = st
	st.tick = -1
	m := st.feed.parts[s.index].Load()
	if m == nil {
		m = &members{shard: s}
		st.feed.parts[s.index].Store(m)
	}
	st.members, st.index = m, int32(len(m.streams))
	m.streams = append(m.streams, st)
	m.n.Store(int32(len(m.streams)))
	st.wrote = s.now
	s.schedule(st)
	if err := s.poller.add(st.fd, st.slot, s.gens[st.slot]); err != nil {
		s.remove(st, "gone")
		return
	}
	switch { // what happened while it was on its way here
	case s.hub.drain.begun():
		s.end(st, endStopping, spread(s.hub.drain.left()))
	case st.caller != nil && st.caller.Recheck() != nil:
		s.end(st, endRevoked, spread(time.Second))
	default:
		s.flush(st)
	}
}

// remove closes a stream.
func (s *shard) remove(st *stream, why string) {
	if st.state == closed {
		return
	}
	s.hub.fetches.drop(st)
	st.state = closed
	s.wheel.remove(st)
	finish(st.fd)
	closeSocket(st.fd)
	s.slots[st.slot] = nil
	s.free = append(s.free, st.slot)
	m := st.members
	last := len(m.streams) - 1
	moved := m.streams[last]
	m.streams[st.index], moved.index = moved, st.index
	m.streams[last] = nil
	m.streams = m.streams[:last]
	m.n.Store(int32(last))
	st.spot = spot{}
	st.own = nil
	s.over(st, why)
}

// over gives back what a stream had of its hub.
func (s *shard) over(st *stream, why string) {
	s.hub.release(st.feed)
	s.hub.streams.leave(st.feed.query.Tenant, 1)
	s.hub.cfg.Hooks.Closed(st.feed.query.Variant.Name, why)
	ended(st.ended)
}

// end has a stream end after what it is in the midst of.
func (s *shard) end(st *stream, why string, reconnect time.Duration) {
	if st.ending != "" {
		return
	}
	st.ending, st.reconnect = why, reconnect
	if st.state == fetching && st.spot.whole() {
		s.hub.fetches.drop(st)
		st.state = open // it needs no page to say so
	}
	s.flush(st)
}

func (s *shard) recheck() {
	for _, st := range s.slots {
		if st != nil && st.caller != nil && st.caller.Recheck() != nil {
			s.end(st, endRevoked, spread(time.Second))
		}
	}
}

// endAll ends all streams. One that takes nothing now is closed as it is.
func (s *shard) endAll(m *message) {
	for _, st := range s.slots {
		if st == nil {
			continue
		}
		s.end(st, endStopping, spread(m.window))
		if st.state != closed {
			s.remove(st, endStopping)
		}
	}
	m.done()
}

// beat is what happens once a second.
func (s *shard) beat(now int64) {
	s.now = now
	s.wheel.advance(now, s.due)
}

// due: a stream's time has come: its credential ends, or it was silent for long.
func (s *shard) due(st *stream) {
	quiet := int64(s.hub.cfg.KeepAlive / time.Second)
	switch {
	case st.state == stalled && s.now-st.blocked >= int64(s.hub.cfg.SlowAfter/time.Second):
		s.remove(st, endSlow)
	case st.until != 0 && s.now >= st.until:
		s.end(st, endExpired, spread(time.Second))
	case st.state == open && len(st.own) == 0 && st.ending == "" && s.now-st.wrote >= quiet && st.spot.whole():
		s.keepAlive(st)
	}
	if st.state != closed {
		s.schedule(st)
	}
}

// cursorEvery is how many comments pass before a silent stream is told its position, if that moved.
const cursorEvery = 4

func (s *shard) keepAlive(st *stream) {
	st.beats++
	if st.beats%cursorEvery == 0 {
		s.tell(st)
	}
	if len(st.own) == 0 {
		st.own = st.format.keepAlive(st.chunked)
	}
	s.flush(st)
}

// tell has a client know how far it is if it had all there is: so the cursor of a quiet
// topic never becomes older than retention.
func (s *shard) tell(st *stream) {
	mark := hark.Offset(s.hub.mark.Load()) // before looking whether it has had all
	if st.spot.caughtUp() && mark > st.told {
		st.told = mark
		st.own = st.format.cursor(st.own, st.chunked, s.hub.log.Cursor(mark))
	}
}

// schedule puts a stream into the wheel for when it may have to be told something.
func (s *shard) schedule(st *stream) {
	quiet := int64(s.hub.cfg.KeepAlive / time.Second)
	at := max(st.wrote, s.now-quiet) + quiet + rand.Int64N(quiet/3+1)
	if st.until != 0 {
		at = min(at, st.until)
	}
	if st.state == stalled {
		at = min(at, st.blocked+int64(s.hub.cfg.SlowAfter/time.Second))
	}
	s.wheel.add(st, max(at, s.now+1))
}
