package device

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/store"
)

// page is the commit of what came of some entries of one audience.
type page struct {
	a       *Audiences
	dest    *hark.Destination
	now     time.Time
	entries []*entry
	job     *job // as it will be; nil for retries

	rows    map[hark.DeviceID]*hark.Device // as they are, of those that may change
	changed []store.Record                 // what changes of devices
	deleted []*hark.Device
	gone    []toldDevice
	suspect []toldDevice

	recs    []store.Record // the rest
	packed  map[hark.Offset][]*tried
	added   []store.PushRetryKey
	removed int
}

// toldDevice is a device as an operational event tells of it.
type toldDevice struct {
	Device hark.DeviceID `json:"device"`
	User   string        `json:"user,omitempty"`
	Kind   string        `json:"kind"`
	Name   string        `json:"name,omitempty"`
	Status int           `json:"status,omitempty"`
	Code   string        `json:"code,omitempty"`
	Reason string        `json:"reason,omitempty"`
	Event  hark.EventID  `json:"event,omitzero"`
}

const (
	goneTopic    = "hark.device.gone"
	suspectTopic = "hark.device.suspect"
	// toldAtOnce is how many devices one operational event tells of.
	toldAtOnce = 500
	// tellWithin bounds how long an operational event waits for its turn in the log.
	tellWithin = 10 * time.Second
)

// commitPage makes what came of entries durable, in one batch: outcomes, retries, what
// changes of devices with the events that tell of it, and the position of the job; last says
// that the job is done. Saved says that it has a row.
func (a *Audiences) commitPage(dest *hark.Destination, entries []*entry, j *job, saved, last bool) error {
	p := &page{a: a, dest: dest, now: time.Now(), entries: entries, packed: make(map[hark.Offset][]*tried), rows: make(map[hark.DeviceID]*hark.Device)}
	if j != nil {
		ahead := *j
		p.job = &ahead
	}
	if err := p.charge(); err != nil {
		return err
	}
	written, err := p.apply(saved, last)
	if err != nil {
		return err
	}
	if j != nil {
		*j = *p.job
	}
	return a.store.Await(written, syncWithin)
}

// syncWithin is how long a page waits for a sync of somebody else's.
const syncWithin = 10 * time.Millisecond

// apply writes what came of the entries. It returns which write of the store it is, to be waited for.
func (p *page) apply(saved, last bool) (written uint64, err error) {
	unlock, err := p.lock()
	defer func() { unlock() }()
	if err != nil {
		return 0, err
	}
	for _, e := range p.entries {
		p.take(e)
	}
	if err := p.pack(); err != nil {
		return 0, err
	}
	p.move(saved, last)
	if written, err = p.write(last); err != nil {
		return 0, err
	}
	for _, d := range p.deleted {
		p.a.Devices.gone(d)
	}
	p.a.retry.changed(p.dest, p.added, p.removed)
	return written, nil
}

// charge has the room of what will be kept of outcomes counted, before it is there: the
// bucket may hold nothing else any more, and would stay for ever. It must not be done under
// the gate.
func (p *page) charge() error {
	if p.a.cfg.Charge == nil {
		return nil
	}
	bytes := map[store.Bucket]int{}
	for _, e := range p.entries {
		if o := e.msg.event.ID.Offset; o > 0 {
			bytes[p.a.cfg.Log.Bucket(o)] += 16
		}
	}
	for b, n := range bytes {
		if err := p.a.cfg.Charge(p.dest.Tenant, b, n+64); err != nil {
			return err
		}
	}
	return nil
}

