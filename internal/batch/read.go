package batch

import (
	"cmp"
	"slices"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Get returns a batch with what became of it so far.
func (b *Batches) Get(t hark.TenantID, id hark.BatchID, mayRead func(topic string) bool) (*hark.Batch, error) {
	saved, r, err := b.read(t, id, mayRead)
	if err != nil {
		return nil, err
	}
	view := b.view(saved, r)
	counts := hark.BatchCounts{}
	for i := range r.To {
		a := &r.To[i]
		d := hark.BatchDestination{Destination: a.id(), Events: a.Wanted, Deleted: a.Deleted}
		if a.Counts != nil {
			d.Counts = *a.Counts
			b.nameOf(t, &d)
		} else if d, err = b.count(t, saved.Offset, r.Events, a); err != nil {
			return nil, err
		}
		counts.Plus(d.Counts)
		view.Destinations = append(view.Destinations, d)
	}
	view.Counts = &counts
	if c := &view.Callback; c.To != 0 && !c.Event.IsZero() {
		if c.Delivery, err = b.cfg.Courier.Delivery(t, hark.DeliveryID{Destination: c.To, Event: c.Event}); hark.KindOf(err) == hark.Internal && err != nil {
			return nil, err
		}
	}
	return view, nil
}

// ByUID returns the id of the batch with a uid.
func (b *Batches) ByUID(t hark.TenantID, uid string) (hark.BatchID, error) {
	first, _, found, err := b.named(t, uid)
	if err == nil && !found {
		err = hark.NoSuch("batch with uid", uid)
	}
	if err != nil {
		return hark.BatchID{}, err
	}
	return hark.BatchID(b.cfg.Log.ID(first)), nil
}

// read finds a batch that the caller may see. One that it may not see answers like
// one that is not there.
func (b *Batches) read(t hark.TenantID, id hark.BatchID, mayRead func(string) bool) (store.SavedBatch, *row, error) {
	none := hark.NoSuch("batch", id.String())
	o, err := b.cfg.Log.Locate(id.First())
	if err != nil {
		return store.SavedBatch{}, nil, none
	}
	saved, found, err := b.cfg.Store.Batch(t, b.cfg.Log.Bucket(o), o)
	if err != nil {
		return saved, nil, err
	}
	if !found {
		return saved, nil, none
	}
	r, err := decodeRow(saved.Value)
	if err == nil && !r.readable(mayRead) {
		err = none
	}
	return saved, r, err
}

func (r *row) readable(mayRead func(string) bool) bool {
	for _, topic := range r.Topics {
		if mayRead != nil && !mayRead(topic) {
			return false
		}
	}
	return true
}

// view is a batch without its destinations.
func (b *Batches) view(s store.SavedBatch, r *row) *hark.Batch {
	v := &hark.Batch{ID: hark.BatchID(b.cfg.Log.ID(s.Offset)), UID: r.UID, State: hark.BatchOpen, Accepted: r.Accepted, Deadline: r.Deadline,
		Ended: r.Ended, Events: r.Events, Callback: hark.BatchCallback{URL: r.URL, Topic: r.Topic, To: hark.DestinationID(r.Callback)}}
	if s.Ended {
		v.State = r.State
		v.Callback.Event = b.cfg.Log.ID(s.Told)
	}
	return v
}

// maxLooked bounds how many batches one page looks at.
const maxLooked = 2000

// List returns a page of at most limit, newest first, and where the next one begins: the
// zero id at the end. A page may be short and still have a next. It goes on after the
// given id, unless that is zero, and shows one state, unless that is empty.
func (b *Batches) List(t hark.TenantID, after hark.BatchID, state hark.BatchState, limit int, mayRead func(topic string) bool) (page []*hark.Batch, next hark.BatchID, err error) {
	limit = max(1, min(limit, hark.MaxPageSize))
	before := b.cfg.Log.End() + 1
	if after != (hark.BatchID{}) {
		if before, err = b.cfg.Log.Locate(after.First()); err != nil {
			return nil, next, hark.Invalidf("after", "is not where a page of this list ended: repeat what \"next\" said")
		}
	}
	for looked := 0; looked < maxLooked; {
		open, ended, err := b.cfg.Store.BatchesBefore(t, b.cfg.Log.Bucket(before), before, limit)
		if err != nil {
			return nil, next, err
		}
		if len(open)+len(ended) == 0 {
			return page, hark.BatchID{}, nil
		}
		for _, s := range newest(open, ended, limit) {
			r, err := decodeRow(s.Value)
			if err != nil {
				return nil, next, err
			}
			before = s.Offset
			looked++
			v := b.view(s, r)
			if state != "" && v.State != state || !r.readable(mayRead) {
				continue
			}
			if s.Ended {
				v.Counts = r.total()
			}
			if page = append(page, v); len(page) == limit {
				return page, v.ID, nil
			}
		}
	}
	return page, hark.BatchID(b.cfg.Log.ID(before)), nil
}

// newest merges two lists, each the newest of its kind first and cut at limit: of more
// than limit together it is not known which are the newest.
func newest(open, ended []store.SavedBatch, limit int) []store.SavedBatch {
	all := slices.Concat(open, ended)
	slices.SortFunc(all, func(a, b store.SavedBatch) int { return cmp.Compare(b.Offset, a.Offset) })
	all = slices.CompactFunc(all, func(a, b store.SavedBatch) bool { return a.Offset == b.Offset }) // it ended between the two looks
	return all[:min(len(all), limit)]
}

func (r *row) total() *hark.BatchCounts {
	sum := &hark.BatchCounts{}
	for i := range r.To {
		if c := r.To[i].Counts; c != nil {
			sum.Plus(*c)
		}
	}
	return sum
}

// Forget removes a batch. Its events and deliveries stay; nobody is told of its end any more.
func (b *Batches) Forget(t hark.TenantID, id hark.BatchID, mayRead func(string) bool) error {
	saved, r, err := b.read(t, id, mayRead)
	if err != nil {
		return err
	}
	err = b.cfg.Store.Commit(&store.BatchForgotten{Tenant: t, Bucket: b.cfg.Log.Bucket(saved.Offset), Offset: saved.Offset, Name: name(r.UID)})
	if err != nil {
		return err
	}
	b.mu.Lock()
	o := b.open[saved.Offset]
	if o != nil {
		b.dropLocked(o)
	}
	b.mu.Unlock()
	if o != nil {
		b.cfg.Engine.Unwatch(r.ids(), saved.Offset)
	}
	return nil
}
