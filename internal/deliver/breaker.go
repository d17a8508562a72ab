package deliver

import (
	"strconv"
	"time"

	"github.com/harkhq/hark"
)

// MaxRetryAfter caps what a destination may ask for with Retry-After.
const MaxRetryAfter = time.Hour

// What the breaker does, in milliseconds.
const (
	probeFirst   = 5_000
	probeMost    = 300_000
	tripsAfter   = 3
	day          = 24 * 3600_000
	warnSecond   = 4 * day
	disableAfter = 5 * day // hark.DisableAfter
	healthAfter  = 60_000  // a shorter failure is not worth a record
	noticeWindow = 60_000
)

// breaker is what is known of a destination's health, and how much it may get.
type breaker struct {
	open      bool
	interval  int64 // between probes
	probeAt   int64
	notBefore int64 // Retry-After

	faults     int // of the destination, in a row
	firstFault hark.Offset
	several    bool // over at least two events

	health      Health
	savedHealth Health

	limit float64 // attempts in flight
	calm  float64 // up to here the limit grows fast
	cutAt int64

	tokens   float64
	refilled int64
}

// reset forgets all trouble.
func (b *breaker) reset(c *Core, set *Settings) {
	saved, tokens, refilled := b.savedHealth, b.tokens, b.refilled
	*b = breaker{savedHealth: saved, tokens: tokens, refilled: refilled}
	b.calm = float64(c.lim.MaxConcurrency)
	b.limit = float64(c.lim.StartConcurrency)
	if set.Concurrency > 0 {
		b.limit = min(b.limit, float64(set.Concurrency))
	}
}

func (d *dest) ceiling(c *Core) float64 {
	if d.set.Concurrency > 0 {
		return float64(d.set.Concurrency)
	}
	return float64(c.lim.MaxConcurrency)
}

func (d *dest) allowed() int { return max(1, int(d.limit)) }

func burst(set *Settings) float64 { return max(1, set.Rate) }

// startsAt returns when the destination may start an attempt, as far as time
// alone decides; never when something else must happen first.
func (c *Core) startsAt(d *dest) int64 {
	if !d.active() {
		return never
	}
	at := d.notBefore
	if d.open && len(d.all) > 1 {
		if d.flight > 0 {
			return never
		}
		at = max(at, d.probeAt)
	} else if d.flight >= d.allowed() {
		return never
	}
	if rate := d.set.Rate; rate > 0 {
		d.tokens = min(burst(d.set), d.tokens+rate*float64(c.now-d.refilled)/1000)
		d.refilled = c.now
		if d.tokens < 1 {
			at = max(at, c.now+int64((1-d.tokens)/rate*1000)+1)
		}
	}
	return at
}

// pick returns the delivery that the destination would start now in a class, or nil.
func (c *Core) pick(d *dest, class int) *delivery {
	if class == front && d.urgent.n > 0 && !d.gone {
		return d.urgent.first
	}
	if !d.hasReady() || c.startsAt(d) > c.now {
		return nil
	}
	var lines [3]*delivery
	if d.own == (class == back) {
		if len(d.fresh.s) > 0 {
			lines[0] = d.fresh.s[0]
		}
		lines[1] = d.ready.first
	}
	if class == front {
		lines[2] = d.manual.first
	} else if d.replayFlight < max(1, d.allowed()/2) {
		lines[2] = d.replay.first
	}
	first := d.turns
	if d.open { // a probe: an event that has not been tried, if there is one
		first = 0
	}
	for i := range uint(3) {
		if x := lines[(first+i)%3]; x != nil {
			return x
		}
	}
	return nil
}

// worked notes a success.
func (c *Core) worked(d *dest) {
	d.faults, d.several = 0, false
	if d.open && d.notBefore > c.now {
		// It began before the destination asked for a pause: that stands.
		d.health.FailingSince = 0
		return
	}
	if d.open {
		d.shut()
	} else if d.flight+1 >= d.allowed() {
		if d.limit < d.calm {
			d.limit++
		} else {
			d.limit += 1 / d.limit
		}
		d.limit = min(d.limit, d.ceiling(c))
	}
	if d.health == (Health{}) {
		return
	}
	if d.health.Told {
		c.notify(d, Notice{Kind: NoticeRecovered, Reason: "a delivery succeeded again"})
	}
	d.health = Health{}
	if d.savedHealth != (Health{}) {
		c.markDirty(d)
	}
}

// shut closes the breaker; the limit then grows from two.
func (d *dest) shut() {
	d.open, d.interval, d.probeAt, d.notBefore = false, 0, 0, 0
	d.limit = min(2, max(1, d.limit*2))
}

