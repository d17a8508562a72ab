package deliver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

// Sender carries one event to one destination. It must respect ctx.
type Sender interface {
	Send(ctx context.Context, d *hark.Destination, e *hark.Event, attempt int) Result
}

// Config is what a [Deliverer] is made of.
type Config struct {
	Store  *store.Store
	Log    *eventlog.Log
	Sender Sender
	// Pull says whether a kind hands out instead of pushing; nil for none does.
	Pull func(kind string) bool
	// Host names what to share the per-host cap with; nil or "" for nothing.
	Host func(*hark.Destination) string
	// Filter compiles what keeps events from a destination: its filter, and what its kind
	// does not want. It returns nil for nothing; nil when there are no filters.
	Filter func(*hark.Destination) (func(*hark.Event) bool, error)
	// Disable writes down that a destination is disabled. It is called from a
	// goroutine of its own, and again after an error.
	Disable func(ctx context.Context, t hark.TenantID, id hark.DestinationID, reason string) error
	// Publish appends an operational event; nil for none.
	Publish func(ctx context.Context, t hark.TenantID, e hark.Event) error
	// Passed answers [Deliverer.Watch], once for each destination and stretch. It is
	// called with locks held: it must be quick and not call back. Nil if nothing is watched.
	Passed func(id hark.DestinationID, first hark.Offset)

	Limits Limits
	// CommitEvery is how long results wait for each other; default 5 ms.
	CommitEvery time.Duration
	// DrainFor bounds how long Run waits for attempts under way when it stops; default 15 s.
	DrainFor time.Duration
	Hooks    Hooks
}

// Hooks tell what happens. They are called without locks held, must be quick, and may be nil.
type Hooks struct {
	// Attempted is called after each attempt.
	Attempted func(d *hark.Destination, e *hark.Event, attempt int, r Result)
	// Committed is called after each commit of results and positions.
	Committed func(records int, took time.Duration)
	// Noticed is called for each operational event, before it is published.
	Noticed func(Notice)
	// Failed is called when something of ours failed and is tried again.
	Failed func(what string, err error)
}

// Deliverer runs the core: it follows the log, sends, commits and answers.
type Deliverer struct {
	cfg Config

	// commitMu is held through one commit, so that commits keep the order of the
	// core's records. It is taken before mu.
	commitMu sync.Mutex
	// written is the last group that may not be durable yet; guarded by commitMu,
	// and changed by the committer alone.
	written written
	// nested counts the changes in one commit of the registry that hold both locks.
	// Only whoever holds the registry's write lock touches it.
	nested int
	// usage is what rows cost their tenants, by bucket; guarded by commitMu.
	usage map[usageKey]*store.Usage

	mu         sync.Mutex // guards below
	core       *Core
	targets    map[hark.DestinationID]*target
	index      map[hark.TenantID]*hark.TopicIndex[*target]
	pulled     map[hark.TenantID]*hark.TopicIndex[*target] // of those that fetch: the dispatcher need not know them
	pending    []Record                                    // not yet committed, in order
	answers    []Answer
	committing []Record // in the commit under way
	spare      Out
	waiters    map[uint64]chan Answer
	lastReq    uint64
	emitted    uint64 // batches of records given to pending
	restored   bool
	stopping   bool
	failed     error
	armed      int64 // when the timer goroutine wakes
	slowest    map[hark.TenantID]hark.Offset
	slowestAt  time.Time
	// slowestMark is where the dispatcher stood then.
	slowestMark hark.Offset
	dirtyCount  []*target // filtered counts to write

	awaited    uint64 // somebody waits until these batches are durable
	committed  uint64 // batches that are durable; guarded by mu
	commitDone *sync.Cond

	reads    readQueue
	notices  chan Notice
	wake     chan struct{} // the committer has work
	hurry    chan struct{} // and somebody waits for it
	rearm    chan struct{} // the timer must be set earlier
	jobs     chan job      // to a worker that waits
	sends    sync.WaitGroup
	helpers  sync.WaitGroup
	sendCtx  context.Context
	stopSend context.CancelFunc
}

// target is a destination as the dispatcher sees it. Its fields change under mu.
type target struct {
	dest     *hark.Destination
	set      *Settings
	filter   func(*hark.Event) bool
	seen     hark.Offset // so that several patterns match once
	filtered uint64
	isDirty  bool
}

type usageKey struct {
	t hark.TenantID
	b store.Bucket
}

