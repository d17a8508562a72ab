package deliver

import (
	"math"
	"slices"

	"github.com/harkhq/hark"
)

// Ask is a user's wish to have one event sent to a destination now.
type Ask struct {
	Meta Meta
	// Row is the delivery's present row; a zero State for none.
	Row Row
	// Req, when not zero, is answered with the result of the attempt.
	Req uint64
	// Test sends even if the destination is paused or its breaker open.
	Test bool
	// Alone marks a wish for this one delivery (not one of a bulk): it may go while the breaker is open.
	Alone bool
}

// Ask makes or reopens a delivery outside the order of its destination, or
// brings forward one that waits. The caller has read the row under the same lock
// that orders inputs.
func (c *Core) Ask(now int64, id hark.DestinationID, set *Settings, a Ask) error {
	c.advance(now)
	defer c.settleUp()
	d := c.dest(id, set)
	defer c.nudge(d)
	if d.gone {
		return hark.NoSuch("destination", id.String())
	}
	if x := d.all[a.Meta.Offset]; x != nil {
		return c.hasten(x, a)
	}
	if a.Row.State != 0 && !a.Row.State.Finished() { // its lease ended since the row was read
		return conflict("the delivery changed just now: try again")
	}
	if d.lanes[LaneManual] >= c.lim.ManualWindow {
		return &hark.Error{Kind: hark.TooMany, Code: "too-many-retries", RetryAfter: 5e9,
			Msg: "too many retries of this destination are waiting already: try again when some are done"}
	}
	c.reopen(d, a.Meta, a.Row, LaneManual, a.Req, a.Test || a.Alone && d.active())
	return nil
}

// reopen starts a new run of a finished delivery, or the first of one that never was.
func (c *Core) reopen(d *dest, m Meta, row Row, lane Lane, req uint64, urgent bool) {
	x := &delivery{Meta: m, d: d, run: row.Run + 1, total: row.Attempts, saved: row.State, lane: lane, waiter: req,
		urgent: urgent && !d.set.Pull}
	if row.First != nil && row.First.Number > 0 { // it was inside the row, which is about to be replaced
		c.record(d, Record{Kind: RecAttempt, Offset: m.Offset, Attempt: row.First})
	}
	if row.State == 0 {
		c.rowlessN++ // save takes it back
	}
	c.save(x, hark.Due, nil)
	c.hold(d, x)
	if m.Offset > c.position(d) { // so that the position does not take it again
		d.know(c, m.Offset)
		if d.pull != nil {
			d.pull.ahead = slices.DeleteFunc(d.pull.ahead, func(a Meta) bool { return a.Offset == m.Offset })
		}
	}
}

// hasten brings the next attempt of an unfinished delivery forward.
func (c *Core) hasten(x *delivery, a Ask) error {
	d := x.d
	switch x.where {
	case inFlight:
		return conflict("an attempt of this delivery is under way")
	case atWorker:
		return conflict("a worker holds this delivery until its lease ends")
	}
	if x.waiter != 0 && a.Req != 0 {
		return conflict("somebody waits for the result of this delivery already")
	}
	if a.Req != 0 {
		x.waiter = a.Req
	}
	blocked := x.where == inBlocked
	c.unqueue(x)
	if blocked || a.Test {
		c.aside(x, LaneManual)
	}
	x.next = c.now
	x.urgent = (a.Test || a.Alone && d.active()) && !d.set.Pull
	if x.saved != 0 {
		c.save(x, hark.Due, nil)
	}
	c.put(x)
	return nil
}

// Cancel takes a delivery back. One whose attempt is under way is cancelled
// after it, unless it succeeds. It reports false when the delivery is not in
// memory: finished, or not there.
func (c *Core) Cancel(now int64, id hark.DestinationID, o hark.Offset) bool {
	c.advance(now)
	defer c.settleUp()
	d := c.dests[id]
	if d == nil || d.gone || d.all[o] == nil {
		return false
	}
	x := d.all[o]
	if x.where == inFlight || x.where == atWorker {
		x.cancel = true
	} else {
		c.answer(x, nil, hark.Cancelled)
		c.save(x, hark.Cancelled, nil)
		c.drop(x)
	}
	c.nudge(d)
	return true
}

// Holds reports whether a delivery is unfinished and in memory, and its state as a user sees it.
func (c *Core) Holds(id hark.DestinationID, o hark.Offset) (hark.State, bool) {
	d := c.dests[id]
	if d == nil || d.all[o] == nil {
		return 0, false
	}
	if w := d.all[o].where; w == inFlight || w == atWorker {
		return hark.Sending, true
	}
	return hark.Due, true
}

// Status is what the core knows of a destination.
type Status struct {
	Position     hark.Offset
	Own          bool
	Waiting      int
	InFlight     int
	Leased       int
	Breaker      string
	RetryAt      int64
	FailingSince int64
	Concurrency  int
	Replay       *ReplayRange
}

// Status describes a destination.
func (c *Core) Status(id hark.DestinationID) Status {
	d := c.dests[id]
	if d == nil {
		return Status{Position: c.dispatched, Breaker: "closed", Concurrency: c.lim.StartConcurrency}
	}
	s := Status{Position: c.position(d), Own: d.own, InFlight: d.flight, Waiting: len(d.all) - d.flight, Breaker: "closed",
		FailingSince: d.health.FailingSince, Concurrency: d.allowed()}
	if d.pull != nil {
		s.Leased, s.InFlight = d.pull.leased, d.pull.leased
		s.Waiting, s.Concurrency = len(d.all)-d.pull.leased, 0
	}
	if d.open {
		s.Breaker, s.RetryAt = "open", max(d.probeAt, d.notBefore)
		if d.flight > 0 {
			s.Breaker = "probing"
		}
	}
	if d.rerun != nil {
		s.Replay = &ReplayRange{From: d.rerun.From, To: d.rerun.To, At: d.rerun.At}
	}
	return s
}

// Slowest returns, for each tenant that has one, the position before the oldest
// event that a destination still needs: its own cursor, or the event before its
// oldest unfinished delivery, which the cursor has passed. It looks at every
// destination that has state.
func (c *Core) Slowest() map[hark.TenantID]hark.Offset {
	slowest := make(map[hark.TenantID]hark.Offset)
	needs := func(t hark.TenantID, after hark.Offset) {
		if at, ok := slowest[t]; !ok || after < at {
			slowest[t] = after
		}
	}
	for _, d := range c.dests { // a minimum: order does not show
		if d.gone {
			continue
		}
		if d.own {
			needs(d.set.Tenant, d.cursor)
		}
		if len(d.all) > 0 {
			needs(d.set.Tenant, d.oldestUnfinished()-1)
		}
	}
	return slowest
}

// oldestUnfinished returns the lowest offset of an unfinished delivery; there must be one.
func (d *dest) oldestUnfinished() hark.Offset {
	if _, still := d.all[d.oldest]; !still {
		d.oldest = math.MaxUint64
		for o := range d.all { // a minimum: order does not show
			d.oldest = min(d.oldest, o)
		}
	}
	return d.oldest
}
