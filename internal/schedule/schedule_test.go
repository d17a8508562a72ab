package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func anyTopic(string) bool { return true }

// world is a schedule over a log, with a clock of the test's own. Nobody runs it: the test
// says when it publishes.
type world struct {
	testing.TB
	*Schedule
	log   *eventlog.Log
	store *store.Store
	ms    *atomic.Int64 // the clock
	fail  atomic.Pointer[hark.Error]
	// meanwhile is called once, when a page was read and is not yet appended.
	meanwhile func()
	stop      func()
}

// AppendWith is the log's, unless the test wants it to fail.
func (w *world) AppendWith(ctx context.Context, t hark.TenantID, events []hark.Event, idem eventlog.Idempotency, attach eventlog.Attach) (eventlog.Appended, error) {
	if do := w.meanwhile; do != nil {
		w.meanwhile = nil
		do()
	}
	if err := w.fail.Load(); err != nil {
		return eventlog.Appended{}, err
	}
	return w.log.AppendWith(ctx, t, events, idem, attach)
}

func (w *world) Once(ctx context.Context, t hark.TenantID, idem eventlog.Idempotency, commit func(store.Record) error) (eventlog.Appended, error) {
	return w.log.Once(ctx, t, idem, commit)
}

func open(t testing.TB, fs *vfs.MemFS, clock *atomic.Int64, cfg Config) *world {
	t.Helper()
	st, err := store.Open(store.Options{FS: fs, Dir: "data", MemTableSize: 256 << 10, ValueBytes: 20})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, store: st, ms: clock}
	cfg.Now = func() time.Time { return time.UnixMilli(clock.Load()) }
	if w.log, err = eventlog.Open(eventlog.Config{Store: st, DiskFloor: -1, RetainEvery: time.Hour, Now: cfg.Now}); err != nil {
		t.Fatal(err)
	}
	cfg.Store, cfg.Log = st, w
	if w.Schedule, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.log.Run(ctx) })
	w.stop = sync.OnceFunc(func() { cancel(); wg.Wait(); st.Close() })
	t.Cleanup(w.stop)
	return w
}

func newWorld(t testing.TB, cfg Config) *world {
	clock := &atomic.Int64{}
	clock.Store(start.UnixMilli())
	return open(t, vfs.NewMem(), clock, cfg)
}

func (w *world) advance(d time.Duration) { w.ms.Add(d.Milliseconds()) }

// add schedules events of topic a, whose data are marks, so long after the start.
func (w *world) add(t hark.TenantID, key string, after []time.Duration, marks ...string) (Added, error) {
	events, at := make([]hark.Event, len(marks)), make([]time.Time, len(marks))
	for i, mark := range marks {
		events[i] = hark.Event{Topic: "a", ContentType: "text/plain", Data: []byte(mark)}
		at[i] = start.Add(after[min(i, len(after)-1)])
	}
	idem := eventlog.Idempotency{}
	if key != "" {
		idem = eventlog.Idempotency{Scope: "api", Key: key}
		copy(idem.Body[:], fmt.Sprint(marks))
	}
	return w.Add(context.Background(), t, events, at, idem)
}

func (w *world) must(a Added, err error) Added {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	return a
}

// published is the data of a tenant's events, in the order of the log.
func (w *world) published(t hark.TenantID) (marks []string) {
	w.Helper()
	for q := (eventlog.Query{Patterns: []hark.Pattern{">"}, Limit: 1000}); ; {
		p, err := w.log.Read(t, q)
		if err != nil {
			w.Fatal(err)
		}
		for _, e := range p.Events {
			marks = append(marks, string(e.Data))
		}
		if q.After = p.Next; !p.More {
			return marks
		}
	}
}

func (w *world) wantPublished(t hark.TenantID, want ...string) {
	w.Helper()
	w.publishDue(context.Background())
	if got := w.published(t); !slices.Equal(got, want) {
		w.Fatalf("published are %q, want %q", got, want)
	}
}

func (w *world) wantTotal(n int) {
	w.Helper()
	if got, bytes := w.Total(); got != n || (bytes == 0) != (n == 0) {
		w.Errorf("%d are scheduled, of %d bytes; want %d", got, bytes, n)
	}
}

