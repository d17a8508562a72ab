package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

// fake stands in for log, engine, courier and directory. Its log appends at once, into
// a real store in memory; its engine knows what tests tell it.
type fake struct {
	*store.Store
	b *Batches

	mu     sync.Mutex // guards below
	end    hark.Offset
	events map[hark.Offset]hark.Event
	fail   error // of the next appends
	dests  []hark.DestinationID
	gone   map[hark.DestinationID]bool
	states map[hark.DeliveryID]hark.State // of deliveries
	watch  map[hark.Offset][]hark.DestinationID
	sent   []hark.DeliveryID
	full   bool // the courier's destination takes no more
}

func newFake(t testing.TB, s *store.Store) *fake {
	f := &fake{Store: s, events: map[hark.Offset]hark.Event{}, states: map[hark.DeliveryID]hark.State{},
		gone: map[hark.DestinationID]bool{}, watch: map[hark.Offset][]hark.DestinationID{}}
	f.boot(t)
	return f
}

// boot makes Batches as a start of the process does.
func (f *fake) boot(t testing.TB) {
	f.b = New(Config{Store: f.Store, Log: f, Engine: f, Courier: f, Directory: f, Limits: Limits{TenantOpen: 20_000, TenantWatches: 100_000}})
	if err := f.b.Restore(); err != nil {
		t.Fatal(err)
	}
}

func openStore(t testing.TB, fs vfs.FS) *store.Store {
	s, err := store.Open(store.Options{Dir: "data", FS: fs, ValueBytes: 20, Fatal: func(msg string) { panic(msg) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *fake) AppendWith(_ context.Context, t hark.TenantID, events []hark.Event, idem eventlog.Idempotency, attach eventlog.Attach) (eventlog.Appended, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return eventlog.Appended{}, f.fail
	}
	first := f.end + 1
	if err := f.Store.Commit(attach(f.ID(first), 1)); err != nil {
		return eventlog.Appended{}, err
	}
	f.end += hark.Offset(len(events))
	for i, e := range events {
		f.events[first+hark.Offset(i)] = e
	}
	return eventlog.Appended{First: f.ID(first), Count: len(events)}, nil
}

func (f *fake) Locate(id hark.EventID) (hark.Offset, error) {
	if id.Offset == 0 || id.Offset > f.end {
		return 0, hark.NoSuch("event", id.String())
	}
	return id.Offset, nil
}
func (f *fake) ID(o hark.Offset) hark.EventID                 { return hark.EventID{Incarnation: 1, Offset: o} }
func (f *fake) Bucket(hark.Offset) store.Bucket               { return 1 }
func (f *fake) Buckets() []store.BucketStarted                { return []store.BucketStarted{{Bucket: 1, First: 1}} }
func (f *fake) End() hark.Offset                              { f.mu.Lock(); defer f.mu.Unlock(); return f.end }
func (f *fake) Sync() error                                   { return nil }
func (f *fake) Unwatch([]hark.DestinationID, hark.Offset)     {}
func (f *fake) Charge(hark.TenantID, store.Bucket, int) error { return nil }

// Matching: a destination wants the topics that begin with a letter of its id: 1 is a, 2 is b; 9 wants all.
func (f *fake) Matching(_ hark.TenantID, topics []string, found func(int, hark.DestinationID) bool) {
	for _, id := range f.dests {
		for i, topic := range topics {
			if (id >= 9 || strings.HasPrefix(topic, string(rune('a'+id-1)))) && !found(i, id) {
				return
			}
		}
	}
}

func (f *fake) Watch(_ hark.TenantID, ids []hark.DestinationID, first hark.Offset, n int) {
	f.mu.Lock()
	f.watch[first] = slices.Clone(ids)
	f.mu.Unlock()
}

// pass has the engine tell that destinations are done with the batch at first.
func (f *fake) pass(first hark.Offset, ids ...hark.DestinationID) {
	for _, id := range ids {
		f.b.Passed(id, first)
	}
}

func (f *fake) Fates(_ hark.TenantID, id hark.DestinationID, first hark.Offset, n int) ([]hark.State, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	states := make([]hark.State, n)
	for i := range states {
		if states[i] = f.states[hark.DeliveryID{Destination: id, Event: f.ID(first + hark.Offset(i))}]; states[i] == 0 {
			states[i] = hark.Due
		}
	}
	return states, !f.gone[id], nil
}

func (f *fake) Send(_ context.Context, _ hark.TenantID, to hark.DestinationID, event hark.EventID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return &hark.Error{Kind: hark.TooMany}
	}
	id := hark.DeliveryID{Destination: to, Event: event}
	f.sent = append(f.sent, id)
	f.states[id] = hark.Due
	return nil
}

func (f *fake) Delivery(_ hark.TenantID, id hark.DeliveryID) (*hark.Delivery, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.states[id]; s != 0 {
		return &hark.Delivery{ID: id, State: s}, nil
	}
	return nil, hark.NoSuch("delivery", id.String())
}

func (f *fake) Destination(_ hark.TenantID, id hark.DestinationID) (*hark.Destination, error) {
	return &hark.Destination{ID: id, UID: fmt.Sprint("d", uint64(id))}, nil
}

func (f *fake) EnsureCallback(_ hark.TenantID, d *hark.Destination) (*hark.Destination, bool, error) {
	return &hark.Destination{ID: 77, UID: d.UID}, true, nil
}

func order(n int, topic string) *hark.BatchOrder {
	o := &hark.BatchOrder{Callback: hark.BatchCallback{URL: "http://example.com/done"}}
	for range n {
		o.Events = append(o.Events, hark.Event{Topic: topic})
	}
	return o
}

func (f *fake) accept(t testing.TB, o *hark.BatchOrder) hark.BatchAccepted {
	t.Helper()
	a, err := f.b.Accept(t.Context(), 1, o, eventlog.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// inBubble runs Batches in virtual time.
func inBubble(t *testing.T, do func(t *testing.T, f *fake)) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem())
		defer s.Close()
		f := newFake(t, s)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.b.Run(ctx); close(done) }()
		do(t, f)
		stop()
		<-done
	})
}

