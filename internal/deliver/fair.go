package deliver

import "github.com/harkhq/hark"

// Attempts in flight are of two classes. Each may fill a cap, but what catches
// up or replays at most half of it, so that the present is never behind the past.
const (
	front = 0 // destinations at the mark, manual retries
	back  = 1 // destinations with their own cursor, replays
)

// share counts attempts in flight against a cap.
type share struct {
	flight [2]int
	bytes  [2]int
}

func (s *share) total() int { return s.flight[front] + s.flight[back] }

func (s *share) add(class int8, n, size int) {
	s.flight[class] += n
	s.bytes[class] += size
}

// room reports whether one more attempt of a class fits under limit.
func (s *share) room(class, limit int) bool {
	return s.total() < limit && (class == front || s.flight[back] < max(1, limit/2))
}

// fits reports whether size more bytes fit under limit. An event larger than the
// whole share goes alone.
func (s *share) fits(class, size, limit int) bool {
	if s.bytes[front]+s.bytes[back]+size > limit && s.total() > 0 {
		return false
	}
	return class == front || s.bytes[back]+size <= limit/2 || s.flight[back] == 0
}

// tenant shares the caps between its destinations.
type tenant struct {
	share
	id     hark.TenantID
	refs   int
	held   int
	rings  [2]ring[*dest]
	in     [2]bool // in Core.rings
	parked [2]bool // at its cap: comes back with its next result
}

func (c *Core) tenant(id hark.TenantID) *tenant {
	t := c.tenants[id]
	if t == nil {
		t = &tenant{id: id}
		c.tenants[id] = t
	}
	return t
}

func (c *Core) unrefTenant(t *tenant) {
	if t.refs--; t.refs == 0 {
		delete(c.tenants, t.id)
	}
}

// host caps what goes to one host, whoever sends it.
type host struct {
	share
	name    string
	refs    int
	waiters [2]ring[*dest]
}

func (c *Core) host(name string) *host {
	if name == "" {
		return nil
	}
	h := c.hosts[name]
	if h == nil {
		h = &host{name: name}
		c.hosts[name] = h
	}
	h.refs++
	return h
}

func (c *Core) unrefHost(h *host) {
	if h == nil {
		return
	}
	if h.refs--; h.refs == 0 {
		delete(c.hosts, h.name)
	}
}

// offer puts a destination in line if it has something to start.
func (c *Core) offer(d *dest) {
	for class := range 2 {
		if !d.in[class] && !d.atHost[class] && c.pick(d, class) != nil {
			c.enter(d, class)
		}
	}
}

func (c *Core) enter(d *dest, class int) {
	d.in[class] = true
	t := d.tenant
	t.rings[class].push(d)
	c.enterTenant(t, class)
}

func (c *Core) enterTenant(t *tenant, class int) {
	if !t.in[class] && !t.parked[class] && t.rings[class].n > 0 {
		t.in[class] = true
		c.rings[class].push(t)
	}
}

// pump starts what the caps allow: tenants in turn, in each its destinations in turn.
func (c *Core) pump() {
	for stuck := 0; stuck < 2; {
		class := c.turn
		c.turn ^= 1
		if c.rings[class].n == 0 || !c.flight.room(class, c.lim.Flight) || !c.turnOf(class) {
			stuck++
			continue
		}
		stuck = 0
	}
}

// turnOf gives the next tenant of a class its turn. It reports false when only
// a result can make room.
func (c *Core) turnOf(class int) bool {
	t := c.rings[class].pop()
	t.in[class] = false
	if !t.share.room(class, c.lim.TenantFlight) {
		t.parked[class] = true
		return true
	}
	d := t.rings[class].pop()
	d.in[class] = false
	fate := c.start(d, class)
	switch fate {
	case started:
		if c.pick(d, class) != nil {
			d.in[class] = true
			t.rings[class].push(d)
		} else {
			c.rearm(d)
		}
	case hostBusy:
		d.atHost[class] = true
		d.host.waiters[class].push(d)
	case tenantBytes, allBytes:
		d.in[class] = true
		t.rings[class].pushFront(d)
		t.parked[class] = fate == tenantBytes
	case nothing:
		if !d.gone {
			c.rearm(d)
			c.restOrWake(d)
		}
	}
	if fate == allBytes {
		t.in[class] = true
		c.rings[class].pushFront(t)
		return false
	}
	c.wakeHost(d.host, class)
	c.enterTenant(t, class)
	return true
}

