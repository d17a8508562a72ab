package device

import (
	"errors"
	"slices"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/store"
)

// Get returns a device, or [hark.NoSuch]: also when it is another tenant's.
func (d *Devices) Get(t hark.TenantID, id hark.DeviceID) (*hark.Device, error) {
	x, found, err := d.store.Device(t, id)
	if err == nil && !found {
		err = hark.NoSuch("device", id.String())
	}
	return x, err
}

// Query chooses devices. Empty fields choose all.
type Query struct {
	User  string
	App   string
	Kind  string
	State hark.DeviceState
	// Topic chooses those that an event of it would reach, in App or the default app.
	Topic string
	// After is the id to go on after.
	After hark.DeviceID
	Limit int
}

func (q *Query) wants(x *hark.Device) bool {
	return (q.User == "" || q.User == x.User) && (q.App == "" || q.App == x.App) && (q.Kind == "" || q.Kind == x.Kind) &&
		(q.State == "" || q.State == x.State) && (q.Topic == "" || hark.MatchAny(x.Topics, q.Topic))
}

// searched bounds how many devices one page looks at.
const searched = 2000

// List returns devices in order of their ids, and the id to go on after; zero at the end. A
// page may hold less than its limit, or nothing, and still not be the last.
func (d *Devices) List(t hark.TenantID, q Query) (page []*hark.Device, next hark.DeviceID, err error) {
	q.Limit = min(max(q.Limit, 1), hark.MaxPageSize)
	if q.Topic != "" {
		if err := hark.CheckTopic(q.Topic); err != nil {
			return nil, 0, err
		}
		if q.App == "" {
			q.App = hark.DefaultApp
		}
	}
	after, seen := q.After, 0
	for {
		ids, more, err := d.ids(t, &q, after, min(searched-seen, max(2*q.Limit, 64)))
		if err != nil || len(ids) == 0 {
			return page, 0, err
		}
		full := false
		err = d.store.Devices(t, ids, func(x *hark.Device) {
			if full = full || len(page) == q.Limit; !full {
				after = x.ID
				if q.wants(x) {
					page = append(page, x)
				}
			}
		})
		if err != nil {
			return nil, 0, err
		}
		if full {
			return page, after, nil
		}
		after = ids[len(ids)-1]
		if seen += len(ids); !more {
			return page, 0, nil
		}
		if seen >= searched || len(page) == q.Limit {
			return page, after, nil
		}
	}
}

// ids returns ids of devices that may be what is asked for.
func (d *Devices) ids(t hark.TenantID, q *Query, after hark.DeviceID, limit int) (ids []hark.DeviceID, more bool, err error) {
	switch {
	case q.User != "":
		err = d.store.DevicesOfUser(t, q.User, after, func(id hark.DeviceID, app string) bool {
			if q.App == "" || q.App == app {
				more = len(ids) == limit
				if !more {
					ids = append(ids, id)
				}
			}
			return !more
		})
	case q.Topic != "":
		var m merge
		m.init(d, t, q.App, q.Topic, after, hark.DeviceID(d.numbers.top()))
		ids, err = m.next(nil, limit+1)
		if more = len(ids) > limit; more {
			ids = ids[:limit]
		}
	default:
		ids, more, err = d.store.DevicesAfter(t, after, limit)
	}
	return ids, more, err
}

// Patch changes a device; nil fields stay.
type Patch struct {
	Topics             []hark.Pattern
	User, Locale, Name *string
}

func (p *Patch) apply(x *hark.Device) {
	give := func(to, from *string) {
		if from != nil {
			*to = *from
		}
	}
	if p.Topics != nil {
		x.Topics = p.Topics
	}
	give(&x.User, p.User)
	give(&x.Locale, p.Locale)
	give(&x.Name, p.Name)
}

// Update changes a device. May refuses what the caller may not.
func (d *Devices) Update(t hark.TenantID, id hark.DeviceID, p Patch, may func(*hark.Device) error) (*hark.Device, error) {
	d.gate.RLock()
	defer d.gate.RUnlock()
	if p.User != nil && *p.User != "" {
		defer d.byUser.lock([]uint64{d.wants.userHash(t, *p.User)})()
	}
	defer d.byID.lock([]uint64{uint64(id)})()
	old, err := d.mine(t, id, may)
	if err != nil {
		return nil, err
	}
	x := *old
	p.apply(&x)
	var faults []error
	x.Topics, faults = checkTopics(x.Topics, faults)
	if err := errors.Join(append(faults, checkWords(&x), push.CheckLocale(x.Locale))...); err != nil {
		return nil, err
	}
	if err := d.checkUsers(t, []*registration{{device: &x, old: old}}); err != nil {
		return nil, err
	}
	if !slices.Equal(x.Topics, old.Topics) {
		if !d.wants.add(t, x.App, x.Topics) {
			return nil, tooManyShapes()
		}
		if err := d.save(old, &x); err != nil {
			d.wants.remove(t, x.App, x.Topics)
			return nil, err
		}
		d.wants.remove(t, old.App, old.Topics)
		return &x, nil
	}
	return &x, d.save(old, &x)
}

func (d *Devices) save(old, x *hark.Device) error {
	return d.store.Commit(&store.DeviceSaved{Old: old, New: x, Target: d.targetOf(x)})
}

func (d *Devices) mine(t hark.TenantID, id hark.DeviceID, may func(*hark.Device) error) (*hark.Device, error) {
	x, err := d.Get(t, id)
	if err == nil && may != nil {
		err = may(x)
	}
	return x, err
}

// Delete removes a device.
func (d *Devices) Delete(t hark.TenantID, id hark.DeviceID, may func(*hark.Device) error) error {
	d.gate.RLock()
	defer d.gate.RUnlock()
	defer d.byID.lock([]uint64{uint64(id)})()
	x, err := d.mine(t, id, may)
	if err != nil {
		return err
	}
	if err := d.store.Commit(&store.DeviceDeleted{Device: x, Target: d.targetOf(x)}); err != nil {
		return err
	}
	d.gone(x)
	return nil
}

// gone forgets a device that was deleted.
func (d *Devices) gone(x *hark.Device) {
	d.wants.remove(x.Tenant, x.App, x.Topics)
	d.add(x.Tenant, -1)
}

// Erase takes part in the commit that deletes a tenant: what is under way ends first, and
// nothing of it is written after. Its rows go with the tenant's.
func (d *Devices) Erase(t hark.TenantID) (done func(committed bool)) {
	d.enter()
	return func(committed bool) {
		if committed {
			d.erased[t] = true
			d.wants.forget(t)
			d.mu.Lock()
			delete(d.counts, t)
			d.mu.Unlock()
		}
		d.leave()
	}
}

// enter closes the gate, once for all changes of one commit of the registry.
func (d *Devices) enter() {
	if d.nested == 0 {
		d.gate.Lock()
	}
	d.nested++
}

func (d *Devices) leave() {
	if d.nested--; d.nested == 0 {
		d.gate.Unlock()
	}
}

// Remove takes part in the commit that deletes an audience.
func (d *Devices) Remove(a *hark.Destination) (recs []store.Record, done func(committed bool)) {
	d.enter()
	return []store.Record{&store.PushesErased{Tenant: a.Tenant, Destination: a.ID}}, func(committed bool) {
		if committed {
			d.removed[a.ID] = true
		}
		d.leave()
	}
}
