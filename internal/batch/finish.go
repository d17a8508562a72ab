package batch

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

// endTimeout bounds how long the event that tells waits for its turn in the log.
const endTimeout = 30 * time.Second

// endSome ends the batches whose time has come, and reports whether one must be tried again.
func (b *Batches) endSome(ctx context.Context) (again bool) {
	done := b.takeDone(time.Now())
	if len(done) == 0 {
		return false
	}
	// What the engine decided must be durable before it is told.
	if err := b.cfg.Engine.Sync(); err != nil {
		b.again(done...)
		return true
	}
	var failed atomic.Bool
	var once sync.Once // they fail for one reason, such as a full disk
	each(done, func(o *open) {
		if ctx.Err() != nil {
			b.again(o)
			return
		}
		if err := b.end(o); err != nil {
			once.Do(func() { b.oops("ending a batch", err) })
			b.again(o)
			failed.Store(true)
		}
	})
	return failed.Load()
}

// again puts back batches that could not be ended.
func (b *Batches) again(done ...*open) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = append(b.done, done...)
}

// end counts, and commits the event that tells with the row in its last form.
func (b *Batches) end(o *open) error {
	t, bucket := o.tenant, b.cfg.Log.Bucket(o.first)
	saved, found, err := b.cfg.Store.Batch(t, bucket, o.first)
	if err != nil {
		return err
	}
	if !found || saved.Ended { // forgotten, or its tenant is gone
		b.drop(o)
		return nil
	}
	r, err := decodeRow(saved.Value)
	if err != nil {
		return err
	}
	r.State, r.Ended = o.state, time.Now().UTC().Truncate(time.Millisecond)
	report, err := b.report(t, o.first, r)
	if err != nil {
		return err
	}
	if r.State == hark.BatchExpired {
		b.cfg.Engine.Unwatch(r.ids(), o.first)
	}
	value := r.encode()
	// Retention must know of the row before it is there, or it would stay for ever.
	if err := b.cfg.Engine.Charge(t, bucket, len(value)); err != nil {
		return err
	}
	ended := &store.BatchEnded{Tenant: t, Bucket: bucket, Offset: o.first, Value: value, To: hark.DestinationID(r.Callback)}
	if err := b.tell(t, r, report, ended); err != nil {
		return fmt.Errorf("telling the end of %v: %w", report.Batch, err)
	}
	if b.cfg.Hooks.Ended != nil {
		b.cfg.Hooks.Ended(t, report.Batch, r.State, report.Counts)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(o)
	if ended.To != 0 {
		b.owed = append(b.owed, owed{tenant: t, batch: o.first, told: ended.Told, to: ended.To})
	}
	return nil
}

// tell appends the event that tells, with the row.
func (b *Batches) tell(t hark.TenantID, r *row, report *hark.BatchReport, ended *store.BatchEnded) error {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	for {
		event := hark.Event{Topic: hark.BatchCompletedTopic, Key: report.Batch.String(), ContentType: "application/json", Data: report.Encode()}
		if r.Topic != "" {
			event.Topic = r.Topic
		}
		_, err := b.cfg.Log.AppendWith(ctx, t, []hark.Event{event}, eventlog.Idempotency{}, func(told hark.EventID, _ store.Bucket) store.Record {
			ended.Told = told.Offset
			return ended
		})
		if hark.KindOf(err) != hark.TooLarge || report.Omitted {
			return err
		}
		report.Destinations, report.Omitted = nil, true // the operator keeps events small
	}
}

func (b *Batches) drop(o *open) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(o)
}

// report counts what became of a batch, into its row too.
func (b *Batches) report(t hark.TenantID, first hark.Offset, r *row) (*hark.BatchReport, error) {
	report := &hark.BatchReport{Batch: hark.BatchID(b.cfg.Log.ID(first)), UID: r.UID, State: r.State, Accepted: r.Accepted,
		Ended: r.Ended, Events: r.Events, Destinations: make([]hark.BatchDestination, 0, len(r.To))}
	for i := range r.To {
		a := &r.To[i]
		d, err := b.count(t, first, r.Events, a)
		if err != nil {
			return nil, err
		}
		a.Deleted, a.Counts = d.Deleted, &d.Counts
		report.Counts.Plus(d.Counts)
		report.Destinations = append(report.Destinations, d)
	}
	return report, nil
}

// count counts what became of a batch at one destination.
func (b *Batches) count(t hark.TenantID, first hark.Offset, n int, a *awaited) (hark.BatchDestination, error) {
	d := hark.BatchDestination{Destination: a.id(), Events: a.Wanted}
	fates, exists, err := b.cfg.Engine.Fates(t, a.id(), first, n)
	if err != nil {
		return d, fmt.Errorf("counting: %w", err)
	}
	d.Deleted = !exists
	for i, s := range fates {
		if a.wanted(i) {
			d.Counts.Add(s)
		}
	}
	b.nameOf(t, &d)
	return d, nil
}

// nameOf adds what a destination's owner calls it.
func (b *Batches) nameOf(t hark.TenantID, d *hark.BatchDestination) {
	if x, err := b.cfg.Directory.Destination(t, d.Destination); err == nil {
		d.UID = x.UID
	}
}
