package capture

import (
	"context"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Keys below a ring's floor are removed together once there are so many of them.
const (
	removeCount = 256
	removeBytes = 4 << 20
	// readAhead is how many of the oldest are looked up at once.
	readAhead = 256
)

// trim lets the oldest go until the ring fits.
func (g *group) trim(one *ring, l limits) error {
	for one.usage.Count > l.count || one.usage.Bytes > l.bytes {
		if ok, err := g.evict(one); !ok || err != nil {
			return err
		}
	}
	return nil
}

// trimTenant lets the oldest of the fullest rings go until the tenant has room again.
func (g *group) trimTenant(home *tenant) error {
	limit := uint64(g.rings.cfg.TenantBytes)
	if home.bytes <= limit {
		return nil
	}
	for home.bytes > limit-limit/16 {
		fullest := g.rings.fullest(home)
		if fullest == nil {
			return nil
		}
		g.of(fullest)
		for stop := fullest.usage.Bytes - fullest.usage.Bytes/8; fullest.usage.Bytes >= stop && home.bytes > limit-limit/16; {
			if ok, err := g.evict(fullest); !ok || err != nil {
				return err
			}
		}
	}
	return nil
}

// fullest returns the ring that holds the most bytes, nil when all are empty.
func (r *Rings) fullest(home *tenant) (fullest *ring) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range home.rings {
		if one.usage.Count > 0 && one.gone.IsZero() && (fullest == nil || one.usage.Bytes > fullest.usage.Bytes) {
			fullest = one
		}
	}
	return fullest
}

// evict lets the oldest of a ring go; false when it is empty.
func (g *group) evict(one *ring) (bool, error) {
	if one.usage.Count == 0 {
		return false, nil
	}
	if len(one.oldest) == 0 {
		if err := g.readOldest(one); err != nil {
			return false, err
		}
	}
	from := &one.oldest
	if len(*from) == 0 {
		from = &one.fresh
	}
	if len(*from) == 0 { // usage was wrong: the ring is empty
		one.usage.Count, one.usage.Bytes = 0, 0
		return false, nil
	}
	old := (*from)[0]
	*from = (*from)[1:]
	u := &one.usage
	u.Count--
	u.Bytes -= min(u.Bytes, old.size)
	u.Floor, u.Lost = old.id+1, old.id
	one.home.bytes -= min(one.home.bytes, old.size)
	one.below.count++
	one.below.bytes += old.size
	return true, nil
}

// readOldest looks up the next of the oldest that are committed.
func (g *group) readOldest(one *ring) error {
	until := one.usage.Newest + 1
	if len(one.fresh) > 0 {
		until = one.fresh[0].id
	}
	from := max(one.usage.Floor, one.read+1)
	_, err := g.rings.store.ScanCaptures(one.tenant, one.source, store.CaptureScan{From: from, To: until}, func(c *store.CaptureView) bool {
		one.read = c.ID
		if !g.removed(one, c.ID) {
			one.oldest = append(one.oldest, sized{c.ID, uint64(c.Size)})
		}
		return len(one.oldest) < readAhead
	})
	return err
}

// settle ends a ring's part of a group: its usage, and what lies below its floor when
// that is worth a range deletion.
func (g *group) settle(one *ring) {
	u := &one.usage
	if (one.below.count >= removeCount || one.below.bytes >= removeBytes) && u.Removed < u.Floor {
		g.recs = append(g.recs, &store.CapturesRemoved{Tenant: one.tenant, Source: one.source, From: u.Removed, To: u.Floor})
		u.Removed = u.Floor
		one.below.count, one.below.bytes = 0, 0
	}
	g.recs = append(g.recs, &store.CaptureUsed{Tenant: one.tenant, Source: one.source, Usage: *u})
}

// Delete takes one capture away.
func (r *Rings) Delete(ctx context.Context, t hark.TenantID, s hark.SourceID, id hark.CaptureID) error {
	return r.do(ctx, &item{tenant: t, source: s, change: func(g *group, one *ring) error {
		u := &one.usage
		missing := hark.NoSuch("captured request", id.String())
		if id < u.Floor || u.Count == 0 {
			return missing
		}
		size, found := uint64(0), false
		_, err := r.store.ScanCaptures(t, s, store.CaptureScan{From: id, To: id + 1}, func(c *store.CaptureView) bool {
			size, found = uint64(c.Size), true
			return false
		})
		if err != nil {
			return err
		}
		for _, f := range one.fresh { // nobody knows its id yet, but an id can be guessed
			found = found && f.id != id
		}
		if !found || g.removed(one, id) {
			return missing
		}
		g.recs = append(g.recs, &store.CapturesRemoved{Tenant: t, Source: s, From: id, To: id + 1})
		u.Count--
		u.Bytes -= min(u.Bytes, size)
		one.home.bytes -= min(one.home.bytes, size)
		one.oldest, one.read = nil, 0
		return nil
	}})
}

// removed reports whether the group already takes that capture away.
func (g *group) removed(one *ring, id hark.CaptureID) bool {
	for _, rec := range g.recs {
		if r, ok := rec.(*store.CapturesRemoved); ok && r.Source == one.source && r.From <= id && id < r.To {
			return true
		}
	}
	return false
}

// Clear takes everything away that a source captured so far.
func (r *Rings) Clear(ctx context.Context, t hark.TenantID, s hark.SourceID) error {
	return r.do(ctx, &item{tenant: t, source: s, change: func(g *group, one *ring) error {
		u := &one.usage
		one.home.bytes -= min(one.home.bytes, u.Bytes)
		u.Count, u.Bytes, u.Floor = 0, 0, max(u.Floor, u.Newest+1)
		one.oldest, one.fresh = nil, nil
		one.below.count = removeCount
		return nil
	}})
}
