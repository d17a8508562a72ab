package eventlog

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// index is the small in-memory picture of the log: where buckets begin and what
// each tenant holds in each. It mirrors durable rows and is rebuilt from them.
type index struct {
	mu      sync.RWMutex // guards below
	buckets []store.BucketStarted
	bytes   uint64 // logical bytes in the newest bucket
	tenants map[hark.TenantID]*holding
}

// holding is what one tenant has.
type holding struct {
	buckets []bucketUsage // oldest first
	total   store.Usage
	lost    hark.Offset // last offset that retention took
	windows []uint32    // idempotency windows with remembered keys, oldest first
}

type bucketUsage struct {
	bucket store.Bucket
	usage  store.Usage
}

func (x *index) load(s *store.Store) (err error) {
	x.tenants = make(map[hark.TenantID]*holding)
	if x.buckets, err = s.Buckets(); err != nil {
		return err
	}
	err = s.EventUsages(func(t hark.TenantID, b store.Bucket, u store.Usage) {
		h := x.holdingLocked(t)
		h.buckets = append(h.buckets, bucketUsage{b, u})
		h.total.Count += u.Count
		h.total.Bytes += u.Bytes
		if len(x.buckets) > 0 && b == x.buckets[len(x.buckets)-1].Bucket {
			x.bytes += u.Bytes
		}
	})
	if err != nil {
		return err
	}
	if err = s.Lost(func(t hark.TenantID, o hark.Offset) { x.holdingLocked(t).lost = o }); err != nil {
		return err
	}
	return s.IdempotencyWindows(func(t hark.TenantID, w uint32) {
		h := x.holdingLocked(t)
		h.windows = append(h.windows, w)
	})
}

func (x *index) holdingLocked(t hark.TenantID) *holding {
	h := x.tenants[t]
	if h == nil {
		h = &holding{}
		x.tenants[t] = h
	}
	return h
}

// last is the newest offset that the durable rows know of.
func (x *index) last() hark.Offset {
	var last hark.Offset
	if n := len(x.buckets); n > 0 {
		last = x.buckets[n-1].First - 1
	}
	for _, h := range x.tenants {
		last = max(last, h.lost)
		if n := len(h.buckets); n > 0 {
			last = max(last, h.buckets[n-1].usage.Last)
		}
	}
	return last
}

// newest is when the last event was received, or a little later: nothing may
// seem to be received before it.
func (x *index) newest() time.Time {
	x.mu.RLock()
	defer x.mu.RUnlock()
	newest := int64(0)
	if n := len(x.buckets); n > 0 {
		newest = x.buckets[n-1].Start
	}
	for _, h := range x.tenants {
		if n := len(h.buckets); n > 0 {
			newest = max(newest, h.buckets[n-1].usage.Newest)
		}
	}
	return time.UnixMilli(newest).Add(time.Millisecond - time.Microsecond).UTC()
}

// sealable reports whether the newest bucket holds something and is old.
func (x *index) sealable(now time.Time, cfg Config) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := len(x.buckets)
	return n > 0 && x.bytes > 0 && now.Sub(time.UnixMilli(x.buckets[n-1].Start)) >= cfg.BucketAge
}

// open returns the bucket for a group that begins at o, and the record that
// starts it when it is new. Only the committer calls it.
func (x *index) open(o hark.Offset, now time.Time, cfg Config) (store.Bucket, *store.BucketStarted) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := len(x.buckets)
	if n > 0 {
		cur := x.buckets[n-1]
		if x.bytes < cfg.BucketBytes && now.Sub(time.UnixMilli(cur.Start)) < cfg.BucketAge {
			return cur.Bucket, nil
		}
	}
	started := &store.BucketStarted{Bucket: 1, First: o, Start: now.UnixMilli()}
	if n > 0 {
		started.Bucket = x.buckets[n-1].Bucket + 1
	}
	return started.Bucket, started
}

// charge returns the new totals of every tenant in a group, without showing them
// yet. number tells this group from others.
func (x *index) charge(group []*request, number uint64, b store.Bucket, now time.Time, out []store.EventUsage) []store.EventUsage {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, r := range group {
		if r.lane.group != number {
			u := store.EventUsage{Tenant: r.tenant, Bucket: b}
			if h := x.tenants[r.tenant]; h != nil {
				u.Usage = h.in(b)
			}
			r.lane.group, r.lane.slot = number, len(out)
			out = append(out, u)
		}
		u := &out[r.lane.slot].Usage
		if u.Count == 0 {
			u.First = r.first.Offset
		}
		u.Count += uint64(len(r.events))
		u.Bytes += uint64(r.size)
		u.Last = r.first.Offset + hark.Offset(len(r.events)-1)
		u.Newest = now.UnixMilli()
	}
	return out
}