// failed notes a failed attempt: whose fault it is decides what it does to the destination.
func (c *Core) failed(x *delivery, r *Result) {
	d := x.d
	wait := min(r.RetryAfter, MaxRetryAfter).Milliseconds()
	fault, answered := blame(r.Outcome)
	switch {
	case fault:
		if d.faults == 0 {
			d.firstFault = x.Offset
		}
		d.faults++
		d.several = d.several || x.Offset != d.firstFault
		if x.started >= d.cutAt { // one cut for all that were in flight together
			d.cutAt = c.now + 1
			d.limit = max(1, d.limit*0.7)
			d.calm = d.limit
		}
	case answered:
		d.faults, d.several = 0, false
		if d.open && wait == 0 && d.notBefore <= c.now {
			d.shut()
		}
	}
	if d.open && x.probe {
		if fault {
			d.interval = min(2*d.interval, probeMost)
		}
		d.probeAt = c.now + c.jitter(d.interval, d.id, x.Offset, x.total)
	}
	if wait > 0 {
		d.notBefore = max(d.notBefore, c.now+wait)
	}
	if wait > 0 || r.Outcome == hark.Throttled || d.faults >= tripsAfter && d.several {
		c.trip(x)
	}
	d.probeAt = max(d.probeAt, d.notBefore)
	if r.Outcome != hark.Unsendable {
		c.failing(x)
	}
}

// blame tells whether an outcome is the destination's fault, and whether it answered at all.
func blame(o hark.Outcome) (fault, answered bool) {
	switch o {
	case hark.ConnectError, hark.TimedOut:
		return true, false
	case hark.Throttled, hark.Overloaded:
		return true, true
	case hark.Rejected, hark.Unsubscribed:
		return false, true
	default: // Refused, Unsendable: it was not even asked
		return false, false
	}
}

// trip opens the breaker.
func (c *Core) trip(x *delivery) {
	d := x.d
	if d.open {
		return
	}
	d.open, d.interval = true, probeFirst
	d.probeAt = c.now + c.jitter(d.interval, d.id, x.Offset, x.total)
	d.calm = max(2, d.limit/2)
	d.limit = 1
}

// failing keeps the time since when every attempt failed, warns and disables.
func (c *Core) failing(x *delivery) {
	d, h := x.d, &x.d.health
	if h.FailingSince == 0 {
		h.FailingSince = c.now
	}
	age := c.now - h.FailingSince
	quiet := hark.IsReserved(x.Topic)
	switch {
	case age >= disableAfter && h.Warned > 0 && c.now-h.WarnedAt >= day:
		c.disable(x, "every delivery failed for "+days(age))
		return
	case age >= warnSecond && h.Warned < 2 || age >= day && h.Warned < 1:
		if h.Warned = 1; age >= warnSecond {
			h.Warned = 2
		}
		if h.WarnedAt == 0 {
			h.WarnedAt = c.now
		}
		if !quiet {
			h.Told = true
			c.notify(d, Notice{Kind: NoticeFailing, Offset: x.Offset,
				Reason: "every delivery failed for " + days(age) + "; after 5 days the destination is disabled"})
		}
	case d.open && !h.Told && !quiet:
		h.Told = true
		c.notify(d, Notice{Kind: NoticeFailing, Offset: x.Offset, Reason: "the destination does not answer; deliveries wait"})
	}
	if *h != d.savedHealth && age >= healthAfter {
		c.markDirty(d)
	}
}

func days(ms int64) string {
	if ms < 2*day {
		return "a day"
	}
	return strconv.FormatInt(ms/day, 10) + " days"
}

// disable stops a destination at once and asks for it to be written down.
func (c *Core) disable(x *delivery, reason string) {
	d := x.d
	if !d.active() {
		return
	}
	d.stopped = true
	c.leave(d, c.dispatched)
	c.out.Disables = append(c.out.Disables, Disable{Dest: d.id, Tenant: d.set.Tenant, Reason: reason})
	if !hark.IsReserved(x.Topic) {
		c.notify(d, Notice{Kind: NoticeDisabled, Offset: x.Offset, Reason: reason})
	}
}

// jitter spreads a wait by up to 10 % either way, the same for the same attempt.
func (c *Core) jitter(wait int64, id hark.DestinationID, o hark.Offset, attempt int) int64 {
	h := mix(uint64(id) ^ mix(uint64(o)^mix(uint64(attempt))))
	return wait + int64(float64(wait)*(float64(h>>11)/(1<<52)-1)/10)
}

// mix is the finaliser of splitmix64.
func mix(v uint64) uint64 {
	v += 0x9e3779b97f4a7c15
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

// notes aggregate a destination's notices: the first of a kind goes at once, the
// rest of its minute as one.
type notes struct {
	until int64
	seen  [noticeKinds]bool
	more  [noticeKinds]Notice
}

func (c *Core) notify(d *dest, n Notice) {
	n.Tenant, n.Dest, n.At, n.Count = d.set.Tenant, d.id, c.now, 1
	if n.Kind != NoticeDead && n.Kind != NoticeFailing && n.Kind != NoticeRecovered {
		c.out.Notices = append(c.out.Notices, n)
		return
	}
	if d.notes == nil {
		d.notes = &notes{until: c.now + noticeWindow}
	}
	if !d.notes.seen[n.Kind] {
		d.notes.seen[n.Kind] = true
		c.out.Notices = append(c.out.Notices, n)
		return
	}
	n.Count += d.notes.more[n.Kind].Count
	d.notes.more[n.Kind] = n
}

func (c *Core) flushNotices(d *dest) {
	if d.notes == nil || d.notes.until > c.now {
		return
	}
	old := d.notes
	d.notes = nil
	for kind, n := range old.more {
		if n.Count == 0 {
			continue
		}
		c.out.Notices = append(c.out.Notices, n)
		if d.notes == nil {
			d.notes = &notes{until: c.now + noticeWindow}
		}
		d.notes.seen[kind] = true
	}
}
