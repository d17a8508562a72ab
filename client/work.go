package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/harkhq/hark"
)

// ErrLeaseLost is the cause of a handler's cancelled context when its delivery belongs
// to another worker by now: the server could not be reached for too long, or somebody
// cancelled the delivery.
var ErrLeaseLost = errors.New("client: the lease of this delivery ended")

// RetryIn wraps the error of a handler: the delivery is handed out again after delay
// instead of by the destination's schedule.
func RetryIn(delay time.Duration, err error) error {
	if err == nil {
		err = errors.New("client: to be retried")
	}
	return &retryIn{err, max(delay, 0)}
}

type retryIn struct {
	error
	delay time.Duration
}

func (r *retryIn) Unwrap() error { return r.error }

type leaseKey struct{}

// LeaseFrom returns, inside a handler of [Client.Work], the lease that it works under.
func LeaseFrom(ctx context.Context) (Lease, bool) {
	l, ok := ctx.Value(leaseKey{}).(Lease)
	return l, ok
}

const (
	workWait  = 20 * time.Second // of one pull
	workBatch = 100              // deliveries in one request
	workFlush = 10 * time.Second // to settle what is done after ctx ended
)

// Work pulls from a destination of kind pull and calls handle for each event, up to
// concurrency at once, until ctx ends. Several programs may work on one destination:
// each delivery goes to one of them at a time.
//
// When handle returns nil the delivery is acked; else it is nacked and comes again by
// the destination's schedule, or as [RetryIn] says. While handle runs its lease is
// extended, for hours if need be. A delivery may come twice (a worker may die between
// its work and its ack), so handle must tolerate that.
//
// When ctx ends, handlers' contexts end too; Work waits for them, settles what they
// did, and returns nil. It returns an error when going on is of no use: the key is
// refused, or there is no such destination. Everything else, an unreachable server
// among it, is tried again for ever.
func (c *Client) Work(ctx context.Context, from hark.DestinationID, concurrency int, handle func(context.Context, hark.Event) error) error {
	return c.work(ctx, from, concurrency, hark.DefaultLease, handle)
}

func (c *Client) work(ctx context.Context, from hark.DestinationID, concurrency int, lease time.Duration, handle func(context.Context, hark.Event) error) error {
	if concurrency < 1 {
		return fmt.Errorf("client: a concurrency of %d does no work", concurrency)
	}
	w := &worker{c: c, from: from, lease: lease, handle: handle, jobs: map[hark.DeliveryID]*job{},
		slots: make(chan struct{}, concurrency), done: make(chan settled, concurrency)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var helpers, handlers sync.WaitGroup
	keep, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	helpers.Go(func() { w.keepLeases(keep) })
	helpers.Go(func() { w.settleAll(ctx) })
	err := w.pullAll(ctx, &handlers)
	cancel()
	handlers.Wait()
	stopKeeping()
	close(w.done)
	helpers.Wait()
	return err
}

type worker struct {
	c      *Client
	from   hark.DestinationID
	lease  time.Duration
	handle func(context.Context, hark.Event) error

	slots chan struct{} // one for each delivery between pull and settling
	done  chan settled

	mu   sync.Mutex // guards below
	jobs map[hark.DeliveryID]*job
}

type job struct {
	lease  Lease
	until  time.Time
	cancel context.CancelCauseFunc
}

// settled is a handler's verdict.
type settled struct {
	lease Lease
	ack   bool
	delay time.Duration // of a nack; negative for the schedule's
}

func (w *worker) pullAll(ctx context.Context, handlers *sync.WaitGroup) error {
	for failures := 0; ; {
		n := w.takeSlots(ctx)
		if n == 0 {
			return nil
		}
		asked := time.Now()
		leases, err := w.c.Pull(ctx, w.from, PullOptions{Max: n, Lease: w.lease, Wait: workWait})
		leases = leases[:min(n, len(leases))] // no more than was asked for
		for range n - len(leases) {
			<-w.slots
		}
		if ctx.Err() != nil && err != nil {
			return nil
		}
		if err != nil {
			if hopeless(err) {
				return err
			}
			sleep(ctx, again(failures, err))
			failures++
			continue
		}
		failures = 0
		for _, l := range leases {
			w.start(ctx, handlers, l, asked)
		}
	}
}

// takeSlots waits for one slot and takes what else is free.
func (w *worker) takeSlots(ctx context.Context) int {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; n < workBatch; n++ {
		select {
		case w.slots <- struct{}{}:
		default:
			return n
		}
	}
	return workBatch
}

func hopeless(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status/100 == 4 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusRequestTimeout && e.Status != http.StatusConflict
}

func (w *worker) start(ctx context.Context, handlers *sync.WaitGroup, l Lease, asked time.Time) {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, leaseKey{}, l))
	// By our own clock, counted from before the request: never later than the server's.
	j := &job{lease: l, until: asked.Add(w.lease), cancel: cancel}
	w.mu.Lock()
	w.jobs[l.Delivery] = j
	w.mu.Unlock()
	handlers.Go(func() {
		defer cancel(nil)
		err := w.handle(ctx, l.Event)
		w.mu.Lock()
		lost := w.jobs[l.Delivery] != j
		if !lost {
			delete(w.jobs, l.Delivery)
		}
		w.mu.Unlock()
		if lost {
			<-w.slots
			return
		}
		s := settled{lease: l, ack: err == nil, delay: -1}
		if r, ok := errors.AsType[*retryIn](err); ok {
			s.delay = r.delay
		}
		w.done <- s
	})
}

