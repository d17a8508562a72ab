package deliver

import (
	"math"

	"github.com/harkhq/hark"
)

// Limits are the bounds the core keeps. The zero value of a field takes the default.
type Limits struct {
	Window       int // exceptions of one destination: W (1,000)
	SmallWindow  int // the same once its tenant or the node holds too many (16)
	Held         int // exceptions in memory of all destinations before windows shrink (400,000)
	TenantHeld   int // the same for one tenant (100,000)
	PullWindow   int // leased deliveries of one destination that hands out (20,000)
	PullAhead    int // events a pull looks past its cursor (1,000)
	ManualWindow int // manual retries of one destination that are not finished (1,000)
	ReplayWindow int // replayed deliveries of one destination that are not finished (100)

	Flight       int // attempts in flight (8,000)
	TenantFlight int // of one tenant (a quarter of Flight)
	HostFlight   int // to one host (half of Flight: no tenant can fill a shared host alone)
	Bytes        int // of events in flight (256 MiB)
	TenantBytes  int // of one tenant (64 MiB)

	StartConcurrency int // of a destination nothing is known about (10)
	MaxConcurrency   int // the most that adaptation reaches (256)

	CheckpointMillis int64 // (1,000)
	CheckpointEvents int   // (10,000)
	IdleMillis       int64 // how long an idle destination's learned limit is remembered (60,000)
	IdleCount        int   // and for how many destinations (20,000)
}

func (l Limits) withDefaults() Limits {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&l.Window, hark.DefaultExceptions)
	def(&l.SmallWindow, 16)
	def(&l.Held, 400_000)
	def(&l.TenantHeld, 100_000)
	def(&l.PullWindow, hark.DefaultLeased)
	def(&l.PullAhead, 1000)
	def(&l.ManualWindow, 1000)
	def(&l.ReplayWindow, 100)
	def(&l.Flight, 8000)
	def(&l.TenantFlight, max(1, l.Flight/4))
	def(&l.HostFlight, max(1, l.Flight/2))
	def(&l.Bytes, 256<<20)
	def(&l.TenantBytes, max(1, l.Bytes/4))
	def(&l.StartConcurrency, 10)
	def(&l.MaxConcurrency, 256)
	def(&l.CheckpointEvents, 10_000)
	def(&l.IdleCount, 20_000)
	if l.CheckpointMillis == 0 {
		l.CheckpointMillis = 1000
	}
	if l.IdleMillis == 0 {
		l.IdleMillis = 60_000
	}
	return l
}

// Meta is what the core holds of an event; its data stays in the log.
type Meta struct {
	Offset   hark.Offset
	Key      uint64 // hash of the ordering key, 0 for none
	Received int64  // Unix ms
	Topic    string
	Size     int32
}

// Lane says why a delivery is under way.
type Lane uint8

// The lanes. Only LaneLive takes part in the order of an ordered destination.
const (
	LaneLive Lane = iota
	LaneManual
	LaneReplay
)

// Settings are what the core needs of a destination. They are immutable.
type Settings struct {
	Tenant      hark.TenantID
	Host        string // what to share the per-host cap with; empty for none
	Pull        bool   // handed out to workers, never pushed
	Active      bool
	Ordered     bool
	StopOnDead  bool
	Waits       []int64 // ms before each attempt
	Concurrency int     // 0: adaptive
	Rate        float64 // deliveries per second, 0: no limit
	// MaxDeliveries is how often a pull destination hands out one event.
	MaxDeliveries int
}

// Row is the durable form of a delivery.
type Row struct {
	Meta
	State    hark.State
	Run      int
	Attempts int // over all runs
	Tried    int // in this run
	Lane     Lane
	Next     int64 // Unix ms: next attempt or end of the lease
	Token    uint64
	// First is the first attempt, kept in the row when it finished the delivery.
	First *hark.Attempt
}

// RecordKind says what a Record changes.
type RecordKind uint8

// The kinds of records, and the fields of Record they use beside the ids.
const (
	RecDelivery   RecordKind = iota // Offset, Prev, Row
	RecAttempt                      // Offset, Attempt
	RecMark                         // Offset
	RecCursor                       // Offset
	RecJoined                       // the own cursor is gone
	RecReplay                       // From, To, Offset
	RecReplayDone                   //
	RecGap                          // From, To, At
	RecHealth                       // Health
	RecErased                       // everything but rows of a removed destination
)

