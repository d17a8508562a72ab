package deliver

import (
	"maps"
	"slices"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Restore finds out what was under way when the last process ended. Changed must
// have told all destinations; nothing is sent before Run.
func (d *Deliverer) Restore() error {
	r := restoring{d: d, cursors: map[hark.DestinationID]hark.Offset{}, found: map[hark.DestinationID]*Restored{}}
	if err := r.read(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := nowMillis()
	d.core = NewCore(d.cfg.Limits, r.mark, now)
	for _, id := range slices.Sorted(maps.Keys(d.targets)) {
		t := d.targets[id]
		x := r.found[id]
		if x == nil {
			x = &Restored{}
		}
		x.Settings = t.set
		x.Cursor, x.Own = r.cursors[id]
		position := r.mark
		if x.Own {
			position = x.Cursor
		}
		x.Hole = d.cfg.Log.Floor(t.dest.Tenant)-1 > position
		if r.found[id] == nil && !x.Own && !x.Hole && t.set.Active && !t.set.Pull {
			continue // idle at the mark: it costs nothing
		}
		slices.SortFunc(x.Rows, func(a, b Row) int {
			if a.Offset < b.Offset {
				return -1
			}
			return 1
		})
		d.core.Restore(now, id, *x)
	}
	d.restored = true
	d.core.Tick(now)
	d.flush()
	return nil
}

// restoring collects what the store knows.
type restoring struct {
	d       *Deliverer
	mark    hark.Offset
	cursors map[hark.DestinationID]hark.Offset
	found   map[hark.DestinationID]*Restored
}

func (r *restoring) of(id hark.DestinationID) *Restored {
	x := r.found[id]
	if x == nil {
		x = &Restored{}
		r.found[id] = x
	}
	return x
}

func (r *restoring) read() (err error) {
	s, d := r.d.cfg.Store, r.d
	if r.mark, err = s.Mark(); err != nil {
		return err
	}
	err = s.Cursors(func(_ hark.TenantID, id hark.DestinationID, at hark.Offset) { r.cursors[id] = at })
	if err != nil {
		return err
	}
	err = s.Replays(func(_ hark.TenantID, id hark.DestinationID, x store.Replay) {
		r.of(id).Replay = &ReplayRange{From: x.From, To: x.To, At: x.Position}
	})
	if err != nil {
		return err
	}
	err = s.Healths(func(_ hark.TenantID, id hark.DestinationID, h store.HealthRow) { r.of(id).Health = Health(h) })
	if err != nil {
		return err
	}
	err = s.FilteredCounts(func(_ hark.TenantID, id hark.DestinationID, n uint64) {
		if t := d.targets[id]; t != nil {
			t.filtered = n
		}
	})
	if err != nil {
		return err
	}
	err = s.DeliveryUsages(func(t hark.TenantID, b store.Bucket, u store.Usage) { d.usage[usageKey{t, b}] = &u })
	if err != nil {
		return err
	}
	err = s.ScanUnfinished(func(x store.SavedDelivery) error {
		if d.targets[x.Destination] != nil {
			at := r.of(x.Destination)
			at.Rows = append(at.Rows, fromRow(x.Offset, &x.Row))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.readBeyond()
}

// readBeyond finds the finished rows that positions do not tell yet.
func (r *restoring) readBeyond() error {
	s, log := r.d.cfg.Store, r.d.cfg.Log
	done := func(x store.SavedDelivery) error {
		if x.Row.State.Finished() {
			at := r.of(x.Destination)
			at.Done = append(at.Done, x.Offset)
		}
		return nil
	}
	err := s.RowsBeyond(log.Bucket(r.mark+1), func(_ hark.TenantID, id hark.DestinationID) hark.Offset {
		if _, own := r.cursors[id]; own || r.d.targets[id] == nil {
			return ^hark.Offset(0)
		}
		return r.mark
	}, done)
	if err != nil {
		return err
	}
	for _, b := range log.Buckets() {
		for id, at := range r.cursors { // order does not show: it is only collected
			t := r.d.targets[id]
			if t == nil || b.Bucket < log.Bucket(at+1) {
				continue
			}
			err := s.RowsAfter(t.dest.Tenant, b.Bucket, id, at, done)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
