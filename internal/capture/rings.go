package capture

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Bounds.
const (
	// maxQueued bounds what waits for the committer, in bytes: of bins, whose senders
	// wait, and of other sources, which lose what is beyond it.
	maxQueuedBins    = 64 << 20
	maxQueuedSources = 8 << 20
	// A group of the committer.
	groupCount = 512
	groupBytes = 4 << 20
	// lazyWrite is how long captures of ordinary sources wait to be written together.
	lazyWrite = 20 * time.Millisecond
	// Watches at once, of one source and of all.
	maxWatchesOfOne = 100
	maxWatches      = 2000
	// Searches that run at once, of all and of one tenant: each reads as fast as it can.
	maxSearches         = 4
	maxSearchesOfTenant = 2
)

// Store is what rings need of the store.
type Store interface {
	Commit(recs ...store.Record) error
	Write(recs ...store.Record) (uint64, error)
	CaptureUsages(fn func(hark.TenantID, hark.SourceID, store.CaptureUsage)) error
	Capture(hark.TenantID, hark.SourceID, hark.CaptureID) (*hark.Capture, bool, error)
	ScanCaptures(hark.TenantID, hark.SourceID, store.CaptureScan, func(*store.CaptureView) bool) (more bool, err error)
}

// Config is what [Rings] are made of.
type Config struct {
	Store Store
	// SourceRequests and SourceBytes bound the ring of a source that is no bin; 0 for
	// 200 and 4 MiB. TenantBytes bounds all rings of a tenant; 0 for 256 MiB.
	SourceRequests int
	SourceBytes    int64
	TenantBytes    int64
	Hooks          Hooks
}

// Hooks tell what happens; each may be nil.
type Hooks struct {
	// Failed: captures could not be written.
	Failed func(captures int, err error)
	// Dropped: a capture of an ordinary source was not kept, because too many wait.
	Dropped func()
}

// Rings holds the captured requests of all sources. It is safe for concurrent use.
type Rings struct {
	cfg   Config
	store Store

	queue queue
	last  hark.CaptureID // the committer's: the newest id ever given

	searches chan struct{}

	mu      sync.Mutex // guards below, and what a ring says it does
	tenants map[hark.TenantID]*tenant
	watches int
	touched map[hark.SourceID]touch
}

// tenant is the rings of one.
type tenant struct {
	rings map[hark.SourceID]*ring
	bytes uint64 // the committer's

	searches chan struct{} // has one in it for each that runs
}

// ring is what one source holds.
type ring struct {
	tenant hark.TenantID
	source hark.SourceID
	home   *tenant

	// The committer's own.
	usage  store.CaptureUsage
	oldest []sized // the first of those from the floor on, as far as they were read
	read   hark.CaptureID
	fresh  []sized // added in the group under way
	below  struct {
		count int
		bytes uint64
	}

	// Guarded by Rings.mu.
	seen    store.CaptureUsage // of the last commit
	changed chan struct{}      // closed and replaced when seen changes; nil while nobody waits
	watches int
	dropped uint64    // since the start
	gone    time.Time // when it was erased: nothing is kept any more
}

// sized is a capture and what it weighs.
type sized struct {
	id   hark.CaptureID
	size uint64
}

// Open reads what each source holds: one small row each.
func Open(c Config) (*Rings, error) {
	c.SourceRequests = cmp.Or(c.SourceRequests, 200)
	c.SourceBytes = cmp.Or(c.SourceBytes, 4<<20)
	c.TenantBytes = cmp.Or(c.TenantBytes, 256<<20)
	r := &Rings{cfg: c, store: c.Store, tenants: map[hark.TenantID]*tenant{}, touched: map[hark.SourceID]touch{},
		searches: make(chan struct{}, maxSearches)}
	r.queue.wake = make(chan struct{}, 1)
	err := c.Store.CaptureUsages(func(t hark.TenantID, s hark.SourceID, u store.CaptureUsage) {
		one := r.ring(t, s)
		one.usage, one.seen = u, u
		one.home.bytes += u.Bytes
		if u.Removed < u.Floor { // how much lies below is not known: remove it with the next write
			one.below.count = removeCount
		}
		r.last = max(r.last, u.Newest)
	})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	return r, nil
}

// ring finds or makes the ring of a source. The caller holds mu, or is opening.
func (r *Rings) ring(t hark.TenantID, s hark.SourceID) *ring {
	home := r.tenants[t]
	if home == nil {
		home = &tenant{rings: map[hark.SourceID]*ring{}, searches: make(chan struct{}, maxSearchesOfTenant)}
		r.tenants[t] = home
	}
	one := home.rings[s]
	if one == nil {
		one = &ring{tenant: t, source: s, home: home}
		home.rings[s] = one
	}
	return one
}

// find returns the ring of a source, nil when it captured nothing yet. The caller holds mu.
func (r *Rings) find(t hark.TenantID, s hark.SourceID) *ring {
	if home := r.tenants[t]; home != nil {
		return home.rings[s]
	}
	return nil
}

// Keep keeps c in src's ring and gives it its id. For a bin it returns after the sync,
// for any other source at once, when c may still be lost (its id is then zero). The
// caller must not change c afterwards. Ctx bounds the wait only: what was taken into
// the queue is written all the same.
func (r *Rings) Keep(ctx context.Context, src *hark.Source, c *hark.Capture) error {
	if src.Bin == nil {
		if !r.queue.offer(r.newItem(src, c)) {
			r.drop(src)
		}
		return nil
	}
	_, err := r.KeepSynced(ctx, src, c)
	return err
}

