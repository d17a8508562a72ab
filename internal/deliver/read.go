package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

// readers is how many pages are read from the log at a time.
const readers = 4

// readQueue hands out reads, tenants in turn.
type readQueue struct {
	mu      sync.Mutex // guards below
	more    *sync.Cond
	tenants map[hark.TenantID]*ring[Read]
	turns   ring[hark.TenantID] // tenants with something to read
	closed  bool
}

func (q *readQueue) init() {
	q.more = sync.NewCond(&q.mu)
	q.tenants = make(map[hark.TenantID]*ring[Read])
}

func (q *readQueue) push(r Read) {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.tenants[r.Tenant]
	if mine == nil {
		mine = &ring[Read]{}
		q.tenants[r.Tenant] = mine
		q.turns.push(r.Tenant)
	}
	mine.push(r)
	q.more.Signal()
}

func (q *readQueue) pop() (Read, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.turns.n == 0 && !q.closed {
		q.more.Wait()
	}
	if q.closed {
		return Read{}, false
	}
	t := q.turns.pop()
	mine := q.tenants[t]
	r := mine.pop()
	if mine.n > 0 {
		q.turns.push(t)
	} else {
		delete(q.tenants, t)
	}
	return r, true
}

func (q *readQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.more.Broadcast()
}

// read answers the core's reads.
func (d *Deliverer) read(ctx context.Context) {
	for {
		r, ok := d.reads.pop()
		if !ok {
			return
		}
		if err := d.answerRead(r); err != nil {
			d.oops("reading a page of the log", err)
			d.helpers.Go(func() {
				select {
				case <-time.After(time.Second):
					d.reads.push(r)
				case <-ctx.Done():
				}
			})
		}
	}
}

func (d *Deliverer) answerRead(r Read) error {
	d.mu.Lock()
	t := d.targets[r.Dest]
	if t == nil {
		d.mu.Unlock()
		return nil
	}
	patterns, filter := t.dest.Topics, t.filter
	d.mu.Unlock()

	page, err := d.cfg.Log.Read(r.Tenant, eventlog.Query{Patterns: patterns, After: r.After, Limit: r.Limit})
	if err != nil {
		return err
	}
	events, kept, refused := page.Events, make([]*hark.Event, 0, len(page.Events)), uint64(0)
	for _, e := range events {
		switch {
		case r.Upto > 0 && e.ID.Offset > r.Upto:
		case filter == nil || filter(e):
			kept = append(kept, e)
		default:
			refused++
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Replay {
		return d.replayed(r, kept, page.Next, !page.More || page.Next >= r.Upto)
	}
	if t = d.targets[r.Dest]; t != nil && refused > 0 {
		d.countFiltered(t, refused)
	}
	p := Page{Next: page.Next, End: !page.More, Metas: make([]Meta, len(kept))}
	for i, e := range kept {
		p.Metas[i] = metaOf(e)
	}
	if page.Gap != nil {
		p.GapTo = page.Gap.To.Offset
	}
	d.core.Page(nowMillis(), r.Dest, r.Gen, p)
	d.flush()
	return nil
}

// replayed adds the present rows to a replay's page. The caller holds mu, so that
// no row changes between the look and the answer.
func (d *Deliverer) replayed(r Read, events []*hark.Event, next hark.Offset, end bool) error {
	page, fresh := make([]Replayed, len(events)), d.uncommitted(r.Dest)
	for i, e := range events {
		row, err := d.row(r.Tenant, r.Dest, e.ID.Offset, fresh)
		if err != nil {
			return err
		}
		page[i] = Replayed{metaOf(e), row}
	}
	d.core.ReplayPage(nowMillis(), r.Dest, r.Gen, page, next, end)
	d.flush()
	return nil
}
