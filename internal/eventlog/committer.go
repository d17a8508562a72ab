package eventlog

import (
	"fmt"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// queue holds the requests that wait, per tenant, and gives tenants turns.
type queue struct {
	mu      sync.Mutex // guards below
	tenants map[hark.TenantID]*lane
	ring    []*lane // lanes that hold something, in turn order
	bytes   int
	max     int
	closed  bool

	wake chan struct{} // holds a token when there may be work or an end
}

// lane is one tenant's part of the queue.
type lane struct {
	tenant  hark.TenantID
	waiting []*request
	bytes   int
	// debt is how many turns the tenant still owes for a group of its own.
	debt int
}

func (q *queue) init(maxBytes int) {
	q.tenants = make(map[hark.TenantID]*lane)
	q.wake = make(chan struct{}, 1)
	q.max = maxBytes
}

func (q *queue) push(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errStopped
	}
	l := q.tenants[r.tenant]
	if l == nil {
		l = &lane{tenant: r.tenant}
		q.tenants[r.tenant] = l
	}
	// The first request of a lane always fits, so that no limit can lock a tenant out.
	if len(l.waiting) > 0 && (l.bytes+r.size > q.max/4 || q.bytes+r.size > q.max) {
		return &hark.Error{Kind: hark.TooMany, Code: "too-fast", RetryAfter: time.Second,
			Msg: "more is waiting to be written than the server holds for one tenant; slow down"}
	}
	if len(l.waiting) == 0 {
		q.ring = append(q.ring, l)
	}
	l.waiting = append(l.waiting, r)
	l.bytes += r.size
	q.bytes += r.size
	q.signal()
	return nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// giveUp takes a request out whose client no longer waits, so that it holds no bytes.
func (q *queue) giveUp(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.tenants[r.tenant]
	if l == nil {
		return
	}
	for i, w := range l.waiting {
		if w == r {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			l.bytes -= r.size
			q.bytes -= r.size
			return // an empty lane leaves the ring at its next turn
		}
	}
}

// take fills group with the next turn's requests. It returns false when the
// queue is closed and empty.
func (q *queue) take(group []*request) ([]*request, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, size := 0, 0
	for len(q.ring) > 0 && events < GroupEvents && size < GroupBytes {
		l := q.ring[0]
		q.ring = q.ring[1:]
		if len(l.waiting) == 0 {
			q.leave(l)
			continue
		}
		if l.debt > 0 && len(q.ring) > 0 {
			l.debt--
			q.ring = append(q.ring, l)
			continue
		}
		r := l.waiting[0]
		large := len(r.events) > GroupEvents || r.size > GroupBytes
		if len(group) > 0 && (large || events+len(r.events) > GroupEvents || size+r.size > GroupBytes) {
			q.ring = append([]*lane{l}, q.ring...)
			break
		}
		q.pop(l)
		if r.taken.CompareAndSwap(0, requestTaken) {
			group = append(group, r)
			events += len(r.events)
			size += r.size
		}
		if large {
			l.debt = min(maxDebt, l.debt+max(len(r.events)/GroupEvents, r.size/GroupBytes))
		}
		if len(l.waiting) > 0 {
			q.ring = append(q.ring, l)
		} else {
			q.leave(l)
		}
	}
	return group, !q.closed || len(group) > 0 || len(q.ring) > 0
}

// maxDebt bounds what a tenant owes: no more than one largest batch could cost.
const maxDebt = 2 * hark.MaxBatchBytes / GroupBytes

// leave forgets an empty lane, unless it owes turns: a tenant that sends one
// large batch after the other must not shed its debt between them.
func (q *queue) leave(l *lane) {
	if l.debt == 0 {
		delete(q.tenants, l.tenant)
	}
}

func (q *queue) pop(l *lane) {
	r := l.waiting[0]
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	l.bytes -= r.size
	q.bytes -= r.size
}

// commitLoop is the one writer. It returns when the queue is closed and empty.
func (l *Log) commitLoop() error {
	w := writer{log: l, next: l.End() + 1, lastReceived: l.cfg.Now()}
	var group []*request
	for {
		var open bool
		group, open = l.queue.take(group[:0])
		switch {
		case len(group) > 0:
			if err := w.commit(group); err != nil {
				l.queue.close()
				l.refuseAll(err)
				return err
			}
			clear(group)
		case !open:
			return nil
		default:
			<-l.queue.wake
		}
	}
}

// refuseAll answers whoever still waits after the writer failed.
func (l *Log) refuseAll(err error) {
	for {
		group, _ := l.queue.take(nil)
		if len(group) == 0 {
			return
		}
		for _, r := range group {
			r.done <- err
		}
	}
}

// writer is the committer's own state.
type writer struct {
	log          *Log
	next         hark.Offset
	lastReceived time.Time
	records      []store.Record
	usage        []store.EventUsage
}

// commit gives a group its offsets, writes it as one synced batch, and only then
// shows it to anyone.
func (w *writer) commit(group []*request) error {
	l := w.log
	began := l.cfg.Now()
	if began.After(w.lastReceived) {
		w.lastReceived = began // the log's time never goes back, whatever the clock does
	}
	received := w.lastReceived.UTC()
	w.records = w.records[:0]
	bucket, started := l.index.open(w.next, received, l.cfg)
	if started != nil {
		w.records = append(w.records, started)
	}
	events, size := 0, 0
	for _, r := range group {
		w.number(r, bucket, received)
		events += len(r.events)
		size += r.size
	}
	w.usage = l.index.charge(group, bucket, received, w.usage[:0])
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
	l.index.settle(w.usage, started)
	l.tail.append(group)
	l.end.Store(uint64(w.next - 1))
	l.tail.announce()
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
	for i := range r.events {
		e, rec := &r.events[i], &r.records[i]
		e.ID = hark.EventID{Shard: w.log.shard, Incarnation: incarnation, Offset: w.next}
		e.Received = received.Truncate(time.Microsecond)
		store.SetReceived(rec.Value, received)
		rec.Offset, rec.Bucket = w.next, bucket
		w.records = append(w.records, rec)
		w.next++
	}
	if r.idem != nil {
		r.idem.Value.First = r.events[0].ID.Offset
		w.records = append(w.records, r.idem)
	}
}
