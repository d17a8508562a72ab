package batch

import (
	"container/heap"
	"slices"
	"time"

	"github.com/harkhq/hark"
)

// open is a batch that is waited for.
type open struct {
	tenant   hark.TenantID
	first    hark.Offset
	deadline time.Time
	watches  int
	waiting  int             // destinations that are not done
	state    hark.BatchState // it ends with
	ending   bool            // in Batches.done, or being ended
	place    int             // in the heap; -1 for none
}

// deadlines is a heap: the next one first.
type deadlines []*open

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline.Before(d[j].deadline) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push implements [heap.Interface].
func (d *deadlines) Push(x any) {
	o := x.(*open)
	o.place = len(*d)
	*d = append(*d, o)
}

// Pop implements [heap.Interface].
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	o := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	o.place = -1
	return o
}

// holding is what a tenant has open.
type holding struct{ open, watches int }

// reserve takes room for one more open batch; false when there is none and it is not forced.
func (b *Batches) reserve(t hark.TenantID, watches int, forced bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.held[t]
	if h == nil {
		h = &holding{}
	}
	l := &b.cfg.Limits
	if !forced && (h.open >= l.TenantOpen || h.watches+watches > l.TenantWatches || b.places+watches > l.Watches) {
		return false
	}
	b.held[t] = h
	h.open++
	h.watches += watches
	b.places += watches
	return true
}

// release gives room back.
func (b *Batches) release(t hark.TenantID, watches int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.releaseLocked(t, watches)
}

func (b *Batches) releaseLocked(t hark.TenantID, watches int) {
	h := b.held[t]
	h.open--
	h.watches -= watches
	b.places -= watches
	if h.open == 0 {
		delete(b.held, t)
	}
}

// await begins to wait for a batch that has room reserved.
func (b *Batches) await(t hark.TenantID, first hark.Offset, r *row) {
	o := &open{tenant: t, first: first, deadline: r.Deadline, watches: len(r.To), waiting: len(r.To)}
	b.mu.Lock()
	b.open[first] = o
	heap.Push(&b.due, o)
	earliest := o.place == 0
	if o.waiting == 0 {
		b.finishLocked(o)
	}
	b.mu.Unlock()
	if earliest {
		b.signal()
	}
	if len(r.To) > 0 {
		b.cfg.Engine.Watch(t, r.ids(), first, r.Events)
	}
}

// Passed tells that a destination is done with the batch that begins at first. It is
// called with the engine's locks held.
func (b *Batches) Passed(_ hark.DestinationID, first hark.Offset) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.open[first]
	if o == nil {
		return // it ended by its deadline, or was forgotten
	}
	if o.waiting--; o.waiting == 0 {
		b.finishLocked(o)
	}
}

// finishLocked has a batch ended.
func (b *Batches) finishLocked(o *open) {
	if !o.ending {
		o.ending = true
		b.done = append(b.done, o)
		b.signal()
	}
}

// dropLocked stops waiting for a batch.
func (b *Batches) dropLocked(o *open) {
	if b.open[o.first] != o {
		return
	}
	delete(b.open, o.first)
	if o.place >= 0 {
		heap.Remove(&b.due, o.place)
	}
	b.releaseLocked(o.tenant, o.watches)
}

// takeDone returns the batches that must be ended now: those that are done, and those
// whose deadline has come.
func (b *Batches) takeDone(now time.Time) []*open {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.due) > 0 && !b.due[0].deadline.After(now) {
		o := b.due[0]
		heap.Remove(&b.due, 0)
		if !o.ending {
			o.ending = true
			b.done = append(b.done, o)
		}
	}
	for _, o := range b.done {
		if o.state = hark.BatchCompleted; o.waiting > 0 {
			o.state = hark.BatchExpired
		}
	}
	done := slices.Clone(b.done)
	clear(b.done)
	b.done = b.done[:0]
	return done
}

// untilDeadline is how long nothing but news can change anything.
func (b *Batches) untilDeadline(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.due) == 0 {
		return time.Hour
	}
	return max(time.Millisecond, min(time.Hour, b.due[0].deadline.Sub(now)))
}
