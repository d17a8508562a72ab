package deliver

import (
	"cmp"
	"time"

	"github.com/harkhq/hark"
)

// pulling is the part of a destination whose events workers fetch.
type pulling struct {
	leased int
	// ahead are events after the cursor that were read and not handed out yet;
	// readTo is how far was read.
	ahead  []Meta
	readTo hark.Offset
	asks   []pullAsk
}

type pullAsk struct {
	req   uint64
	max   int
	lease int64
	seed  uint64
	read  bool // a page was read for it
	end   bool // and there was no more
}

// Pull asks for up to limit deliveries, leased for lease ms. The answer comes as
// an Answer with the id req; seed makes the leases' tokens.
func (c *Core) Pull(now int64, id hark.DestinationID, set *Settings, req uint64, limit int, lease int64, seed uint64) {
	c.advance(now)
	defer c.settleUp()
	if c.dests[id] == nil { // a pull destination without state is new, and at the mark
		d := c.dest(id, set)
		c.leave(d, c.dispatched)
		d.pull.readTo = c.dispatched
	}
	d := c.dests[id]
	if d.pull == nil || d.gone || !d.active() {
		c.out.Answers = append(c.out.Answers, Answer{Req: req, Err: conflict("the destination is paused or disabled, or does not hand out")})
	} else {
		d.pull.asks = append(d.pull.asks, pullAsk{req: req, max: max(1, limit), lease: lease, seed: seed})
		c.nudge(d)
	}
}

// refuse answers every waiting pull with an error.
func (c *Core) refuse(d *dest, err error) {
	for _, a := range d.pull.asks {
		c.out.Answers = append(c.out.Answers, Answer{Req: a.req, Err: err})
	}
	d.pull.asks = nil
}

// serve answers waiting pulls, first come, first served.
func (c *Core) serve(d *dest) {
	p := d.pull
	if p == nil { // its kind changed under it: nothing hands out any more
		return
	}
	if !d.active() {
		c.refuse(d, conflict("the destination was paused or disabled"))
		return
	}
	for len(p.asks) > 0 {
		a := &p.asks[0]
		room := min(a.max, c.lim.PullWindow-p.leased)
		have := d.ready.n + d.manual.n + d.replay.n
		if have < room && c.grantable(d, room-have) < room-have && !a.end && !(a.read && have+c.grantable(d, 1) > 0) &&
			len(p.ahead) < c.lim.PullAhead {
			c.pullPage(d, room)
			return
		}
		ans := Answer{Req: a.req}
		for len(ans.Grants) < room {
			x := c.nextGrant(d)
			if x == nil {
				break
			}
			ans.Grants = append(ans.Grants, c.grant(x, a, len(ans.Grants)))
		}
		c.out.Answers = append(c.out.Answers, ans)
		p.asks = p.asks[1:]
		c.pullCursor(d, ans.Grants)
	}
	p.asks = nil
}

func (c *Core) pullPage(d *dest, want int) {
	if d.reading {
		return
	}
	d.reading = true
	c.out.Reads = append(c.out.Reads, Read{Dest: d.id, Tenant: d.set.Tenant, After: d.pull.readTo,
		Limit: min(max(want, 100), c.lim.PullAhead), Gen: d.gen})
}

// pulledPage takes the answer to pullPage.
func (c *Core) pulledPage(d *dest, p Page) {
	if p.GapTo > d.pull.readTo { // what was read ahead and not handed out is gone with the rest
		d.pull.ahead, d.pull.readTo = nil, p.GapTo
	}
	for _, m := range p.Metas {
		if m.Offset > d.pull.readTo && !d.passKnown(m.Offset) && d.all[m.Offset] == nil {
			d.pull.ahead = append(d.pull.ahead, m)
		}
	}
	d.pull.readTo = max(d.pull.readTo, p.Next)
	for i := range d.pull.asks {
		d.pull.asks[i].read = true
		d.pull.asks[i].end = d.pull.asks[i].end || p.End
	}
	c.pullCursor(d, nil)
}

// grantable counts events read ahead that may be handed out, up to limit.
func (c *Core) grantable(d *dest, limit int) int {
	if d.keys == nil {
		return min(limit, len(d.pull.ahead))
	}
	n := 0
	seen := map[uint64]bool{}
	for i := range d.pull.ahead {
		if key := d.pull.ahead[i].Key; d.keys[key] == nil && !seen[key] {
			seen[key] = true
			if n++; n >= limit {
				break
			}
		}
	}
	return n
}

