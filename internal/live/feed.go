package live

import (
	"sync"
	"sync/atomic"

	"github.com/harkhq/hark"
)

// Sizes of a chain's segments. A quiet feed has segments of one frame; one with much
// to say doubles them.
const (
	maxSegment = 64 << 10
	// keepSegment is the largest segment that a quiet feed holds on to.
	keepSegment = 4 << 10
	// maxLag is how many bytes of a chain a reader may be behind before it reads the log instead.
	maxLag = 4 << 20
	// stallLag is the same for one whose socket takes nothing.
	stallLag = 64 << 10
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
	grow    int    // size of the next segment
	grown   uint64 // batch of the newest segment
}

func newFeed(q Query, key feedKey, mark hark.Offset, shards int) *feed {
	return &feed{query: q, key: key, seen: mark, tail: &segment{from: mark}, parts: make([]atomic.Pointer[members], shards)}
}

// append adds an event's frame to the chain.
func (f *feed) append(o hark.Offset, frame []byte, batch uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.tail.add(o, frame) {
		s := f.room(len(frame), batch)
		s.add(o, frame)
		f.tail.next.Store(s)
		f.tail = s
	}
	f.seen, f.batch = o, batch
	f.total.Add(uint64(len(frame)))
}

// room makes the segment for a frame of n bytes: as large as the frame when the feed
// was quiet, else larger than the last one.
func (f *feed) room(n int, batch uint64) *segment {
	size, frames := n, 1
	if batch-f.grown <= 1 && f.grown != 0 {
		size = min(max(2*len(f.tail.buf), n), max(maxSegment, n))
		frames = max(1, size/n+size/n/2)
	}
	f.grown = batch
	return &segment{buf: make([]byte, size), marks: make([]mark, frames), from: f.seen, base: f.total.Load()}
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
