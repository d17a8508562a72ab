package batch

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

// Log is what a batch needs of the event log.
type Log interface {
	AppendWith(ctx context.Context, t hark.TenantID, events []hark.Event, idem eventlog.Idempotency, attach eventlog.Attach) (eventlog.Appended, error)
	Locate(id hark.EventID) (hark.Offset, error)
	ID(o hark.Offset) hark.EventID
	Bucket(o hark.Offset) store.Bucket
	Buckets() []store.BucketStarted
	End() hark.Offset
}

// Engine is what it needs of the delivery engine; see package deliver.
type Engine interface {
	Matching(t hark.TenantID, topics []string, found func(topic int, id hark.DestinationID) bool)
	Watch(t hark.TenantID, ids []hark.DestinationID, first hark.Offset, n int)
	Unwatch(ids []hark.DestinationID, first hark.Offset)
	Fates(t hark.TenantID, id hark.DestinationID, first hark.Offset, n int) ([]hark.State, bool, error)
	Charge(t hark.TenantID, b store.Bucket, bytes int) error
	Sync() error
}

// Courier sends the event that tells to one destination.
type Courier interface {
	// Send makes a delivery of an event, durably.
	Send(ctx context.Context, t hark.TenantID, to hark.DestinationID, event hark.EventID) error
	// Delivery returns one, or hark.NotFound.
	Delivery(t hark.TenantID, id hark.DeliveryID) (*hark.Delivery, error)
}

// Directory is what it needs of the registry.
type Directory interface {
	Destination(t hark.TenantID, id hark.DestinationID) (*hark.Destination, error)
	EnsureCallback(t hark.TenantID, d *hark.Destination) (now *hark.Destination, created bool, err error)
}

// Config is what [Batches] are made of.
type Config struct {
	Store     *store.Store
	Log       Log
	Engine    Engine
	Courier   Courier
	Directory Directory
	// MaxEventBytes bounds one event, as the log does; default [hark.MaxEventBytes].
	MaxEventBytes int
	Limits        Limits
	Hooks         Hooks
}

// Hooks tell what happens; nil ones are skipped. They must be quick.
type Hooks struct {
	// Ended is called for each batch that was completed or expired.
	Ended func(t hark.TenantID, id hark.BatchID, state hark.BatchState, counts hark.BatchCounts)
	// Failed is called when something of ours failed and is tried again.
	Failed func(what string, err error)
}

// Limits bound how much is waited for. A zero takes the default.
type Limits struct {
	TenantOpen int // open batches of one tenant (100,000)
	// TenantWatches bounds what a tenant's open batches wait for: destinations, each
	// counted for each batch (250,000). Watches bounds it for all tenants (1,000,000).
	TenantWatches, Watches int
}

func (l Limits) withDefaults() Limits {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&l.TenantOpen, 100_000)
	def(&l.TenantWatches, 250_000)
	def(&l.Watches, 1_000_000)
	return l
}

// Batches accepts batches and tells their ends. It is safe for concurrent use.
type Batches struct {
	cfg Config

	mu     sync.Mutex // guards below
	open   map[hark.Offset]*open
	due    deadlines
	done   []*open // to be ended now
	owed   []owed  // to be sent
	held   map[hark.TenantID]*holding
	places int // watches of all tenants
	claims map[claim]chan struct{}

	wake chan struct{} // something is done or owed, or an earlier deadline came
}

// New makes Batches that know of nothing yet: see [Batches.Restore].
func New(cfg Config) *Batches {
	cfg.Limits, cfg.MaxEventBytes = cfg.Limits.withDefaults(), cmp.Or(cfg.MaxEventBytes, hark.MaxEventBytes)
	return &Batches{cfg: cfg,
		open:   make(map[hark.Offset]*open),
		held:   make(map[hark.TenantID]*holding),
		claims: make(map[claim]chan struct{}),
		wake:   make(chan struct{}, 1),
	}
}

// Restore reads what was open and what was owed when the last process ended, and
// has the engine watch it. The engine must be restored; call it before Run.
func (b *Batches) Restore() error {
	var failed error
	err := b.cfg.Store.OpenBatches(func(s store.SavedBatch) {
		r, err := decodeRow(s.Value)
		if err != nil {
			failed = err
			return
		}
		if !b.reserve(s.Tenant, len(r.To), true) {
			return // forced: it cannot be refused
		}
		b.await(s.Tenant, s.Offset, r)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return b.cfg.Store.OwedBatches(func(t hark.TenantID, batch, told hark.Offset, to hark.DestinationID) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.owed = append(b.owed, owed{tenant: t, batch: batch, told: told, to: to})
	})
}

// pause is how long Run waits after something failed, or a destination had no room for more.
const pause = 2 * time.Second

// Run ends batches and sends what tells of them until ctx ends. What it has begun it
// brings to an end; the rest is for the next start.
func (b *Batches) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		case <-timer.C:
		}
		failed := b.endSome(ctx)
		waits := b.sendSome(ctx)
		next := b.untilDeadline(time.Now())
		if failed || waits {
			next = min(next, pause)
		}
		timer.Reset(next)
	}
}

func (b *Batches) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *Batches) oops(what string, err error) {
	if b.cfg.Hooks.Failed != nil {
		b.cfg.Hooks.Failed(what, err)
	}
}

// Open returns how many batches are open.
func (b *Batches) Open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// abreast is how many batches are ended, or told, at the same moment: they share commits.
const abreast = 32

// each calls do for every item, several at once.
func each[T any](items []T, do func(T)) {
	var wg sync.WaitGroup
	room := make(chan struct{}, abreast)
	for _, x := range items {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			do(x)
		})
	}
	wg.Wait()
}
