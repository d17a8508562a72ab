package deliver

import (
	"bytes"
	"slices"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Attach takes part in the registry's commit of a change to a destination: a new
// one starts at the end of the log, new topics or a new filter apply after its
// position, and one that is deleted leaves nothing behind. Between Attach and
// done nothing is dispatched, and Changed is called for the same change.
func (d *Deliverer) Attach(old, now *hark.Destination) ([]store.Record, func(committed bool)) {
	if old != nil && now != nil && sameRule(old, now) {
		return nil, nil
	}
	d.enter()
	at := nowMillis()
	switch {
	case old == nil:
		t := d.replace(nil, now)
		d.core.Add(at, now.ID, t.set, d.cfg.Log.End())
	case now == nil:
		d.core.Remove(at, old.ID, d.targets[old.ID].set)
		d.replace(old, nil)
	default:
		t := d.replace(old, now)
		d.core.Retopic(at, now.ID, t.set)
	}
	recs, answers, upto := d.within()
	return recs, func(committed bool) {
		var err error
		if !committed {
			err = errStopped() // the store is closed or broken: memory is ahead of it now
		}
		d.settled(answers, upto, err)
		d.leaveChange()
	}
}

// StartAt takes part in the commit that makes a destination: it starts after at
// instead of at the end of the log.
func (d *Deliverer) StartAt(at hark.Offset) func(old, now *hark.Destination) ([]store.Record, func(bool)) {
	return func(old, now *hark.Destination) ([]store.Record, func(bool)) {
		if old != nil || now == nil {
			return nil, nil
		}
		d.enter()
		d.core.Add(nowMillis(), now.ID, d.targets[now.ID].set, min(at, d.cfg.Log.End()))
		recs, answers, upto := d.within()
		return recs, func(committed bool) {
			var err error
			if !committed {
				err = errStopped()
			}
			d.settled(answers, upto, err)
			d.leaveChange()
		}
	}
}

// enter takes both locks, once for all changes of one commit.
func (d *Deliverer) enter() {
	if d.nested == 0 {
		d.commitMu.Lock()
		d.mu.Lock()
	}
	d.nested++
}

func (d *Deliverer) leaveChange() {
	if d.nested--; d.nested == 0 {
		d.mu.Unlock()
		d.commitMu.Unlock()
	}
}

// within returns everything that must be durable with the change.
func (d *Deliverer) within() ([]store.Record, []Answer, uint64) {
	d.flush()
	recs, answers, upto := d.takePending()
	return append(d.toStore(recs), d.takeCounts()...), answers, upto
}

// Changed tells of a committed change to a destination, or, before Restore, of
// one that is there. Old is nil for a new one, now for one that is gone.
func (d *Deliverer) Changed(old, now *hark.Destination) {
	if old == nil && now == nil {
		return
	}
	if d.nested == 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
	}
	switch {
	case !d.restored:
		d.replace(old, now)
	case old == nil || now == nil || !sameRule(old, now): // Attach has done it
	default:
		t := d.replace(old, now)
		d.core.Configure(nowMillis(), now.ID, t.set)
		d.flush()
	}
}

// sameRule reports whether two versions match the same events.
func sameRule(a, b *hark.Destination) bool {
	return slices.Equal(a.Topics, b.Topics) && bytes.Equal(a.Filter, b.Filter)
}

// replace puts now in place of old among the targets. The caller holds mu, or nobody else knows d yet.
func (d *Deliverer) replace(old, now *hark.Destination) *target {
	if now == nil {
		d.unindex(old)
		delete(d.targets, old.ID)
		return nil
	}
	t := d.targets[now.ID]
	if t == nil {
		t = &target{}
		d.targets[now.ID] = t
	} else {
		old = t.dest
	}
	t.set = d.settings(now)
	if old == nil || !sameRule(old, now) {
		if old != nil {
			d.unindex(old)
		}
		t.filter = nil
		if d.cfg.Filter != nil {
			filter, err := d.cfg.Filter(now)
			if err != nil { // it was checked when it was made: hold back rather than send too much
				d.oops("compiling the filter of "+now.ID.String(), err)
				filter = func(*hark.Event) bool { return false }
			}
			t.filter = filter
		}
		d.addIndex(now, t)
	}
	t.dest = now
	return t
}

func (d *Deliverer) addIndex(x *hark.Destination, t *target) {
	all := d.indexOf(t)
	index := all[x.Tenant]
	if index == nil {
		index = &hark.TopicIndex[*target]{}
		all[x.Tenant] = index
	}
	for _, p := range x.Topics {
		index.Add(p, t)
	}
}

// indexOf returns the index that a target is in: its kind, and with it this, never changes.
func (d *Deliverer) indexOf(t *target) map[hark.TenantID]*hark.TopicIndex[*target] {
	if t.set.Pull {
		return d.pulled
	}
	return d.index
}

func (d *Deliverer) unindex(x *hark.Destination) {
	t := d.targets[x.ID]
	if t == nil {
		return
	}
	index := d.indexOf(t)[x.Tenant]
	if index == nil {
		return
	}
	for _, p := range x.Topics {
		index.Remove(p, t)
	}
}

// defaultWaits is hark.DefaultSchedule in ms; destinations without a policy share it.
var defaultWaits = waits(nil)

func waits(r *hark.Retry) []int64 {
	var ms []int64
	for _, w := range r.Waits() {
		ms = append(ms, w.Milliseconds())
	}
	return ms
}

func (d *Deliverer) settings(x *hark.Destination) *Settings {
	s := &Settings{Tenant: x.Tenant, Active: x.State == hark.DestinationActive, Ordered: x.Ordered,
		StopOnDead: x.OnDead == hark.OnDeadStop, Waits: defaultWaits, Concurrency: x.Concurrency, Rate: x.RateLimit,
		MaxDeliveries: hark.DefaultMaxDeliveries}
	if x.Retry != nil {
		if len(x.Retry.Schedule) > 0 {
			s.Waits = waits(x.Retry)
		}
		if x.Retry.MaxDeliveries > 0 {
			s.MaxDeliveries = x.Retry.MaxDeliveries
		}
	}
	if d.cfg.Pull != nil {
		s.Pull = d.cfg.Pull(x.Kind)
	}
	if d.cfg.Host != nil && !s.Pull {
		s.Host = d.cfg.Host(x)
	}
	return s
}
