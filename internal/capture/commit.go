package capture

import (
	"context"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// item is one thing for the committer: a capture to keep or, with change set, what an
// owner does to a ring.
type item struct {
	tenant hark.TenantID
	source hark.SourceID
	limits limits
	size   uint64
	value  []byte
	body   []byte
	change func(g *group, one *ring) error
	since  time.Time

	id   hark.CaptureID // set before done
	done chan error     // nil: nobody waits
}

// queue is what waits for the committer, in two lanes: what somebody waits for, and
// the captures of ordinary sources.
type queue struct {
	// committing is held through each commit, and by who must keep one from happening.
	committing sync.Mutex
	holding    sync.Mutex    // guards holders; is taken before committing
	holders    int           // that have committing together
	wake       chan struct{} // has room for one: something waits

	mu      sync.Mutex // guards below
	waited  []*item
	lazy    []*item
	bytes   [2]uint64 // of waited, of lazy
	stopped bool
}

func (q *queue) put(it *item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.stopped:
		return errStopped
	case q.bytes[0]+it.size > maxQueuedBins && len(q.waited) > 0:
		return errQueueFull
	}
	q.waited = append(q.waited, it)
	q.bytes[0] += it.size
	q.notify()
	return nil
}

// offer reports whether there was room.
func (q *queue) offer(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped || q.bytes[1]+it.size > maxQueuedSources {
		return false
	}
	it.since = time.Now()
	q.lazy = append(q.lazy, it)
	q.bytes[1] += it.size
	q.notify()
	return true
}

func (q *queue) notify() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns the next group. Without one, wait is how long until there is; 0 for
// when somebody wakes us.
func (q *queue) take(all bool) (items []*item, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waited) == 0 {
		if len(q.lazy) == 0 {
			return nil, 0
		}
		if wait := lazyWrite - time.Since(q.lazy[0].since); wait > 0 && !all && q.bytes[1] < groupBytes/4 {
			return nil, wait
		}
	}
	size := uint64(0)
	for lane, from := range []*[]*item{&q.waited, &q.lazy} {
		n := 0
		for n < len(*from) && len(items) < groupCount && (size == 0 || size+(*from)[n].size <= groupBytes) {
			it := (*from)[n]
			items, size = append(items, it), size+it.size
			q.bytes[lane] -= it.size
			(*from)[n] = nil
			n++
		}
		if *from = (*from)[n:]; len(*from) == 0 {
			*from = nil
		}
	}
	return items, 0
}

// stop refuses what comes from now on.
func (q *queue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
}

// Run is the committer. When ctx ends it finishes what waits and takes nothing more.
func (r *Rings) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			r.queue.stop()
			r.drain(true)
			return nil
		case <-r.queue.wake:
		case <-timer.C:
		}
		timer.Reset(r.drain(false))
	}
}

// drain commits group after group, and returns how long there will be nothing to do.
func (r *Rings) drain(all bool) time.Duration {
	for {
		items, wait := r.queue.take(all)
		if len(items) == 0 {
			if wait == 0 {
				wait = time.Hour
			}
			return wait
		}
		r.commit(items)
	}
}

// group is one commit in the making.
type group struct {
	rings  *Rings
	recs   []store.Record
	synced bool
	before map[*ring]store.CaptureUsage // of every ring that changes, as it was
}

// of prepares a ring for a change in this group.
func (g *group) of(one *ring) {
	if _, ok := g.before[one]; !ok {
		g.before[one] = one.usage
	}
}

// commit writes one group and tells everyone.
func (r *Rings) commit(items []*item) {
	r.queue.committing.Lock()
	defer r.queue.committing.Unlock()
	g := &group{rings: r, before: make(map[*ring]store.CaptureUsage)}
	results := make([]error, len(items))
	captures := 0
	for i, it := range items {
		results[i] = g.add(it)
		g.synced = g.synced || it.done != nil
		if it.change == nil && results[i] == nil {
			captures++
		}
	}
	for one := range g.before {
		g.settle(one)
	}
	err := g.write()
	if err != nil {
		r.undo(g)
		if r.cfg.Hooks.Failed != nil {
			r.cfg.Hooks.Failed(captures, err)
		}
	} else {
		r.publish(g)
	}
	for i, it := range items {
		if it.done == nil {
			continue
		}
		if results[i] == nil {
			results[i] = err
		}
		it.done <- results[i]
	}
}

// write: what nobody waits for needs no sync of its own.
func (g *group) write() error {
	if len(g.recs) == 0 {
		return nil
	}
	if g.synced {
		return g.rings.store.Commit(g.recs...)
	}
	_, err := g.rings.store.Write(g.recs...)
	return err
}

func (g *group) add(it *item) error {
	r := g.rings
	r.mu.Lock()
	one := r.ring(it.tenant, it.source)
	gone := !one.gone.IsZero()
	r.mu.Unlock()
	if gone {
		return hark.NoSuch("source", it.source.String())
	}
	g.of(one)
	if it.change != nil {
		return it.change(g, one)
	}
	r.last = max(r.last+1, hark.CaptureID(time.Now().UnixMicro()))
	it.id = r.last
	g.recs = append(g.recs, &store.CaptureAdded{Tenant: it.tenant, Source: it.source, ID: it.id, Value: it.value, Body: it.body})
	one.fresh = append(one.fresh, sized{it.id, it.size})
	u := &one.usage
	if u.Count == 0 {
		u.Floor = max(u.Floor, it.id)
		if u.Removed == 0 {
			u.Removed = u.Floor
		}
	}
	u.Count, u.Bytes, u.Newest = u.Count+1, u.Bytes+it.size, it.id
	one.home.bytes += it.size
	if err := g.trim(one, it.limits); err != nil {
		return err
	}
	return g.trimTenant(one.home)
}

// publish shows readers what the group changed, and wakes who waits for it.
func (r *Rings) publish(g *group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for one := range g.before {
		one.fresh = nil
		one.seen = one.usage
		if one.changed != nil {
			close(one.changed)
			one.changed = nil
		}
	}
}

// undo puts rings back to what they were before a group that failed.
func (r *Rings) undo(g *group) {
	for one, usage := range g.before {
		one.home.bytes += usage.Bytes - one.usage.Bytes // wraps around and back where it shrank
		one.usage, one.fresh, one.oldest, one.read = usage, nil, nil, 0
		one.below.count = removeCount
	}
}
