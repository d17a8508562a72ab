package deliver

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/harkhq/hark"
)

// Wish says how a user wants an event sent.
type Wish struct {
	// Test sends although the destination is paused or does not answer.
	Test bool
	// Wait waits for the result of the attempt.
	Wait bool
	// InTurn leaves it to the destination's breaker when it goes, as with a retry of many.
	InTurn bool
}

// Sent is what a Wish led to. Attempt is nil when nobody waited for it.
type Sent struct {
	ID      hark.DeliveryID
	State   hark.State
	Attempt *hark.Attempt
}

// Send sends a retained event to a destination of the same tenant, whether it
// matches or not: a new run of the delivery, or its first. With Test it is the
// test of a destination; on an unfinished delivery it is the retry of one.
func (d *Deliverer) Send(ctx context.Context, t hark.TenantID, id hark.DestinationID, event hark.EventID, w Wish) (Sent, error) {
	o, err := d.cfg.Log.Locate(event)
	if err != nil {
		return Sent{}, err
	}
	e, err := d.cfg.Log.Event(t, o)
	if err != nil {
		return Sent{}, err
	}
	sent := Sent{ID: hark.DeliveryID{Destination: id, Event: e.ID}, State: hark.Due}
	var answer chan Answer
	d.mu.Lock()
	err = d.ask(t, id, metaOf(e), Ask{Test: w.Test, Alone: !w.InTurn}, w.Wait, &answer)
	if err == nil {
		err = d.awaitCommit()
	}
	d.mu.Unlock()
	if err != nil || answer == nil {
		return sent, err
	}
	select {
	case a := <-answer:
		sent.State, sent.Attempt = a.State, a.Attempt
		return sent, a.Err
	case <-ctx.Done():
		return sent, nil // it goes on; only nobody waits for it
	}
}

// ask hands a wish to the core. The caller holds mu.
func (d *Deliverer) ask(t hark.TenantID, id hark.DestinationID, m Meta, a Ask, wait bool, answer *chan Answer) error {
	x, err := d.target(t, id)
	if err != nil {
		return err
	}
	if wait && x.set.Pull {
		return conflict("this destination hands out its deliveries: there is no attempt to wait for")
	}
	d.core.Tick(nowMillis()) // before the row is read: leases may end
	d.flush()
	if a.Row, err = d.row(t, id, m.Offset, d.uncommitted(id)); err != nil {
		return err
	}
	a.Meta = m
	if wait {
		d.lastReq++
		a.Req = d.lastReq
		*answer = make(chan Answer, 1)
		d.waiters[a.Req] = *answer
	}
	err = d.core.Ask(nowMillis(), id, x.set, a)
	if err != nil {
		delete(d.waiters, a.Req)
	}
	d.flush()
	return err
}

// target returns a tenant's destination. The caller holds mu.
func (d *Deliverer) target(t hark.TenantID, id hark.DestinationID) (*target, error) {
	if d.stopping || d.failed != nil {
		return nil, errStopped()
	}
	x := d.targets[id]
	if x == nil || x.dest.Tenant != t || d.core == nil {
		return nil, hark.NoSuch("destination", id.String())
	}
	return x, nil
}

// Retry starts a new run of one delivery, or brings its next attempt forward.
func (d *Deliverer) Retry(ctx context.Context, t hark.TenantID, id hark.DeliveryID) (hark.Delivery, error) {
	if _, err := d.Get(t, id); err != nil {
		return hark.Delivery{}, err
	}
	if _, err := d.Send(ctx, t, id.Destination, id.Event, Wish{}); err != nil {
		return hark.Delivery{}, err
	}
	return d.Get(t, id)
}

// RetryAll starts a new run of every delivery of one page of a list: those that
// are finished and whose events are still there. It answers how many, and where
// the next page begins.
func (d *Deliverer) RetryAll(t hark.TenantID, q Query) (retried int, next string, err error) {
	page, err := d.List(t, q)
	if err != nil {
		return 0, "", err
	}
	for i := range page.Deliveries {
		x := &page.Deliveries[i]
		if !x.State.Finished() {
			continue
		}
		e, err := d.cfg.Log.Event(t, x.Event.Offset)
		if err != nil {
			continue // gone: its state says so
		}
		d.mu.Lock()
		err = d.ask(t, x.Destination, metaOf(e), Ask{}, false, nil)
		d.mu.Unlock()
		switch hark.KindOf(err) {
		case hark.TooMany: // its destination has enough to do: the client asks again for the same page
			if retried > 0 {
				return retried, q.After, d.Sync()
			}
			return 0, q.After, err
		case hark.Internal:
			if err != nil {
				return retried, q.After, err
			}
			retried++
		}
	}
	return retried, page.Next, d.Sync()
}

// Sync waits until everything decided so far is durable.
func (d *Deliverer) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.awaitCommit()
}