func (f *fake) get(t *testing.T, id hark.BatchID) *hark.Batch {
	t.Helper()
	b, err := f.b.Get(1, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDeadline: a batch expires when it is said, to the moment, and counts what is not finished.
func TestDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		f.dests = []hark.DestinationID{1, 9}
		late, early := order(2, "a"), order(3, "a")
		late.Deadline, early.Deadline = 3*time.Hour, time.Hour
		first, second := f.accept(t, late), f.accept(t, early)
		f.states[hark.DeliveryID{Destination: 1, Event: second.Event(0)}] = hark.Delivered
		time.Sleep(time.Hour - time.Millisecond)
		synctest.Wait()
		if b := f.get(t, second.ID); b.State != hark.BatchOpen || *b.Counts != (hark.BatchCounts{Delivered: 1, Unfinished: 5}) {
			t.Errorf("%+v %+v", b, b.Counts)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if b := f.get(t, second.ID); b.State != hark.BatchExpired || *b.Counts != (hark.BatchCounts{Delivered: 1, Unfinished: 5}) || b.Callback.Delivery == nil {
			t.Errorf("%+v %+v", b, b.Counts)
		}
		if b := f.get(t, first.ID); b.State != hark.BatchOpen || f.b.Open() != 1 {
			t.Errorf("%+v", b)
		}
		// Told of too late: it is over.
		f.pass(second.ID.First().Offset, 1, 9)
		f.pass(first.ID.First().Offset, 1, 9)
		synctest.Wait()
		if b := f.get(t, first.ID); b.State != hark.BatchCompleted || f.b.Open() != 0 {
			t.Errorf("%+v", b)
		}
		if len(f.sent) != 2 {
			t.Errorf("sent %v", f.sent)
		}
		// Without one, a day.
		third := f.accept(t, order(1, "a"))
		time.Sleep(hark.DefaultBatchDeadline + time.Second)
		synctest.Wait()
		if b := f.get(t, third.ID); b.State != hark.BatchExpired || b.Ended.Sub(b.Accepted).Round(time.Second) != 24*time.Hour {
			t.Errorf("%+v", b)
		}
	})
}

