package deliver

import (
	"context"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// commitLoop is the one committer: everything the core records becomes durable
// in the order in which it was recorded, results in groups.
//
// A group that nobody waits for is written without a sync of its own, because
// the log of the store is one sequence and the next publish syncs it: at a few
// hundred events a second that halves the syncs, and no publish queues behind
// the sync of a result. A group that nothing else made durable within
// CommitEvery is synced then.
func (d *Deliverer) commitLoop(ctx context.Context) error {
	group, overdue := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer group.Stop()
	defer overdue.Stop()
	for {
		if d.written.number > 0 {
			overdue.Reset(time.Until(d.written.at.Add(d.cfg.CommitEvery)))
		} else {
			overdue.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-overdue.C:
			if err := d.commitOnce(false); err != nil {
				return err
			}
			continue
		case <-d.wake:
		}
		group.Reset(d.cfg.CommitEvery)
		select {
		case <-group.C:
		case <-d.hurry:
		case <-ctx.Done():
		}
		if err := d.commitOnce(false); err != nil {
			return err
		}
	}
}

// written is a group that was written and may not be durable yet.
type written struct {
	number uint64 // of the store's write; 0 for none
	upto   uint64 // batches of records up to and with the group
	at     time.Time
}

// commitOnce writes what is pending, and makes it durable when somebody waits for
// it, when an earlier group has waited long enough, or when told to. Then it
// gives the answers.
func (d *Deliverer) commitOnce(sync bool) error {
	d.commitMu.Lock()
	defer d.commitMu.Unlock()
	d.mu.Lock()
	recs, answers, upto := d.takePending()
	d.committing = recs
	counts, failed := d.takeCounts(), d.failed
	sync = sync || len(answers) > 0 || d.awaited > d.committed
	d.mu.Unlock()
	if failed != nil {
		return failed
	}
	if w := d.written; w.number > 0 && d.cfg.Store.Synced(w.number) {
		d.durable(w.upto)
	}
	sync = sync || d.written.number > 0 && time.Since(d.written.at) >= d.cfg.CommitEvery
	batch := append(d.toStore(recs), counts...)
	began := time.Now()
	err := d.write(batch, upto, sync)
	if len(batch) > 0 && d.cfg.Hooks.Committed != nil {
		d.cfg.Hooks.Committed(len(recs), time.Since(began))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil || sync {
		d.settled(answers, upto, err)
	} else {
		d.committing = nil
	}
	return err
}

// write writes a group. The caller holds commitMu.
func (d *Deliverer) write(batch []store.Record, upto uint64, sync bool) error {
	switch {
	case sync && len(batch) > 0:
		d.written = written{}
		return d.cfg.Store.Commit(batch...)
	case sync && d.written.number > 0:
		d.written = written{}
		return d.cfg.Store.Sync()
	case len(batch) > 0:
		number, err := d.cfg.Store.Write(batch...)
		if d.written.number == 0 {
			d.written.at = time.Now()
		}
		d.written.number, d.written.upto = number, upto
		return err
	}
	return nil
}

// durable tells those who wait that earlier groups are durable by now. The caller holds commitMu.
func (d *Deliverer) durable(upto uint64) {
	d.written = written{}
	d.mu.Lock()
	d.committed = max(d.committed, upto)
	d.commitDone.Broadcast()
	d.mu.Unlock()
}

// takePending takes everything that is to be committed next. The caller holds both locks.
func (d *Deliverer) takePending() ([]Record, []Answer, uint64) {
	recs, answers := d.pending, d.answers
	d.pending, d.answers = nil, nil
	if n := len(recs); n > 0 {
		d.pending = make([]Record, 0, min(n+n/4, 4096))
	}
	return recs, answers, d.emitted
}

// settled answers after a commit. The caller holds mu.
func (d *Deliverer) settled(answers []Answer, upto uint64, err error) {
	d.committing = nil
	if err != nil {
		d.failed = err // what is in memory and what is durable differ from now on
	} else {
		d.committed = max(d.committed, upto)
	}
	d.commitDone.Broadcast()
	for _, a := range answers {
		if err != nil {
			a = Answer{Err: err}
		}
		if ch := d.waiters[a.Req]; ch != nil {
			delete(d.waiters, a.Req)
			ch <- a
		}
	}
}

// awaitCommit waits until everything emitted so far is durable. The caller holds mu.
func (d *Deliverer) awaitCommit() error {
	upto := d.emitted
	d.awaited = max(d.awaited, upto)
	signal(d.wake)
	signal(d.hurry)
	for d.committed < upto && d.failed == nil {
		d.commitDone.Wait()
	}
	return d.failed
}

// refuseAll answers whoever still waits when the deliverer has stopped.
func (d *Deliverer) refuseAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = errStopped()
	}
	for req, ch := range d.waiters {
		delete(d.waiters, req)
		ch <- Answer{Err: errStopped()}
	}
	d.commitDone.Broadcast()
}

