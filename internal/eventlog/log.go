package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// Group limits of the committer: what one synced batch holds at most, unless it
// is a single larger client batch.
const (
	GroupEvents = 512
	GroupBytes  = 1 << 20
)

// Policy is what a tenant may keep and how long.
type Policy struct {
	// MaxAge and MaxBytes bound its events; 0 for no bound.
	MaxAge   time.Duration
	MaxBytes uint64
	// Reject answers 429 to a publish over MaxBytes; otherwise the tenant loses its own oldest.
	Reject bool
	// DeliveryAge and DeliveryBytes bound its delivery rows; 0 for no bound.
	DeliveryAge   time.Duration
	DeliveryBytes uint64
}

// DefaultPolicy is what a tenant gets that has no settings of its own.
var DefaultPolicy = Policy{
	MaxAge: 7 * 24 * time.Hour, MaxBytes: 10 << 30,
	DeliveryAge: 30 * 24 * time.Hour, DeliveryBytes: 5 << 30,
}

// Config says how a log behaves. The zero value of each but Store is usable.
type Config struct {
	Store *store.Store
	// MaxEventBytes bounds one event; default [hark.MaxEventBytes].
	MaxEventBytes int
	// QueueBytes bounds what waits for the committer; one tenant may hold a quarter. Default 64 MiB.
	QueueBytes int
	// TailBytes and TailEvents bound what is kept in memory for readers that keep up. Default 32 MiB, 65536.
	TailBytes  int
	TailEvents int
	// BucketBytes and BucketAge say when a new bucket begins: the grain of retention. Default 256 MiB, 1 h.
	BucketBytes uint64
	BucketAge   time.Duration
	// DiskFloor is the free space below which publishing is refused; 0 for the
	// larger of 1 GiB and 5 % of the disk, negative for none.
	DiskFloor int64
	// BallastFile, when set, is a file that is given back to the disk when it is full.
	BallastFile string
	// MaxHold is how long retention by age waits for the slowest cursor; default [hark.MaxHold].
	MaxHold time.Duration
	// RetainEvery is the pause between two rounds of retention; default 10 s.
	RetainEvery time.Duration
	// Policy returns a tenant's; nil for [DefaultPolicy].
	Policy func(hark.TenantID) Policy
	// Hold returns the position of a tenant's slowest cursor, false for none.
	// It is called by retention only. It may be set later with [Log.SetHold].
	Hold func(hark.TenantID) (hark.Offset, bool)
	// Now is the clock; nil for [time.Now].
	Now func() time.Time
	// Hooks tell what happens.
	Hooks Hooks
}

// Hooks are called synchronously and must be quick; nil ones are skipped.
type Hooks struct {
	// Committed is called after each group: events and bytes in it, and how long the commit took.
	Committed func(events, bytes int, took time.Duration)
	// Removing is called before retention takes a tenant's events up to last away.
	Removing func(t hark.TenantID, last hark.Offset)
	// Removed is called when retention took a tenant's bucket.
	Removed func(t hark.TenantID, events uint64, why string)
	// Disk is called when publishing stops or starts again for want of space.
	Disk func(low bool, free uint64)
}

