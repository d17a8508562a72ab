package eventlog

import (
	"slices"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// queue holds the requests that wait, per tenant, and gives tenants turns.
type queue struct {
	mu       sync.Mutex // guards below
	tenants  map[hark.TenantID]*lane
	first    *lane // lanes that hold something, in turn order
	last     *lane
	bytes    int
	max      int
	served   int // cost of everything taken so far
	sweepAt  int // number of lanes at which empty ones are forgotten
	barred   map[hark.TenantID]bool
	controls []*control
	closed   bool
	pace     pace

	wake chan struct{} // holds a token when there may be work or an end
}

// lane is one tenant's part of the queue.
type lane struct {
	tenant  hark.TenantID
	waiting []*request // the first skip of them are gone
	skip    int
	dead    int // requests among waiting whose client gave up
	bytes   int
	// debt is what the tenant took beyond its turns: it sits out one turn for
	// each [turnCost], as long as others wait. left is queue.served when it last
	// had nothing waiting.
	debt int
	left int
	// orphans is the anchor of parts that were written ahead of a request which never was
	// committed; 0 for none.
	orphans hark.Offset

	inTurn bool
	next   *lane

	// The committer's own: where the tenant's total stands in group number group.
	group uint64
	slot  int
}

// control is something the committer does between two groups.
type control struct {
	do   func(*writer) error
	done chan error
}

// A request costs as many units as it has events or as it fills of a group in
// bytes. A turn is worth turnCost: one that takes more owes the difference.
const (
	unitBytes = GroupBytes / GroupEvents
	turnCost  = 32
	// maxDebt bounds what a tenant owes: no more than one largest batch could cost.
	maxDebt = hark.MaxBatchBytes / unitBytes
	// requestOverhead is what a waiting request costs in memory besides its events.
	requestOverhead = 512
)

func (r *request) cost() int { return max(len(r.events), r.left()/unitBytes) }

// left is what the request's commit has to write still.
func (r *request) left() int { return r.size - r.ahead.bytes }

// large requests are a group of their own.
func (r *request) large() bool { return len(r.events) > GroupEvents || r.left() > GroupBytes }

// heavy requests are held back while they would disturb others.
func (r *request) heavy() bool { return r.left() > largeBytes }

// weight is what a waiting request holds in memory, about.
func (r *request) weight() int { return r.size + len(r.events)*eventOverhead + requestOverhead }

func (q *queue) init(maxBytes int) {
	q.tenants = make(map[hark.TenantID]*lane)
	q.barred = make(map[hark.TenantID]bool)
	q.wake = make(chan struct{}, 1)
	q.max = maxBytes
}

// push adds a request to its tenant's lane. One tenant may hold a quarter of the
// room. The first request of a lane fits even when others have filled it, up to
// four times the room, so that no tenant can lock another out.
func (q *queue) push(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errStopped
	}
	if q.barred[r.tenant] {
		return hark.NoSuch("tenant", "any more: it is being deleted")
	}
	l := q.tenants[r.tenant]
	if l == nil {
		q.sweep()
		l = &lane{tenant: r.tenant}
		q.tenants[r.tenant] = l
	}
	w := r.weight()
	if l.len() > 0 && (l.bytes+w > q.max/4 || q.bytes+w > q.max) {
		return &hark.Error{Kind: hark.TooMany, Code: "too-fast", RetryAfter: time.Second,
			Msg: "more is waiting to be written than the server holds for one tenant; slow down"}
	}
	if q.bytes+w > 4*q.max {
		return &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second,
			Msg: "more is waiting to be written than the server holds; try again"}
	}
	if !l.inTurn {
		l.debt = max(0, l.debt-(q.served-l.left)) // others were served in the meantime
		q.toBack(l)
	}
	if !r.heavy() {
		q.pace.saw(r.tenant, time.Now())
	}
	r.lane = l
	l.waiting = append(l.waiting, r)
	l.bytes += w
	q.bytes += w
	q.signal()
	return nil
}

