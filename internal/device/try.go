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
	if e.msg.composed.Devices() == push.AnyDevice && e.device.User != "" {
		a.tryAny(e)
		return
	}
	e.all = append(e.all, a.tryOne(e.dest, e.device, e.msg, e.tries+1))
}

// tryOne pushes to one device, unless it or its platform is left alone for now.
func (a *Audiences) tryOne(dest *hark.Destination, d *hark.Device, m *message, number int) tried {
	now := time.Now()
	t := tried{device: d, number: number}
	switch {
	case !now.Before(m.composed.Expires()):
		t.result, t.silent = came(push.Expired, "ttl", ""), true
	case d.State == hark.DeviceSuspect && now.Before(a.quarantined(d)):
		t.result, t.silent = came(push.TargetSuspect, "quarantined", ""), true
	case a.holds.held(dest, d.Kind, now):
		t.result, t.silent = came(push.ConfigError, "held", ""), true
		t.result.Wide = true
	default:
		t.result = a.send(dest, d, m)
		t.silent = t.result.Shut
	}
	return t
}

// send tries once, and holds the platform whose settings are at fault.
func (a *Audiences) send(dest *hark.Destination, d *hark.Device, m *message) push.Result {
	now := time.Now()
	r := a.cfg.Sender.Send(a.sendCtx, dest, d, m.composed, now)
	if r.Shut {
		a.holds.extend(dest, d.Kind, now.Add(r.After))
		return r
	}
	if a.cfg.Hooks.Sent != nil {
		a.cfg.Hooks.Sent(d.Kind, r)
	}
	if r.Outcome == push.ConfigError {
		if r.Wide {
			a.holds.hold(dest, d.Kind, now.Add(a.lim.HoldFor))
		}
		a.tellConfig(dest, d.Kind, &r)
	}
	return r
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
