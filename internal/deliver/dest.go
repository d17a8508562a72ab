package deliver

import (
	"slices"

	"github.com/harkhq/hark"
)

// place says where a delivery in memory is.
type place uint8

const (
	nowhere   place = iota
	inFresh         // waiting for its first attempt
	inReady         // its retry may go
	inManual        // a manual retry that may go
	inReplay        // a replayed one that may go
	inUrgent        // goes whatever the destination's state
	inWaiting       // its time has not come
	inBlocked       // behind another delivery of its key
	inFlight        // an attempt is under way
	atWorker        // leased
)

// delivery is an exception: a delivery that is not finished, in memory.
type delivery struct {
	Meta
	d       *dest
	run     int
	total   int // attempts over all runs
	tried   int // in this run
	next    int64
	started int64
	token   uint64
	waiter  uint64     // request that awaits the result of the attempt under way
	saved   hark.State // of the row, 0: none
	lane    Lane
	where   place
	class   int8 // of the attempt under way: front or back
	holds   bool // has its key (ordered)
	cancel  bool // its owner took it back during an attempt
	urgent  bool
	probe   bool
	slot    int // in a heap
	queue   link[*delivery]
}

func (x *delivery) link() *link[*delivery] { return &x.queue }

// keyed is the queue of one key of an ordered destination.
type keyed struct {
	holders int // deliveries that have the key; more than one only after a switch to ordered
	blocked list[*delivery]
}

// dest is a destination with something under way.
type dest struct {
	id      hark.DestinationID
	set     *Settings
	tenant  *tenant
	host    *host
	stopped bool // disabled by the core, the registry's answer is not here yet
	gone    bool // removed; waits for what is in flight

	all      map[hark.Offset]*delivery
	oldest   hark.Offset // the lowest of all when it was last asked for
	firstDue int64       // when the first attempt at the event that was taken last is due
	lanes    [3]int      // deliveries by lane
	keys     map[uint64]*keyed
	fresh    heap[*delivery] // by offset
	ready    list[*delivery]
	manual   list[*delivery]
	replay   list[*delivery]
	urgent   list[*delivery]

	waiting      heap[*delivery] // by next
	flight       int
	replayFlight int
	turns        uint // alternates between queues
	in           [2]bool
	atHost       [2]bool

	own      bool // has its own cursor, else it is at the mark
	ahead    bool // its cursor is not before the mark: joins when the dispatcher passes it
	cursor   hark.Offset
	savedOwn bool
	savedAt  hark.Offset
	isDirty  bool
	reading  bool
	gen      uint32
	known    map[hark.Offset]struct{} // events beyond the position that have rows
	knownTo  hark.Offset
	inKnown  bool

	catching  bool // a page is being read; the tail is collected from catchFrom on
	catchFrom hark.Offset
	caught    []Meta

	watching
	breaker
	notes *notes
	pull  *pulling
	rerun *rerun

	wake   int64
	timer  int // in Core.timers
	idleAt int64
	isIdle bool
	idlers link[*dest]
}

func (d *dest) link() *link[*dest] { return &d.idlers }

func slotOf(x *delivery) *int { return &x.slot }

func byOffset(a, b *delivery) bool { return a.Offset < b.Offset }

func byNext(a, b *delivery) bool {
	return a.next < b.next || a.next == b.next && a.Offset < b.Offset
}

// dest returns a destination's state, made if need be: at the mark, without exceptions.
func (c *Core) dest(id hark.DestinationID, set *Settings) *dest {
	if d := c.dests[id]; d != nil {
		return d
	}
	d := &dest{id: id, set: set, tenant: c.tenant(set.Tenant), host: c.host(set.Host), timer: -1,
		all:     make(map[hark.Offset]*delivery),
		fresh:   heap[*delivery]{less: byOffset, at: slotOf},
		waiting: heap[*delivery]{less: byNext, at: slotOf},
	}
	d.tenant.refs++
	d.breaker.reset(c, set)
	d.tokens, d.refilled = burst(set), c.now
	if set.Ordered {
		d.keys = make(map[uint64]*keyed)
	}
	if set.Pull {
		d.pull = &pulling{}
	}
	c.dests[id] = d
	return d
}

