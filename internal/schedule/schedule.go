package schedule

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

// Log is what this package needs of the event log.
type Log interface {
	AppendWith(ctx context.Context, t hark.TenantID, events []hark.Event, idem eventlog.Idempotency, attach eventlog.Attach) (eventlog.Appended, error)
	Once(ctx context.Context, t hark.TenantID, idem eventlog.Idempotency, commit func(remember store.Record) error) (eventlog.Appended, error)
}

// Config says where and how. Store and Log are required.
type Config struct {
	Store *store.Store
	Log   Log
	// Now is the clock; nil for the machine's.
	Now func() time.Time
	// MaxEvent bounds one event in bytes; 0 for [hark.MaxEventBytes].
	MaxEvent int
	// MaxCount and MaxBytes bound what a tenant has scheduled; 0 for [hark.MaxScheduled] and
	// [hark.MaxScheduledBytes].
	MaxCount, MaxBytes int
	Hooks              Hooks
}

// Hooks are called synchronously and must be quick; nil ones are left out.
type Hooks struct {
	// Published tells that n events of a tenant were appended, the first of them so late.
	Published func(t hark.TenantID, n int, late time.Duration)
	// Cancelled tells that one was cancelled.
	Cancelled func(t hark.TenantID)
	// Delayed tells that due events could not be appended yet, and why; of each tenant at most
	// once a minute.
	Delayed func(t hark.TenantID, err error)
	// Dropped tells that an event was given up, which the log does not take any more.
	Dropped func(t hark.TenantID, id hark.ScheduledID, err error)
}

// Schedule is the events that are to be published later. It is safe for concurrent use.
type Schedule struct {
	cfg  Config
	wake chan struct{} // something may be due earlier

	gate   sync.RWMutex           // see the package doc
	erased map[hark.TenantID]bool // guarded by gate

	mu      sync.Mutex // guards below
	tenants map[hark.TenantID]*tenant
	number  uint64
}

// tenant is what is known of a tenant's rows.
type tenant struct {
	turn chan struct{} // held by who removes rows

	// Guarded by Schedule.mu.
	count, bytes int
	first        hark.ScheduledID // at most the first row's id
	added        hark.ScheduledID // the first that was added since a page was begun
	notBefore    time.Time        // when to try again, after a failure
	told         time.Time        // when a failure was told
}

// rowOverhead is what a row is counted with beside its value.
const rowOverhead = 64

// never is after every id.
var never = hark.ScheduledID{Due: math.MaxInt64, Number: math.MaxUint64}

// Open counts what is scheduled. Nothing is published before [Schedule.Run].
func Open(cfg Config) (*Schedule, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.MaxEvent = cmp.Or(cfg.MaxEvent, hark.MaxEventBytes)
	cfg.MaxCount = cmp.Or(cfg.MaxCount, hark.MaxScheduled)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, hark.MaxScheduledBytes)
	s := &Schedule{cfg: cfg, wake: make(chan struct{}, 1), erased: map[hark.TenantID]bool{}, tenants: map[hark.TenantID]*tenant{},
		number: rand.Uint64()}
	err := cfg.Store.ScheduledSizes(func(t hark.TenantID, id hark.ScheduledID, bytes int) {
		s.countLocked(t, 1, bytes+rowOverhead)
		s.dueLocked(t, id)
	})
	if err != nil {
		return nil, fmt.Errorf("counting scheduled events: %w", err)
	}
	return s, nil
}

func (s *Schedule) tenantLocked(t hark.TenantID) *tenant {
	of := s.tenants[t]
	if of == nil {
		of = &tenant{turn: make(chan struct{}, 1), first: never, added: never}
		s.tenants[t] = of
	}
	return of
}

func (s *Schedule) countLocked(t hark.TenantID, n, bytes int) {
	of := s.tenantLocked(t)
	of.count += n
	of.bytes += bytes
}

// dueLocked notes that there is a row.
func (s *Schedule) dueLocked(t hark.TenantID, id hark.ScheduledID) {
	of := s.tenantLocked(t)
	of.first, of.added = earlier(id, of.first), earlier(id, of.added)
}

func less(a, b hark.ScheduledID) bool {
	return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.Number, b.Number)) < 0
}

func earlier(a, b hark.ScheduledID) hark.ScheduledID {
	if less(a, b) {
		return a
	}
	return b
}

func after(id hark.ScheduledID) hark.ScheduledID {
	if id.Number++; id.Number == 0 {
		id.Due++
	}
	return id
}

// Total returns how many events are scheduled, and their bytes.
func (s *Schedule) Total() (n, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.tenants {
		n += of.count
		bytes += of.bytes
	}
	return n, bytes
}

// Added tells what became of a request to publish later.
type Added struct {
	// IDs are those of the scheduled events, in the order of the request; nil when the request
	// was carried out before as one that published: then Published says what it led to.
	IDs       []hark.ScheduledID
	Published eventlog.Appended
	// Duplicate says that an earlier request with the same idempotency key did it.
	Duplicate bool
}

