package live

import (
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/harkhq/hark"
)

// Sizes of a chain's segments. A quiet feed has segments of one frame; one with much
// to say doubles them.
const (
	maxSegment = 64 << 10
	fillTime   = 100 * time.Millisecond
	// readerShare is how many bytes of a segment a feed has for each of its readers at least: a
	// write carries what one segment holds, and a burst to many must not fall into many small ones.
	readerShare = 16
	// keepSegment is the largest segment that a quiet feed holds on to.
	keepSegment = 4 << 10
	// sharedFrame is the largest frame that each feed has a copy of: of larger ones there is one for
	// all, or a single event to thousands of feeds were gigabytes.
	sharedFrame = 16 << 10
	// maxLag is how many bytes of a chain a reader may be behind before it reads the log instead.
	maxLag = 4 << 20
	// stallLag is the same for one whose socket takes nothing.
	stallLag = 64 << 10
	// chainBytes is about how much all chains may hold for the slowest of their readers.
	chainBytes = 128 << 20
)

// feed is what readers of one query share.
type feed struct {
	query Query
	key   feedKey
	refs  int // guarded by Hub.mu

	// total is how many bytes were ever appended.
	total atomic.Uint64
	parts []atomic.Pointer[members] // parked streams, by shard

	mu      sync.Mutex  // guards below; the pump alone changes seen and batch
	seen    hark.Offset // the newest event that is in
	batch   uint64      // the pump's batch that it came with
	tail    *segment
	readers []*Reader
	grown   time.Time // when the newest segment was made
	// cut is a segment of a while ago, and cutAt how long the chain was then.
	cut   weak.Pointer[segment]
	cutAt uint64
}

func newFeed(q Query, key feedKey, mark hark.Offset, shards int) *feed {
	return &feed{query: q, key: key, seen: mark, tail: &segment{from: mark}, parts: make([]atomic.Pointer[members], shards)}
}

// append adds an event's frame to the chain, which holds about most bytes for who is slow. A
// frame of more than sharedFrame bytes is kept, and must not change.
func (f *feed) append(o hark.Offset, frame []byte, batch uint64, now time.Time, most uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(frame) > sharedFrame || !f.tail.add(o, frame) {
		s := f.room(o, frame, now, most)
		f.shorten(s, most)
		f.tail.next.Store(s)
		f.tail = s
	}
	f.seen, f.batch = o, batch
	f.total.Add(uint64(len(frame)))
}

// room makes the segment for a frame: one that fills in about fillTime at the rate that its
// feed has, so that a busy feed is read in few writes and a quiet one with few readers holds
// one frame. The caller holds Hub.mu for reading.
func (f *feed) room(o hark.Offset, frame []byte, now time.Time, most uint64) *segment {
	n := len(frame)
	s := &segment{from: f.seen, base: f.total.Load()}
	if n > sharedFrame {
		s.buf, s.marks = frame, []mark{{int32(n), o}}
		s.count.Store(1)
		f.grown = now
		return s
	}
	least := max(n, readerShare*f.refs)
	size := least
	switch took := now.Sub(f.grown); {
	case took < fillTime:
		size = max(2*len(f.tail.buf), least)
	case took < 4*fillTime:
		size = max(len(f.tail.buf), least)
	}
	size = max(min(size, maxSegment, int(most/4)), n)
	f.grown = now
	s.buf, s.marks = make([]byte, size), make([]mark, size/n+size/n/2)
	s.add(o, frame)
	return s
}

// severed stands where a chain was cut: who comes there has to read the log.
var severed = &segment{}

// shorten cuts the chain behind the segment of a while ago, before s is added. A reader that
// waits for its client holds the segment it stands in, and all that follow: cut off, it holds
// those up to there and not all that there ever will be. The feed itself holds none but its tail.
func (f *feed) shorten(s *segment, most uint64) {
	total := f.total.Load()
	if total-f.cutAt < most {
		return
	}
	switch old := f.cut.Value(); {
	case old == f.tail: // whoever keeps up stands there
		return
	case old != nil:
		old.next.Store(severed)
	}
	f.cut, f.cutAt = weak.Make(s), total
}

// cool gives a large segment up if its feed had nothing since a batch. It reports
// whether readers should move on from it.
func (f *feed) cool(since uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tail.buf) <= keepSegment || f.batch > since {
		return false
	}
	s := &segment{from: f.seen, base: f.total.Load()}
	f.tail.next.Store(s)
	f.tail = s
	return true
}

// join lets a reader go on in the chain if nothing is missing between its position and
// the newest segment.
func (f *feed) join(p *spot) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.pos < f.tail.from {
		return false
	}
	p.enter(f.tail)
	return true
}

// lag is how many bytes of the chain a reader has not had.
func (f *feed) lag(p *spot) uint64 {
	if p.seg == nil || p.seg.to != 0 {
		return 0
	}
	return f.total.Load() - p.seg.base - uint64(p.off)
}

// kick tells everyone who waits for this feed.
func (f *feed) kick() {
	for i := range f.parts {
		if m := f.parts[i].Load(); m != nil && m.n.Load() > 0 && !m.queued.Swap(true) {
			m.shard.post(message{kind: feedMoved, members: m})
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.readers {
		if !r.told.Swap(true) {
			r.notify()
		}
	}
}

func (f *feed) add(r *Reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.index = len(f.readers)
	f.readers = append(f.readers, r)
}

func (f *feed) remove(r *Reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := len(f.readers) - 1
	f.readers[r.index] = f.readers[last]
	f.readers[r.index].index = r.index
	f.readers[last] = nil
	f.readers = f.readers[:last]
	r.index = -1
}