// TestOrder: events are published when due and not before, in the order of their times.
func TestOrder(t *testing.T) {
	w := newWorld(t, Config{})
	w.must(w.add(1, "", []time.Duration{3 * time.Second, time.Second, time.Second}, "third", "first", "second"))
	w.must(w.add(1, "", []time.Duration{time.Minute}, "last"))
	w.must(w.add(2, "", []time.Duration{time.Second}, "other"))
	w.wantPublished(1)
	w.advance(999 * time.Millisecond)
	w.wantPublished(1)
	w.advance(time.Millisecond)
	w.wantPublished(1, "first", "second")
	w.must(w.add(1, "", []time.Duration{-time.Hour}, "past")) // is now
	w.advance(10 * time.Second)
	w.wantPublished(1, "first", "second", "past", "third")
	w.wantTotal(1)
	w.advance(-time.Hour) // the clock is set back
	w.wantPublished(1, "first", "second", "past", "third")
	w.advance(48 * time.Hour)
	w.wantPublished(1, "first", "second", "past", "third", "last")
	w.wantTotal(0)
	if got := w.published(2); !slices.Equal(got, []string{"other"}) {
		t.Errorf("the other tenant has %q", got)
	}
}

// TestManyAtOnce: more than a page is due at one time, of several tenants.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t, Config{})
	var want []string
	for i := range 25 {
		marks := make([]string, 100)
		for j := range marks {
			marks[j] = fmt.Sprintf("%06d", 100*i+j)
		}
		want = append(want, marks...)
		w.must(w.add(1, "", []time.Duration{time.Minute + time.Duration(i)*time.Millisecond}, marks...))
		w.must(w.add(2, "", []time.Duration{time.Minute}, marks...))
	}
	w.wantTotal(5000)
	w.advance(2 * time.Minute)
	w.wantPublished(1, want...)
	if n := len(w.published(2)); n != 2500 {
		t.Errorf("%d of the other tenant", n)
	}
	w.wantTotal(0)
}

// TestAddedMeanwhile: what is added among events that are just being published is published, too,
// and is there to be listed; so is what comes after them.
func TestAddedMeanwhile(t *testing.T) {
	w := newWorld(t, Config{})
	w.must(w.add(1, "", []time.Duration{time.Second, 3 * time.Second, time.Hour}, "first", "last", "waits"))
	w.advance(5 * time.Second)
	w.meanwhile = func() {
		w.must(w.add(1, "", []time.Duration{0, 2 * time.Second, time.Minute}, "before", "between", "soon"))
	}
	w.wantPublished(1, "first", "last", "before", "between")
	if page, _, err := w.List(1, hark.ScheduledID{}, 10, anyTopic); err != nil || len(page) != 2 || string(page[0].Event.Data) != "soon" {
		t.Errorf("listed are %v, %v", page, err)
	}
	w.must(w.add(1, "", []time.Duration{6 * time.Second, 8 * time.Second}, "a", "c"))
	w.advance(10 * time.Second)
	w.meanwhile = func() { w.must(w.add(1, "", []time.Duration{7 * time.Second}, "b")) }
	w.wantPublished(1, "first", "last", "before", "between", "a", "c", "b")
}

// TestBounds: nothing of a request that is too much, or wrong, is scheduled.
func TestBounds(t *testing.T) {
	w := newWorld(t, Config{MaxCount: 10, MaxBytes: 10_000, MaxEvent: 5000})
	second := []time.Duration{time.Second}
	for range 9 {
		w.must(w.add(1, "", second, "x"))
	}
	for name, try := range map[string]func() error{
		"too many":     func() error { _, err := w.add(1, "", second, "x", "y"); return err },
		"too far":      func() error { _, err := w.add(1, "", []time.Duration{367 * 24 * time.Hour}, "x"); return err },
		"before 1970":  func() error { _, err := w.add(1, "", []time.Duration{-100 * 366 * 24 * time.Hour}, "x"); return err },
		"too large":    func() error { _, err := w.add(1, "", second, string(make([]byte, 5001))); return err },
		"no such name": func() error { return w.Cancel(t.Context(), 1, hark.ScheduledID{Due: 1, Number: 1}, anyTopic) },
	} {
		kind := hark.KindOf(try())
		want := map[string]hark.Kind{"too many": hark.TooMany, "too far": hark.Mismatch, "before 1970": hark.Mismatch, "too large": hark.TooLarge, "no such name": hark.NotFound}[name]
		if kind != want {
			t.Errorf("%s: %v, want %v", name, kind, want)
		}
	}
	w.wantTotal(9)
	big := string(make([]byte, 4900))
	w.must(w.add(2, "", second, big))
	if _, err := w.add(2, "", second, big, "x"); hark.KindOf(err) != hark.TooMany {
		t.Errorf("too many bytes: %v", err)
	}
	w.advance(time.Minute)
	w.publishDue(t.Context())
	w.wantTotal(0)
	w.must(w.add(2, "", second, big, "x"))
}