func (h *holding) in(b store.Bucket) store.Usage {
	if n := len(h.buckets); n > 0 && h.buckets[n-1].bucket == b {
		return h.buckets[n-1].usage
	}
	return store.Usage{}
}

// settle shows the totals of a group that was committed.
func (x *index) settle(usage []store.EventUsage, started *store.BucketStarted) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if started != nil {
		x.buckets = append(x.buckets, *started)
		x.bytes = 0
	}
	for _, u := range usage {
		h := x.holdingLocked(u.Tenant)
		was := h.in(u.Bucket)
		if was.Count == 0 {
			h.buckets = append(h.buckets, bucketUsage{bucket: u.Bucket})
		}
		h.buckets[len(h.buckets)-1].usage = u.Usage
		h.total.Count += u.Usage.Count - was.Count
		h.total.Bytes += u.Usage.Bytes - was.Bytes
		x.bytes += u.Usage.Bytes - was.Bytes
	}
}

// rememberWindow notes that a window has keys of a tenant, and tells whether it had none.
func (x *index) rememberWindow(t hark.TenantID, w uint32) (began bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.holdingLocked(t)
	if n := len(h.windows); n > 0 && h.windows[n-1] == w {
		return false
	}
	i, found := slices.BinarySearch(h.windows, w)
	if !found { // not the last only when the clock went back
		h.windows = slices.Insert(h.windows, i, w)
	}
	return !found
}

// windows returns where a tenant may have remembered keys, from a window on, newest first.
func (x *index) windows(t hark.TenantID, from uint32) []uint32 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	h := x.tenants[t]
	if h == nil {
		return nil
	}
	i, _ := slices.BinarySearch(h.windows, from)
	ws := slices.Clone(h.windows[i:])
	slices.Reverse(ws)
	return ws
}

// bucketOf returns the bucket of an offset, and where the next one begins.
func (x *index) bucketOf(o hark.Offset) (b store.BucketStarted, next hark.Offset, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	i, found := slices.BinarySearchFunc(x.buckets, o, func(b store.BucketStarted, o hark.Offset) int {
		return cmp.Compare(b.First, o)
	})
	if !found {
		i--
	}
	if i < 0 {
		if len(x.buckets) == 0 {
			return store.BucketStarted{}, 0, false
		}
		i = 0
	}
	next = ^hark.Offset(0)
	if i+1 < len(x.buckets) {
		next = x.buckets[i+1].First
	}
	return x.buckets[i], next, true
}

// nextHeld returns what a tenant holds in the first bucket at or after b that it holds anything in.
func (x *index) nextHeld(t hark.TenantID, b store.Bucket) (bucketUsage, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	h := x.tenants[t]
	if h == nil {
		return bucketUsage{}, false
	}
	i, _ := slices.BinarySearchFunc(h.buckets, b, func(u bucketUsage, b store.Bucket) int { return cmp.Compare(u.bucket, b) })
	if i == len(h.buckets) {
		return bucketUsage{}, false
	}
	return h.buckets[i], true
}

// held returns what a tenant holds in each bucket that it holds anything in, newest first.
func (x *index) held(t hark.TenantID) []bucketUsage {
	x.mu.RLock()
	defer x.mu.RUnlock()
	h := x.tenants[t]
	if h == nil {
		return nil
	}
	all := slices.Clone(h.buckets)
	slices.Reverse(all)
	return all
}

// erase forgets what a tenant had.
func (x *index) erase(t hark.TenantID, end hark.Offset) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tenants[t] = &holding{lost: end}
}

func (x *index) total(t hark.TenantID) store.Usage {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if h := x.tenants[t]; h != nil {
		return h.total
	}
	return store.Usage{}
}

func (x *index) lost(t hark.TenantID) hark.Offset {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if h := x.tenants[t]; h != nil {
		return h.lost
	}
	return 0
}

// holders returns the tenants that hold events with offsets in [from, to), or may.
func (x *index) holders(from, to hark.Offset) (tenants []hark.TenantID) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for t, h := range x.tenants {
		i := h.search(from)
		if i < len(h.buckets) && h.buckets[i].usage.First < to {
			tenants = append(tenants, t)
		}
	}
	return tenants
}

// firstHeld is at most the first offset from one on that still has an event.
func (x *index) firstHeld(from hark.Offset) hark.Offset {
	x.mu.RLock()
	defer x.mu.RUnlock()
	first := ^hark.Offset(0)
	for _, h := range x.tenants {
		if i := h.search(from); i < len(h.buckets) {
			first = min(first, max(from, h.buckets[i].usage.First))
		}
	}
	return first
}

// search finds the first bucket that ends at or after an offset.
func (h *holding) search(o hark.Offset) int {
	i, _ := slices.BinarySearchFunc(h.buckets, o, func(u bucketUsage, o hark.Offset) int { return cmp.Compare(u.usage.Last, o) })
	return i
}
