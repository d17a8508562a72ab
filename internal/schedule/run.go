package schedule

import (
	"context"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

const (
	// maxRest bounds how long nobody looks at the clock, which may jump.
	maxRest = 10 * time.Second
	// retryAfter is how long a tenant waits whose events could not be appended.
	retryAfter = time.Second
	// tellEvery is how often it is told of one: a tenant can be over its quota for weeks.
	tellEvery = time.Minute
	// pageEvents is how many of a tenant's events are published in one commit; the store bounds
	// their bytes. Then it is the next tenant's turn.
	pageEvents = 100
	// atOnce is of how many tenants a page is published at once: when all have something due at
	// nine o'clock, they share the log's syncs.
	atOnce = 16
	// appendWithin bounds how long an append waits for its turn.
	appendWithin = 5 * time.Second
)

// Run publishes what is due until ctx ends.
func (s *Schedule) Run(ctx context.Context) error {
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-rest.C:
		}
		rest.Reset(s.publishDue(ctx))
	}
}

// publishDue publishes all that is due, and returns how long there is nothing to do.
func (s *Schedule) publishDue(ctx context.Context) (rest time.Duration) {
	for ctx.Err() == nil {
		due, rest := s.due()
		if len(due) == 0 {
			return rest
		}
		var all sync.WaitGroup
		slots := make(chan struct{}, atOnce)
		for _, t := range due {
			slots <- struct{}{}
			all.Go(func() {
				defer func() { <-slots }()
				s.publishPage(ctx, t)
			})
		}
		all.Wait()
	}
	return maxRest
}

// due returns the tenants that have something due, and for how long there is nothing.
func (s *Schedule) due() (ready []hark.TenantID, rest time.Duration) {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	rest = maxRest
	for t, of := range s.tenants {
		if of.first == never {
			continue
		}
		wait := max(of.first.At().Sub(now), of.notBefore.Sub(now))
		if wait <= 0 {
			ready = append(ready, t)
		}
		rest = min(rest, max(wait, time.Millisecond))
	}
	return ready, rest
}

// page is what is published in one commit.
type page struct {
	rows []row
	bad  []row // that cannot be read
}

type row struct {
	id    hark.ScheduledID
	event *hark.Event
	bytes int
}

// publishPage publishes the first of a tenant's events that are due.
func (s *Schedule) publishPage(ctx context.Context, t hark.TenantID) {
	s.mu.Lock()
	of := s.tenants[t]
	if of == nil { // erased meanwhile
		s.mu.Unlock()
		return
	}
	from := of.first
	of.added = never
	s.mu.Unlock()
	of.turn <- struct{}{}
	defer func() { <-of.turn }()
	p, err := s.readPage(t, from)
	if err == nil {
		err = s.publish(ctx, t, p)
	}
	if err == nil {
		err = s.moveOn(t, of, from)
	}
	if err != nil {
		if s.delay(of) && ctx.Err() == nil && s.cfg.Hooks.Delayed != nil {
			s.cfg.Hooks.Delayed(t, err)
		}
	}
}

func (s *Schedule) readPage(t hark.TenantID, from hark.ScheduledID) (*page, error) {
	p := &page{}
	_, err := s.cfg.Store.ScheduledFrom(t, from, s.cfg.Now().UnixMilli(), pageEvents, func(id hark.ScheduledID, e *hark.Scheduled, bytes int, bad error) bool {
		r := row{id: id, bytes: bytes + rowOverhead}
		if bad != nil {
			p.bad = append(p.bad, r)
			return true
		}
		r.event = e.Event
		p.rows = append(p.rows, r)
		return true
	})
	return p, err
}

// publish publishes a page's events. What the log does not take any more is given up alone.
func (s *Schedule) publish(ctx context.Context, t hark.TenantID, p *page) error {
	if len(p.bad) > 0 {
		if err := s.drop(t, p.bad, errCorrupt); err != nil {
			return err
		}
	}
	if len(p.rows) == 0 {
		return nil
	}
	err := s.append(ctx, t, p.rows)
	if !refused(err) {
		return err
	}
	for i := range p.rows {
		one := p.rows[i : i+1]
		if err = s.append(ctx, t, one); refused(err) {
			err = s.drop(t, one, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refused reports whether the log will never take an event.
func refused(err error) bool {
	switch hark.KindOf(err) {
	case hark.Invalid, hark.Mismatch, hark.TooLarge:
		return err != nil
	}
	return false
}

func (s *Schedule) append(ctx context.Context, t hark.TenantID, rows []row) error {
	ctx, cancel := context.WithTimeout(ctx, appendWithin)
	defer cancel()
	events, removed := make([]hark.Event, len(rows)), idsOf(t, rows)
	for i := range rows {
		events[i] = *rows[i].event
	}
	_, err := s.cfg.Log.AppendWith(ctx, t, events, eventlog.Idempotency{}, func(hark.EventID, store.Bucket) store.Record { return removed })
	if err != nil {
		return err
	}
	s.releaseRows(t, rows)
	if s.cfg.Hooks.Published != nil {
		s.cfg.Hooks.Published(t, len(rows), max(0, s.cfg.Now().Sub(rows[0].id.At())))
	}
	return nil
}

// drop removes rows that are not published.
func (s *Schedule) drop(t hark.TenantID, rows []row, why error) error {
	if err := s.remove(t, idsOf(t, rows)); err != nil {
		return err
	}
	s.releaseRows(t, rows)
	if s.cfg.Hooks.Dropped != nil {
		for i := range rows {
			s.cfg.Hooks.Dropped(t, rows[i].id, why)
		}
	}
	return nil
}

func idsOf(t hark.TenantID, rows []row) *store.ScheduledRemoved {
	r := &store.ScheduledRemoved{Tenant: t, IDs: make([]hark.ScheduledID, len(rows))}
	for i := range rows {
		r.IDs[i] = rows[i].id
	}
	return r
}

func (s *Schedule) releaseRows(t hark.TenantID, rows []row) {
	bytes := 0
	for i := range rows {
		bytes += rows[i].bytes
	}
	s.release(t, len(rows), bytes)
}

// delay lets a tenant wait after a failure, and reports whether that is to be told.
func (s *Schedule) delay(of *tenant) (tell bool) {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	of.notBefore = now.Add(retryAfter)
	if tell = now.Sub(of.told).Abs() >= tellEvery; tell {
		of.told = now
	}
	return tell
}

// moveOn finds what is due next, when the rows of a page from an id on are gone. It looks at that
// place again, as one may have come among them; one that comes while it looks is in added.
func (s *Schedule) moveOn(t hark.TenantID, of *tenant, from hark.ScheduledID) error {
	next, ok, err := s.cfg.Store.ScheduledNext(t, from)
	if err != nil {
		return err
	}
	if !ok {
		next = never
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if of.first == from { // else an earlier one came
		of.first = earlier(next, of.added)
	}
	return nil
}
