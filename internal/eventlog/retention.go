package eventlog

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

func (l *Log) retainLoop(ctx context.Context) {
	tick := time.NewTicker(l.cfg.RetainEvery)
	defer tick.Stop()
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// A failed round left everything as it was; the next one tries again.
			_ = l.queue.control((*writer).seal)
			_ = l.retain(l.cfg.Now(), round%deliveryRounds == 0)
		}
	}
}

// deliveryRounds is how many rounds pass between two looks at delivery rows:
// there is a total for each tenant and bucket of a month.
const deliveryRounds = 6

// Retain runs one round of retention: whole buckets of each tenant, oldest
// first, by quota, then by age unless a cursor holds them, then idempotency keys
// out of their window, then delivery rows. The newest bucket stays.
func (l *Log) Retain(now time.Time) error { return l.retain(now, true) }

func (l *Log) retain(now time.Time, deliveries bool) error {
	l.retaining.Lock()
	defer l.retaining.Unlock()
	for _, t := range l.index.all() {
		if err := l.retainTenant(t, now); err != nil {
			return err
		}
		if err := l.forgetKeys(t, now); err != nil {
			return err
		}
	}
	if !deliveries {
		return nil
	}
	return l.retainDeliveries(now)
}

func (l *Log) retainTenant(t hark.TenantID, now time.Time) error {
	p := l.cfg.Policy(t)
	for {
		oldest, total, ok := l.index.oldest(t)
		if !ok {
			return nil
		}
		why := ""
		switch age := now.Sub(time.UnixMilli(oldest.usage.Newest)); {
		case p.MaxBytes > 0 && total.Bytes > p.MaxBytes && !p.Reject:
			why = "quota"
		case p.MaxAge > 0 && age > p.MaxAge+l.cfg.MaxHold:
			why = "age, though a cursor is behind it"
		case p.MaxAge > 0 && age > p.MaxAge && l.disk.low.Load():
			why = "age, without waiting for cursors: the disk is nearly full"
		case p.MaxAge > 0 && age > p.MaxAge && !l.held(t, oldest.usage.Last):
			why = "age"
		default:
			return nil
		}
		if l.cfg.Hooks.Removing != nil {
			l.cfg.Hooks.Removing(t, oldest.usage.Last)
		}
		// First the floor, then the deletion: a reader that meets the hole must find
		// the floor above it, or it would pass over lost events without telling a gap.
		if !l.index.remove(t, oldest) {
			continue // the tenant was erased meanwhile
		}
		err := l.store.Commit(&store.EventsRemoved{Tenant: t, Bucket: oldest.bucket, Usage: oldest.usage})
		if err != nil {
			return err
		}
		if l.cfg.Hooks.Removed != nil {
			l.cfg.Hooks.Removed(t, oldest.usage.Count, why)
		}
	}
}

// held reports whether a cursor of the tenant still has to pass an offset.
func (l *Log) held(t hark.TenantID, last hark.Offset) bool {
	hold := l.hold.Load()
	if hold == nil {
		return false
	}
	slowest, ok := (*hold)(t)
	return ok && slowest < last
}

func (l *Log) forgetKeys(t hark.TenantID, now time.Time) error {
	// The longest window is that of sources, 72 h; keys cost little.
	kept := windowOf(now.Add(-72 * time.Hour))
	before := kept - min(kept, 1)
	if ws := l.index.windows(t, 0); len(ws) > 1 {
		held, err := l.store.IdempotencyBytes(t)
		if err != nil {
			return err
		}
		if held > maxKeyBytes {
			before = max(before, ws[len(ws)-1]+1) // the oldest goes
		}
	}
	if !l.index.forgetWindows(t, before) {
		return nil
	}
	l.seen.forget(t, before)
	return l.store.Commit(&store.IdempotencyForgotten{Tenant: t, Before: before})
}

// maxKeyBytes bounds what a tenant's idempotency keys may hold on disk.
const maxKeyBytes = 1 << 30

// retainDeliveries drops delivery rows by age and size. Buckets with neither
// events nor rows are forgotten.
func (l *Log) retainDeliveries(now time.Time) error {
	type held struct {
		bucket store.Bucket
		bytes  uint64
	}
	rows := map[hark.TenantID][]held{}
	total := map[hark.TenantID]uint64{}
	err := l.store.DeliveryUsages(func(t hark.TenantID, b store.Bucket, u store.Usage) {
		rows[t] = append(rows[t], held{b, u.Bytes})
		total[t] += u.Bytes
	})
	if err != nil {
		return err
	}
	needed := map[store.Bucket]bool{}
	for t, hs := range rows {
		p := l.cfg.Policy(t)
		for _, h := range hs {
			end, newest := l.index.bucketEnd(h.bucket)
			old := p.DeliveryAge > 0 && now.Sub(end) > p.DeliveryAge
			large := p.DeliveryBytes > 0 && total[t] > p.DeliveryBytes
			if !newest && (old || large) {
				safe, err := l.rowsDone(t, h.bucket)
				if err != nil {
					return err
				}
				old, large = old && safe, large && safe
			}
			if newest || !old && !large {
				needed[h.bucket] = true
				continue
			}
			if err := l.store.Commit(&store.DeliveriesRemoved{Tenant: t, Bucket: h.bucket}); err != nil {
				return err
			}
			total[t] -= min(total[t], h.bytes)
		}
	}
	for _, b := range l.index.forget(needed) {
		if err := l.store.Commit(&store.BucketForgotten{Bucket: b}); err != nil {
			return err
		}
	}
	return nil
}

