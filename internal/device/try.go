package device

import (
	"cmp"
	"slices"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/push"
)

// try pushes one entry.
func (a *Audiences) try(e *entry) {
	if len(e.all) > 0 {
		return // decided without a try
	}
	if a.anyOf(e) {
		a.tryAny(e)
		return
	}
	e.all = append(e.all, a.tryOne(e.dest, e.device, e.msg, e.tries+1))
}

// anyOf says whether any of the user's devices will do.
func (a *Audiences) anyOf(e *entry) bool {
	return e.msg.composed.Devices() == push.AnyDevice && e.device.User != ""
}

// tryOne pushes to one device, unless it or its platform is left alone for now.
func (a *Audiences) tryOne(dest *hark.Destination, d *hark.Device, m *message, number int) tried {
	now := time.Now()
	if r, ok := a.instead(dest, d, m, now); ok {
		return tried{device: d, number: number, result: r, silent: true}
	}
	r := a.send(dest, d, m, now)
	return tried{device: d, number: number, result: r, silent: r.Shut}
}

// send tries once.
func (a *Audiences) send(dest *hark.Destination, d *hark.Device, m *message, now time.Time) push.Result {
	r := a.cfg.Sender.Send(a.sendCtx, dest, d, m.composed, now)
	a.sent(dest, d, &r)
	return r
}

// instead is what comes of a device that is not tried now; false if it is.
func (a *Audiences) instead(dest *hark.Destination, d *hark.Device, m *message, now time.Time) (r push.Result, ok bool) {
	switch {
	case !now.Before(m.composed.Expires()):
		r = came(push.Expired, "ttl", "")
	case d.State == hark.DeviceSuspect && now.Before(a.quarantined(d)):
		r = came(push.TargetSuspect, "quarantined", "")
	case a.holds.held(dest, d.Kind, now):
		r = came(push.ConfigError, "held", "")
		r.Wide = true
	default:
		return r, false
	}
	return r, true
}

// sent takes note of a try, and holds the platform whose settings are at fault.
func (a *Audiences) sent(dest *hark.Destination, d *hark.Device, r *push.Result) {
	if r.Shut {
		a.holds.extend(dest, d.Kind, time.Now().Add(r.After))
		return
	}
	if a.cfg.Hooks.Sent != nil {
		a.cfg.Hooks.Sent(d.Kind, *r)
	}
	if r.Outcome == push.ConfigError {
		if r.Wide {
			a.holds.hold(dest, d.Kind, time.Now().Add(a.lim.HoldFor))
		}
		a.tellConfig(dest, d.Kind, r)
	}
}

// came is what came of a device without a try.
func came(o push.Outcome, word, why string) push.Result {
	return push.Result{Outcome: o, Code: word, Error: why}
}

// quarantined is until when a suspect device is left alone.
func (a *Audiences) quarantined(d *hark.Device) time.Time {
	return d.Suspected.Add(time.Duration(d.Strikes) * a.lim.Quarantine)
}

// tryAny pushes to one of a user's devices: the one that was there last, and to the next
// only if it is not there any more. A job does it when it comes to the last of them, by id:
// those that turn out to be gone are behind it then, so that nothing that is deleted while
// the job goes on makes another the last.
func (a *Audiences) tryAny(e *entry) {
	all, err := a.ofUser(e)
	if err != nil {
		a.oops("reading the devices of a user", err)
		e.all = append(e.all, tried{device: e.device, number: e.tries + 1, silent: true,
			result: came(push.RetryAt, "internal", "the user's devices could not be read")})
		return
	}
	if e.from == nil && slices.ContainsFunc(all, func(d *hark.Device) bool { return d.ID > e.device.ID }) {
		return
	}
	slices.SortFunc(all, func(x, y *hark.Device) int {
		return cmp.Or(a.rank(x, e)-a.rank(y, e), y.Registered.Compare(x.Registered), cmp.Compare(y.ID, x.ID))
	})
	for _, d := range all {
		t := a.tryOne(e.dest, d, e.msg, e.tries+1)
		e.all = append(e.all, t)
		if t.result.Outcome != push.TargetGone && t.result.Outcome != push.TargetSuspect {
			return
		}
	}
}

// rank puts the device that a retry is for first, and suspect ones last.
func (a *Audiences) rank(d *hark.Device, e *entry) int {
	switch {
	case e.from != nil && d.ID == e.device.ID:
		return 0
	case d.State == hark.DeviceSuspect:
		return 2
	}
	return 1
}

// ofUser returns the devices of an entry's user that want its event and were there when the
// job began.
func (a *Audiences) ofUser(e *entry) (all []*hark.Device, err error) {
	var ids []hark.DeviceID
	d := e.device
	err = a.store.DevicesOfUser(d.Tenant, d.User, 0, func(id hark.DeviceID, app string) bool {
		if app == d.App && (e.top == 0 || id <= e.top) {
			ids = append(ids, id)
		}
		return true
	})
	if err == nil {
		err = a.store.Devices(d.Tenant, ids, func(x *hark.Device) {
			if hark.MatchAny(x.Topics, e.msg.event.Topic) {
				all = append(all, x)
			}
		})
	}
	return all, err
}