func (c Config) withDefaults() Config {
	def(&c.MaxEventBytes, hark.MaxEventBytes)
	def(&c.QueueBytes, 64<<20)
	def(&c.TailBytes, 32<<20)
	def(&c.TailEvents, 1<<16)
	def(&c.BucketBytes, 256<<20)
	def(&c.BucketAge, time.Hour)
	def(&c.MaxHold, hark.MaxHold)
	def(&c.RetainEvery, 10*time.Second)
	if c.Policy == nil {
		c.Policy = func(hark.TenantID) Policy { return DefaultPolicy }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func def[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// Log is the log of one shard.
type Log struct {
	cfg   Config
	store *store.Store
	shard uint16

	incarnations []store.IncarnationStarted // oldest first; never changes while open
	end          atomic.Uint64              // last synced offset
	queue        queue
	index        index
	tail         tail
	twins        twins
	seen         seen
	disk         disk
	retaining    sync.Mutex // one round of retention at a time
	hold         atomic.Pointer[func(hark.TenantID) (hark.Offset, bool)]
}

// Open reads where the log stands. Appending works once [Log.Run] runs.
func Open(cfg Config) (*Log, error) {
	l := &Log{cfg: cfg.withDefaults(), store: cfg.Store}
	if cfg.Hold != nil {
		l.SetHold(cfg.Hold)
	}
	l.queue.init(l.cfg.QueueBytes)
	l.twins.init()
	l.seen.init()
	if err := l.openIncarnations(); err != nil {
		return nil, err
	}
	if err := l.index.load(l.store); err != nil {
		return nil, err
	}
	end := max(l.index.last(), l.current().First-1)
	l.end.Store(uint64(end))
	l.tail.init(end, l.cfg.TailEvents, l.cfg.TailBytes)
	l.disk.init(l.store, l.cfg)
	return l, nil
}

func (l *Log) openIncarnations() (err error) {
	if l.incarnations, err = l.store.Incarnations(); err != nil || len(l.incarnations) > 0 {
		return err
	}
	// Seconds since 1970, so that a folder that was wiped and made again does not repeat ids.
	first := store.IncarnationStarted{Incarnation: uint64(l.cfg.Now().Unix()), First: 1}
	l.incarnations = append(l.incarnations, first)
	return l.store.Commit(&first)
}

// Run commits and retains until ctx ends; it refuses new requests then, answers
// those that wait, and returns when nothing of it runs any more.
func (l *Log) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	background, stop := context.WithCancel(context.Background())
	wg.Go(func() { l.retainLoop(background) })
	wg.Go(func() { l.disk.watch(background) })
	release := context.AfterFunc(ctx, l.queue.close)
	err := l.commitLoop()
	release()
	stop()
	wg.Wait()
	l.tail.close()
	return err
}

// SetHold sets what retention by age waits for.
func (l *Log) SetHold(hold func(hark.TenantID) (hark.Offset, bool)) { l.hold.Store(&hold) }

// End is the offset of the last event that is synced; 0 for an empty log.
func (l *Log) End() hark.Offset { return hark.Offset(l.end.Load()) }

func (l *Log) current() store.IncarnationStarted { return l.incarnations[len(l.incarnations)-1] }

// ID returns the id of the event at o, or the cursor that stands there.
func (l *Log) ID(o hark.Offset) hark.EventID {
	id := hark.EventID{Shard: l.shard, Incarnation: l.incarnations[0].Incarnation, Offset: o}
	for _, i := range slices.Backward(l.incarnations) {
		if o >= i.First {
			id.Incarnation = i.Incarnation
			break
		}
	}
	return id
}

// EndCursor is the position after the last synced event. In an empty incarnation
// it carries that incarnation all the same, so that it is never taken for a lost one.
func (l *Log) EndCursor() hark.Cursor { return l.Cursor(l.End()) }

// Cursor returns the position o as text carries it.
func (l *Log) Cursor(o hark.Offset) hark.Cursor {
	if c := l.current(); o+1 >= c.First {
		return hark.EventID{Shard: l.shard, Incarnation: c.Incarnation, Offset: o}
	}
	return l.ID(o)
}

// Locate returns the offset of an event id, or hark.NotFound for an id that this
// log never gave out or lost with a restore.
func (l *Log) Locate(id hark.EventID) (hark.Offset, error) {
	if o := id.Offset; o > 0 && o <= l.End() && l.ID(o) == id {
		return o, nil
	}
	return 0, hark.NoSuch("event", id.String())
}

// Position returns where reading goes on after a cursor. A cursor of a lost
// incarnation is moved to where the log went on, and gap tells so. A cursor that
// this log never gave out is refused.
func (l *Log) Position(c hark.Cursor) (after hark.Offset, gap *hark.Gap, err error) {
	o, is := l.place(c)
	if is == foreign || is == known && o > l.End() || c.Shard != l.shard {
		return 0, nil, &hark.Error{Kind: hark.Invalid, Code: "bad-cursor", Field: "after",
			Msg: fmt.Sprintf("the cursor %s is not one of this log; leave it out to start at now, or use from=earliest", c)}
	}
	if is == lost {
		gap = &hark.Gap{From: c, To: l.Cursor(o), Reason: hark.GapRestore}
	}
	return o, gap, nil
}

// What a position is to this log.
const (
	known   = iota
	lost    // its incarnation is not known, or ended before it
	foreign // its incarnation began after it
)

func (l *Log) place(c hark.Cursor) (o hark.Offset, is int) {
	for i, inc := range l.incarnations {
		switch {
		case inc.Incarnation > c.Incarnation:
			return inc.First - 1, lost
		case inc.Incarnation < c.Incarnation:
			continue
		case c.Offset+1 < inc.First && i > 0:
			return 0, foreign
		case i+1 < len(l.incarnations) && c.Offset >= l.incarnations[i+1].First:
			return l.incarnations[i+1].First - 1, lost
		}
		return c.Offset, known
	}
	return l.End(), lost // of an incarnation newer than all: this folder is an older backup
}

// Erase stops a tenant's publishing, refuses what it has waiting, and returns the
// record that takes away everything it has, for the caller to commit with its own
// changes. done must be called with whether that commit went through; a tenant
// erased never publishes again. The log must be running.
func (l *Log) Erase(t hark.TenantID) (rec store.Record, done func(ok bool), err error) {
	erased := &store.TenantErased{Tenant: t}
	err = l.queue.control(func(*writer) error {
		for _, r := range l.queue.bar(t) {
			r.done <- hark.NoSuch("tenant", "any more: it is being deleted")
		}
		erased.End = l.End() // no group is under way
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return erased, func(ok bool) {
		if ok {
			l.index.erase(t, erased.End)
			l.seen.forget(t, ^uint32(0))
		} else {
			l.queue.unbar(t)
		}
	}, nil
}

var errStopped = &hark.Error{Kind: hark.Unavailable, Code: "stopping", Msg: "the server is stopping; try again", RetryAfter: time.Second}

// IsStopped reports whether err says that the log no longer runs.
func IsStopped(err error) bool { return errors.Is(err, errStopped) }