// rowsDone reports whether a tenant's delivery rows of a bucket only tell the
// past: no batch there is open, and its events are gone, or all are finished and every
// cursor has passed them.
func (l *Log) rowsDone(t hark.TenantID, b store.Bucket) (bool, error) {
	// The end of a batch is counted from these rows. Deadlines bound how long that takes.
	if first, after, ok := l.index.span(b); ok && !l.disk.low.Load() {
		if open, err := l.store.OpenBatchWithin(t, first, after); err != nil || open {
			return false, err
		}
	}
	u, ok := l.index.nextHeld(t, b)
	if !ok || u.bucket != b {
		return true, nil
	}
	if l.held(t, u.usage.Last) {
		return false, nil
	}
	done := true
	for _, s := range []hark.State{hark.Due, hark.Sending} {
		err := l.store.DestinationsOf(t, b, s, func(hark.DestinationID) bool { done = false; return false })
		if err != nil {
			return false, err
		}
	}
	return done, nil
}

// all returns every tenant that holds or held anything.
func (x *index) all() []hark.TenantID {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ts := make([]hark.TenantID, 0, len(x.tenants))
	for t := range x.tenants {
		ts = append(ts, t)
	}
	slices.Sort(ts)
	return ts
}

// oldest returns a tenant's oldest bucket, unless that is the newest of the log.
func (x *index) oldest(t hark.TenantID) (bucketUsage, store.Usage, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	h := x.tenants[t]
	if h == nil || len(h.buckets) == 0 || h.buckets[0].bucket == x.buckets[len(x.buckets)-1].Bucket {
		return bucketUsage{}, store.Usage{}, false
	}
	return h.buckets[0], h.total, true
}

// remove moves a tenant's floor past its oldest bucket; false if that is no longer there.
func (x *index) remove(t hark.TenantID, b bucketUsage) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.tenants[t]
	if len(h.buckets) == 0 || h.buckets[0].bucket != b.bucket {
		return false
	}
	h.buckets = slices.Clone(h.buckets[1:])
	h.total.Count -= b.usage.Count
	h.total.Bytes -= b.usage.Bytes
	h.lost = max(h.lost, b.usage.Last)
	return true
}

func (x *index) forgetWindows(t hark.TenantID, before uint32) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.tenants[t]
	n := len(h.windows)
	h.windows = slices.DeleteFunc(h.windows, func(w uint32) bool { return w < before })
	return len(h.windows) < n
}

// bucketEnd returns when a bucket ended, and whether it is the newest. One that
// was forgotten ended long ago.
func (x *index) bucketEnd(b store.Bucket) (end time.Time, newest bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	i, found := slices.BinarySearchFunc(x.buckets, b, func(s store.BucketStarted, b store.Bucket) int { return cmp.Compare(s.Bucket, b) })
	switch {
	case !found && i == 0 && len(x.buckets) > 0:
		return time.Time{}, false
	case !found || i+1 == len(x.buckets):
		return time.Time{}, true
	}
	return time.UnixMilli(x.buckets[i+1].Start), false
}

// span returns the offsets of a bucket that is not the newest: from first on, before after.
func (x *index) span(b store.Bucket) (first, after hark.Offset, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	i, found := slices.BinarySearchFunc(x.buckets, b, func(s store.BucketStarted, b store.Bucket) int { return cmp.Compare(s.Bucket, b) })
	if !found || i+1 == len(x.buckets) {
		return 0, 0, false
	}
	return x.buckets[i].First, x.buckets[i+1].First, true
}

// forget drops buckets, oldest first, up to the first that holds events or is needed.
func (x *index) forget(needed map[store.Bucket]bool) []store.Bucket {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range x.tenants {
		for _, u := range h.buckets {
			needed[u.bucket] = true
		}
	}
	var gone []store.Bucket
	for len(x.buckets) > 1 && !needed[x.buckets[0].Bucket] {
		gone = append(gone, x.buckets[0].Bucket)
		x.buckets = slices.Clone(x.buckets[1:])
	}
	return gone
}