func errStopped() error {
	return &hark.Error{Kind: hark.Unavailable, Code: "stopping", Msg: "the server is stopping; try again", RetryAfter: time.Second}
}

// takeCounts takes the counts of filtered events that changed. The caller holds mu.
func (d *Deliverer) takeCounts() []store.Record {
	var counts []store.Record
	for _, x := range d.dirtyCount {
		x.isDirty = false
		counts = append(counts, &store.FilteredCounted{Tenant: x.dest.Tenant, Destination: x.dest.ID, Count: x.filtered})
	}
	d.dirtyCount = nil
	return counts
}

// toStore translates records. The caller holds commitMu.
func (d *Deliverer) toStore(recs []Record) []store.Record {
	var rows, attempts int
	for i := range recs {
		switch recs[i].Kind {
		case RecDelivery:
			rows++
		case RecAttempt:
			attempts++
		}
	}
	t := translation{d: d, batch: make([]store.Record, 0, len(recs)+8),
		rows: make([]store.DeliverySaved, 0, rows), attempts: make([]store.AttemptAdded, 0, attempts)}
	for i := range recs {
		t.add(&recs[i])
	}
	for _, key := range t.charged {
		t.batch = append(t.batch, &store.DeliveryUsage{Tenant: key.t, Bucket: key.b, Usage: *d.usage[key]})
	}
	return t.batch
}

type translation struct {
	d        *Deliverer
	batch    []store.Record
	rows     []store.DeliverySaved
	attempts []store.AttemptAdded
	charged  []usageKey

	lastBucket store.Bucket
	from, to   hark.Offset // of lastBucket as far as known
}

func (t *translation) bucket(o hark.Offset) store.Bucket {
	if o < t.from || o > t.to {
		b := t.d.cfg.Log.Bucket(o)
		if b != t.lastBucket {
			t.lastBucket, t.from, t.to = b, o, o
		}
		t.from, t.to = min(t.from, o), max(t.to, o)
	}
	return t.lastBucket
}