// Add keeps events to be published at some times, one for each: all or none, after the sync. A
// time that is over is now. It takes ownership of events. Errors: what is wrong with an event or
// a time, too many or too large ([hark.TooMany]), a key reused for another request
// ([hark.Mismatch]); after each of them nothing is scheduled.
func (s *Schedule) Add(ctx context.Context, t hark.TenantID, events []hark.Event, at []time.Time, idem eventlog.Idempotency) (Added, error) {
	rows, bytes, err := s.rows(t, events, at, idem.Key)
	if err != nil {
		return Added{}, err
	}
	if err := s.reserve(t, len(rows), bytes); err != nil {
		return Added{}, err
	}
	res := Added{IDs: make([]hark.ScheduledID, len(rows))}
	for i := range rows {
		res.IDs[i] = rows[i].ID
	}
	var done eventlog.Appended
	if idem.Key == "" {
		err = s.commit(t, rows, nil)
	} else {
		done, err = s.cfg.Log.Once(ctx, t, idem, func(remember store.Record) error { return s.commit(t, rows, remember) })
	}
	if err != nil || done.Duplicate {
		s.release(t, len(rows), bytes)
	}
	switch {
	case err != nil:
		return Added{}, err
	case done.Duplicate && !done.First.IsZero():
		return Added{Published: done, Duplicate: true}, nil
	}
	res.Duplicate = done.Duplicate
	return res, nil
}

// IDs returns what a request with an idempotency key was given, or would be.
func (s *Schedule) IDs(t hark.TenantID, at []time.Time, key string) []hark.ScheduledID {
	ids := make([]hark.ScheduledID, len(at))
	number := numberOf(t, key)
	for i, due := range at {
		ids[i] = hark.ScheduledID{Due: dueAt(due), Number: number + uint64(i)}
	}
	return ids
}

func numberOf(t hark.TenantID, key string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "scheduled\x00%d\x00%s", t, key))
	return binary.BigEndian.Uint64(sum[:]) &^ (1<<12 - 1) // those of one request do not wrap
}

// dueAt is a time in ms, rounded up: nothing is published early.
func dueAt(t time.Time) int64 { return t.Add(time.Millisecond - time.Nanosecond).UnixMilli() }

// numbers returns the first of n numbers in a row.
func (s *Schedule) numbers(n int) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.number > math.MaxUint64-uint64(n) { // an id is not to wrap in the midst of a request
		s.number = 0
	}
	first := s.number
	s.number += uint64(n)
	return first
}

// rows checks events and times, and encodes them.
func (s *Schedule) rows(t hark.TenantID, events []hark.Event, at []time.Time, key string) (rows []store.ScheduledAdded, bytes int, err error) {
	number, now, size := uint64(0), s.cfg.Now(), 0
	if key != "" {
		number = numberOf(t, key)
	} else {
		number = s.numbers(len(events))
	}
	rows = make([]store.ScheduledAdded, len(events))
	for i := range events {
		e := &events[i]
		err := e.Check(s.cfg.MaxEvent)
		if err == nil {
			err = checkTime(at[i], now)
		}
		if err != nil {
			if len(events) > 1 {
				err = fmt.Errorf("event %d of the batch: %w", i, err)
			}
			return nil, 0, err
		}
		size += e.Size()
		rows[i] = store.ScheduledAdded{Tenant: t, ID: hark.ScheduledID{Due: dueAt(at[i]), Number: number + uint64(i)}, Value: store.EncodeEvent(e)}
		bytes += len(rows[i].Value) + rowOverhead
	}
	if size > hark.MaxBatchBytes && len(events) > 1 {
		return nil, 0, &hark.Error{Kind: hark.TooLarge, Code: "batch-too-large",
			Msg: fmt.Sprintf("the batch has %d bytes and the limit is %d: split it", size, hark.MaxBatchBytes)}
	}
	return rows, bytes, nil
}

func checkTime(at, now time.Time) error {
	if at.After(now.Add(hark.MaxScheduleAhead)) || at.UnixMilli() < 0 {
		return hark.Invalidf("deliver_at", fmt.Sprintf("must be a time like 2026-12-01T09:00:00Z, at most %d days ahead", hark.MaxScheduleAhead/(24*time.Hour)))
	}
	return nil
}

// reserve makes room for rows.
func (s *Schedule) reserve(t hark.TenantID, n, bytes int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.tenantLocked(t)
	if of.count+n > s.cfg.MaxCount || of.bytes+bytes > s.cfg.MaxBytes {
		return &hark.Error{Kind: hark.TooMany, Code: "too-many-scheduled", RetryAfter: time.Minute,
			Msg: fmt.Sprintf("the tenant may have %d events of %d bytes in all scheduled at one time, and has %d of %d: wait until some are published, or cancel some",
				s.cfg.MaxCount, s.cfg.MaxBytes, of.count, of.bytes)}
	}
	s.countLocked(t, n, bytes)
	return nil
}

func (s *Schedule) release(t hark.TenantID, n, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tenants[t] != nil { // else it was erased
		s.countLocked(t, -n, -bytes)
	}
}

