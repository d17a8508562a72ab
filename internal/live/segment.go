package live

import (
	"sort"
	"sync/atomic"

	"github.com/harkhq/hark"
)

// segment is a run of encoded frames with ascending offsets. One goroutine appends,
// any number read what count covers. A segment is full when its marks or its bytes are.
type segment struct {
	buf   []byte
	marks []mark
	count atomic.Int32 // marks that are there
	next  atomic.Pointer[segment]

	// from is the position before it: every matching event after from is in here, in
	// what follows, or still to come.
	from hark.Offset
	// base is how many bytes its feed had before it.
	base uint64
	// to is where a page ends: what matches up to it is in the page. Zero for segments of a chain.
	to hark.Offset
}

// mark is the end of one frame.
type mark struct {
	end    int32
	offset hark.Offset
}

// size is how many bytes there are to read.
func (s *segment) size() int32 {
	if n := s.count.Load(); n > 0 {
		return s.marks[n-1].end
	}
	return 0
}

// add appends a frame, if there is room.
func (s *segment) add(o hark.Offset, frame []byte) bool {
	n := s.count.Load()
	at := s.size()
	if int(n) == len(s.marks) || int(at)+len(frame) > len(s.buf) {
		return false
	}
	copy(s.buf[at:], frame)
	s.marks[n] = mark{at + int32(len(frame)), o}
	s.count.Store(n + 1)
	return true
}

// after returns where the first frame behind position o begins; its end when there is none.
func (s *segment) after(o hark.Offset) int32 {
	n := int(s.count.Load())
	i := sort.Search(n, func(i int) bool { return s.marks[i].offset > o })
	if i == 0 {
		return 0
	}
	return s.marks[i-1].end
}

// at returns the position of the last frame that is whole before byte off, and where it ends.
func (s *segment) at(off int32) (o hark.Offset, end int32) {
	n := int(s.count.Load())
	i := sort.Search(n, func(i int) bool { return s.marks[i].end > off })
	if i == 0 {
		return s.from, 0
	}
	return s.marks[i-1].offset, s.marks[i-1].end
}

// spot is where a reader stands: in a segment, or at a position of the log.
type spot struct {
	seg *segment
	off int32 // bytes of seg that it has had
	// skip is how many bytes of the frame after pos it has had already, while seg is nil.
	skip int32
	// fresh says that frames up to pos may still be ahead, and are to be passed over.
	fresh bool
	pos   hark.Offset
}

// enter goes on in s, behind pos.
func (p *spot) enter(s *segment) {
	p.seg, p.off, p.fresh = s, 0, true
}

// ready returns the bytes that come next, nil for none here: then the reader waits for
// its feed, or has to fetch when it has no segment.
func (p *spot) ready() []byte {
	for p.seg != nil {
		next := p.seg.next.Load() // before size: what is there when next is, is all
		size := p.seg.size()
		if p.fresh {
			p.seek(size)
		}
		if p.off < size {
			return p.seg.buf[p.off:size]
		}
		switch {
		case next == severed:
			p.leave()
		case next != nil:
			p.seg, p.off = next, 0
		case p.seg.to != 0:
			p.pos, p.seg, p.off, p.fresh = max(p.pos, p.seg.to), nil, 0, false
		default:
			return nil
		}
	}
	return nil
}

// seek passes over frames up to pos, and over the bytes of the next one that were had.
func (p *spot) seek(size int32) {
	p.off = max(p.off, p.seg.after(p.pos))
	if p.off < size {
		p.off, p.skip, p.fresh = p.off+p.skip, 0, false
	}
}

// rest is how many bytes of what ready returned belong to the frame that is under way.
func (p *spot) rest() int {
	n := int(p.seg.count.Load())
	i := sort.Search(n, func(i int) bool { return p.seg.marks[i].end > p.off })
	return int(p.seg.marks[i].end - p.off)
}

// fit is how many bytes of what ready returned are whole frames and at most n, or one frame.
func (p *spot) fit(n int) int {
	count := int(p.seg.count.Load())
	i := sort.Search(count, func(i int) bool { return int(p.seg.marks[i].end-p.off) > n })
	if i == 0 || p.seg.marks[i-1].end <= p.off {
		return p.rest()
	}
	return int(p.seg.marks[i-1].end - p.off)
}

// frames cuts b, whole frames of what ready returned, to n of them.
func (p *spot) frames(b []byte, n int) (cut []byte, held int) {
	count := int(p.seg.count.Load())
	first := sort.Search(count, func(i int) bool { return p.seg.marks[i].end > p.off })
	last := sort.Search(count, func(i int) bool { return int(p.seg.marks[i].end-p.off) > len(b) })
	if last-first <= n {
		return b, last - first
	}
	return b[:p.seg.marks[first+n-1].end-p.off], n
}

// caughtUp reports whether it stands at the end of a chain.
func (p *spot) caughtUp() bool { return p.ready() == nil && p.seg != nil }

// took moves on by n bytes of what ready returned.
func (p *spot) took(n int) { p.off += int32(n) }

// whole reports whether the reader stands between two frames.
func (p *spot) whole() bool {
	if p.seg == nil || p.fresh {
		return p.skip == 0
	}
	_, end := p.seg.at(p.off)
	return end == p.off
}

// holdsPage reports whether it stands in a page of more than n bytes, which lives as long
// as somebody stands in it.
func (p *spot) holdsPage(n int) bool { return p.seg != nil && p.seg.to != 0 && len(p.seg.buf) > n }

// leave gives the segment up and keeps the position.
func (p *spot) leave() {
	if p.seg == nil {
		return
	}
	if !p.fresh {
		o, end := p.seg.at(p.off)
		p.pos, p.skip = max(p.pos, o), p.off-end
	}
	p.seg, p.off, p.fresh = nil, 0, false
}

// position is the last event it has had whole, or what it passed over.
func (p *spot) position() hark.Offset {
	if p.seg == nil || p.fresh {
		return p.pos
	}
	o, _ := p.seg.at(p.off)
	return max(p.pos, o)
}
