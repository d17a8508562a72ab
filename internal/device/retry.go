package device

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/store"
)

const (
	retryVersion = 1
	// never is when nothing is due.
	never = math.MaxInt64
	// checkPaused is how often it is looked whether a paused audience goes on.
	checkPaused = 5 * time.Second
)

// retries is the queue of messages that are pushed again: a row in the store for each
// device, in order of time for each audience. In memory there is only when an audience's
// next one is due.
type retries struct {
	a *Audiences

	mu     sync.Mutex // guards below
	queues map[hark.DestinationID]*queue
	busy   map[hark.TenantID]int // batches under way
	under  int
	serial uint64
	n      int // messages in all

	wake chan struct{}
}

// queue is what an audience has to push again.
type queue struct {
	tenant hark.TenantID
	dest   hark.DestinationID
	lines  [lines]line
	busy   bool
	served uint64
	n      int
}

// line is what waits for one reason: 0 for its time, others for their platform.
type line struct {
	next  int64 // when the first is due, Unix ms
	floor int64 // nothing is due before it: what was there is gone, and never scanned again
	fresh int64 // the earliest that was added since the batch under way began
}

func (r *retries) init(a *Audiences) error {
	*r = retries{a: a, queues: make(map[hark.DestinationID]*queue), busy: make(map[hark.TenantID]int), wake: make(chan struct{}, 1)}
	return a.store.AllPushRetries(func(k store.PushRetryKey) {
		q := r.of(k.Tenant, k.Destination)
		q.put(k)
		q.n++
		r.n++
	})
}

// of returns an audience's queue. The caller holds mu, or is opening.
func (r *retries) of(t hark.TenantID, d hark.DestinationID) *queue {
	q := r.queues[d]
	if q == nil {
		q = &queue{tenant: t, dest: d}
		for i := range q.lines {
			q.lines[i].next = never
		}
		r.queues[d] = q
	}
	return q
}

func (q *queue) put(k store.PushRetryKey) {
	l := &q.lines[min(int(k.Line), lines-1)]
	l.next, l.floor, l.fresh = min(l.next, k.Due), min(l.floor, k.Due), min(l.fresh, k.Due)
}

// changed tells of messages that were committed and of how many were taken away.
func (r *retries) changed(dest *hark.Destination, added []store.PushRetryKey, removed int) {
	if len(added) == 0 && removed == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.of(dest.Tenant, dest.ID)
	for _, k := range added {
		q.put(k)
	}
	q.n += len(added) - removed
	r.n += len(added) - removed
	if len(added) > 0 {
		signal(r.wake)
	}
}

// Waiting returns how many messages are to be pushed again.
func (a *Audiences) Waiting() int {
	a.retry.mu.Lock()
	defer a.retry.mu.Unlock()
	return a.retry.n
}

// Changed tells that the settings or the state of an audience changed: what is held may go on.
func (a *Audiences) Changed(*hark.Destination) { signal(a.retry.wake) }

// again adds a retry of a try that failed, unless its message expires before.
func (p *page) again(e *entry, t *tried) bool {
	k := store.PushRetryKey{Tenant: p.dest.Tenant, Destination: p.dest.ID, Offset: e.msg.event.ID.Offset, Device: t.device.ID}
	at := p.now
	switch r := &t.result; {
	case r.Outcome == push.ConfigError && r.Wide && platformLines[t.device.Kind] > 0:
		k.Line = platformLines[t.device.Kind]
	case r.Outcome == push.ConfigError:
		at = at.Add(max(r.After, p.a.lim.Narrow) + rand.N(p.a.lim.Narrow))
	default:
		at = at.Add(max(r.After, p.a.backoff(t.number)))
	}
	if !at.Before(e.msg.composed.Expires()) {
		return false
	}
	k.Due = at.UnixMilli()
	number := t.number
	if t.silent {
		number--
	}
	p.keep(k, number)
	return true
}

// leave puts a retry in the place of a try that is still under way.
func (p *page) leave(e *entry) {
	k := store.PushRetryKey{Tenant: p.dest.Tenant, Destination: p.dest.ID, Offset: e.msg.event.ID.Offset, Device: e.device.ID,
		Due: p.now.Add(p.a.lim.Lease).UnixMilli()}
	p.keep(k, e.tries+1)
	e.lease = &k
	p.note(e, &tried{device: e.device, number: e.tries + 1, result: came(push.RetryAt, "slow", "")})
}

func (p *page) keep(k store.PushRetryKey, tries int) {
	p.recs = append(p.recs, &store.PushRetrySaved{PushRetryKey: k, Value: binary.AppendUvarint([]byte{retryVersion}, uint64(max(tries, 0)))})
	p.added = append(p.added, k)
}

