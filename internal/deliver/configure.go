package deliver

import "github.com/harkhq/hark"

// Restored is what the store knows of a destination at start.
type Restored struct {
	Settings *Settings
	// Own and Cursor are its own cursor, if it has one.
	Own    bool
	Cursor hark.Offset
	// Hole says that retention took events after its position: the next page tells.
	Hole bool
	// Rows are in state due or sending, in log order.
	Rows []Row
	// Done are the offsets beyond its position that have a finished row.
	Done   []hark.Offset
	Health Health
	// Replay is the replay under way, if any.
	Replay *ReplayRange
}

// Restore brings back a destination that is not idle at the mark. It is called
// once per destination, before the first event; a Tick after the last one starts what is due.
func (c *Core) Restore(now int64, id hark.DestinationID, r Restored) {
	c.now = max(c.now, now)
	d := c.dest(id, r.Settings)
	switch {
	case r.Own:
		d.own, d.cursor, d.savedOwn, d.savedAt = true, r.Cursor, true, r.Cursor
	case !d.active() || d.set.Pull || r.Hole:
		d.own, d.cursor = true, c.dispatched
		c.markDirty(d)
	}
	switch {
	case r.Hole || !d.own || !c.mayJoin(d) || d.cursor < c.dispatched:
	case d.cursor == c.dispatched:
		c.join(d)
	default:
		d.ahead = true
		c.ahead = append(c.ahead, d)
	}
	d.health, d.savedHealth = r.Health, r.Health
	if d.pull != nil {
		d.pull.readTo = d.cursor
	}
	position := c.position(d)
	for i := range r.Rows {
		c.restoreRow(d, &r.Rows[i])
		if o := r.Rows[i].Offset; o > position {
			d.know(c, o)
		}
	}
	for _, o := range r.Done {
		if o > position {
			d.know(c, o)
		}
	}
	if r.Replay != nil {
		d.rerun = &rerun{ReplayRange: *r.Replay}
	}
	c.nudge(d)
}

func (c *Core) restoreRow(d *dest, r *Row) {
	x := &delivery{Meta: r.Meta, run: max(1, r.Run), total: r.Attempts, tried: r.Tried, next: r.Next, token: r.Token,
		saved: r.State, lane: r.Lane}
	if r.State == hark.Sending && d.pull != nil {
		c.restoreLease(d, x)
		return
	}
	if r.State == hark.Sending { // its kind pushed no more: give it back
		x.d = d
		c.saveRow(x, hark.Due, nil)
	}
	c.hold(d, x)
}

// Wake lets an open breaker probe now: the destination's owner says that it is well.
func (c *Core) Wake(now int64, id hark.DestinationID) {
	c.advance(now)
	defer c.settleUp()
	if d := c.dests[id]; d != nil && d.open && !d.gone {
		d.interval, d.probeAt, d.notBefore = probeFirst, c.now, 0
		if len(d.waiting.s) > 0 && !d.hasReady() { // nothing but retries in hand: the next of them is the probe
			x := d.waiting.s[0]
			c.unqueue(x)
			x.next = c.now
			c.toReady(x)
		}
		c.nudge(d)
	}
}

// Configure gives a destination new settings: those that act at the attempt, and
// whether it is active. New topics or a new filter go through Retopic.
func (c *Core) Configure(now int64, id hark.DestinationID, set *Settings) {
	c.advance(now)
	defer c.settleUp()
	c.configure(id, set)
}

func (c *Core) configure(id hark.DestinationID, set *Settings) {
	d := c.dests[id]
	if d == nil {
		if set.Active && !set.Pull {
			return // idle at the mark: its settings come with its next event
		}
		d = c.dest(id, set)
		if d.pull != nil {
			d.pull.readTo = c.dispatched
		}
	}
	if d.gone {
		return
	}
	was, old := d.active(), d.set
	d.set, d.stopped = set, false
	if old.Host != set.Host {
		c.moveHost(d)
	}
	if old.Ordered != set.Ordered {
		c.reorder(d)
	}
	if old.Rate != set.Rate {
		d.tokens, d.refilled = min(d.tokens, burst(set)), c.now
	}
	d.limit = min(d.limit, d.ceiling(c))
	if !d.active() || set.Pull {
		c.leave(d, c.dispatched)
	}
	if !was && d.active() { // its owner says that it is well
		d.breaker.reset(c, set)
		c.markDirty(d)
	}
	c.nudge(d)
}

// Retopic gives a destination new settings whose topics or filter differ: they
// apply to events after its position, which is written with everything before it.
func (c *Core) Retopic(now int64, id hark.DestinationID, set *Settings) {
	c.Checkpoint(now)
	if d := c.dests[id]; d != nil {
		d.gen++
		d.reading, d.catching, d.caught = false, false, nil
		if d.rerun != nil {
			d.rerun.reading = false
		}
		if d.pull != nil {
			d.pull.ahead, d.pull.readTo = nil, d.cursor
		}
	}
	c.configure(id, set)
	c.checkpoint()
}

// Add begins a new destination at position at. A second Add, before anything was
// dispatched, moves it.
func (c *Core) Add(now int64, id hark.DestinationID, set *Settings, at hark.Offset) {
	c.advance(now)
	defer c.settleUp()
	if c.dests[id] != nil || at != c.dispatched || !set.Active || set.Pull {
		d := c.dest(id, set)
		d.own, d.ahead, d.cursor = true, false, at
		c.markDirty(d)
		if d.pull != nil {
			d.pull.readTo = at
		}
		if at >= c.dispatched && c.mayJoin(d) {
			d.ahead = true
			c.ahead = append(c.ahead, d)
		}
		c.nudge(d)
	}
	c.joinAhead()
	c.checkpoint()
}

// Remove forgets a destination. What was not delivered is cancelled.
func (c *Core) Remove(now int64, id hark.DestinationID, set *Settings) {
	c.advance(now)
	defer c.settleUp()
	d := c.dests[id]
	if d == nil {
		c.out.Records = append(c.out.Records, Record{Kind: RecErased, Tenant: set.Tenant, Dest: id})
		return
	}
	if d.pull != nil {
		c.refuse(d, hark.NoSuch("destination", id.String()))
	}
	d.rerun = nil
	c.passAll(d)
	for _, x := range d.sorted() {
		if x.waiter != 0 {
			c.out.Answers = append(c.out.Answers, Answer{Req: x.waiter, Err: hark.NoSuch("destination", id.String())})
			x.waiter = 0
		}
		if x.saved != 0 {
			c.save(x, hark.Cancelled, nil)
		}
		if x.where == inFlight { // its result only frees its place
			if x.saved == 0 {
				c.rowlessN--
				x.saved = hark.Cancelled
			}
			continue
		}
		x.holds = false // nobody gets the key
		c.drop(x)
	}
	d.gone, d.notes, d.reading = true, nil, false
	d.catching, d.caught, d.ahead = false, nil, false
	c.record(d, Record{Kind: RecErased})
	if d.isIdle {
		d.isIdle = false
		c.idle.remove(d)
	}
	c.buried(d)
}

// buried drops a removed destination once nothing of it is in flight.
func (c *Core) buried(d *dest) {
	if d.flight == 0 && c.dests[d.id] == d {
		for _, x := range d.sorted() {
			x.holds = false
			c.drop(x)
		}
		c.release(d)
	}
}