// Cancel takes back a delivery that is not finished. One whose attempt is under
// way is cancelled after it, unless it succeeds.
func (d *Deliverer) Cancel(t hark.TenantID, id hark.DeliveryID) (hark.Delivery, error) {
	was, err := d.Get(t, id)
	if err != nil {
		return was, err
	}
	d.mu.Lock()
	if _, err = d.target(t, id.Destination); err == nil {
		if !d.core.Cancel(nowMillis(), id.Destination, id.Event.Offset) {
			err = conflict("the delivery is " + was.State.String() + ": only one that is not finished can be cancelled")
		}
		d.flush()
		if err == nil {
			err = d.awaitCommit()
		}
	}
	d.mu.Unlock()
	if err != nil {
		return was, err
	}
	return d.Get(t, id)
}

// Replay starts a replay of (from, to]; a zero to, or one beyond, is where the destination is now.
func (d *Deliverer) Replay(t hark.TenantID, id hark.DestinationID, from, to hark.Offset) (hark.ReplayStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, err := d.target(t, id)
	if err != nil {
		return hark.ReplayStatus{}, err
	}
	from = max(from, d.cfg.Log.Floor(t)-1)
	r, err := d.core.Replay(nowMillis(), id, x.set, from, to)
	d.flush()
	if err == nil {
		err = d.awaitCommit()
	}
	return d.replayStatus(&r), err
}

func (d *Deliverer) replayStatus(r *ReplayRange) hark.ReplayStatus {
	log := d.cfg.Log
	return hark.ReplayStatus{From: log.Cursor(r.From), To: log.Cursor(r.To), Cursor: log.Cursor(r.At)}
}

// StopReplay ends a replay. What it reopened goes on.
func (d *Deliverer) StopReplay(t hark.TenantID, id hark.DestinationID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.target(t, id); err != nil {
		return err
	}
	if !d.core.StopReplay(nowMillis(), id) {
		return conflict("no replay of this destination is under way")
	}
	d.flush()
	return d.awaitCommit()
}

// Lease is a delivery handed to a worker until Deadline.
type Lease struct {
	ID       hark.DeliveryID
	Event    *hark.Event
	Attempt  int
	Token    uint64
	Deadline time.Time
}

// Pull hands out up to limit deliveries, leased for lease, and returns after they
// were written down. It waits up to wait for the first one.
func (d *Deliverer) Pull(ctx context.Context, t hark.TenantID, id hark.DestinationID, limit int, lease, wait time.Duration) ([]Lease, error) {
	end := time.Now().Add(wait)
	for {
		log := d.cfg.Log
		at := log.End()
		leases, err := d.pullOnce(ctx, t, id, limit, lease)
		left := time.Until(end)
		if err != nil || len(leases) > 0 || left <= 0 {
			return leases, err
		}
		// What comes back by time is looked for now and then, what is new at once.
		pause, cancel := context.WithTimeout(ctx, min(left, 500*time.Millisecond))
		_, _ = log.Next(pause, at, 1)
		cancel()
		if ctx.Err() != nil {
			return nil, nil
		}
		time.Sleep(min(left, 5*time.Millisecond)) // others' events must not make it spin
	}
}

func (d *Deliverer) pullOnce(ctx context.Context, t hark.TenantID, id hark.DestinationID, limit int, lease time.Duration) ([]Lease, error) {
	var seed [8]byte
	crand.Read(seed[:])
	d.mu.Lock()
	x, err := d.target(t, id)
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	d.lastReq++
	req, answer := d.lastReq, make(chan Answer, 1)
	d.waiters[req] = answer
	d.core.Pull(nowMillis(), id, x.set, req, limit, lease.Milliseconds(), binary.BigEndian.Uint64(seed[:]))
	d.flush()
	d.mu.Unlock()
	select {
	case a := <-answer:
		return d.leases(t, id, a)
	case <-ctx.Done():
		d.helpers.Go(func() { d.giveBack(id, <-answer) })
		return nil, nil
	}
}

// giveBack ends leases whose worker went away before it got them.
func (d *Deliverer) giveBack(id hark.DestinationID, a Answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range a.Grants {
		_ = d.core.Settle(nowMillis(), id, g.Offset, g.Token, Nack, 0)
	}
	d.flush()
}

func (d *Deliverer) leases(t hark.TenantID, id hark.DestinationID, a Answer) ([]Lease, error) {
	if a.Err != nil {
		return nil, a.Err
	}
	leases := make([]Lease, 0, len(a.Grants))
	for _, g := range a.Grants {
		e, err := d.cfg.Log.Event(t, g.Offset)
		if err != nil {
			d.mu.Lock()
			d.core.Vanish(nowMillis(), id, g.Offset, g.Token)
			d.flush()
			d.mu.Unlock()
			continue
		}
		leases = append(leases, Lease{ID: hark.DeliveryID{Destination: id, Event: e.ID}, Event: e, Attempt: g.Attempt,
			Token: g.Token, Deadline: time.UnixMilli(g.Deadline).UTC()})
	}
	return leases, nil
}

