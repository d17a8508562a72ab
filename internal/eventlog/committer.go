package eventlog

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// commitLoop is the one writer. It returns when the queue is closed and empty.
func (l *Log) commitLoop() error {
	w := writer{log: l, next: l.End() + 1, lastReceived: l.index.newest(), begun: make(chan *begun)}
	var landing sync.WaitGroup
	landing.Go(w.land)
	defer landing.Wait()
	defer close(w.begun)
	for {
		if cs := l.queue.takeControls(); len(cs) > 0 {
			w.flying.Wait()
			for _, c := range cs {
				c.done <- c.do(&w)
			}
		}
		group, part, held, open := l.queue.next(w.group[:0], w.ahead())
		w.group = group
		var err error
		switch failed := w.failed.Load(); {
		case failed != nil:
			err = w.fail(group, *failed)
		case part != nil:
			err = w.writeAhead(part)
		case len(group) > 0:
			err = w.commit(group)
		case !open:
			l.refuseAll(errStopped)
			return nil
		default:
			l.queue.wait(held)
		}
		if err != nil {
			l.queue.close()
			l.refuseAll(err)
			return err
		}
	}
}

// refuseAll answers whoever still waits when the writer ends.
func (l *Log) refuseAll(err error) {
	for {
		group, _, _ := l.queue.take(nil)
		if len(group) == 0 {
			break
		}
		for _, r := range group {
			r.done <- err
		}
	}
	for _, c := range l.queue.takeControls() {
		c.done <- err
	}
}

// writer is the committer's own state.
type writer struct {
	log          *Log
	next         hark.Offset
	lastReceived time.Time
	groups       uint64
	group        []*request
	records      []store.Record
	usage        []store.EventUsage

	begun  chan *begun    // to the other half of the writer
	flying sync.WaitGroup // groups that it has
	failed atomic.Pointer[error]
}

// begun is a group that is written and not yet synced.
type begun struct {
	group        []*request
	wait         func() error
	at           time.Time
	events, size int
	heavy        bool
}

// now is the received time of what is written next: the log's time never goes
// back, whatever the clock does.
func (w *writer) now() time.Time {
	if now := w.log.cfg.Now().UTC().Truncate(time.Microsecond); now.After(w.lastReceived) {
		w.lastReceived = now
	}
	return w.lastReceived
}

// ahead is where parts that are written now are anchored; 0 when none may be.
func (w *writer) ahead() hark.Offset {
	if w.log.disk.low.Load() {
		return 0
	}
	return w.next
}

// writeAhead writes a part of a request that is committed later.
func (w *writer) writeAhead(part *store.EventPart) error {
	w.flying.Wait()
	start := time.Now()
	if err := w.log.store.Commit(part); err != nil {
		return fmt.Errorf("appending to the log: %w", err)
	}
	w.log.queue.committed(time.Since(start), true)
	return nil
}

// commit gives a group its offsets, writes it as one synced batch, and only then
// shows it to anyone.
func (w *writer) commit(group []*request) error {
	l := w.log
	if l.disk.low.Load() { // it became low while they waited
		l.queue.refuse(group, errDiskFloor)
		return nil
	}
	w.groups++
	received := w.now()
	w.records = w.records[:0]
	bucket, started := l.index.open(w.next, received, l.cfg)
	if started != nil {
		w.records = append(w.records, started)
	}
	events, size, heavy := 0, 0, false
	for _, r := range group {
		w.number(r, bucket, received)
		events += len(r.events)
		size += r.size
		heavy = heavy || r.heavy()
	}
	w.usage = l.index.charge(group, w.groups, bucket, received, w.usage[:0])
	for i := range w.usage {
		w.records = append(w.records, &w.usage[i])
	}
	b := &begun{group: group, at: time.Now(), events: events, size: size, heavy: heavy}
	if size >= max(overlapBytes, events*overlapMean) && !heavy && started == nil {
		return w.begin(b)
	}
	w.flying.Wait()
	if failed := w.failed.Load(); failed != nil {
		return w.fail(group, *failed)
	}
	b.at = time.Now()
	if err := l.store.Commit(w.records...); err != nil {
		return w.fail(group, fmt.Errorf("appending to the log: %w", err))
	}
	clear(w.records)
	l.index.settle(w.usage, started)
	w.show(b)
	// Those just answered come back at once when they publish in a loop: with
	// them the next group is a full one and not the first comer's alone.
	runtime.Gosched()
	return nil
}