// TestIdempotency: a repetition leads to nothing more, whatever became of the first.
func TestIdempotency(t *testing.T) {
	w := newWorld(t, Config{})
	minute := []time.Duration{time.Minute, time.Hour}
	first := w.must(w.add(1, "k", minute, "a", "b"))
	again := w.must(w.add(1, "k", minute, "a", "b"))
	if first.Duplicate || !again.Duplicate || !slices.Equal(first.IDs, again.IDs) {
		t.Errorf("%+v, then %+v", first, again)
	}
	if _, err := w.add(1, "k", minute, "a", "c"); hark.KindOf(err) != hark.Mismatch {
		t.Errorf("another body: %v", err)
	}
	if other := w.must(w.add(2, "k", minute, "a", "b")); other.Duplicate {
		t.Error("the key of another tenant counts")
	}
	w.wantTotal(4)
	w.advance(2 * time.Minute)
	w.wantPublished(1, "a")
	if again = w.must(w.add(1, "k", minute, "a", "b")); !again.Duplicate || !slices.Equal(first.IDs, again.IDs) {
		t.Errorf("%+v", again)
	}
	w.wantPublished(1, "a")

	// The same key, of a request that publishes at once.
	idem := eventlog.Idempotency{Scope: "api", Key: "k"}
	copy(idem.Body[:], "[a b]")
	done, err := w.log.Append(t.Context(), 1, []hark.Event{{Topic: "a", ContentType: "text/plain", Data: []byte("a")}}, idem)
	if err != nil || !done.Duplicate || !done.First.IsZero() {
		t.Errorf("%+v, %v", done, err)
	}
	if got := w.IDs(1, []time.Time{start.Add(time.Minute), start.Add(time.Hour)}, "k"); !slices.Equal(got, first.IDs) {
		t.Errorf("%v", got)
	}
	idem.Key = "k2"
	if done, err = w.log.Append(t.Context(), 1, []hark.Event{{Topic: "a", ContentType: "text/plain", Data: []byte("now")}}, idem); err != nil {
		t.Fatal(err)
	}
	late := w.must(w.add(1, "k2", minute, "a", "b"))
	if !late.Duplicate || late.IDs != nil || late.Published.First != done.First {
		t.Errorf("%+v", late)
	}
}

// TestForgottenKey: a key that is not remembered any more does not write over what it scheduled.
func TestForgottenKey(t *testing.T) {
	w := newWorld(t, Config{})
	times := []time.Duration{time.Minute, 100 * time.Hour}
	w.must(w.add(1, "k", times, "a", "b"))
	w.advance(48 * time.Hour)
	w.wantPublished(1, "a")
	if _, err := w.add(1, "k", times, "c", "d"); hark.KindOf(err) != hark.Mismatch {
		t.Errorf("while one of it waits: %v", err)
	}
	w.wantTotal(1)
	w.advance(100 * time.Hour)
	w.wantPublished(1, "a", "b")
	w.wantTotal(0)
	if _, err := w.add(1, "k", times, "c", "d"); err != nil {
		t.Errorf("when all of it is published: %v", err)
	}
}

// TestCancel: what was cancelled is not published, and what is being published is not cancelled.
func TestCancel(t *testing.T) {
	w := newWorld(t, Config{})
	a := w.must(w.add(1, "", []time.Duration{time.Second}, "a", "b", "c"))
	if err := w.Cancel(t.Context(), 2, a.IDs[0], anyTopic); hark.KindOf(err) != hark.NotFound {
		t.Errorf("of another tenant: %v", err)
	}
	if err := w.Cancel(t.Context(), 1, a.IDs[0], func(string) bool { return false }); hark.KindOf(err) != hark.NotFound {
		t.Errorf("of a topic that is not the caller's: %v", err)
	}
	if err := w.Cancel(t.Context(), 1, a.IDs[1], anyTopic); err != nil {
		t.Fatal(err)
	}
	if err := w.Cancel(t.Context(), 1, a.IDs[1], anyTopic); hark.KindOf(err) != hark.NotFound {
		t.Errorf("again: %v", err)
	}
	if _, err := w.Get(1, a.IDs[1], anyTopic); hark.KindOf(err) != hark.NotFound {
		t.Errorf("it is still there: %v", err)
	}
	w.advance(time.Minute)
	w.wantPublished(1, "a", "c")
	if err := w.Cancel(t.Context(), 1, a.IDs[0], anyTopic); hark.KindOf(err) != hark.NotFound {
		t.Errorf("what is published: %v", err)
	}
	w.wantTotal(0)
}