// KeepSynced is [Rings.Keep] that waits for the sync whatever the source, and tells the id.
func (r *Rings) KeepSynced(ctx context.Context, src *hark.Source, c *hark.Capture) (hark.CaptureID, error) {
	it := r.newItem(src, c)
	r.touch(src)
	if err := r.do(ctx, it); err != nil {
		return 0, err
	}
	return it.id, nil
}

// do has the committer do it and waits.
func (r *Rings) do(ctx context.Context, it *item) error {
	it.done = make(chan error, 1)
	if err := r.queue.put(it); err != nil {
		return err
	}
	select {
	case err := <-it.done:
		return err
	case <-ctx.Done():
		return &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second,
			Msg: "it could not be kept in time; send it again", Err: ctx.Err()}
	}
}

func (r *Rings) newItem(src *hark.Source, c *hark.Capture) *item {
	limits := r.limitsOf(src)
	c = clipped(c, limits.bytes)
	it := &item{tenant: src.Tenant, source: src.ID, limits: limits, value: store.EncodeCapture(c), body: c.Body}
	it.size = uint64(c.Size())
	return it
}

// clipped cuts the body of a capture that would not fit its ring.
func clipped(c *hark.Capture, limit uint64) *hark.Capture {
	over := c.Size() - int(min(limit, 1<<40))
	if over <= 0 {
		return c
	}
	short := *c
	short.Body = c.Body[:max(0, len(c.Body)-over)]
	short.Truncated = true
	return &short
}

// limits is how much a ring may hold.
type limits struct{ count, bytes uint64 }

func (r *Rings) limitsOf(src *hark.Source) limits {
	if b := src.Bin; b != nil && b.MaxRequests > 0 && b.MaxBytes > 0 {
		return limits{uint64(b.MaxRequests), uint64(min(b.MaxBytes, r.cfg.TenantBytes))}
	}
	return limits{uint64(r.cfg.SourceRequests), uint64(min(r.cfg.SourceBytes, r.cfg.TenantBytes))}
}

// drop counts a capture that could not be kept.
func (r *Rings) drop(src *hark.Source) {
	r.mu.Lock()
	r.ring(src.Tenant, src.ID).dropped++
	r.mu.Unlock()
	if r.cfg.Hooks.Dropped != nil {
		r.cfg.Hooks.Dropped()
	}
}

// Usage is what a source holds.
type Usage struct {
	Requests uint64         `json:"requests"`
	Bytes    uint64         `json:"bytes"`
	Newest   hark.CaptureID `json:"newest,omitempty"`
	// Dropped counts what was not kept since the start because too much came at once.
	Dropped uint64 `json:"dropped,omitempty"`
}

// Usage tells what a source holds now.
func (r *Rings) Usage(t hark.TenantID, s hark.SourceID) Usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.find(t, s)
	if one == nil || !one.gone.IsZero() {
		return Usage{}
	}
	u := Usage{Requests: one.seen.Count, Bytes: one.seen.Bytes, Dropped: one.dropped}
	if u.Requests > 0 {
		u.Newest = one.seen.Newest
	}
	return u
}

// Erase takes all that a source captured away: the record belongs into the commit that
// deletes the source. Done tells how that went. Nothing is kept of it in between.
func (r *Rings) Erase(t hark.TenantID, s hark.SourceID) (store.Record, func(committed bool)) {
	release := r.hold()
	r.mu.Lock()
	one := r.ring(t, s)
	one.gone = time.Now()
	r.mu.Unlock()
	return &store.CapturesErased{Tenant: t, Source: s}, func(committed bool) {
		r.mu.Lock()
		if committed {
			r.forget(one)
		} else {
			one.gone = time.Time{}
		}
		r.mu.Unlock()
		release()
	}
}

// EraseTenant forgets a tenant's rings once the commit that erases them is done.
func (r *Rings) EraseTenant(t hark.TenantID) (done func(committed bool)) {
	release := r.hold()
	return func(committed bool) {
		r.mu.Lock()
		if home := r.tenants[t]; home != nil && committed {
			for _, one := range home.rings {
				one.gone = time.Now()
				r.forget(one)
			}
		}
		r.mu.Unlock()
		release()
	}
}

// forget empties an erased ring and wakes who watches it. It stays in the map as gone,
// so that what is still on its way to it is refused, until the reaper comes by. The caller holds mu and the committer.
func (r *Rings) forget(one *ring) {
	one.home.bytes -= min(one.home.bytes, one.usage.Bytes)
	one.usage, one.seen, one.oldest, one.fresh = store.CaptureUsage{}, store.CaptureUsage{}, nil, nil
	if one.changed != nil {
		close(one.changed)
		one.changed = nil
	}
	delete(r.touched, one.source)
}

// hold keeps the committer from committing until release is called. A change of the
// registry may hold it several times: a tenant goes with all its sources.
func (r *Rings) hold() (release func()) {
	q := &r.queue
	q.holding.Lock()
	defer q.holding.Unlock()
	if q.holders++; q.holders == 1 {
		q.committing.Lock()
	}
	return func() {
		q.holding.Lock()
		defer q.holding.Unlock()
		if q.holders--; q.holders == 0 {
			q.committing.Unlock()
		}
	}
}

var errStopped = &hark.Error{Kind: hark.Unavailable, Code: "stopping", RetryAfter: time.Second, Msg: "the server is stopping; try again"}

var errQueueFull = &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second,
	Msg: "more requests arrive than can be kept; send it again in a moment"}