// lock reads the devices that may change, with nobody else at them. What it locked is for
// unlock, also after an error.
func (p *page) lock() (unlock func(), err error) {
	p.a.gate.RLock()
	unlock = p.a.gate.RUnlock
	if p.a.erased[p.dest.Tenant] || p.a.removed[p.dest.ID] {
		return unlock, errGone
	}
	var ids []hark.DeviceID
	for _, e := range p.entries {
		if e.state == left {
			continue // its worker still has it
		}
		for i := range e.all {
			if t := &e.all[i]; t.changes() {
				ids = append(ids, t.device.ID)
			}
		}
	}
	if len(ids) == 0 {
		return unlock, nil
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	keys := make([]uint64, len(ids))
	for i, id := range ids {
		keys[i] = uint64(id)
	}
	release := p.a.byID.lock(keys)
	unlock = func() { release(); p.a.gate.RUnlock() }
	return unlock, p.a.store.Devices(p.dest.Tenant, ids, func(d *hark.Device) { p.rows[d.ID] = d })
}

// changes reports whether a try may change more of its device than when it took a message.
func (t *tried) changes() bool {
	switch r := &t.result; {
	case t.silent:
		return false
	case r.Outcome == push.TargetGone, r.Outcome == push.TargetSuspect, r.Environment != "":
		return true
	default:
		return r.Outcome == push.Accepted && t.device.State == hark.DeviceSuspect
	}
}

// take decides what follows from one entry.
func (p *page) take(e *entry) {
	if from := cmp.Or(e.lease, e.from); from != nil {
		p.recs = append(p.recs, &store.PushRetryDone{PushRetryKey: *from})
		p.removed++
	}
	if e.state == left {
		p.leave(e)
		return
	}
	for i := range e.all {
		t := &e.all[i]
		outcome := p.settle(e, t)
		if !e.test && i == len(e.all)-1 && (outcome == push.RetryAt || outcome == push.ConfigError) && !p.again(e, t) {
			outcome = push.Expired
			t.result.Error = "its time to live is over before it could be tried again"
		}
		t.result.Outcome = outcome
		p.note(e, t)
	}
}

// note takes an outcome down.
func (p *page) note(e *entry, t *tried) {
	if p.job != nil {
		p.job.tally.add(t.result.Outcome)
	}
	o := e.msg.event.ID.Offset
	p.packed[o] = append(p.packed[o], t)
}

// settle changes a device as the outcome asks for, and returns the outcome that counts.
func (p *page) settle(e *entry, t *tried) push.Outcome {
	r := &t.result
	if r.Outcome == push.Accepted && p.hour() > t.device.Pushed.Unix()/3600 {
		p.recs = append(p.recs, &store.DevicePushed{Tenant: p.dest.Tenant, ID: t.device.ID, Hour: p.hour()})
	}
	if !t.changes() {
		return r.Outcome
	}
	d := p.rows[t.device.ID]
	if d == nil { // deleted meanwhile
		if r.Outcome == push.RetryAt || r.Outcome == push.ConfigError {
			return push.TargetGone
		}
		return r.Outcome
	}
	switch {
	case r.Outcome == push.TargetGone && !d.Registered.Equal(t.device.Registered):
		return push.RetryAt // it registered since it was tried: its service spoke of before
	case r.Outcome == push.TargetGone && (r.GoneSince.IsZero() || d.Registered.Before(r.GoneSince)):
		p.remove(e, t, d, "its push service says that it is gone")
	case r.Outcome == push.TargetGone, r.Outcome == push.TargetSuspect:
		p.strike(e, t, d)
		return push.TargetSuspect
	default:
		p.edit(d, func(x *hark.Device) {
			if r.Environment != "" {
				x.Environment = r.Environment
			}
			if r.Outcome == push.Accepted {
				x.State, x.Reason, x.Strikes, x.Suspected = hark.DeviceActive, "", 0, time.Time{}
			}
		})
	}
	return r.Outcome
}

func (p *page) hour() int64 { return p.now.Unix() / 3600 }

// edit changes a device's row; of one that changes twice in a page the last counts.
func (p *page) edit(d *hark.Device, change func(x *hark.Device)) {
	x := *d
	change(&x)
	p.changed = append(p.changed, &store.DeviceSaved{Old: d, New: &x, Target: p.a.targetOf(&x)})
	p.rows[d.ID] = &x
}

func (p *page) remove(e *entry, t *tried, d *hark.Device, reason string) {
	p.changed = append(p.changed, &store.DeviceDeleted{Device: d, Target: p.a.targetOf(d)})
	p.deleted = append(p.deleted, d)
	p.gone = append(p.gone, tell(e, t, d, reason))
	delete(p.rows, d.ID)
}

// strike counts a refusal. One that follows a try of the same quarantine counts once.
func (p *page) strike(e *entry, t *tried, d *hark.Device) {
	if d.State == hark.DeviceSuspect && p.now.Before(p.a.quarantined(d)) {
		return // two events were on their way at the same time
	}
	reason := t.result.Error
	if reason == "" {
		reason = t.result.Code
	}
	first := d.State != hark.DeviceSuspect
	if !first && d.Strikes+1 >= maxStrikes && p.now.Sub(d.Suspected) >= strikesSpan {
		p.remove(e, t, d, "it was refused again and again: "+reason)
		return
	}
	if first {
		p.suspect = append(p.suspect, tell(e, t, d, reason))
	}
	p.edit(d, func(x *hark.Device) {
		x.State, x.Reason, x.Strikes = hark.DeviceSuspect, bound(reason, 255), x.Strikes+1
		if first {
			x.Strikes, x.Suspected = 1, p.now.UTC().Truncate(time.Millisecond)
		}
	})
}

func tell(e *entry, t *tried, d *hark.Device, reason string) toldDevice {
	return toldDevice{Device: d.ID, User: d.User, Kind: d.Kind, Name: d.Name, Status: t.result.Status, Code: t.result.Code, Reason: reason, Event: e.msg.event.ID}
}

// pack adds the pages of outcomes.
func (p *page) pack() error {
	if len(p.packed) == 0 {
		return nil
	}
	number, err := p.a.numbers.take(len(p.packed))
	if err != nil {
		return err
	}
	for o, all := range p.packed {
		if o == 0 {
			continue // a test's, which is in no log
		}
		r := &store.PushOutcomes{Tenant: p.dest.Tenant, Bucket: p.a.cfg.Log.Bucket(o), Destination: p.dest.ID, Offset: o, Number: number,
			Value: encodeOutcomes(p.now.UnixMilli(), all)}
		number++
		p.recs = append(p.recs, r)
	}
	return nil
}

// move moves the job's position behind the page.
func (p *page) move(saved, last bool) {
	if p.job == nil {
		return
	}
	for _, e := range p.entries {
		p.job.position = max(p.job.position, e.device.ID)
	}
	r := &store.PushJobSaved{Tenant: p.dest.Tenant, Destination: p.dest.ID, Offset: p.job.offset}
	if !last {
		r.Value = p.job.encode()
	} else if !saved {
		return // it began and ended in one page
	}
	p.recs = append(p.recs, r)
}

// write commits everything. If devices change in a way that is told, the event that tells is
// in the same batch; if the log refuses it, they stay as they are, and the next message finds
// them as this one did.
func (p *page) write(last bool) (written uint64, err error) {
	events := p.events()
	all := append(p.recs, p.changed...)
	if len(events) == 0 {
		return p.commit(all, last)
	}
	ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
	defer cancel()
	_, err = p.a.cfg.Log.AppendWith(ctx, p.dest.Tenant, events, eventlog.Idempotency{},
		func(hark.EventID, store.Bucket) store.Record { return store.Records(all) })
	if err == nil {
		p.tellHooks(events)
		return 0, nil
	}
	if e, ok := errors.AsType[*hark.Error](err); !ok || e.Kind == hark.Internal {
		return 0, err
	}
	p.a.oops("telling of devices that are gone or suspect", err)
	p.deleted = nil
	return p.commit(p.recs, last)
}

// commit writes records. Only in the midst of a job, which goes on meanwhile, is there time to wait
// for a sync.
func (p *page) commit(recs []store.Record, last bool) (written uint64, err error) {
	switch {
	case len(recs) == 0:
		return 0, nil
	case p.job == nil || last:
		return 0, p.a.store.Commit(recs...)
	}
	return p.a.store.Write(recs...)
}

// events are those that tell of devices.
func (p *page) events() (events []hark.Event) {
	for _, told := range []struct {
		topic   string
		devices []toldDevice
	}{{goneTopic, p.gone}, {suspectTopic, p.suspect}} {
		for chunk := range slices.Chunk(told.devices, toldAtOnce) {
			data, err := json.Marshal(struct {
				App         string             `json:"app"`
				Destination hark.DestinationID `json:"destination"`
				Count       int                `json:"count"`
				Devices     []toldDevice       `json:"devices"`
				At          time.Time          `json:"at"`
			}{App(p.dest), p.dest.ID, len(chunk), chunk, p.now.UTC().Truncate(time.Millisecond)})
			if err != nil { // plain fields only
				continue
			}
			events = append(events, hark.Event{Topic: told.topic, ContentType: "application/json", Data: data, Key: p.dest.ID.String()})
		}
	}
	return events
}

func (p *page) tellHooks(events []hark.Event) {
	if p.a.cfg.Hooks.Told == nil {
		return
	}
	for i := range events {
		p.a.cfg.Hooks.Told(events[i].Topic, p.dest, "")
	}
}