// Record is one change of durable state.
type Record struct {
	Kind     RecordKind
	Prev     hark.State // 0: no row yet
	Tenant   hark.TenantID
	Dest     hark.DestinationID
	Offset   hark.Offset
	From, To hark.Offset
	At       int64
	Row      Row
	Attempt  *hark.Attempt
	Health   Health
}

// Health is what must outlive a restart about a destination that fails. The zero Health is good.
type Health struct {
	FailingSince int64 // Unix ms
	WarnedAt     int64 // when its owner was first warned
	Warned       uint8 // how often
	Told         bool  // its owner was told that it fails
}

// Send asks for one attempt.
type Send struct {
	Dest    hark.DestinationID
	Tenant  hark.TenantID
	Offset  hark.Offset
	Run     int
	Attempt int // over all runs, counted from 1
}

// Read asks for events that match a destination, after a position.
type Read struct {
	Dest   hark.DestinationID
	Tenant hark.TenantID
	After  hark.Offset
	Upto   hark.Offset // a replay's end; 0 for none
	Limit  int
	Gen    uint32
	Replay bool
}

// NoticeKind is an operational event.
type NoticeKind uint8

// The operational events.
const (
	NoticeDead NoticeKind = iota
	NoticeFailing
	NoticeDisabled
	NoticeRecovered
	NoticeGap
	NoticeReplayed
	noticeKinds
)

var noticeTopics = [noticeKinds]string{"hark.delivery.dead", "hark.destination.failing", "hark.destination.disabled",
	"hark.destination.recovered", "hark.destination.gap", "hark.replay.completed"}

// Topic is where the notice is published.
func (k NoticeKind) Topic() string { return noticeTopics[k] }

// Notice is an operational event, aggregated per destination and minute.
type Notice struct {
	Kind     NoticeKind
	Tenant   hark.TenantID
	Dest     hark.DestinationID
	Count    int
	Offset   hark.Offset // the latest event it is about, if any
	From, To hark.Offset // of a gap or replay
	At       int64
	Reason   string
}

// Disable asks that a destination be disabled durably.
type Disable struct {
	Dest   hark.DestinationID
	Tenant hark.TenantID
	Reason string
}

// Answer ends a request that waits: a pull, or a send whose caller awaits its
// result. It may be given once the records of the same Out are committed.
type Answer struct {
	Req     uint64
	Err     error
	Grants  []Grant
	Attempt *hark.Attempt
	State   hark.State
}

// Grant is one delivery handed to a worker.
type Grant struct {
	Offset   hark.Offset
	Attempt  int
	Token    uint64
	Deadline int64
}

// Passed tells that a destination has passed a watched stretch of the log and holds
// nothing of it. What it rests on is durable with the records of the same Out.
type Passed struct {
	Dest  hark.DestinationID
	First hark.Offset
}

// Out collects commands. Records come first: nothing else of an Out but Sends
// and Reads may take effect before they are committed.
type Out struct {
	Records  []Record
	Sends    []Send
	Reads    []Read
	Notices  []Notice
	Disables []Disable
	Answers  []Answer
	Passed   []Passed
}

// Empty reports whether there is no command.
func (o *Out) Empty() bool {
	return len(o.Records)+len(o.Sends)+len(o.Reads)+len(o.Notices)+len(o.Disables)+len(o.Answers)+len(o.Passed) == 0
}

// Reset empties o and keeps its memory, unless a burst made it large.
func (o *Out) Reset() {
	clear(o.Records) // they point to attempts
	o.Records, o.Sends, o.Reads = o.Records[:0], o.Sends[:0], o.Reads[:0]
	clear(o.Answers)
	o.Notices, o.Disables, o.Answers = o.Notices[:0], o.Disables[:0], o.Answers[:0]
	o.Passed = o.Passed[:0]
	if cap(o.Records) > 1<<16 {
		o.Records = nil
	}
}

// Core is the state machine. It is not safe for concurrent use.
type Core struct {
	lim Limits
	now int64
	out Out

	dests   map[hark.DestinationID]*dest
	tenants map[hark.TenantID]*tenant
	hosts   map[string]*host

	dispatched hark.Offset // the mark in memory
	savedMark  hark.Offset
	passed     int   // events since the last checkpoint
	checkedAt  int64 // of the last checkpoint

	rowless  []*delivery // exceptions without a row; may hold some that have one by now
	rowlessN int         // how many really have none
	dirty    []*dest     // positions or health that the store does not have yet
	ahead    []*dest     // own cursors at or beyond the mark, about to join it
	known    []*dest     // destinations that remember rows beyond their position

	timers  heap[*dest]
	idle    list[*dest]
	watched []*dest // at the mark, with watched stretches that it has still to pass

	flight share
	held   int
	rings  [2]ring[*tenant]
	turn   int // which class goes next
}