func (t *translation) add(r *Record) {
	switch r.Kind {
	case RecDelivery:
		b := t.bucket(r.Offset)
		saved := store.DeliverySaved{Tenant: r.Tenant, Bucket: b, Destination: r.Dest, Offset: r.Offset, Prev: r.Prev, Row: toRow(&r.Row)}
		t.rows = append(t.rows, saved)
		t.batch = append(t.batch, &t.rows[len(t.rows)-1])
		if r.Prev == 0 {
			t.charge(r.Tenant, b, rowBytes+len(r.Row.Topic)+attemptBytes(r.Row.First), 1)
		}
	case RecAttempt:
		b := t.bucket(r.Offset)
		t.attempts = append(t.attempts, store.AttemptAdded{Tenant: r.Tenant, Bucket: b, Destination: r.Dest, Offset: r.Offset, Attempt: *r.Attempt})
		t.batch = append(t.batch, &t.attempts[len(t.attempts)-1])
		t.charge(r.Tenant, b, rowBytes+attemptBytes(r.Attempt), 0)
	case RecMark:
		t.batch = append(t.batch, &store.MarkMoved{Offset: r.Offset})
	case RecCursor:
		t.batch = append(t.batch, &store.CursorMoved{Tenant: r.Tenant, Destination: r.Dest, Offset: r.Offset})
	case RecJoined:
		t.batch = append(t.batch, &store.CursorJoined{Tenant: r.Tenant, Destination: r.Dest})
	case RecReplay:
		t.batch = append(t.batch, &store.ReplayMoved{Tenant: r.Tenant, Destination: r.Dest,
			Replay: store.Replay{From: r.From, To: r.To, Position: r.Offset}})
	case RecReplayDone:
		t.batch = append(t.batch, &store.ReplayEnded{Tenant: r.Tenant, Destination: r.Dest})
	case RecGap:
		t.batch = append(t.batch, &store.GapRecorded{Tenant: r.Tenant, Destination: r.Dest,
			Gap: store.GapRecord{From: r.From, To: r.To, At: r.At}})
	case RecHealth:
		t.batch = append(t.batch, &store.HealthSaved{Tenant: r.Tenant, Destination: r.Dest, Health: store.HealthRow(r.Health)})
	case RecErased:
		t.batch = append(t.batch, &store.PositionsErased{Tenant: r.Tenant, Destination: r.Dest})
	}
}

// rowBytes is about what a row costs with its keys and index entries.
const rowBytes = 96

func attemptBytes(a *hark.Attempt) int {
	if a == nil {
		return 0
	}
	return 24 + len(a.Error) + len(a.Snippet)
}

// charge counts bytes of delivery rows against their tenant.
func (t *translation) charge(tenant hark.TenantID, b store.Bucket, bytes, rows int) {
	key := usageKey{tenant, b}
	u := t.d.usage[key]
	if u == nil {
		u = &store.Usage{}
		t.d.usage[key] = u
	}
	if len(t.charged) == 0 || t.charged[len(t.charged)-1] != key {
		found := false
		for _, k := range t.charged {
			found = found || k == key
		}
		if !found {
			t.charged = append(t.charged, key)
		}
	}
	u.Bytes += uint64(bytes)
	u.Count += uint64(rows)
}

func toRow(r *Row) store.DeliveryRow {
	row := store.DeliveryRow{State: r.State, Run: r.Run, Attempts: r.Attempts, Next: r.Next, Token: r.Token, Topic: r.Topic,
		Received: r.Received, Tried: r.Tried, Lane: uint8(r.Lane), Key: r.Key, Size: r.Size}
	if r.First != nil {
		row.First = *r.First
	}
	return row
}

func fromRow(o hark.Offset, r *store.DeliveryRow) Row {
	row := Row{Meta: Meta{Offset: o, Key: r.Key, Received: r.Received, Topic: r.Topic, Size: r.Size}, State: r.State,
		Run: r.Run, Attempts: r.Attempts, Tried: r.Tried, Lane: Lane(r.Lane), Next: r.Next, Token: r.Token}
	if r.First.Number > 0 {
		row.First = &r.First
	}
	return row
}

// uncommitted returns the rows of a destination that the store may not have yet. The caller holds mu.
func (d *Deliverer) uncommitted(id hark.DestinationID) map[hark.Offset]Row {
	rows := make(map[hark.Offset]Row)
	for _, recs := range [][]Record{d.committing, d.pending} {
		for i := range recs {
			if r := &recs[i]; r.Kind == RecDelivery && r.Dest == id {
				rows[r.Offset] = r.Row
			}
		}
	}
	return rows
}

// row returns a delivery's row as the core left it, committed or not. The caller holds mu.
func (d *Deliverer) row(t hark.TenantID, id hark.DestinationID, o hark.Offset, fresh map[hark.Offset]Row) (Row, error) {
	if row, ok := fresh[o]; ok {
		return row, nil
	}
	row, ok, err := d.cfg.Store.Delivery(t, d.cfg.Log.Bucket(o), id, o)
	if !ok {
		return Row{}, err
	}
	return fromRow(o, &row), nil
}