// TestTryAgain: a log that takes nothing for now, and a destination that has enough, delay what is told and lose nothing.
func TestTryAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fake) {
		f.dests = []hark.DestinationID{1}
		a := f.accept(t, order(1, "a"))
		f.mu.Lock()
		f.fail, f.full = errors.New("the disk is full"), true
		f.mu.Unlock()
		f.pass(a.ID.First().Offset, 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		if b := f.get(t, a.ID); b.State != hark.BatchOpen {
			t.Errorf("%+v", b)
		}
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if b := f.get(t, a.ID); b.State != hark.BatchCompleted || b.Callback.Delivery != nil {
			t.Errorf("%+v", b)
		}
		f.mu.Lock()
		f.full = false
		f.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if b := f.get(t, a.ID); b.Callback.Delivery == nil || len(f.sent) != 1 {
			t.Errorf("%+v %v", b, f.sent)
		}
	})
}

// TestWhichEvents: each destination counts the events that it wanted.
func TestWhichEvents(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.Close()
	f := newFake(t, s)
	f.dests = []hark.DestinationID{1, 2, 9}
	o := order(0, "")
	for i := range 100 {
		o.Events = append(o.Events, hark.Event{Topic: string(rune('a'+i%3)) + fmt.Sprint(".", i%7)})
	}
	a := f.accept(t, o)
	for i := range 100 {
		if i%2 == 0 {
			for _, id := range f.dests {
				f.states[hark.DeliveryID{Destination: id, Event: a.Event(i)}] = hark.Delivered
			}
		}
	}
	want := map[hark.DestinationID][2]int{1: {17, 34}, 2: {16, 33}, 9: {50, 100}}
	b := f.get(t, a.ID)
	for _, d := range b.Destinations {
		if got := [2]int{d.Counts.Delivered, d.Events}; got != want[d.Destination] || d.Counts.Total() != d.Events {
			t.Errorf("%+v, want %v", d, want[d.Destination])
		}
	}
	if len(b.Destinations) != 3 || b.Counts.Total() != 167 {
		t.Errorf("%+v", b)
	}
}

func TestLimits(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	defer s.Close()
	f := newFake(t, s)
	for id := range hark.DestinationID(hark.MaxBatchDestinations + 1) {
		f.dests = append(f.dests, id+10)
	}
	if _, err := f.b.Accept(t.Context(), 1, order(1, "a"), eventlog.Idempotency{}); hark.KindOf(err) != hark.TooLarge {
		t.Errorf("too many destinations: %v", err)
	}
	f.dests = f.dests[:hark.MaxBatchDestinations]
	if _, err := f.b.Accept(t.Context(), 1, order(101, "a"), eventlog.Idempotency{}); hark.KindOf(err) != hark.TooLarge {
		t.Errorf("too many deliveries: %v", err)
	}
	f.accept(t, order(100, "a"))
	f.b.cfg.Limits.TenantWatches = 1500
	if _, err := f.b.Accept(t.Context(), 1, order(1, "a"), eventlog.Idempotency{}); hark.KindOf(err) != hark.TooMany {
		t.Errorf("too much is open: %v", err)
	}
	if len(f.events) != 100 {
		t.Errorf("%d events", len(f.events))
	}
}

