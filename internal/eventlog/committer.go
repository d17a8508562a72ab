package eventlog

import (
	"fmt"
	"runtime"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// commitLoop is the one writer. It returns when the queue is closed and empty.
func (l *Log) commitLoop() error {
	w := writer{log: l, next: l.End() + 1, lastReceived: l.index.newest()}
	for {
		for _, c := range l.queue.takeControls() {
			c.done <- c.do(&w)
		}
		group, part, held, open := l.queue.next(w.group[:0], w.ahead())
		w.group = group
		var err error
		switch {
		case part != nil:
			err = w.writeAhead(part)
		case len(group) > 0:
			err = w.commit(group)
			clear(group)
			// Those just answered come back at once when they publish in a loop: with
			// them the next group is a full one and not the first comer's alone.
			runtime.Gosched()
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
	start := time.Now()
	if err := l.store.Commit(w.records...); err != nil {
		err = fmt.Errorf("appending to the log: %w", err)
		for _, r := range group {
			r.done <- err
		}
		return err
	}
	l.queue.committed(time.Since(start), heavy)
	l.index.settle(w.usage, started)
	l.tail.append(group, &l.end)
	for _, r := range group {
		r.done <- nil
	}
	clear(w.records)
	if l.cfg.Hooks.Committed != nil {
		l.cfg.Hooks.Committed(events, size, time.Since(start))
	}
	return nil
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