// backoff is the wait after the n-th try: exponential, with full jitter.
func (a *Audiences) backoff(n int) time.Duration {
	most := min(a.lim.MaxWait, a.lim.BaseWait<<min(max(n-1, 0), 20))
	return max(a.lim.MinWait, rand.N(most))
}

// retryLoop begins batches of what is due until ctx ends.
func (a *Audiences) retryLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.retry.wake:
		case <-timer.C:
		}
		now := time.Now()
		var next time.Time
		for {
			var q *queue
			var line int
			if q, line, next = a.retry.pick(now); q == nil || !a.begin() {
				break
			}
			go func() {
				defer a.runs.Done()
				a.retryBatch(q, line)
				a.retry.rest(q)
			}()
		}
		timer.Reset(max(time.Until(next), time.Millisecond))
	}
}

// pick takes the queue whose turn it is, and which line of it; else it tells when to look
// again. Tenants with fewer batches under way go first, then who waited longest.
func (r *retries) pick(now time.Time) (best *queue, line int, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next = now.Add(time.Minute)
	for _, q := range r.queues {
		if q.busy {
			continue
		}
		at, i := r.due(q, now)
		if at.After(now) {
			if at.Before(next) {
				next = at
			}
			continue
		}
		if r.under >= r.a.lim.Batches {
			continue // its end wakes the loop
		}
		if best == nil || cmp.Or(cmp.Compare(r.busy[q.tenant], r.busy[best.tenant]), cmp.Compare(q.served, best.served)) < 0 {
			best, line = q, i
		}
	}
	if best != nil {
		best.busy = true
		r.serial++
		best.served = r.serial
		r.busy[best.tenant]++
		r.under++
	}
	return best, line, next
}

// due is when a queue has something to do, and in which line. The caller holds mu.
func (r *retries) due(q *queue, now time.Time) (at time.Time, line int) {
	at = now.Add(time.Hour)
	dest, err := r.a.Devices.cfg.Directory.Destination(q.tenant, q.dest)
	if err != nil {
		if hark.KindOf(err) == hark.NotFound { // its rows went with it
			r.n -= q.n
			delete(r.queues, q.dest)
			r.a.holds.forget(q.dest)
		}
		return at, 0
	}
	if dest.State != hark.DestinationActive {
		return now.Add(checkPaused), 0
	}
	for i := range q.lines {
		if q.lines[i].next == never {
			continue
		}
		when := time.UnixMilli(q.lines[i].next)
		if i > 0 {
			if when = r.a.holds.until(dest, platformOf(i)); when.IsZero() {
				when = now
			}
		}
		if when.Before(at) {
			at, line = when, i
		}
	}
	return at, line
}

func platformOf(line int) string {
	for name, i := range platformLines {
		if int(i) == line {
			return name
		}
	}
	return ""
}

// rest ends a batch.
func (r *retries) rest(q *queue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q.busy = false
	if r.busy[q.tenant]--; r.busy[q.tenant] == 0 {
		delete(r.busy, q.tenant)
	}
	r.under--
	signal(r.wake)
}

// retryBatch pushes some of what is due in a line of a queue.
func (a *Audiences) retryBatch(q *queue, line int) {
	if err := a.tryBatch(q, line); err != nil && !errors.Is(err, errStopping) && !errors.Is(err, errPaused) && !errors.Is(err, errGone) {
		a.oops("pushing again", err)
		a.retry.mu.Lock()
		q.lines[line].next = time.Now().Add(checkPaused).UnixMilli()
		a.retry.mu.Unlock()
		return
	}
	if err := a.retry.lookAhead(q, line); err != nil {
		a.oops("reading what is to be pushed again", err)
	}
}

