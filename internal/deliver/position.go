package deliver

import (
	"slices"

	"github.com/harkhq/hark"
)

// Wants reports whether the dispatcher must tell the core of an event that
// matches the destination: whether evaluating its filter is worth it.
func (c *Core) Wants(id hark.DestinationID) bool {
	d := c.dests[id]
	return d == nil || !d.gone && (!d.own || d.ahead || d.catching)
}

// Match tells that the event the dispatcher is at matches a destination. Events
// come in log order; Dispatched ends a group of them.
func (c *Core) Match(id hark.DestinationID, set *Settings, m Meta) {
	if c.dests[id] == nil && set.Pull {
		return
	}
	d := c.dest(id, set)
	if d.own {
		switch {
		case d.gone:
			return
		case d.ahead && m.Offset > d.cursor:
			c.join(d)
		case d.catching:
			d.catch(m, c.window(d))
			return
		default:
			return
		}
	}
	if d.passKnown(m.Offset) {
		return
	}
	if !d.active() || c.full(d) || d.open && len(d.all) > 0 {
		c.leave(d, m.Offset-1)
	} else {
		c.take(d, m)
	}
	c.nudge(d)
}

// Dispatched tells that the dispatcher has passed every event up to and including upto, of
// which n are new.
func (c *Core) Dispatched(now int64, upto hark.Offset, n int) {
	c.now = max(c.now, now)
	c.dispatched = max(c.dispatched, upto)
	c.passed += n
	c.joinAhead()
	if len(c.watched) > 0 {
		c.markPassed()
	}
	c.advance(now)
	c.settleUp()
}

// joinAhead puts those at the mark whose cursor it has reached.
func (c *Core) joinAhead() {
	if len(c.ahead) == 0 {
		return
	}
	for _, d := range c.ahead {
		if d.ahead && d.cursor <= c.dispatched {
			c.join(d)
			c.nudge(d)
		}
	}
	c.ahead = slices.DeleteFunc(c.ahead, func(d *dest) bool { return !d.ahead })
}

// catch keeps what the dispatcher passes while a page is read.
func (d *dest) catch(m Meta, window int) {
	if len(d.caught) >= window {
		d.catching, d.caught = false, nil // too much: stay behind, the next page is nearer
		return
	}
	d.caught = append(d.caught, m)
}

// leave takes a destination off the mark; its own cursor stands at position.
func (c *Core) leave(d *dest, position hark.Offset) {
	d.catching, d.caught = false, nil
	d.ahead = false
	if !d.own {
		d.own, d.cursor = true, position
		c.markDirty(d)
	}
}

// Overtaken tells that retention is about to remove events of the destination's
// tenant that the mark has not passed: the destination goes on from its own cursor,
// whose next page finds the hole and tells the gap.
func (c *Core) Overtaken(now int64, id hark.DestinationID, set *Settings) {
	c.advance(now)
	defer c.settleUp()
	d := c.dest(id, set)
	if d.gone || d.own {
		return
	}
	c.leave(d, c.dispatched)
	if d.pull != nil {
		d.pull.readTo = c.dispatched
	}
	c.nudge(d)
}

// join puts a destination at the mark.
func (c *Core) join(d *dest) {
	d.own, d.ahead, d.catching, d.caught = false, false, false, nil
	c.markDirty(d)
	c.awaitMark(d)
}

// mayJoin reports whether a destination that reached the mark may stay there.
// One with an open breaker may only while at most one event is in hand: then
// that event's own schedule is all there is.
func (c *Core) mayJoin(d *dest) bool {
	return d.active() && !d.set.Pull && !c.full(d) && (!d.open || len(d.all) <= 1)
}

func (c *Core) markDirty(d *dest) {
	if !d.isDirty {
		d.isDirty = true
		c.dirty = append(c.dirty, d)
	}
}

// know remembers that an event beyond the position has a row.
func (d *dest) know(c *Core, o hark.Offset) {
	if d.known == nil {
		d.known = make(map[hark.Offset]struct{})
	}
	d.known[o] = struct{}{}
	d.knownTo = max(d.knownTo, o)
	if !d.inKnown {
		d.inKnown = true
		c.known = append(c.known, d)
	}
}

// passKnown reports whether the event at o has a row already; the position is passing it.
func (d *dest) passKnown(o hark.Offset) bool {
	if len(d.known) == 0 {
		return false
	}
	_, ok := d.known[o]
	if ok && d.pull == nil {
		delete(d.known, o)
	}
	return ok
}

// position returns where the destination is.
func (c *Core) position(d *dest) hark.Offset {
	if d.own {
		return d.cursor
	}
	return c.dispatched
}

// wantPage asks for the next page of a destination that is behind.
func (c *Core) wantPage(d *dest) {
	if !d.own || d.ahead || d.reading || !d.active() || d.set.Pull {
		return
	}
	n, limit := len(d.all), c.window(d)
	if d.open {
		// Probes need different events, and it must show whether there are any.
		if limit = min(8, limit); n >= 2 {
			return
		}
	} else if n = d.lanes[LaneLive]; n >= (limit+1)/2 {
		return
	}
	d.reading = true
	d.catching, d.catchFrom, d.caught = true, c.dispatched, nil
	c.out.Reads = append(c.out.Reads, Read{Dest: d.id, Tenant: d.set.Tenant, After: d.cursor, Limit: max(1, limit-n), Gen: d.gen})
}