// TestManyOpen: ten thousand open batches cost nothing while nothing happens, and little each when they end.
func TestManyOpen(t *testing.T) {
	const n = 10_000
	s := openStore(t, vfs.NewMem())
	defer s.Close()
	f := newFake(t, s)
	f.dests = []hark.DestinationID{1, 9}
	var first []hark.Offset
	for range n {
		first = append(first, f.accept(t, order(1, "a")).ID.First().Offset)
	}
	began := time.Now()
	f.boot(t) // all of them are read and watched again
	restored := time.Since(began)
	if f.b.Open() != n || len(f.watch) != n {
		t.Fatalf("%d open, %d watched", f.b.Open(), len(f.watch))
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.b.Run(ctx); close(done) }()
	began = time.Now()
	for _, o := range first {
		f.pass(o, 1, 9)
	}
	for f.b.Open() > 0 || f.owed() > 0 {
		time.Sleep(time.Millisecond)
		if time.Since(began) > time.Minute {
			t.Fatalf("%d are still open, %d owed", f.b.Open(), f.owed())
		}
	}
	t.Logf("%d open batches: restored in %v, ended in %v", n, restored, time.Since(began))
	stop()
	<-done
	if len(f.sent) != n {
		t.Errorf("%d sent", len(f.sent))
	}
	slices.SortFunc(f.sent, func(a, b hark.DeliveryID) int { return a.Event.Compare(b.Event) })
	if len(slices.Compact(f.sent)) != n {
		t.Error("something was sent twice")
	}
}

func (f *fake) owed() (n int) {
	if err := f.Store.OwedBatches(func(hark.TenantID, hark.Offset, hark.Offset, hark.DestinationID) { n++ }); err != nil {
		panic(err)
	}
	return n
}

// TestCrash: power is lost at every step of a batch's life, with what was not synced
// gone. After each, what was accepted is told exactly once, with right counts.
func TestCrash(t *testing.T) {
	for cut := range 40 {
		fs := vfs.NewCrashableMem()
		f := newFake(t, openStore(t, fs))
		f.dests = []hark.DestinationID{1}
		steps, lost := 0, fs
		step := func() {
			if steps++; steps == cut+1 {
				lost = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
			}
		}
		var accepted []hark.Offset
		for i := range 5 {
			a := f.accept(t, order(2, "a"))
			o := a.ID.First().Offset
			if steps <= cut {
				accepted = append(accepted, o)
			}
			step()
			f.states[hark.DeliveryID{Destination: 1, Event: a.Event(0)}] = hark.Delivered
			f.states[hark.DeliveryID{Destination: 1, Event: a.Event(1)}] = hark.Dead
			f.pass(o, 1)
			if i%2 == 0 {
				f.b.endSome(t.Context())
				step()
				f.b.sendSome(t.Context())
				step()
			}
		}
		if lost == fs {
			return // the life is shorter than that
		}
		// The events and deliveries of the fake outlive the crash, as the log's and the engine's do.
		again := newFake(t, openStore(t, lost))
		again.dests, again.end, again.states = f.dests, f.end, f.states
		again.sent = f.sent
		before := len(f.sent)
		for o := range again.watch {
			again.pass(o, 1)
		}
		for range 3 {
			again.b.endSome(t.Context())
			again.b.sendSome(t.Context())
		}
		for _, o := range accepted {
			b, err := again.b.Get(1, hark.BatchID(again.ID(o)), nil)
			if err != nil || b.State != hark.BatchCompleted || *b.Counts != (hark.BatchCounts{Delivered: 1, Dead: 1}) || b.Callback.Delivery == nil {
				t.Errorf("cut %d, batch %d: %+v %v", cut, o, b, err)
			}
		}
		seen := map[hark.DeliveryID]bool{}
		for _, id := range again.sent[before:] {
			if seen[id] {
				t.Errorf("cut %d: %v was sent twice", cut, id)
			}
			seen[id] = true
		}
		if again.b.Open() != 0 || again.owed() != 0 {
			t.Errorf("cut %d: %d open, %d owed", cut, again.b.Open(), again.owed())
		}
		again.Store.Close()
		f.Store.Close()
	}
	t.Error("the life has more steps than were cut")
}

// FuzzRow: no row on disk takes the process down.
func FuzzRow(f *testing.F) {
	f.Add((&row{Events: 9, Topics: []string{"a"}, To: []awaited{{ID: 1, Which: []byte{1, 2}, Wanted: 2}}}).encode())
	f.Add([]byte(`{"v":1,"events":9,"to":[{"id":1,"which":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRow(value)
		if err != nil || r.Events < 0 || r.Events > hark.MaxBatchEvents {
			return
		}
		for i := range r.To {
			for e := range r.Events {
				r.To[i].wanted(e)
			}
		}
	})
}
