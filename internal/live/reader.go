package live

import (
	"sync/atomic"

	"github.com/harkhq/hark"
)

// Reader is a reader that pulls: for transports whose connection has a goroutine. It is
// for one goroutine.
type Reader struct {
	hub    *Hub
	feed   *feed
	notify func()
	told   atomic.Bool // notify was called since the last Take
	index  int         // among the feed's readers; the feed's

	spot spot
	gap  *hark.Gap
}

// NewReader makes a reader that goes on after a position. notify is called when there
// may be more after a [Reader.Take] that found nothing; it must not block. Close it.
func (h *Hub) NewReader(q Query, after hark.Offset, notify func()) *Reader {
	r := &Reader{hub: h, feed: h.acquire(q), notify: notify, spot: spot{pos: after}}
	r.feed.add(r)
	return r
}

// Close gives the reader's share back. notify is not called any more once it returns.
func (r *Reader) Close() {
	r.feed.remove(r)
	r.hub.release(r.feed)
}

// Take appends frames, whole ones and at most max bytes unless one is larger, and
// reports whether there is more right now. Before anything else the caller asks [Reader.Gap].
// Without more, notify tells when to come again. It may read the log, and wait for its
// turn to do so.
func (r *Reader) Take(dst []byte, max int) (frames []byte, more bool, err error) {
	frames, _, more, err = r.TakeSome(dst, max, hark.MaxPageSize)
	return frames, more, err
}

// TakeSome is [Reader.Take] that takes at most n frames, and tells how many it took.
func (r *Reader) TakeSome(dst []byte, max, n int) (frames []byte, took int, more bool, err error) {
	r.told.Store(false) // from here on, what comes is told
	if r.feed.lag(&r.spot) > maxLag {
		r.spot.leave()
	}
	for room := max; ; {
		if b := r.spot.ready(); b != nil {
			if room <= 0 || took == n {
				return dst, took, true, nil
			}
			size := r.spot.fit(room)
			if size > room && took > 0 {
				return dst, took, true, nil
			}
			b, held := r.spot.frames(b[:size], n-took)
			dst = append(dst, b...)
			r.spot.took(len(b))
			room, took = room-len(b), took+held
			continue
		}
		if r.spot.seg != nil {
			return dst, took, false, nil
		}
		if r.feed.join(&r.spot) {
			continue
		}
		if took > 0 {
			return dst, took, true, nil
		}
		if err := r.fetch(); err != nil || r.gap != nil {
			return dst, took, true, err
		}
	}
}

// fetch reads the next page.
func (r *Reader) fetch() error {
	r.hub.readers <- struct{}{}
	page, gap, err := r.hub.pages.get(r.feed, r.spot.pos, 0)
	<-r.hub.readers
	if err != nil {
		return err
	}
	if gap != nil {
		r.gap, r.spot.pos = gap, page.from
	}
	r.spot.enter(page)
	return nil
}

// Gap returns a gap that was met and not told yet: what matched in it is missing before
// the next frame. It is returned once.
func (r *Reader) Gap() *hark.Gap {
	g := r.gap
	r.gap = nil
	return g
}

// Position is where another reader would go on: past the frames that were taken, and
// past what did not match.
func (r *Reader) Position() hark.Offset {
	mark := hark.Offset(r.hub.mark.Load()) // before looking whether it has had all
	if r.spot.caughtUp() {
		return max(r.spot.position(), mark)
	}
	return r.spot.position()
}