// active reports whether the destination may send at all.
func (d *dest) active() bool { return d.set.Active && !d.stopped && !d.gone }

// hasReady reports whether something waits for nothing but its turn.
func (d *dest) hasReady() bool {
	return len(d.fresh.s)+d.ready.n+d.manual.n+d.replay.n > 0
}

// window is how many live exceptions d may have now.
func (c *Core) window(d *dest) int {
	if c.held >= c.lim.Held || d.tenant.held >= c.lim.TenantHeld {
		return min(c.lim.SmallWindow, c.lim.Window)
	}
	return c.lim.Window
}

func (c *Core) full(d *dest) bool { return d.lanes[LaneLive] >= c.window(d) }

// hold makes a delivery an exception of d and puts it where it belongs.
func (c *Core) hold(d *dest, x *delivery) {
	x.d, x.slot = d, -1
	d.all[x.Offset] = x
	d.oldest = min(d.oldest, x.Offset)
	d.lanes[x.lane]++
	d.tenant.held++
	c.held++
	if len(d.watches) > 0 {
		d.watchHeld(x.Offset)
	}
	if x.saved == 0 {
		c.rowless = append(c.rowless, x)
		c.rowlessN++
		if len(c.rowless) > 2*c.rowlessN+1024 {
			c.compactRowless()
		}
	}
	c.put(x)
}

// take makes an event an exception: the destination's position is about to pass it.
func (c *Core) take(d *dest, m Meta) {
	x := &delivery{Meta: m, run: 1}
	if w := d.set.Waits; len(w) > 0 && !d.set.Pull {
		// Not before those taken earlier, also when the first wait was longer then.
		d.firstDue = max(d.firstDue, c.now+w[0])
		x.next = d.firstDue
	}
	c.hold(d, x)
}

// put queues a delivery that is in no queue.
func (c *Core) put(x *delivery) {
	d := x.d
	if d.keys != nil && x.lane == LaneLive && !x.holds {
		k := d.keys[x.Key]
		if k == nil {
			k = &keyed{}
			d.keys[x.Key] = k
		}
		if k.holders > 0 {
			k.blocked.push(x)
			x.where = inBlocked
			return
		}
		k.holders++
		x.holds = true
	}
	if x.next > c.now {
		d.waiting.push(x)
		x.where = inWaiting
		return
	}
	c.toReady(x)
}

// toReady queues a delivery whose time has come.
func (c *Core) toReady(x *delivery) {
	d := x.d
	switch {
	case x.urgent:
		d.urgent.push(x)
		x.where = inUrgent
	case x.lane == LaneManual:
		d.manual.push(x)
		x.where = inManual
	case x.lane == LaneReplay:
		d.replay.push(x)
		x.where = inReplay
	case x.tried == 0 && !d.set.Pull:
		d.fresh.push(x)
		x.where = inFresh
	default:
		d.ready.push(x)
		x.where = inReady
	}
}

// unqueue takes a delivery out of the queue it is in.
func (c *Core) unqueue(x *delivery) {
	d := x.d
	switch x.where {
	case inFresh:
		d.fresh.remove(x)
	case inReady:
		d.ready.remove(x)
	case inManual:
		d.manual.remove(x)
	case inReplay:
		d.replay.remove(x)
	case inUrgent:
		d.urgent.remove(x)
	case inWaiting:
		d.waiting.remove(x)
	case atWorker:
		d.waiting.remove(x)
		d.pull.leased--
	case inBlocked:
		d.keys[x.Key].blocked.remove(x)
	}
	x.where = nowhere
}

// drop forgets a finished delivery and hands its key on.
func (c *Core) drop(x *delivery) {
	d := x.d
	c.unqueue(x)
	delete(d.all, x.Offset)
	d.lanes[x.lane]--
	d.tenant.held--
	c.held--
	if x.saved == 0 {
		c.rowlessN--
		x.saved = hark.Cancelled // so that no checkpoint writes it
	}
	c.passKey(x)
	if len(d.watches) > 0 {
		c.watchDropped(d, x.Offset)
	}
	if x.lane == LaneReplay && d.rerun != nil {
		c.replayProgress(d)
	}
}