func (l *lane) len() int { return len(l.waiting) - l.skip - l.dead }

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// wait returns when there may be work: after a signal, or when what is held may go.
func (q *queue) wait(held time.Duration) {
	if held <= 0 {
		<-q.wake
		return
	}
	t := time.NewTimer(held)
	defer t.Stop()
	select {
	case <-q.wake:
	case <-t.C:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// control has the committer do something between two groups and waits for it.
func (q *queue) control(do func(*writer) error) error {
	c := &control{do: do, done: make(chan error, 1)}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return errStopped
	}
	q.controls = append(q.controls, c)
	q.mu.Unlock()
	q.signal()
	return <-c.done
}

// committed tells how long a commit took, and whether a large request was part of it.
func (q *queue) committed(d time.Duration, heavy bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pace.took(d, heavy, time.Now())
}

func (q *queue) takeControls() []*control {
	q.mu.Lock()
	defer q.mu.Unlock()
	cs := q.controls
	q.controls = nil
	return cs
}

// giveUp lets go of what a request holds whose client no longer waits. Its empty
// shell stays until its turn, or until shells are the larger part of the lane.
func (q *queue) giveUp(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.popped {
		return
	}
	l := r.lane
	l.disown(r)
	l.bytes -= r.weight()
	q.bytes -= r.weight()
	r.dead, r.events, r.records, r.buf = true, nil, nil, nil
	l.dead++
	if l.dead > 32 && l.dead > l.len() {
		live := make([]*request, 0, l.len())
		for _, w := range l.waiting[l.skip:] {
			if !w.dead {
				live = append(live, w)
			}
		}
		l.waiting, l.skip, l.dead = live, 0, 0
	}
}

// take fills group with the next turns' requests. It returns false when the
// queue is closed and empty, and how long to wait when all that is there is held.
func (q *queue) take(group []*request) (_ []*request, held time.Duration, open bool) {
	group, _, held, open = q.next(group, 0)
	return group, held, open
}

// next is take, or returns a part of a large request to be written by itself, ahead of the
// group that it will be in. at is the next event's offset; 0 to write nothing ahead.
func (q *queue) next(group []*request, at hark.Offset) (_ []*request, part *store.EventPart, held time.Duration, open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	events, size := 0, 0
	var heldBack []*lane
	full := false
	for q.first != nil && !full && events < GroupEvents && size < GroupBytes {
		l := q.popTurn()
		switch r := l.front(); {
		case r == nil:
			q.leave(l)
			continue
		case r.heavy() && !q.closed && q.pace.holds(l.tenant, now):
			heldBack = append(heldBack, l)
			continue
		case l.debt > 0 && q.first != nil:
			l.debt = max(0, l.debt-turnCost)
			q.toBack(l)
			continue
		case at > 0 && r.heavy() && !q.closed && q.pace.disturbs(l.tenant, now) && r.hasPart():
			heldBack = append(heldBack, l)
			if len(group) == 0 { // else it has the next turn
				l.adopt(r)
				part = r.writeAhead(at)
				q.spend(l, len(part.Data)/unitBytes)
			}
			full = true
			continue
		}
		n, bytes := 0, 0
		group, n, bytes, full = q.turn(l, group, events, size)
		events, size = events+n, size+bytes
	}
	for _, l := range slices.Backward(heldBack) {
		q.toFront(l)
	}
	if len(group) == 0 && part == nil && len(heldBack) > 0 {
		held = q.pace.until.Sub(now)
	}
	return group, part, held, !q.closed || len(group) > 0
}

// spend counts what a lane takes in one turn.
func (q *queue) spend(l *lane, cost int) {
	q.served += cost
	l.debt = min(maxDebt, l.debt+max(0, cost-turnCost))
}

// turn takes what a lane may bring now into a group that holds events and size
// already. Full tells that nothing more fits.
func (q *queue) turn(l *lane, group []*request, events, size int) (_ []*request, n, bytes int, full bool) {
	spent := 0
	for r := l.front(); r != nil && spent < turnCost && !full; r = l.front() {
		if len(group) > 0 && (r.large() || events+n+len(r.events) > GroupEvents || size+bytes+r.left() > GroupBytes) {
			full = true
			break
		}
		q.pop(l)
		if !r.taken.CompareAndSwap(0, requestTaken) {
			l.disown(r)
			continue // its client gave up just now
		}
		l.adopt(r)
		group = append(group, r)
		n += len(r.events)
		bytes += r.left()
		spent += r.cost()
		full = r.large()
	}
	q.spend(l, spent)
	switch {
	case l.front() == nil:
		q.leave(l)
	case spent == 0:
		q.toFront(l) // it did not fit: it begins the next group
	default:
		q.toBack(l)
	}
	return group, n, bytes, full
}

// adopt gives the orphans of a lane to its next request.
func (l *lane) adopt(r *request) {
	if l.orphans > 0 {
		r.ahead.anchor, r.ahead.over, l.orphans = l.orphans, true, 0
	}
}

// disown makes orphans of what was written ahead of a request that is not committed.
// The queue's mutex must be held.
func (l *lane) disown(r *request) {
	if r.ahead.anchor > 0 {
		l.orphans = r.ahead.anchor
	}
}

// refuse answers requests that were taken and are not committed.
func (q *queue) refuse(group []*request, err error) {
	q.mu.Lock()
	for _, r := range group {
		r.lane.disown(r)
	}
	q.mu.Unlock()
	for _, r := range group {
		r.done <- err
	}
}

// front is the lane's next request; nil for none.
func (l *lane) front() *request {
	for l.skip < len(l.waiting) && l.waiting[l.skip].dead {
		l.waiting[l.skip] = nil
		l.skip++
		l.dead--
	}
	if l.skip == len(l.waiting) {
		l.waiting, l.skip = l.waiting[:0], 0
		return nil
	}
	return l.waiting[l.skip]
}

func (q *queue) pop(l *lane) {
	r := l.waiting[l.skip]
	l.waiting[l.skip] = nil
	l.skip++
	r.popped = true
	l.bytes -= r.weight()
	q.bytes -= r.weight()
	if l.skip > 64 && l.skip > len(l.waiting)/2 {
		n := copy(l.waiting, l.waiting[l.skip:])
		clear(l.waiting[n:])
		l.waiting, l.skip = l.waiting[:n], 0
	}
}

// leave notes when a lane became empty. It is kept, with what it owes: a tenant
// that sends one large batch after the other must not shed its debt between them.
func (q *queue) leave(l *lane) { l.left = q.served }

// sweep forgets empty lanes that owe nothing any more, when there are many.
func (q *queue) sweep() {
	if len(q.tenants) < max(q.sweepAt, manyLanes) {
		return
	}
	for t, l := range q.tenants {
		if !l.inTurn && l.debt <= q.served-l.left && l.orphans == 0 {
			delete(q.tenants, t)
		}
	}
	q.sweepAt = 2 * len(q.tenants)
}

const manyLanes = 4096

func (q *queue) popTurn() *lane {
	l := q.first
	if q.first = l.next; q.first == nil {
		q.last = nil
	}
	l.next, l.inTurn = nil, false
	return l
}

func (q *queue) toBack(l *lane) {
	l.inTurn = true
	if q.last == nil {
		q.first = l
	} else {
		q.last.next = l
	}
	q.last = l
}

func (q *queue) toFront(l *lane) {
	l.inTurn = true
	if l.next = q.first; q.first == nil {
		q.last = l
	}
	q.first = l
}

// bar refuses a tenant's requests from now on and returns those that wait.
func (q *queue) bar(t hark.TenantID) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.barred[t] = true
	var out []*request
	if l := q.tenants[t]; l != nil {
		l.orphans = 0 // they go with the tenant
		for r := l.front(); r != nil; r = l.front() {
			q.pop(l)
			if r.taken.CompareAndSwap(0, requestTaken) {
				out = append(out, r)
			}
		}
	}
	return out
}

func (q *queue) unbar(t hark.TenantID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.barred, t)
}