// Settle is a worker's word on one lease; it returns after it was written down. A
// token that is not the lease's any more gets hark.Conflict. For is the wait
// after a Nack, or the length of an extended lease.
func (d *Deliverer) Settle(t hark.TenantID, id hark.DeliveryID, token uint64, v Verdict, after time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.target(t, id.Destination); err != nil {
		return err
	}
	err := d.core.Settle(nowMillis(), id.Destination, id.Event.Offset, token, v, after.Milliseconds())
	d.flush()
	if err != nil {
		return err
	}
	return d.awaitCommit()
}

// Wake has a destination probed now whose breaker is open.
func (d *Deliverer) Wake(t hark.TenantID, id hark.DestinationID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.target(t, id); err != nil {
		return err
	}
	d.core.Wake(nowMillis(), id)
	d.flush()
	return nil
}

// Status tells what a destination is doing.
func (d *Deliverer) Status(t hark.TenantID, id hark.DestinationID) (hark.DestinationStatus, error) {
	d.mu.Lock()
	x, err := d.target(t, id)
	if err != nil {
		d.mu.Unlock()
		return hark.DestinationStatus{}, err
	}
	s, patterns, filtered := d.core.Status(id), x.dest.Topics, x.filtered
	d.mu.Unlock()
	log := d.cfg.Log
	out := hark.DestinationStatus{Cursor: log.Cursor(s.Position), Waiting: s.Waiting, InFlight: s.InFlight, Breaker: s.Breaker,
		Concurrency: s.Concurrency, Filtered: filtered}
	if s.RetryAt > 0 {
		out.RetryAt = time.UnixMilli(s.RetryAt).UTC()
	}
	if s.FailingSince > 0 {
		out.FailingSince = time.UnixMilli(s.FailingSince).UTC()
	}
	if s.Replay != nil {
		r := d.replayStatus(s.Replay)
		out.Replay = &r
	}
	if out.Behind, err = log.Behind(t, patterns, s.Position); err != nil {
		return out, err
	}
	gaps, err := d.cfg.Store.Gaps(t, id, 10)
	for _, g := range gaps {
		out.Gaps = append(out.Gaps, hark.Gap{From: log.Cursor(g.From), To: log.Cursor(g.To), At: time.UnixMilli(g.At).UTC()})
	}
	return out, err
}

// Hold returns the position before the oldest event that a tenant's destinations
// still need: retention waits for it. It looks at all of them every few seconds at
// most; what is older than the last look is needed by nobody else since.
func (d *Deliverer) Hold(t hark.TenantID) (hark.Offset, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.restored {
		return 0, true
	}
	if time.Since(d.slowestAt) > 3*time.Second {
		d.slowest, d.slowestAt, d.slowestMark = d.core.Slowest(), time.Now(), d.core.Mark()
	}
	if o, ok := d.slowest[t]; ok {
		return min(o, d.slowestMark), true
	}
	return d.slowestMark, len(d.targets) > 0
}

// Load is how much is under way.
type Load struct {
	InFlight   int         // attempts
	Exceptions int         // deliveries in memory
	Known      int         // destinations with state in memory
	Mark       hark.Offset // of the dispatcher
	Uncommited int         // records waiting for a commit
}

// Load tells how much is under way, for metrics.
func (d *Deliverer) Load() Load {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.core == nil {
		return Load{}
	}
	return Load{InFlight: d.core.flight.total(), Exceptions: d.core.held, Known: len(d.core.dests), Mark: d.core.Mark(), Uncommited: len(d.pending)}
}

// publish turns notices into operational events.
func (d *Deliverer) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-d.notices:
			if d.cfg.Hooks.Noticed != nil {
				d.cfg.Hooks.Noticed(n)
			}
			if d.cfg.Publish == nil {
				continue
			}
			if err := d.cfg.Publish(ctx, n.Tenant, d.event(&n)); err != nil && ctx.Err() == nil {
				d.oops("publishing "+n.Kind.Topic(), err)
			}
		}
	}
}

// noticeData is the body of an operational event.
type noticeData struct {
	Destination hark.DestinationID `json:"destination"`
	Count       int                `json:"count"`
	Event       hark.EventID       `json:"event,omitzero"`
	Delivery    hark.DeliveryID    `json:"delivery,omitzero"`
	From        hark.Cursor        `json:"from,omitzero"`
	To          hark.Cursor        `json:"to,omitzero"`
	Reason      string             `json:"reason,omitempty"`
	At          time.Time          `json:"at"`
}

func (d *Deliverer) event(n *Notice) hark.Event {
	log := d.cfg.Log
	x := noticeData{Destination: n.Dest, Count: n.Count, Reason: n.Reason, At: time.UnixMilli(n.At).UTC()}
	if n.Offset > 0 {
		x.Event = log.ID(n.Offset)
		x.Delivery = hark.DeliveryID{Destination: n.Dest, Event: x.Event}
	}
	if n.To > 0 {
		x.From, x.To = log.Cursor(n.From), log.Cursor(n.To)
	}
	data, err := json.Marshal(x)
	if err != nil { // plain fields only: it cannot fail
		data = []byte("{}")
	}
	return hark.Event{Topic: n.Kind.Topic(), ContentType: "application/json", Data: data, Key: n.Dest.String()}
}