// passKey releases the key of a delivery and lets the next one have it.
func (c *Core) passKey(x *delivery) {
	d := x.d
	if !x.holds {
		return
	}
	x.holds = false
	k := d.keys[x.Key]
	if k.holders--; k.holders > 0 {
		return
	}
	next := k.blocked.first
	if next == nil {
		delete(d.keys, x.Key)
		return
	}
	k.blocked.remove(next)
	next.where = nowhere
	c.put(next)
}

// aside takes a live delivery out of the order of its destination.
func (c *Core) aside(x *delivery, lane Lane) {
	if x.lane == lane {
		return
	}
	d := x.d
	d.lanes[x.lane]--
	d.lanes[lane]++
	x.lane = lane
	c.passKey(x)
}

// reorder rebuilds the queues after the destination became ordered or stopped being so.
func (c *Core) reorder(d *dest) {
	held := d.sorted()
	for _, x := range held {
		if x.where != inFlight && x.where != atWorker {
			c.unqueue(x)
		}
		x.holds = false
	}
	d.keys = nil
	if d.set.Ordered {
		d.keys = make(map[uint64]*keyed)
	}
	for _, x := range held { // those under way have their keys, even if several share one
		if (x.where == inFlight || x.where == atWorker) && d.keys != nil && x.lane == LaneLive {
			k := d.keys[x.Key]
			if k == nil {
				k = &keyed{}
				d.keys[x.Key] = k
			}
			k.holders++
			x.holds = true
		}
	}
	for _, x := range held {
		if x.where == nowhere {
			c.put(x)
		}
	}
}

// sorted returns all exceptions in log order.
func (d *dest) sorted() []*delivery {
	all := make([]*delivery, 0, len(d.all))
	for _, x := range d.all {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *delivery) int {
		if a.Offset < b.Offset {
			return -1
		}
		return 1
	})
	return all
}

// save writes the row of a delivery in a new state.
func (c *Core) save(x *delivery, state hark.State, first *hark.Attempt) {
	if x.saved == 0 {
		c.rowlessN--
	}
	c.saveRow(x, state, first)
}

func (c *Core) saveRow(x *delivery, state hark.State, first *hark.Attempt) {
	row := Row{Meta: x.Meta, State: state, Run: x.run, Attempts: x.total, Tried: x.tried, Lane: x.lane, First: first}
	if !state.Finished() {
		row.Next, row.Token = x.next, x.token
	}
	c.out.Records = append(c.out.Records, Record{Kind: RecDelivery, Tenant: x.d.set.Tenant, Dest: x.d.id,
		Offset: x.Offset, Prev: x.saved, Row: row})
	x.saved = state
}

func (c *Core) record(d *dest, r Record) {
	r.Tenant, r.Dest = d.set.Tenant, d.id
	c.out.Records = append(c.out.Records, r)
}

// restOrWake keeps the list of destinations that need no state.
func (c *Core) restOrWake(d *dest) {
	idle := len(d.all) == 0 && !d.own && !d.savedOwn && !d.isDirty && d.flight == 0 && d.notes == nil &&
		d.rerun == nil && !d.open && d.health == (Health{}) && !d.inKnown && !d.reading && !d.in[0] && !d.in[1] &&
		!d.atHost[0] && !d.atHost[1] && len(d.watches) == 0 && d.active()
	switch {
	case idle && !d.isIdle:
		d.isIdle, d.idleAt = true, c.now
		c.idle.push(d)
	case !idle && d.isIdle:
		d.isIdle = false
		c.idle.remove(d)
	}
}

// forget drops the state of an idle destination.
func (c *Core) forget(d *dest) {
	c.idle.remove(d)
	d.isIdle = false
	c.release(d)
}

func (c *Core) release(d *dest) {
	if d.timer >= 0 {
		c.timers.remove(d)
	}
	delete(c.dests, d.id)
	c.unrefTenant(d.tenant)
	c.unrefHost(d.host)
}
