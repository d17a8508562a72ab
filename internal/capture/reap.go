package capture

import (
	"context"
	"time"

	"github.com/harkhq/hark"
)

// Times of the reaper.
const (
	reapEvery = 10 * time.Second
	// touchEvery is how often a bin's expiry moves at most, unless it lives for less than
	// twice as long: each is a change of the registry.
	touchEvery = time.Minute
	// goneFor is how long a deleted source is remembered, so that what was on its way is refused.
	goneFor = 10 * time.Minute
)

// Bins is what the reaper needs of the registry.
type Bins interface {
	// EachBin calls fn for every bin there is.
	EachBin(fn func(*hark.Source))
	// MoveExpiry sets when a bin expires.
	MoveExpiry(t hark.TenantID, id hark.SourceID, expires time.Time) error
	// DeleteBin removes a bin and what it holds, if it is still at that revision.
	DeleteBin(t hark.TenantID, id hark.SourceID, revision uint64) error
}

// touch is a bin whose expiry must move.
type touch struct {
	tenant hark.TenantID
	at     time.Time
	ttl    time.Duration
}

// touch notes that a bin was used; the reaper moves its expiry.
func (r *Rings) touch(src *hark.Source) {
	if src.Bin == nil || src.Bin.TTL <= 0 {
		return
	}
	now, ttl := time.Now(), time.Duration(src.Bin.TTL)
	if src.Bin.Expires.Sub(now) > ttl-min(max(touchEvery, ttl/100), ttl/2) {
		return
	}
	r.mu.Lock()
	r.touched[src.ID] = touch{src.Tenant, now, ttl}
	r.mu.Unlock()
}

// Reap moves the expiry of bins that are used and deletes those that expired, until ctx ends.
func (r *Rings) Reap(ctx context.Context, bins Bins, failed func(error)) error {
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.moveExpiries(bins, failed)
			return nil
		case <-tick.C:
			r.moveExpiries(bins, failed)
			r.expire(bins, failed)
			r.forgetGone()
		}
	}
}

func (r *Rings) moveExpiries(bins Bins, failed func(error)) {
	r.mu.Lock()
	touched := r.touched
	r.touched = make(map[hark.SourceID]touch)
	r.mu.Unlock()
	for id, t := range touched {
		if err := bins.MoveExpiry(t.tenant, id, t.at.Add(t.ttl)); err != nil && hark.KindOf(err) != hark.NotFound {
			failed(err)
		}
	}
}

func (r *Rings) expire(bins Bins, failed func(error)) {
	now := time.Now()
	var expired []*hark.Source
	bins.EachBin(func(s *hark.Source) {
		if !s.Bin.Expires.IsZero() && s.Bin.Expires.Before(now) {
			expired = append(expired, s)
		}
	})
	for _, s := range expired {
		r.mu.Lock()
		_, used := r.touched[s.ID] // meanwhile
		r.mu.Unlock()
		if used {
			continue
		}
		err := bins.DeleteBin(s.Tenant, s.ID, s.Revision)
		if kind := hark.KindOf(err); err != nil && kind != hark.NotFound && kind != hark.Conflict {
			failed(err)
		}
	}
}

// forgetGone drops the rings of sources that were deleted long ago, and sweeps nothing
// else: their keys went with them.
func (r *Rings) forgetGone() {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := time.Now().Add(-goneFor)
	for t, home := range r.tenants {
		for id, one := range home.rings {
			if !one.gone.IsZero() && one.gone.Before(before) {
				delete(home.rings, id)
			}
		}
		if len(home.rings) == 0 {
			delete(r.tenants, t)
		}
	}
}