type fate uint8

const (
	nothing fate = iota
	started
	hostBusy
	tenantBytes
	allBytes
)

// start begins one attempt of a destination if it may.
func (c *Core) start(d *dest, class int) fate {
	x := c.pick(d, class)
	if x == nil {
		return nothing
	}
	if d.host != nil && !d.host.room(class, c.lim.HostFlight) {
		return hostBusy
	}
	size := int(x.Size)
	if !c.flight.fits(class, size, c.lim.Bytes) {
		return allBytes
	}
	if !d.tenant.share.fits(class, size, c.lim.TenantBytes) {
		return tenantBytes
	}
	c.send(x, int8(class))
	return started
}

// wakeHost lets destinations that wait for a host try again.
func (c *Core) wakeHost(h *host, class int) {
	if h == nil {
		return
	}
	for h.waiters[class].n > 0 && h.room(class, c.lim.HostFlight) {
		d := h.waiters[class].pop()
		d.atHost[class] = false
		if d.gone || d.in[class] {
			continue
		}
		c.enter(d, class)
		if !d.tenant.parked[class] {
			return // it wakes the next one after its turn
		}
	}
}

// send starts an attempt.
func (c *Core) send(x *delivery, class int8) {
	d := x.d
	c.unqueue(x)
	x.where, x.class, x.started = inFlight, class, c.now
	x.probe = d.open
	d.flight++
	if x.lane == LaneReplay {
		d.replayFlight++
	}
	d.tokens = max(0, d.tokens-1)
	d.turns++
	c.flight.add(class, 1, int(x.Size))
	d.tenant.share.add(class, 1, int(x.Size))
	if d.host != nil {
		d.host.share.add(class, 1, int(x.Size))
	}
	c.out.Sends = append(c.out.Sends, Send{Dest: d.id, Tenant: d.set.Tenant, Offset: x.Offset, Run: x.run, Attempt: x.total + 1})
}

// landed takes an attempt out of flight and wakes who waited for its place.
func (c *Core) landed(x *delivery) {
	d := x.d
	d.flight--
	if x.lane == LaneReplay {
		d.replayFlight--
	}
	c.flight.add(x.class, -1, -int(x.Size))
	d.tenant.share.add(x.class, -1, -int(x.Size))
	for class := range 2 {
		d.tenant.parked[class] = false
		c.enterTenant(d.tenant, class)
	}
	if d.host != nil {
		d.host.share.add(x.class, -1, -int(x.Size))
		c.wakeHost(d.host, front)
		c.wakeHost(d.host, back)
	}
	x.where, x.urgent = nowhere, false
}

// moveHost follows a destination whose address changed.
func (c *Core) moveHost(d *dest) {
	for _, x := range d.all {
		if x.where == inFlight { // counts only: order does not show
			c.hostCount(d.host, x, -1)
		}
	}
	old := d.host
	d.host = c.host(d.set.Host)
	for _, x := range d.all {
		if x.where == inFlight {
			c.hostCount(d.host, x, 1)
		}
	}
	if old != nil {
		for class := range 2 { // it may stand in the old line
			for range old.waiters[class].n {
				if w := old.waiters[class].pop(); w != d {
					old.waiters[class].push(w)
				}
			}
			d.atHost[class] = false
			c.wakeHost(old, class)
		}
		c.unrefHost(old)
	}
}

func (c *Core) hostCount(h *host, x *delivery, n int) {
	if h != nil {
		h.share.add(x.class, n, n*int(x.Size))
	}
}