// commit keeps rows, with what remembers the request.
func (s *Schedule) commit(t hark.TenantID, rows []store.ScheduledAdded, remember store.Record) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.erased[t] {
		return hark.NoSuch("tenant", "any more: it was deleted")
	}
	if remember != nil { // a key that is not remembered any more may have rows still
		for i := range rows {
			if old, _, err := s.cfg.Store.Scheduled(t, rows[i].ID); err != nil || old != nil {
				return cmp.Or(err, errKeyInUse)
			}
		}
	}
	recs := make([]store.Record, 0, len(rows)+1)
	for i := range rows {
		recs = append(recs, &rows[i])
	}
	if remember != nil {
		recs = append(recs, remember)
	}
	if err := s.cfg.Store.Commit(recs...); err != nil {
		return err
	}
	s.mu.Lock()
	before := s.tenantLocked(t).first
	for i := range rows {
		s.dueLocked(t, rows[i].ID)
	}
	sooner := less(s.tenantLocked(t).first, before)
	s.mu.Unlock()
	if sooner { // else there is nothing new to look at all tenants for
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func noSuch(id hark.ScheduledID) error {
	return &hark.Error{Kind: hark.NotFound, Code: "not-found", Msg: "there is no scheduled event " + id.String() + " any more, or never was: it is published, or was cancelled"}
}

// Get returns a scheduled event. One whose topic the caller may not publish to is not there.
func (s *Schedule) Get(t hark.TenantID, id hark.ScheduledID, may func(topic string) bool) (*hark.Scheduled, error) {
	e, _, err := s.cfg.Store.Scheduled(t, id)
	if err == nil && (e == nil || !may(e.Event.Topic)) {
		err = noSuch(id)
	}
	return e, err
}

// List returns a tenant's scheduled events after an id, those that are due first, as many as limit,
// of the topics that the caller may publish to. Next is where to go on; the zero id at the end.
func (s *Schedule) List(t hark.TenantID, behind hark.ScheduledID, limit int, may func(topic string) bool) (page []*hark.Scheduled, next hark.ScheduledID, err error) {
	s.mu.Lock()
	from := never
	if of := s.tenants[t]; of != nil {
		from = of.first
	}
	s.mu.Unlock()
	if behind != (hark.ScheduledID{}) && less(from, after(behind)) {
		from = after(behind)
	}
	if from.Due == math.MaxInt64 {
		return nil, next, nil
	}
	var last hark.ScheduledID
	more, err := s.cfg.Store.ScheduledFrom(t, from, math.MaxInt64-1, hark.MaxPageSize, func(id hark.ScheduledID, e *hark.Scheduled, _ int, bad error) bool {
		if bad == nil && may(e.Event.Topic) {
			if len(page) == limit {
				return false
			}
			page = append(page, e)
		}
		last = id
		return true
	})
	if more {
		next = last
	}
	return page, next, err
}

// Cancel removes a scheduled event. It waits for one that is being published, which then is not there.
func (s *Schedule) Cancel(ctx context.Context, t hark.TenantID, id hark.ScheduledID, may func(topic string) bool) error {
	s.mu.Lock()
	of := s.tenants[t]
	s.mu.Unlock()
	if of == nil {
		return noSuch(id)
	}
	select {
	case of.turn <- struct{}{}:
	case <-ctx.Done():
		return &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second, Msg: "the tenant's events are being published; try again", Err: context.Cause(ctx)}
	}
	defer func() { <-of.turn }()
	e, bytes, err := s.cfg.Store.Scheduled(t, id)
	if err != nil {
		return err
	}
	if e == nil || !may(e.Event.Topic) {
		return noSuch(id)
	}
	if err := s.remove(t, &store.ScheduledRemoved{Tenant: t, IDs: []hark.ScheduledID{id}}); err != nil {
		return err
	}
	s.release(t, 1, bytes+rowOverhead)
	if s.cfg.Hooks.Cancelled != nil {
		s.cfg.Hooks.Cancelled(t)
	}
	return nil
}

// remove forgets rows.
func (s *Schedule) remove(t hark.TenantID, rows *store.ScheduledRemoved) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.erased[t] {
		return nil // all of it is gone
	}
	return s.cfg.Store.Commit(rows)
}

// Erase stops what schedules for a tenant that is being deleted, whose rows go in the commit of
// [store.TenantErased]. Gone must be called with whether that went through. The log takes
// nothing of the tenant any more when it is called.
func (s *Schedule) Erase(t hark.TenantID) (gone func(committed bool)) {
	s.gate.Lock()
	return func(committed bool) {
		if committed {
			s.erased[t] = true
			s.mu.Lock()
			delete(s.tenants, t)
			s.mu.Unlock()
		}
		s.gate.Unlock()
	}
}

var errKeyInUse error = &hark.Error{Kind: hark.Mismatch, Code: "idempotency-key-reused", Field: "Idempotency-Key",
	Msg: "this key was used for an event that is still scheduled; use a new key for new content"}

var errCorrupt = errors.New("cannot be read any more")
