package eventlog

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/harkhq/hark"
)

// eventOverhead is what an event costs in memory besides its own bytes.
const eventOverhead = 256

// tail is the end of the log in memory: events of every tenant with consecutive
// offsets, in a ring bounded by number and bytes.
type tail struct {
	mu     sync.RWMutex // guards below
	ring   []*hark.Event
	first  hark.Offset // offset of the oldest event held; next when empty
	next   hark.Offset
	bytes  int
	max    int
	wake   chan struct{} // closed and replaced when there is more
	closed bool

	awaited atomic.Bool // somebody may wait for wake; set under mu
}

func (t *tail) init(end hark.Offset, events, bytes int) {
	t.ring = make([]*hark.Event, events)
	t.first, t.next, t.max = end+1, end+1, bytes
	t.wake = make(chan struct{})
}

// append adds a group that is synced, moves the end of the log and wakes those
// that wait. A reader sees the end and the events move together.
func (t *tail) append(group []*request, end *atomic.Uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range group {
		for i := range r.events {
			e := &r.events[i]
			if int(t.next-t.first) == len(t.ring) {
				t.dropLocked()
			}
			t.ring[int(t.next)%len(t.ring)] = e
			t.bytes += e.Size() + eventOverhead
			t.next++
		}
	}
	for t.bytes > t.max && t.first+1 < t.next {
		t.dropLocked()
	}
	end.Store(uint64(t.next - 1))
	if t.awaited.Swap(false) {
		close(t.wake)
		t.wake = make(chan struct{})
	}
}

func (t *tail) dropLocked() {
	slot := &t.ring[int(t.first)%len(t.ring)]
	t.bytes -= (*slot).Size() + eventOverhead
	*slot = nil
	t.first++
}

func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	close(t.wake)
	t.wake = make(chan struct{})
}

// slice appends to out the events after an offset, at most max. ok is false when
// the tail no longer holds what comes next.
func (t *tail) slice(out []*hark.Event, after hark.Offset, max int) (_ []*hark.Event, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if after+1 < t.first {
		return out, false
	}
	for o := after + 1; o < t.next && max > 0; o++ {
		out = append(out, t.ring[int(o)%len(t.ring)])
		max--
	}
	return out, true
}

// get returns one event if the tail holds it.
func (t *tail) get(o hark.Offset) *hark.Event {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if o < t.first || o >= t.next {
		return nil
	}
	return t.ring[int(o)%len(t.ring)]
}

// wait returns when there may be something after an offset.
func (l *Log) wait(ctx context.Context, after hark.Offset) error {
	l.tail.mu.RLock()
	wake, closed, end := l.tail.wake, l.tail.closed, l.tail.next-1
	if end <= after {
		l.tail.awaited.Store(true)
	}
	l.tail.mu.RUnlock()
	if end > after {
		return nil
	}
	if closed {
		return errStopped
	}
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
