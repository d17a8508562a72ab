package deliver

import (
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// matchAtOnce bounds how many topics are matched with the lock held.
const matchAtOnce = 64

// Matching calls found for each topic and each of a tenant's destinations, of any
// state and kind, whose topics match it; more than once when several patterns do.
// Found reports whether to go on. It must not call the Deliverer.
func (d *Deliverer) Matching(t hark.TenantID, topics []string, found func(topic int, id hark.DestinationID) bool) {
	going := true
	some := func(from, to int) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, index := range []*hark.TopicIndex[*target]{d.index[t], d.pulled[t]} {
			for i := from; i < to && index != nil && going; i++ {
				index.Match(topics[i], func(x *target) { going = going && found(i, x.dest.ID) })
			}
		}
	}
	for from := 0; from < len(topics) && going; from += matchAtOnce {
		some(from, min(from+matchAtOnce, len(topics)))
	}
}

// Watch has Config.Passed called for each of the destinations once it has passed the
// n events from first on and holds none of them. For one that is no longer there, or
// has passed them already, it is called at once. Stretches of one destination must
// not overlap. What Passed rests on is durable after the next [Deliverer.Sync].
func (d *Deliverer) Watch(t hark.TenantID, ids []hark.DestinationID, first hark.Offset, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		x := d.targets[id]
		if x == nil || x.dest.Tenant != t {
			d.cfg.Passed(id, first)
			continue
		}
		d.core.Watch(nowMillis(), id, x.set, first, first+hark.Offset(n-1))
	}
	d.flush()
}

// Unwatch takes Watch back.
func (d *Deliverer) Unwatch(ids []hark.DestinationID, first hark.Offset) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		d.core.Unwatch(nowMillis(), id, first)
	}
	d.flush()
}

// Fates tells what became of each of n events from first on at one destination that
// wanted them: a finished state, Due or Sending for what it holds or has not come to.
// One that it passed and that left no row was [hark.Filtered], or [hark.Expired] if a
// gap lies over it, or [hark.Cancelled] with the destination, of which exists tells.
func (d *Deliverer) Fates(t hark.TenantID, id hark.DestinationID, first hark.Offset, n int) (fates []hark.State, exists bool, err error) {
	fates = make([]hark.State, n)
	position := hark.Offset(0)
	d.mu.Lock()
	x := d.targets[id]
	if exists = x != nil && x.dest.Tenant == t && d.core != nil; exists {
		position = d.core.Status(id).Position
		for o, row := range d.uncommittedIn(id, first, n) {
			fates[o-first] = row.State
		}
		for i := range fates {
			if state, held := d.core.Holds(id, first+hark.Offset(i)); held {
				fates[i] = state
			}
		}
	}
	d.mu.Unlock()
	// What finished meanwhile is still Due here: it is told as it was a moment ago.
	err = d.cfg.Store.DeliveriesOf(t, d.cfg.Log.Bucket(first), id, first, n, func(o hark.Offset, row store.DeliveryRow) {
		if fates[o-first] == 0 {
			fates[o-first] = row.State
		}
	})
	if err != nil {
		return nil, exists, err
	}
	return fates, exists, d.rowless(t, id, first, fates, exists, position)
}

// rowless tells the fates of those that have no row.
func (d *Deliverer) rowless(t hark.TenantID, id hark.DestinationID, first hark.Offset, fates []hark.State, exists bool, position hark.Offset) error {
	gaps, asked := []store.GapRecord(nil), false
	for i := range fates {
		o := first + hark.Offset(i)
		switch {
		case fates[i] != 0:
		case !exists:
			fates[i] = hark.Cancelled
		case o > position:
			fates[i] = hark.Due
		default:
			if !asked && o < d.cfg.Log.Floor(t) {
				var err error
				if gaps, err = d.cfg.Store.Gaps(t, id, maxGaps); err != nil {
					return err
				}
			}
			asked = true
			fates[i] = hark.Filtered
			for _, g := range gaps {
				if g.From < o && o <= g.To {
					fates[i] = hark.Expired
				}
			}
		}
	}
	return nil
}

// maxGaps bounds how many gaps of a destination are looked at.
const maxGaps = 100

// uncommittedIn is uncommitted for a stretch. The caller holds mu.
func (d *Deliverer) uncommittedIn(id hark.DestinationID, first hark.Offset, n int) map[hark.Offset]Row {
	rows := map[hark.Offset]Row{}
	for _, recs := range [][]Record{d.committing, d.pending} {
		for i := range recs {
			if r := &recs[i]; r.Kind == RecDelivery && r.Dest == id && r.Offset >= first && r.Offset < first+hark.Offset(n) {
				rows[r.Offset] = r.Row
			}
		}
	}
	return rows
}

// Charge counts what is kept beside a tenant's delivery rows of a bucket, so that
// retention knows of it: at least an entry is made, which is durable with the next results.
func (d *Deliverer) Charge(t hark.TenantID, b store.Bucket, bytes int) error {
	d.commitMu.Lock()
	defer d.commitMu.Unlock()
	key := usageKey{t, b}
	u := d.usage[key]
	if u == nil {
		u = &store.Usage{}
		d.usage[key] = u
	}
	u.Bytes += uint64(bytes)
	_, err := d.cfg.Store.Write(&store.DeliveryUsage{Tenant: t, Bucket: b, Usage: *u})
	return err
}
