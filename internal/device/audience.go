package device

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/store"
)

// Log is what pushing needs of the event log.
type Log interface {
	AppendWith(ctx context.Context, t hark.TenantID, events []hark.Event, idem eventlog.Idempotency, attach eventlog.Attach) (eventlog.Appended, error)
	Event(t hark.TenantID, o hark.Offset) (*hark.Event, error)
	Bucket(o hark.Offset) store.Bucket
	ID(o hark.Offset) hark.EventID
}

// Sender sends to one device; [push.Sender] is one.
type Sender interface {
	// Compose says what an event says to an audience.
	Compose(a *hark.Destination, e *hark.Event) (*push.Composed, error)
	// Send tries once.
	Send(ctx context.Context, a *hark.Destination, d *hark.Device, c *push.Composed, now time.Time) push.Result
}

// Beginner is a [Sender] that need not have a goroutine wait for each answer; [push.Sender] is one.
type Beginner interface {
	// Begin is Send, but done gets the result, from a goroutine that it must not hold up. False
	// if it cannot now: then Send is to be used.
	Begin(ctx context.Context, a *hark.Destination, d *hark.Device, c *push.Composed, now time.Time, done func(push.Result)) bool
	// Behind is for how long a message that was begun has waited until it was worked at; false
	// if there is nothing that Begin would begin with.
	Behind() (time.Duration, bool)
}

// AudienceConfig is what [Audiences] are made of.
type AudienceConfig struct {
	Devices *Devices
	Log     Log
	Sender  Sender
	// Charge counts what is kept beside a tenant's delivery rows; nil for nobody does.
	Charge func(t hark.TenantID, b store.Bucket, bytes int) error
	Limits Limits
	Hooks  Hooks
}

// Limits bound what is under way. A zero takes the default.
type Limits struct {
	Flight int // sends under way at most (512); see pace.go
	// Page is how many devices of one job may be tried and not committed (1,000).
	Page int
	// Patience is how long a device may hold up its page (2 s).
	Patience time.Duration
	// Batches is how many batches of retries are under way (16), Batch how large one is (500).
	Batches, Batch int
	// HoldFor is how long a platform whose credentials are refused is left alone (3 min).
	HoldFor time.Duration
	// MinWait is the least wait before a retry (500 ms), BaseWait and MaxWait bound the
	// exponential one (2 s, 10 min).
	MinWait, BaseWait, MaxWait time.Duration
	// Narrow is the least wait after a fault of settings that not all of a platform meets
	// with (5 min).
	Narrow time.Duration
	// Lease is when a message that was under way when its page was committed is tried again
	// if nothing came of it, as after a crash: longer than a try can take (1 min).
	Lease time.Duration
	// Quarantine is how long a suspect device is left alone (12 h).
	Quarantine time.Duration
	// Stop is how long a stop waits for sends under way (5 s).
	Stop time.Duration
}

func (l Limits) withDefaults() Limits {
	l.Flight = cmp.Or(l.Flight, 512)
	l.Page = cmp.Or(l.Page, 1000)
	l.Patience = cmp.Or(l.Patience, 2*time.Second)
	l.Batches = cmp.Or(l.Batches, 16)
	l.Batch = cmp.Or(l.Batch, 500)
	l.HoldFor = cmp.Or(l.HoldFor, 3*time.Minute)
	l.MinWait = cmp.Or(l.MinWait, 500*time.Millisecond)
	l.BaseWait = cmp.Or(l.BaseWait, 2*time.Second)
	l.MaxWait = cmp.Or(l.MaxWait, 10*time.Minute)
	l.Narrow = cmp.Or(l.Narrow, 5*time.Minute)
	l.Lease = cmp.Or(l.Lease, time.Minute)
	l.Quarantine = cmp.Or(l.Quarantine, 12*time.Hour)
	l.Stop = cmp.Or(l.Stop, 5*time.Second)
	return l
}

// maxStrikes is how many refusals make a suspect device one that is gone, and strikesSpan
// how long they must go back.
const (
	maxStrikes  = 3
	strikesSpan = 24 * time.Hour
)

// Hooks tell what happens. They must be quick, and may be nil.
type Hooks struct {
	// Sent is called after each try.
	Sent func(platform string, r push.Result)
	// Pushed is called after each job that came to its end.
	Pushed func(a *hark.Destination, took time.Duration, t Tally)
	// Told is called for each operational event.
	Told func(topic string, a *hark.Destination, reason string)
	// Failed is called when something of ours failed and is tried again.
	Failed func(what string, err error)
}