// NewCore returns a core whose dispatcher stands at mark.
func NewCore(lim Limits, mark hark.Offset, now int64) *Core {
	c := &Core{lim: lim.withDefaults(), now: now, dispatched: mark, savedMark: mark, checkedAt: now,
		dests:   make(map[hark.DestinationID]*dest),
		tenants: make(map[hark.TenantID]*tenant),
		hosts:   make(map[string]*host),
	}
	c.timers = heap[*dest]{
		less: func(a, b *dest) bool { return a.wake < b.wake || a.wake == b.wake && a.id < b.id },
		at:   func(d *dest) *int { return &d.timer },
	}
	return c
}

// Drain exchanges the commands collected so far for an empty Out.
func (c *Core) Drain(empty Out) Out {
	out := c.out
	c.out = empty
	return out
}

// Mark returns how far the dispatcher has come.
func (c *Core) Mark() hark.Offset { return c.dispatched }

const never = math.MaxInt64

// NextWake returns when Tick must be called at the latest, Unix ms.
func (c *Core) NextWake() int64 {
	at := int64(never)
	if len(c.timers.s) > 0 {
		at = c.timers.s[0].wake
	}
	if c.unsaved() {
		at = min(at, c.checkedAt+c.lim.CheckpointMillis)
	}
	if c.idle.first != nil {
		at = min(at, c.idle.first.idleAt+c.lim.IdleMillis)
	}
	return at
}

// Tick lets time pass.
func (c *Core) Tick(now int64) {
	c.advance(now)
	c.settleUp()
}

// advance moves the clock and fires what is due.
func (c *Core) advance(now int64) {
	c.now = max(c.now, now)
	for len(c.timers.s) > 0 && c.timers.s[0].wake <= c.now {
		d := c.timers.s[0]
		c.timers.remove(d)
		c.fire(d)
	}
}

// settleUp ends an input: start what can start, then write positions if it is time.
func (c *Core) settleUp() {
	c.pump()
	if c.unsaved() && (c.now-c.checkedAt >= c.lim.CheckpointMillis || c.passed >= c.lim.CheckpointEvents) {
		c.checkpoint()
	}
	for d := c.idle.first; d != nil && (c.now-d.idleAt >= c.lim.IdleMillis || c.idle.n > c.lim.IdleCount); d = c.idle.first {
		c.forget(d)
	}
}

// fire handles a destination's timer.
func (c *Core) fire(d *dest) {
	for len(d.waiting.s) > 0 && d.waiting.s[0].next <= c.now {
		x := d.waiting.s[0]
		if x.where == atWorker {
			c.settleLease(x, hark.LeaseExpired, 0)
			continue
		}
		c.unqueue(x)
		c.toReady(x)
	}
	c.flushNotices(d)
	c.nudge(d)
}

// rearm sets a destination's timer to the earliest moment at which time alone changes something.
func (c *Core) rearm(d *dest) {
	at := int64(never)
	if len(d.waiting.s) > 0 {
		at = d.waiting.s[0].next
	}
	if d.hasReady() && d.active() && !d.set.Pull {
		if starts := c.startsAt(d); starts > c.now { // else it is in line already
			at = min(at, starts)
		}
	}
	if d.notes != nil {
		at = min(at, d.notes.until)
	}
	switch {
	case at == never:
		if d.timer >= 0 {
			c.timers.remove(d)
		}
	case d.timer < 0:
		d.wake = at
		c.timers.push(d)
	case d.wake != at:
		d.wake = at
		c.timers.fix(d)
	}
}

// nudge looks at a destination after something about it changed.
func (c *Core) nudge(d *dest) {
	if d.gone {
		c.buried(d)
		return
	}
	if d.open && len(d.all) > 1 && (!d.own || d.ahead) {
		c.leave(d, c.dispatched)
	}
	if d.unpassed < len(d.watches) {
		c.passWatches(d)
	}
	c.wantPage(d)
	c.wantReplay(d)
	if d.set.Pull {
		c.serve(d)
	} else {
		c.offer(d)
	}
	c.rearm(d)
	c.restOrWake(d)
}

func conflict(msg string) error { return &hark.Error{Kind: hark.Conflict, Code: "conflict", Msg: msg} }