// New makes a Deliverer. Tell it of all destinations with Changed, then call
// Restore, then hand Attach and Changed to the registry for later changes, then Run.
func New(cfg Config) *Deliverer {
	if cfg.CommitEvery == 0 {
		cfg.CommitEvery = 5 * time.Millisecond
	}
	if cfg.DrainFor == 0 {
		cfg.DrainFor = 15 * time.Second
	}
	d := &Deliverer{cfg: cfg,
		targets: make(map[hark.DestinationID]*target),
		index:   make(map[hark.TenantID]*hark.TopicIndex[*target]),
		pulled:  make(map[hark.TenantID]*hark.TopicIndex[*target]),
		waiters: make(map[uint64]chan Answer),
		usage:   make(map[usageKey]*store.Usage),
		notices: make(chan Notice, 1024),
		wake:    make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		rearm:   make(chan struct{}, 1),
		jobs:    make(chan job),
		armed:   never,
	}
	d.commitDone = sync.NewCond(&d.mu)
	d.reads.init()
	d.sendCtx, d.stopSend = context.WithCancel(context.Background())
	return d
}

func nowMillis() int64 { return time.Now().UnixMilli() }

// Run delivers until ctx ends, then stops taking up attempts, waits a while for
// those under way, writes the last results and positions, and returns when
// nothing of it runs any more.
func (d *Deliverer) Run(ctx context.Context) error {
	if !d.restored {
		return errors.New("deliver: Run before Restore")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	commits, stopCommits := context.WithCancel(context.Background())
	defer stopCommits()
	var loops, committer sync.WaitGroup
	loops.Go(func() {
		if err := d.dispatch(ctx); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	})
	loops.Go(func() { d.tick(ctx) })
	loops.Go(func() { d.publish(ctx) })
	for range readers {
		loops.Go(func() { d.read(ctx) })
	}
	committer.Go(func() {
		if err := d.commitLoop(commits); err != nil {
			cancel(err)
		}
	})
	<-ctx.Done()
	d.stop()
	loops.Wait()
	d.drain()
	stopCommits()
	committer.Wait()
	d.mu.Lock()
	if d.failed == nil {
		d.core.Checkpoint(nowMillis())
		d.flush()
	}
	d.mu.Unlock()
	err := d.commitOnce(true)
	d.refuseAll()
	d.helpers.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// stop keeps the core's commands from starting anything new.
func (d *Deliverer) stop() {
	d.mu.Lock()
	d.stopping = true
	d.mu.Unlock()
	d.reads.close()
}

// drain waits for the attempts under way, and then gives them up.
func (d *Deliverer) drain() {
	done := make(chan struct{})
	go func() { d.sends.Wait(); close(done) }()
	patience := time.NewTimer(d.cfg.DrainFor)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	}
	d.stopSend() // ends the idle workers, and the attempts that took too long
	<-done
}

// dispatch follows the log and tells the core what matches.
func (d *Deliverer) dispatch(ctx context.Context) error {
	d.mu.Lock()
	after := d.core.Mark()
	d.mu.Unlock()
	for {
		events, err := d.cfg.Log.Next(ctx, after, dispatchMost)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("deliver: reading the log: %w", err)
		}
		after = events[len(events)-1].ID.Offset
		d.mu.Lock()
		d.pass(events)
		d.flush()
		d.mu.Unlock()
	}
}

// Removing is to be called before retention removes a tenant's events up to last,
// whatever still waits for them. Where the dispatcher has not come that far, each
// destination of the tenant goes on from a cursor of its own, so that it meets the
// hole and tells of it.
func (d *Deliverer) Removing(t hark.TenantID, last hark.Offset) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.core == nil || d.core.Mark() >= last {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(d.targets)) {
		if x := d.targets[id]; x.dest.Tenant == t {
			d.core.Overtaken(nowMillis(), id, x.set)
		}
	}
	d.flush()
}

// dispatchMost bounds how many events are matched with the lock held.
const dispatchMost = 256

// pass matches events. The caller holds mu.
func (d *Deliverer) pass(events []*hark.Event) {
	var e *hark.Event
	var m Meta
	found := func(t *target) {
		if t.seen == m.Offset {
			return
		}
		t.seen = m.Offset
		if !d.core.Wants(t.dest.ID) || !d.lets(t, e) {
			return
		}
		d.core.Match(t.dest.ID, t.set, m)
	}
	for _, e = range events {
		index := d.index[e.Tenant]
		if index == nil {
			continue
		}
		m = metaOf(e)
		index.Match(e.Topic, found)
	}
	d.core.Dispatched(nowMillis(), events[len(events)-1].ID.Offset, len(events))
}

// lets applies a destination's filter. The caller holds mu.
func (d *Deliverer) lets(t *target, e *hark.Event) bool {
	if t.filter == nil || t.filter(e) {
		return true
	}
	d.countFiltered(t, 1)
	return false
}

