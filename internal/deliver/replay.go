package deliver

import "github.com/harkhq/hark"

// ReplayRange is a second cursor over (From, To].
type ReplayRange struct{ From, To, At hark.Offset }

// rerun is a replay under way.
type rerun struct {
	ReplayRange
	reading bool
}

// Replay starts a replay of what lies after from, up to where the destination is
// now or to if that is not zero and nearer.
func (c *Core) Replay(now int64, id hark.DestinationID, set *Settings, from, to hark.Offset) (ReplayRange, error) {
	c.advance(now)
	defer c.settleUp()
	d := c.dest(id, set)
	defer c.nudge(d)
	switch {
	case d.gone:
		return ReplayRange{}, hark.NoSuch("destination", id.String())
	case d.rerun != nil:
		return ReplayRange{}, conflict("a replay of this destination is under way: wait for it or stop it")
	}
	c.checkpoint() // To must not be beyond the durable position, or a crash would let both cursors take an event
	end := c.position(d)
	if to > 0 {
		end = min(end, to)
	}
	d.rerun = &rerun{ReplayRange: ReplayRange{From: min(from, end), To: end, At: min(from, end)}}
	c.record(d, Record{Kind: RecReplay, From: d.rerun.From, To: d.rerun.To, Offset: d.rerun.At})
	return d.rerun.ReplayRange, nil
}

// StopReplay ends a replay; what it reopened goes on. It reports whether there was one.
func (c *Core) StopReplay(now int64, id hark.DestinationID) bool {
	c.advance(now)
	defer c.settleUp()
	d := c.dests[id]
	if d == nil || d.rerun == nil {
		return false
	}
	d.rerun = nil
	c.record(d, Record{Kind: RecReplayDone})
	c.nudge(d)
	return true
}

// wantReplay asks for the next page of a replay.
func (c *Core) wantReplay(d *dest) {
	r := d.rerun
	if r == nil || r.reading || !d.active() || r.At >= r.To {
		if r != nil && r.At >= r.To {
			c.replayProgress(d)
		}
		return
	}
	n, limit := d.lanes[LaneReplay], c.lim.ReplayWindow
	if d.open { // as with pages: some events to probe with
		if n, limit = len(d.all), min(8, limit); n >= 2 {
			return
		}
	} else if n > limit/2 {
		return
	}
	r.reading = true
	c.out.Reads = append(c.out.Reads, Read{Dest: d.id, Tenant: d.set.Tenant, After: r.At, Upto: r.To,
		Limit: max(1, limit-n), Gen: d.gen, Replay: true})
}

// Replayed is an event of a replay's page and its present row; a zero State for none.
type Replayed struct {
	Meta Meta
	Row  Row
}

// ReplayPage answers a Read of a replay. The caller has read the rows under the
// same lock that orders inputs. next is the position after the page.
func (c *Core) ReplayPage(now int64, id hark.DestinationID, gen uint32, page []Replayed, next hark.Offset, end bool) {
	c.advance(now)
	defer c.settleUp()
	d := c.dests[id]
	if d == nil || d.gen != gen || d.rerun == nil || !d.rerun.reading {
		return
	}
	r := d.rerun
	r.reading = false
	for i := range page {
		p := &page[i]
		if p.Meta.Offset > r.To || p.Meta.Offset <= r.At || d.all[p.Meta.Offset] != nil || p.Row.State != 0 && !p.Row.State.Finished() {
			continue // not finished: it runs already
		}
		c.reopen(d, p.Meta, p.Row, LaneReplay, 0, false)
	}
	if next = min(next, r.To); end {
		next = r.To
	}
	if next > r.At {
		r.At = next
		c.record(d, Record{Kind: RecReplay, From: r.From, To: r.To, Offset: r.At})
	}
	c.nudge(d)
}

// replayProgress ends a replay whose range is passed and whose deliveries are finished.
func (c *Core) replayProgress(d *dest) {
	r := d.rerun
	if r == nil || r.At < r.To || d.lanes[LaneReplay] > 0 {
		return
	}
	d.rerun = nil
	c.record(d, Record{Kind: RecReplayDone})
	c.notify(d, Notice{Kind: NoticeReplayed, From: r.From, To: r.To, Reason: "every delivery of the range is finished"})
}