// A group of so many bytes, in large events, takes so long to write that it pays to do it while the
// one before is synced. Of others there are more in a group when it waits.
const (
	overlapBytes = 64 << 10
	overlapMean  = 4 << 10 // so that it is in a file of values, like what it overlaps
)

// begin writes a group and leaves the rest of its commit to the other half of the writer, which
// has at most one that is synced and one that is written.
func (w *writer) begin(b *begun) (err error) {
	if b.wait, err = w.log.store.Begin(w.records...); err != nil {
		return w.fail(b.group, fmt.Errorf("appending to the log: %w", err))
	}
	clear(w.records)
	// What comes next is charged on top of this. Readers look no further than the end of the log.
	w.log.index.settle(w.usage, nil)
	w.flying.Add(1)
	w.begun <- b
	w.group = nil // it has the group, too
	return nil
}

// show makes a group that is durable known.
func (w *writer) show(b *begun) {
	l, took := w.log, time.Since(b.at)
	l.queue.committed(took, b.heavy)
	l.tail.append(b.group, &l.end)
	for _, r := range b.group {
		r.done <- nil
	}
	clear(b.group)
	if l.cfg.Hooks.Committed != nil {
		l.cfg.Hooks.Committed(b.events, b.size, took)
	}
}

// fail answers a group that is not committed, after which nothing is.
func (w *writer) fail(group []*request, err error) error {
	for _, r := range group {
		r.done <- err
	}
	return err
}

// land is the other half of the writer: it waits for the sync of each group, and only then shows
// it to anyone.
func (w *writer) land() {
	for b := range w.begun {
		err := b.wait()
		if failed := w.failed.Load(); failed != nil {
			err = *failed
		} else if err != nil {
			err = fmt.Errorf("appending to the log: %w", err)
			w.failed.Store(&err)
		}
		if err != nil {
			w.fail(b.group, err)
			w.log.queue.signal()
		} else {
			w.show(b)
		}
		w.flying.Done()
	}
}

// number assigns offsets and adds a request's records to the batch.
func (w *writer) number(r *request, bucket store.Bucket, received time.Time) {
	incarnation := w.log.current().Incarnation
	r.first = hark.EventID{Shard: w.log.shard, Incarnation: incarnation, Offset: w.next}
	r.place(w.next)
	for i := range r.events {
		e, rec := &r.events[i], &r.records[i]
		e.ID = hark.EventID{Shard: w.log.shard, Incarnation: incarnation, Offset: w.next}
		e.Received = received
		store.SetReceived(rec.Head, received)
		rec.Offset, rec.Bucket = w.next, bucket
		w.records = append(w.records, rec)
		w.next++
	}
	if r.ahead.over {
		w.records = append(w.records, &store.PartsForgotten{Tenant: r.tenant, Anchor: r.ahead.anchor, From: r.parts()})
	}
	if r.idem != nil {
		r.idem.Value.First = r.first.Offset
		w.records = append(w.records, r.idem)
	}
	if r.attach != nil {
		w.records = append(w.records, r.attach(r.first, bucket))
	}
}

// seal ends the newest bucket if it is old and not empty, so that retention can
// take it although nobody publishes any more.
func (w *writer) seal() error {
	if !w.log.index.sealable(w.now(), w.log.cfg) {
		return nil
	}
	_, started := w.log.index.open(w.next, w.now(), w.log.cfg)
	if started == nil {
		return nil
	}
	if err := w.log.store.Commit(started); err != nil {
		return err
	}
	w.log.index.settle(nil, started)
	return nil
}