// nextGrant returns what is handed out next: first what comes back, then the log.
func (c *Core) nextGrant(d *dest) *delivery {
	for _, x := range [...]*delivery{d.ready.first, d.manual.first, d.replay.first} {
		if x != nil {
			c.unqueue(x)
			return x
		}
	}
	ahead := d.pull.ahead
	for i := range ahead {
		if d.keys != nil && d.keys[ahead[i].Key] != nil {
			continue
		}
		x := &delivery{Meta: ahead[i], run: 1}
		if i == 0 {
			d.pull.ahead = ahead[1:]
		} else {
			d.pull.ahead = append(ahead[:i:i], ahead[i+1:]...)
		}
		c.hold(d, x)
		c.unqueue(x)
		return x
	}
	return nil
}

// grant leases a delivery to a worker.
func (c *Core) grant(x *delivery, a *pullAsk, n int) Grant {
	x.started, x.next = c.now, c.now+a.lease
	x.token = cmp.Or(mix(a.seed+uint64(n)), 1)
	c.save(x, hark.Sending, nil)
	c.lend(x)
	return Grant{Offset: x.Offset, Attempt: x.total + 1, Token: x.token, Deadline: x.next}
}

func (c *Core) lend(x *delivery) {
	x.where = atWorker
	x.d.waiting.push(x)
	x.d.pull.leased++
}

func (c *Core) restoreLease(d *dest, x *delivery) {
	c.hold(d, x)
	c.unqueue(x)
	if d.keys != nil && x.lane == LaneLive && !x.holds { // it was blocked by an equal: both are out
		d.keys[x.Key].holders++
		x.holds = true
	}
	c.lend(x)
}

// pullCursor moves the cursor over everything handed out, and remembers grants beyond it.
func (c *Core) pullCursor(d *dest, grants []Grant) {
	at := d.pull.readTo
	if len(d.pull.ahead) > 0 {
		at = d.pull.ahead[0].Offset - 1
	}
	if at > d.cursor {
		d.cursor = at
		c.markDirty(d)
	}
	for _, g := range grants {
		if g.Offset > d.cursor {
			d.know(c, g.Offset)
		}
	}
}

// Verdict is what a worker says of a lease.
type Verdict uint8

// The verdicts.
const (
	Ack Verdict = iota
	Nack
	Extend
)

// Settle ends or extends a lease. delay is in ms: the wait after a nack, negative
// for the schedule's next, or the new length of an extended lease.
func (c *Core) Settle(now int64, id hark.DestinationID, o hark.Offset, token uint64, v Verdict, delay int64) error {
	c.advance(now)
	defer c.settleUp()
	d := c.dests[id]
	if d == nil || d.gone {
		return staleLease()
	}
	x := d.all[o]
	if x == nil || x.where != atWorker || x.token != token || token == 0 {
		return staleLease()
	}
	switch v {
	case Ack:
		c.settleLease(x, hark.OK, 0)
	case Nack:
		if delay < 0 {
			delay = c.wait(x, min(x.tried+1, len(d.set.Waits)-1))
		}
		c.settleLease(x, hark.Nacked, delay)
	case Extend:
		x.next = c.now + delay
		d.waiting.fix(x)
		c.save(x, hark.Sending, nil)
	}
	c.nudge(d)
	return nil
}

func staleLease() error {
	return &hark.Error{Kind: hark.Conflict, Code: "stale-lease",
		Msg: "the lease of this delivery has ended: it was settled, or belongs to another worker by now"}
}

// settleLease ends a lease.
func (c *Core) settleLease(x *delivery, outcome hark.Outcome, delay int64) {
	d := x.d
	c.unqueue(x)
	x.total++
	x.tried++
	started := x.started
	if started == 0 { // the lease is older than this process
		started = c.now
	}
	a := &hark.Attempt{Number: x.total, Run: x.run, Started: time.UnixMilli(started).UTC(),
		Duration: time.Duration(c.now-started) * time.Millisecond, Outcome: outcome}
	x.token = 0
	switch {
	case outcome == hark.OK:
		c.finish(x, hark.Delivered, a)
	case x.cancel:
		c.finish(x, hark.Cancelled, a)
	case x.tried >= cmp.Or(d.set.MaxDeliveries, hark.DefaultMaxDeliveries):
		c.died(x, a)
	default:
		c.again(x, a, c.now+delay)
	}
}

// Vanish ends leased deliveries whose events retention took before they could be
// handed over.
func (c *Core) Vanish(now int64, id hark.DestinationID, o hark.Offset, token uint64) {
	c.advance(now)
	defer c.settleUp()
	if d := c.dests[id]; d != nil && d.all[o] != nil && d.all[o].where == atWorker && d.all[o].token == token {
		x := d.all[o]
		x.token = 0
		c.save(x, hark.Expired, nil)
		c.drop(x)
		c.nudge(d)
	}
}