func (a *Audiences) tryBatch(q *queue, line int) error {
	dest, err := a.Devices.cfg.Directory.Destination(q.tenant, q.dest)
	if err != nil {
		if hark.KindOf(err) == hark.NotFound {
			return errGone
		}
		return err
	}
	limit, until, probe := a.lim.Batch, time.Now().UnixMilli(), false
	if line > 0 {
		until = never - 1
		// Its hold is over, or it never was one: then all of the line may go.
		if probe = !a.holds.until(dest, platformOf(line)).IsZero(); probe {
			limit = 1
		}
	}
	a.retry.mu.Lock()
	floor := q.lines[line].floor
	q.lines[line].fresh = never
	a.retry.mu.Unlock()
	s := &retrySource{a: a, dest: dest, messages: make(map[hark.Offset]*message)}
	_, err = a.store.PushRetries(q.tenant, q.dest, uint8(line), floor, until, limit, func(k store.PushRetryKey, v []byte) bool {
		u := &unpacker{b: v}
		u.u8()
		s.rows = append(s.rows, retryRow{k, int(u.uvarint())})
		return true
	})
	if err != nil || len(s.rows) == 0 {
		return err
	}
	last := s.rows[len(s.rows)-1].Due
	w := a.newWindow(dest, s)
	if err := w.run(context.Background()); err != nil {
		return err
	}
	if probe && s.worked() {
		a.holds.release(q.dest, platformOf(line))
	}
	a.retry.mu.Lock()
	q.lines[line].floor = min(last, q.lines[line].fresh)
	a.retry.mu.Unlock()
	return nil
}

// lookAhead finds out when the next of a line is due.
func (r *retries) lookAhead(q *queue, line int) error {
	r.mu.Lock()
	l := &q.lines[line]
	l.next = never
	floor := l.floor
	r.mu.Unlock()
	next := int64(never)
	_, err := r.a.store.PushRetries(q.tenant, q.dest, uint8(line), floor, never-1, 1, func(k store.PushRetryKey, _ []byte) bool {
		next = k.Due
		return false
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.next = min(l.next, next); err != nil {
		l.next = time.Now().Add(checkPaused).UnixMilli()
	}
	for i := range q.lines {
		if q.lines[i].next != never {
			return err
		}
	}
	r.n -= q.n
	delete(r.queues, q.dest)
	return err
}

type retryRow struct {
	store.PushRetryKey
	tries int
}

// retrySource gives a batch of what is pushed again.
type retrySource struct {
	a        *Audiences
	dest     *hark.Destination
	rows     []retryRow
	messages map[hark.Offset]*message
	given    []*entry
}

// more implements source.
func (s *retrySource) more(dst []*entry, n int) ([]*entry, bool, error) {
	n = min(n, len(s.rows))
	rows := s.rows[:n]
	devices := make(map[hark.DeviceID]*hark.Device, n)
	ids := make([]hark.DeviceID, n)
	for i := range rows {
		ids[i] = rows[i].Device
	}
	if err := s.a.store.Devices(s.dest.Tenant, sorted(ids), func(d *hark.Device) { devices[d.ID] = d }); err != nil {
		return dst, false, err
	}
	for i := range rows {
		row := &rows[i]
		m, why, err := s.message(row.Offset)
		if err != nil {
			return dst, false, err
		}
		e := &entry{device: devices[row.Device], msg: m, tries: row.tries, from: &row.PushRetryKey}
		if e.device == nil && why == nil {
			why = new(came(push.TargetGone, "deleted", ""))
		}
		if e.device == nil {
			e.device = &hark.Device{ID: row.Device, Tenant: s.dest.Tenant}
		}
		if why != nil {
			e.all = []tried{{device: e.device, result: *why, number: row.tries, silent: true}}
		}
		dst = append(dst, e)
	}
	s.given = append(s.given, dst...)
	s.rows = s.rows[n:]
	return dst, len(s.rows) == 0, nil
}

// message returns what an event says, or why nothing can be pushed of it any more.
func (s *retrySource) message(o hark.Offset) (*message, *push.Result, error) {
	m := s.messages[o]
	if m == nil {
		m = &message{}
		var err error
		if m.event, err = s.a.cfg.Log.Event(s.dest.Tenant, o); err == nil {
			m.composed, _ = s.a.cfg.Sender.Compose(s.dest, m.event)
		} else if k := hark.KindOf(err); k != hark.Gone && k != hark.NotFound {
			return nil, nil, err
		} else {
			m.event = nil
		}
		s.messages[o] = m
	}
	switch {
	case m.event == nil:
		gone := &message{event: &hark.Event{ID: s.a.cfg.Log.ID(o), Tenant: s.dest.Tenant}}
		return gone, new(came(push.Expired, "event-gone", "retention took the event")), nil
	case m.composed == nil:
		return m, new(came(push.PayloadError, "not-composed", "the message cannot be made of the event any more")), nil
	}
	return m, nil, nil
}

// renew implements source.
func (s *retrySource) renew(dest *hark.Destination) error {
	s.dest = dest
	clear(s.messages)
	return nil
}

// worked reports whether what was tried met with no fault of settings.
func (s *retrySource) worked() bool {
	for _, e := range s.given {
		for i := range e.all {
			if t := &e.all[i]; !t.silent && t.result.Outcome != push.ConfigError {
				return true
			}
		}
	}
	return false
}