// TestList: pages go through all, those due first, and show what the caller may publish to.
func TestList(t *testing.T) {
	w := newWorld(t, Config{})
	for i := range 25 {
		w.must(w.add(1, "", []time.Duration{time.Duration(50-i) * time.Second}, fmt.Sprint(i)))
	}
	list := func(limit int, may func(string) bool) (marks []string) {
		for behind := (hark.ScheduledID{}); ; {
			page, next, err := w.List(1, behind, limit, may)
			if err != nil || len(page) > limit {
				t.Fatal(len(page), err)
			}
			for _, e := range page {
				marks = append(marks, string(e.Event.Data))
			}
			if behind = next; next == (hark.ScheduledID{}) {
				return marks
			}
		}
	}
	for _, limit := range []int{1, 7, 25, 1000} {
		if got := list(limit, anyTopic); len(got) != 25 || got[0] != "24" || got[24] != "0" {
			t.Errorf("limit %d: %q", limit, got)
		}
	}
	if got := list(10, func(string) bool { return false }); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if page, _, err := w.List(7, hark.ScheduledID{}, 10, anyTopic); err != nil || len(page) != 0 {
		t.Errorf("a tenant without any: %v %v", page, err)
	}
}

// TestRefusals: a log that takes nothing at the moment is asked again, and what it never takes is
// given up without holding up the rest.
func TestRefusals(t *testing.T) {
	var delayed, dropped []string
	w := newWorld(t, Config{Hooks: Hooks{
		Delayed: func(_ hark.TenantID, err error) { delayed = append(delayed, err.Error()) },
		Dropped: func(_ hark.TenantID, id hark.ScheduledID, _ error) { dropped = append(dropped, id.String()) },
	}})
	a := w.must(w.add(1, "", []time.Duration{time.Second}, "a", "b"))
	w.advance(time.Minute)
	w.fail.Store(&hark.Error{Kind: hark.TooMany, Code: "quota", Msg: "full"})
	if rest := w.publishDue(t.Context()); rest <= 0 || rest > retryAfter || len(delayed) != 1 {
		t.Errorf("the next try is after %v, %q", rest, delayed)
	}
	w.wantTotal(2)
	for range 50 { // it is told once a minute
		w.advance(2 * time.Second)
		w.publishDue(t.Context())
	}
	if len(delayed) != 2 {
		t.Errorf("in 100 s it was told %d times", len(delayed))
	}
	w.advance(2 * time.Second)
	w.fail.Store(&hark.Error{Kind: hark.TooLarge, Code: "event-too-large", Msg: "no"})
	w.publishDue(t.Context())
	if len(dropped) != 2 || dropped[0] != a.IDs[0].String() {
		t.Errorf("given up are %q", dropped)
	}
	w.wantTotal(0)
	w.fail.Store(nil)
	w.must(w.add(1, "", []time.Duration{time.Second}, "c"))
	w.wantPublished(1, "c")
}

// TestErase: nothing of an erased tenant is left, is published, or comes again.
func TestErase(t *testing.T) {
	w := newWorld(t, Config{})
	for _, tenant := range []hark.TenantID{1, 2} {
		w.must(w.add(tenant, "", []time.Duration{time.Second, time.Hour}, "a", "b"))
	}
	w.Erase(1)(false) // it did not go through
	rec, done, err := w.log.Erase(1)
	if err != nil {
		t.Fatal(err)
	}
	w.publishDue(t.Context())
	gone := w.Erase(1)
	if err := w.store.Commit(rec); err != nil {
		t.Fatal(err)
	}
	gone(true)
	done(true)
	if _, err := w.add(1, "", []time.Duration{time.Second}, "late"); hark.KindOf(err) != hark.NotFound {
		t.Errorf("%v", err)
	}
	w.wantTotal(2)
	w.advance(2 * time.Hour)
	w.wantPublished(2, "a", "b")
	w.wantTotal(0)
	if _, ok, err := w.store.ScheduledNext(1, hark.ScheduledID{}); ok || err != nil {
		t.Error("a row is left", err)
	}
}

// TestRun: it publishes by itself, soon after the time, also when an earlier one comes.
func TestRun(t *testing.T) {
	w := newWorld(t, Config{})
	w.Schedule.cfg.Now = time.Now
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- w.Run(ctx) }()
	at := func(d time.Duration, mark string) {
		_, err := w.Add(ctx, 1, []hark.Event{{Topic: "a", ContentType: "text/plain", Data: []byte(mark)}}, []time.Time{time.Now().Add(d)}, eventlog.Idempotency{})
		if err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	at(time.Hour, "much later")
	at(time.Second, "later")
	at(20*time.Millisecond, "soon")
	events, err := w.log.Next(ctx, 0, 1)
	if err != nil || string(events[0].Data) != "soon" || time.Since(began) < 15*time.Millisecond {
		t.Fatal(events, err)
	}
	if events, err = w.log.Next(ctx, 1, 1); err != nil || string(events[0].Data) != "later" || time.Since(began) < 950*time.Millisecond {
		t.Fatal(events, err)
	}
	cancel()
	if err := <-ran; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.wantTotal(1)
}