// settleAll sends verdicts, as many in one request as there are at the moment.
func (w *worker) settleAll(ctx context.Context) {
	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(workFlush, cancel) })()
	for first := range w.done {
		batch := []settled{first}
	more:
		for len(batch) < workBatch {
			select {
			case s, open := <-w.done:
				if !open {
					break more
				}
				batch = append(batch, s)
			default:
				break more
			}
		}
		w.settle(detached, batch)
		for range batch {
			<-w.slots
		}
	}
}

func (w *worker) settle(ctx context.Context, batch []settled) {
	var acks []Lease
	nacks := map[time.Duration][]Lease{}
	for _, s := range batch {
		if s.ack {
			acks = append(acks, s.lease)
		} else {
			nacks[s.delay] = append(nacks[s.delay], s.lease)
		}
	}
	// An error leaves the lease to its end, and the delivery comes again: nothing is lost.
	w.each(acks, func(ls ...Lease) error { return w.c.Ack(ctx, w.from, ls...) })
	for delay, ls := range nacks {
		w.each(ls, func(ls ...Lease) error { return w.c.Nack(ctx, w.from, delay, ls...) })
	}
}

// each does something for all leases at once or, when the server says that one of
// them is stale, for one after the other. It returns those that are stale.
func (w *worker) each(leases []Lease, do func(...Lease) error) (stale []Lease, err error) {
	err = do(leases...)
	if hark.KindOf(err) != hark.Conflict {
		return nil, err
	}
	if len(leases) == 1 {
		return leases, nil
	}
	err = nil
	for _, l := range leases {
		one := do(l)
		if hark.KindOf(one) == hark.Conflict {
			stale = append(stale, l)
		} else if one != nil {
			err = one
		}
	}
	return stale, err
}

// keepLeases extends the lease of what is being worked on, well before it ends.
func (w *worker) keepLeases(ctx context.Context) {
	tick := time.NewTicker(w.lease / 6)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.extend(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (w *worker) extend(ctx context.Context) {
	now := time.Now()
	var old []Lease
	w.mu.Lock()
	for id, j := range w.jobs {
		switch left := j.until.Sub(now); {
		case left <= 0:
			w.loseLocked(id)
		case left < w.lease*2/3:
			old = append(old, j.lease)
		}
	}
	w.mu.Unlock()
	for len(old) > 0 {
		n := min(len(old), workBatch)
		w.extendSome(ctx, old[:n])
		old = old[n:]
	}
}

func (w *worker) extendSome(ctx context.Context, leases []Lease) {
	ctx, cancel := context.WithTimeout(ctx, w.lease/3)
	defer cancel()
	asked := time.Now()
	stale, err := w.each(leases, func(ls ...Lease) error { return w.c.Extend(ctx, w.from, w.lease, ls...) })
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range stale {
		w.loseLocked(l.Delivery)
	}
	if err != nil {
		return // tried again at the next tick, until the lease has ended
	}
	for _, l := range leases {
		if j := w.jobs[l.Delivery]; j != nil && j.lease.Token == l.Token {
			j.until = asked.Add(w.lease)
		}
	}
}

// loseLocked gives up a delivery: w.mu must be held.
func (w *worker) loseLocked(id hark.DeliveryID) {
	if j := w.jobs[id]; j != nil {
		delete(w.jobs, id)
		j.cancel(ErrLeaseLost)
	}
}