func (d *Deliverer) countFiltered(t *target, n uint64) {
	t.filtered += n
	if !t.isDirty {
		t.isDirty = true
		d.dirtyCount = append(d.dirtyCount, t)
	}
}

func metaOf(e *hark.Event) Meta {
	return Meta{Offset: e.ID.Offset, Key: keyHash(e.Key), Received: e.Received.UnixMilli(),
		Topic: unique.Make(e.Topic).Value(), // an exception must not keep the event alive
		Size:  int32(e.Size())}
}

// keyHash is FNV-1a: it is on disk, so it must never change. No key is 0.
func keyHash(key string) uint64 {
	if key == "" {
		return 0
	}
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return max(h, 1)
}

// tick wakes the core when time alone changes something.
func (d *Deliverer) tick(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.rearm:
		case <-timer.C:
		}
		d.mu.Lock()
		now := nowMillis()
		if d.core.NextWake() <= now {
			d.core.Tick(now)
			d.flush()
		}
		d.armed = min(d.core.NextWake(), now+60_000)
		wait := time.Duration(max(1, d.armed-now)) * time.Millisecond
		d.mu.Unlock()
		timer.Reset(wait)
	}
}

// flush carries out what the core commanded. The caller holds mu.
func (d *Deliverer) flush() {
	out := d.core.Drain(d.spare)
	hurry := len(out.Answers) > 0
	if len(out.Records)+len(out.Answers) > 0 {
		d.pending = append(d.pending, out.Records...)
		d.answers = append(d.answers, out.Answers...)
		d.emitted++
		signal(d.wake)
	}
	if hurry || len(d.pending) > hurryRecords {
		signal(d.hurry)
	}
	if !d.stopping {
		for _, s := range out.Sends {
			var dest *hark.Destination // as it stands at the attempt
			if t := d.targets[s.Dest]; t != nil {
				dest = t.dest
			}
			d.start(s, dest)
		}
		for _, r := range out.Reads {
			d.reads.push(r)
		}
	}
	for _, n := range out.Notices {
		select {
		case d.notices <- n:
		default: // thousands a second: the hooks' counters have told
		}
	}
	for _, p := range out.Passed {
		d.cfg.Passed(p.Dest, p.First)
	}
	for _, x := range out.Disables {
		d.helpers.Go(func() { d.disable(x) })
	}
	if d.core.NextWake() < d.armed {
		d.armed = d.core.NextWake()
		signal(d.rearm)
	}
	out.Reset()
	d.spare = out
}

// hurryRecords is how many records are worth a commit at once.
const hurryRecords = 2000

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// attempt sends one event and tells the core what came of it.
func (d *Deliverer) attempt(s Send, dest *hark.Destination) {
	defer d.sends.Done()
	started := time.Now()
	r, e := d.try(s, dest)
	r.Started = started
	r.Duration = time.Since(started)
	if d.sendCtx.Err() != nil && r.Outcome != hark.OK {
		return // given up while stopping: the row is due, or becomes so
	}
	if d.cfg.Hooks.Attempted != nil && e != nil {
		d.cfg.Hooks.Attempted(dest, e, s.Attempt, r)
	}
	d.mu.Lock()
	d.core.Done(nowMillis(), s.Dest, s.Offset, s.Attempt, r)
	d.flush()
	d.mu.Unlock()
}

func (d *Deliverer) try(s Send, dest *hark.Destination) (Result, *hark.Event) {
	if dest == nil { // removed a moment ago
		return Result{Ours: true}, nil
	}
	e, err := d.cfg.Log.Event(s.Tenant, s.Offset)
	if err != nil {
		if k := hark.KindOf(err); k == hark.Gone || k == hark.NotFound {
			return Result{Gone: true}, nil
		}
		d.oops("reading an event", err)
		return Result{Ours: true, Outcome: hark.Unsendable, Error: "the event could not be read"}, nil
	}
	return d.cfg.Sender.Send(d.sendCtx, dest, e, s.Attempt), e
}

func (d *Deliverer) oops(what string, err error) {
	if d.cfg.Hooks.Failed != nil {
		d.cfg.Hooks.Failed(what, err)
	}
}

// disable has it written down that a destination is disabled.
func (d *Deliverer) disable(x Disable) {
	if d.cfg.Disable == nil {
		return
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := d.cfg.Disable(d.sendCtx, x.Tenant, x.Dest, x.Reason)
		if err == nil || hark.KindOf(err) == hark.NotFound {
			return
		}
		d.oops("disabling a destination", err)
		d.mu.Lock()
		stopping := d.stopping
		d.mu.Unlock()
		if stopping {
			return // the next failure after the restart disables it
		}
		time.Sleep(wait)
	}
}