// Page is what a Read found.
type Page struct {
	Metas []Meta
	Next  hark.Offset // the position after the page
	End   bool        // nothing more matched when it was read
	// GapTo, when not zero, is the first complete position: events that match
	// between the position read from and it may be gone.
	GapTo hark.Offset
}

// Page answers a Read that is not a replay's.
func (c *Core) Page(now int64, id hark.DestinationID, gen uint32, p Page) {
	c.advance(now)
	defer c.settleUp()
	d := c.dests[id]
	if d == nil || d.gen != gen || !d.reading {
		return
	}
	d.reading = false
	if p.GapTo > d.cursor {
		c.gap(d, p.GapTo)
	}
	if d.set.Pull {
		c.pulledPage(d, p)
	} else {
		c.pushedPage(d, p)
	}
	c.nudge(d)
}

func (c *Core) pushedPage(d *dest, p Page) {
	for _, m := range p.Metas {
		if m.Offset > d.cursor && !d.passKnown(m.Offset) {
			c.take(d, m)
		}
	}
	next := p.Next
	if p.End {
		next = max(next, d.catchFrom)
	}
	if next > d.cursor {
		d.cursor = next
		c.markDirty(d)
	}
	caught, complete := d.caught, d.catching && d.cursor >= d.catchFrom
	d.catching, d.caught = false, nil
	if !c.mayJoin(d) || !complete && d.cursor < c.dispatched {
		return
	}
	if d.cursor > c.dispatched {
		d.ahead = true
		c.ahead = append(c.ahead, d)
		return
	}
	for i, m := range caught {
		if m.Offset <= d.cursor || d.passKnown(m.Offset) {
			continue
		}
		if !c.mayJoin(d) { // full again: stay behind, before this event
			d.cursor = caught[i].Offset - 1
			c.markDirty(d)
			return
		}
		c.take(d, m)
	}
	c.join(d)
}

// gap moves a cursor over a hole that retention made and tells of it, once: the
// cursor is written in the same batch.
func (c *Core) gap(d *dest, to hark.Offset) {
	from := d.cursor
	for _, x := range d.sorted() {
		if x.saved == 0 {
			c.save(x, hark.Due, nil)
		}
	}
	d.cursor, d.savedOwn, d.savedAt = to, true, to
	c.record(d, Record{Kind: RecCursor, Offset: to})
	c.record(d, Record{Kind: RecGap, From: from, To: to, At: c.now})
	c.notify(d, Notice{Kind: NoticeGap, From: from, To: to, Reason: "retention removed events before they could be delivered"})
}

// unsaved reports whether a checkpoint has something to write.
func (c *Core) unsaved() bool {
	return c.dispatched != c.savedMark || len(c.dirty) > 0 || c.rowlessN > 0 || len(c.known) > 0
}

// Checkpoint writes positions now.
func (c *Core) Checkpoint(now int64) {
	c.advance(now)
	c.pump()
	c.checkpoint()
}

func (c *Core) checkpoint() {
	for _, x := range c.rowless {
		if x.saved == 0 {
			c.save(x, hark.Due, nil)
		}
	}
	clear(c.rowless)
	if c.rowless = c.rowless[:0]; cap(c.rowless) > 1<<16 {
		c.rowless = nil
	}
	if c.dispatched != c.savedMark {
		c.out.Records = append(c.out.Records, Record{Kind: RecMark, Offset: c.dispatched})
		c.savedMark = c.dispatched
	}
	dirty := c.dirty
	c.dirty = nil
	for _, d := range dirty {
		d.isDirty = false
		c.savePosition(d)
	}
	c.forgetKnown()
	for _, d := range dirty {
		if c.dests[d.id] == d && !d.gone {
			c.restOrWake(d)
		}
	}
	c.passed, c.checkedAt = 0, c.now
}

func (c *Core) savePosition(d *dest) {
	switch {
	case d.gone:
	case d.own && (!d.savedOwn || d.savedAt != d.cursor):
		d.savedOwn, d.savedAt = true, d.cursor
		c.record(d, Record{Kind: RecCursor, Offset: d.cursor})
	case !d.own && d.savedOwn:
		d.savedOwn, d.savedAt = false, 0
		c.record(d, Record{Kind: RecJoined})
	}
	if !d.gone && d.health != d.savedHealth {
		d.savedHealth = d.health
		c.record(d, Record{Kind: RecHealth, Health: d.health})
	}
}

// forgetKnown drops what positions have passed.
func (c *Core) forgetKnown() {
	c.known = slices.DeleteFunc(c.known, func(d *dest) bool {
		at := c.position(d)
		if d.pull != nil && at < d.knownTo {
			for o := range d.known { // order does not show
				if o <= at {
					delete(d.known, o)
				}
			}
		}
		if at < d.knownTo && !d.gone {
			return false
		}
		d.known, d.knownTo, d.inKnown = nil, 0, false
		if c.dests[d.id] == d && !d.gone {
			c.restOrWake(d)
		}
		return true
	})
}

func (c *Core) compactRowless() {
	c.rowless = slices.DeleteFunc(c.rowless, func(x *delivery) bool { return x.saved != 0 })
}