// Audiences push events to devices. They are safe for concurrent use.
type Audiences struct {
	*Devices
	cfg    AudienceConfig
	lim    Limits
	begins Beginner // the sender, if it is one
	lanes  *lanes
	tasks  chan task // to a worker that waits
	holds  holds
	retry  retries
	notes  notes
	late   lateness
	closed chan struct{} // nothing begins any more

	sendCtx  context.Context
	stopSend context.CancelFunc
	sends    sync.WaitGroup // under way
	runs     sync.WaitGroup // jobs and batches of retries
	mu       sync.Mutex     // guards stopping, beside runs.Add
	stopping bool
}

// NewAudiences makes what pushes to devices, and finds out what is to be pushed again.
func NewAudiences(cfg AudienceConfig) (*Audiences, error) {
	a := &Audiences{Devices: cfg.Devices, cfg: cfg, lim: cfg.Limits.withDefaults(), tasks: make(chan task), closed: make(chan struct{})}
	a.begins, _ = cfg.Sender.(Beginner)
	a.lanes = newLanes(min(startPace, a.lim.Flight))
	a.sendCtx, a.stopSend = context.WithCancel(context.Background())
	a.holds.init()
	a.late.init()
	a.notes.init()
	if err := a.retry.init(a); err != nil {
		return nil, fmt.Errorf("reading what is to be pushed again: %w", err)
	}
	return a, nil
}

// Run pushes again what failed, until ctx ends; then it ends jobs and batches, whose
// positions are kept, and returns when nothing of it is under way.
func (a *Audiences) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { a.retryLoop(ctx) })
	loops.Go(func() { a.paceLoop(ctx) })
	loops.Go(func() { a.lateLoop() })
	loops.Go(func() { a.notesLoop(ctx) })
	<-ctx.Done()
	a.mu.Lock()
	a.stopping = true
	a.mu.Unlock()
	close(a.closed)
	patience := time.AfterFunc(a.lim.Stop, a.stopSend)
	a.runs.Wait()
	a.sends.Wait()
	patience.Stop()
	a.stopSend() // ends the idle workers
	a.late.close()
	loops.Wait()
	return nil
}

// begin counts a job or a batch, unless we are stopping.
func (a *Audiences) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		return false
	}
	a.runs.Add(1)
	return true
}

func (a *Audiences) oops(what string, err error) {
	if a.cfg.Hooks.Failed != nil {
		a.cfg.Hooks.Failed(what, err)
	}
}

// Result is how the pushing of an event to an audience ended.
type Result struct {
	Outcome hark.Outcome
	// Snippet is the [Tally] as JSON.
	Snippet []byte
	Error   string
	// Ours says that it goes on later, from where it came to.
	Ours bool
}

var (
	errStopping = errors.New("stopping")
	errPaused   = errors.New("the audience is paused")
	errGone     = errors.New("the audience is gone")
)

// Push pushes an event to every device of an audience that wants it, from where an earlier
// call was stopped. It returns when each was tried once; what failed for a while is tried
// again without it.
func (a *Audiences) Push(ctx context.Context, dest *hark.Destination, e *hark.Event) Result {
	if !a.begin() {
		return Result{Ours: true, Error: errStopping.Error()}
	}
	defer a.runs.Done()
	began := time.Now()
	saved, found, err := a.store.PushJob(dest.Tenant, dest.ID, e.ID.Offset)
	j := job{top: hark.DeviceID(a.numbers.top())}
	if found {
		j, err = decodeJob(saved)
	}
	if err != nil {
		a.oops("reading a push job", err)
		return Result{Ours: true, Error: "the position of the push could not be read"}
	}
	composed, err := a.cfg.Sender.Compose(dest, e)
	if err != nil {
		return Result{Outcome: hark.Unsendable, Error: err.Error()}
	}
	w := a.newWindow(dest, &jobSource{a: a, app: App(dest), message: &message{event: e, composed: composed}, position: j.position, top: j.top})
	j.offset = e.ID.Offset
	w.job, w.saved = &j, found
	switch err := w.run(ctx); {
	case err == nil:
	case errors.Is(err, errStopping), errors.Is(err, errPaused), errors.Is(err, errGone):
		return Result{Ours: true, Error: err.Error()}
	default:
		a.oops("pushing "+e.ID.String()+" to "+dest.ID.String(), err)
		return Result{Ours: true, Error: "something of ours failed; it goes on from where it came to"}
	}
	if a.cfg.Hooks.Pushed != nil {
		a.cfg.Hooks.Pushed(dest, time.Since(began), j.tally)
	}
	return Result{Outcome: hark.OK, Snippet: j.tally.text()}
}
