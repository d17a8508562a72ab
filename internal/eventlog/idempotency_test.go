package eventlog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

func keyed(key, body string) Idempotency {
	return Idempotency{Scope: "api", Key: key, Body: sha256.Sum256([]byte(body))}
}

// TestTwins: a hundred concurrent requests with one key make one event.
func TestTwins(t *testing.T) {
	r := start(t, store.Options{}, Config{})
	for round := range 20 {
		var wg sync.WaitGroup
		var made atomic.Int32
		ids := make([]hark.EventID, 100)
		for i := range ids {
			wg.Go(func() {
				got, err := r.Append(t.Context(), 1, []hark.Event{event("a", "x"), event("a", "y")}, keyed(fmt.Sprint(round), "same"))
				if err != nil || got.Count != 2 {
					t.Errorf("%+v, %v", got, err)
				}
				if !got.Duplicate {
					made.Add(1)
				}
				ids[i] = got.First
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("twins got %v and %v", id, ids[0])
			}
		}
		if made.Load() != 1 || r.End() != hark.Offset(2*(round+1)) {
			t.Fatalf("%d made it, %d events", made.Load(), r.End())
		}
	}
}

func TestIdempotency(t *testing.T) {
	clock := newClock()
	d := &smallDisk{FS: vfs.NewMem()}
	d.free.Store(50 << 30)
	r := start(t, store.Options{FS: d}, Config{Now: clock.now, DiskFloor: 1 << 30})
	ask := func(tenant hark.TenantID, idem Idempotency, n int) (Appended, error) {
		return r.Append(t.Context(), tenant, make1(n), idem)
	}
	first, err := ask(1, keyed("k", "body"), 3)
	if err != nil || first.Duplicate {
		t.Fatal(first, err)
	}
	if again, err := ask(1, keyed("k", "body"), 3); err != nil || again.First != first.First || again.Count != 3 || !again.Duplicate {
		t.Errorf("a repeat: %+v, %v", again, err)
	}
	if _, err := ask(1, keyed("k", "other"), 3); hark.KindOf(err) != hark.Mismatch {
		t.Errorf("another body: %v", err)
	}
	for name, idem := range map[string]Idempotency{"scope": {Scope: "src_1", Key: "k"}, "key": keyed("k2", "body")} {
		if got, err := ask(1, idem, 1); err != nil || got.Duplicate {
			t.Errorf("another %s: %+v, %v", name, got, err)
		}
	}
	if got, err := ask(2, keyed("k", "other"), 1); err != nil || got.Duplicate {
		t.Errorf("another tenant: %+v, %v", got, err)
	}
	if _, err := ask(1, keyed(strings.Repeat("k", hark.MaxIdempotency+1), ""), 1); hark.KindOf(err) != hark.Mismatch {
		t.Errorf("a long key: %v", err)
	}

	// A first that fails leaves nothing.
	end := r.End()
	if _, err := r.Append(t.Context(), 1, []hark.Event{event("bad topic", "")}, keyed("f", "body")); err == nil {
		t.Error("a bad topic was accepted")
	}
	d.free.Store(0)
	eventually(t, "the disk is low", func() bool { _, low := r.Disk(); return low })
	if _, err := ask(1, keyed("f", "body"), 1); hark.KindOf(err) != hark.Unavailable {
		t.Errorf("on a full disk: %v", err)
	}
	if again, err := ask(1, keyed("k", "body"), 3); err != nil || !again.Duplicate {
		t.Errorf("a repeat on a full disk: %+v, %v", again, err)
	}
	d.free.Store(50 << 30)
	eventually(t, "the disk has room", func() bool { _, low := r.Disk(); return !low })
	if got, err := ask(1, keyed("f", "another body"), 1); err != nil || got.Duplicate || got.First.Offset != end+1 {
		t.Errorf("after a first that failed: %+v, %v", got, err)
	}

	// Remembered for its window at least, at any phase of the grain; then forgotten.
	for _, window := range []time.Duration{time.Hour, 24 * time.Hour, 72 * time.Hour} {
		for phase := range 8 {
			clock.advance(47 * time.Minute)
			idem := keyed(fmt.Sprint("w", window, phase), "body")
			idem.Window = window
			made, err := ask(1, idem, 1)
			if err != nil {
				t.Fatal(err)
			}
			clock.advance(window - time.Minute)
			if err := r.Retain(clock.now()); err != nil {
				t.Fatal(err)
			}
			if got, err := ask(1, idem, 1); err != nil || !got.Duplicate || got.First != made.First {
				t.Fatalf("within %v: %+v, %v", window, got, err)
			}
			clock.advance(2 * idempotencyWindow)
			if got, err := ask(1, idem, 1); err != nil || got.Duplicate {
				t.Fatalf("long after %v: %+v, %v", window, got, err)
			}
		}
	}
	clock.advance(100 * time.Hour)
	if err := r.Retain(clock.now()); err != nil {
		t.Fatal(err)
	}
	left := 0
	if err := r.store.IdempotencyWindows(func(hark.TenantID, uint32) { left++ }); err != nil || left != 0 {
		t.Errorf("%d windows are kept for ever, %v", left, err)
	}
}

func make1(n int) []hark.Event {
	events := make([]hark.Event, n)
	for i := range events {
		events[i] = event("a", fmt.Sprint(i))
	}
	return events
}

// TestRestore goes through backup, restore and restore again.
func TestRestore(t *testing.T) {
	dir := t.TempDir()
	live, backup := filepath.Join(dir, "live"), filepath.Join(dir, "backup")
	clock := newClock()
	cfg := Config{Now: clock.now}
	r := start(t, store.Options{FS: vfs.Default, Dir: live}, cfg)
	kept := r.must1(t, 1, "a", "kept")
	if err := r.store.Checkpoint(backup); err != nil {
		t.Fatal(err)
	}
	atBackup := r.EndCursor()
	lost := r.must1(t, 1, "a", "lost")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	now := clock.now().Add(time.Hour)
	inc, err := store.Restored(backup, now)
	if err != nil || inc != uint64(now.Unix()) {
		t.Fatalf("incarnation %d, %v", inc, err)
	}
	if inc2, err := store.Restored(backup, now); err != nil || inc2 != inc+1 { // twice in a second
		t.Fatalf("incarnation %d after %d, %v", inc2, inc, err)
	}
	r = start(t, store.Options{FS: vfs.Default, Dir: backup}, cfg)
	if o, err := r.Locate(kept); err != nil || o != 1 {
		t.Errorf("an id from before: %d, %v", o, err)
	}
	if o, err := r.Locate(lost); hark.KindOf(err) != hark.NotFound {
		t.Errorf("a lost id: %d, %v", o, err)
	}
	if after, gap, err := r.Position(atBackup); err != nil || gap != nil || after != 1 {
		t.Errorf("a cursor at the end of the backup: %d, %v, %v", after, gap, err)
	}
	if after, gap, err := r.Position(lost); err != nil || gap == nil || after != 1 || gap.From != lost {
		t.Errorf("a cursor of the lost part: %d, %v, %v", after, gap, err)
	}
	next := r.must1(t, 1, "a", "new")
	if next.Offset != lost.Offset || next == lost || next.Compare(lost) <= 0 {
		t.Errorf("the new event is %v, the lost one was %v", next, lost)
	}
	for _, id := range []hark.EventID{{Incarnation: next.Incarnation, Offset: 1}, {Incarnation: kept.Incarnation, Offset: 2}, {Incarnation: next.Incarnation, Offset: 3},
		{Incarnation: 5, Offset: 1}, {Shard: 1, Incarnation: kept.Incarnation, Offset: 1}, {}} {
		if o, err := r.Locate(id); hark.KindOf(err) != hark.NotFound {
			t.Errorf("%+v names event %d: %v", id, o, err)
		}
	}
	for _, c := range []hark.Cursor{{Incarnation: next.Incarnation, Offset: 0}, {Incarnation: next.Incarnation, Offset: 99}, {Shard: 2, Incarnation: next.Incarnation, Offset: 2}} {
		if after, gap, err := r.Position(c); hark.KindOf(err) != hark.Invalid {
			t.Errorf("cursor %+v leads to %d, %v, %v", c, after, gap, err)
		}
	}
	if _, gap, err := r.Position(hark.Cursor{Incarnation: next.Incarnation + 9, Offset: 1}); err != nil || gap == nil {
		t.Errorf("a cursor of a newer life: %v, %v", gap, err)
	}
	if p, err := r.Read(1, Query{Patterns: []hark.Pattern{">"}}); err != nil || len(p.Events) != 2 || p.Events[0].ID != kept || p.Events[1].ID != next {
		t.Errorf("the log reads %v, %v", p.Events, err)
	}
	empty := r.EndCursor()
	r.stop()
	if _, err := store.Restored(backup, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Restored(backup, now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	r = start(t, store.Options{FS: vfs.Default, Dir: backup}, cfg)
	if after, gap, err := r.Position(empty); err != nil || gap != nil || after != 2 {
		t.Errorf("a cursor at the end of the one before: %d, %v, %v", after, gap, err)
	}
	if after, gap, err := r.Position(r.EndCursor()); err != nil || gap != nil || after != 2 {
		t.Errorf("the end of an empty incarnation: %d, %v, %v", after, gap, err)
	}
	if _, err := store.Restored(filepath.Join(dir, "nowhere"), now); err == nil {
		t.Error("restored a folder that is not there")
	}
	if _, err := os.Stat(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("and made it")
	}
}

// TestErase: a tenant that held the newest events is erased; their offsets are not given out again.
func TestErase(t *testing.T) {
	fs := vfs.NewMem()
	r := start(t, store.Options{FS: fs}, Config{})
	r.must1(t, 1, "a", "1")
	r.must1(t, 2, "a", "2")
	rec, done, err := r.Erase(2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Append(t.Context(), 2, make1(1), Idempotency{}); hark.KindOf(err) != hark.NotFound {
		t.Errorf("publishing while being erased: %v", err)
	}
	done(false)
	r.must1(t, 2, "a", "3")
	if rec, done, err = r.Erase(2); err != nil {
		t.Fatal(err)
	}
	if err := r.store.Commit(rec); err != nil {
		t.Fatal(err)
	}
	done(true)
	if u := r.Usage(2); u.Count != 0 {
		t.Errorf("the erased tenant has %+v", u)
	}
	r.stop()
	r = start(t, store.Options{FS: fs}, Config{})
	if id := r.must1(t, 1, "a", "4"); id.Offset != 4 {
		t.Fatalf("the next event has offset %d", id.Offset)
	}
	if events, err := r.Next(t.Context(), 0, 10); err != nil || len(events) == 0 || string(events[0].Data) != "1" {
		t.Errorf("Next: %v, %v", events, err)
	}
}

// TestNextLargeEvents: catching up over large events holds little in memory and skips none.
func TestNextLargeEvents(t *testing.T) {
	r := start(t, store.Options{}, Config{TailEvents: 1, BucketBytes: 5 << 20})
	for i := range 20 {
		r.must1(t, hark.TenantID(1+i%3), "a", strings.Repeat(string(rune('a'+i%26)), 900<<10))
		if i%5 == 4 { // each holds the next large one back for a while
			r.must1(t, 4, "a", "small")
		}
	}
	seen := hark.Offset(0)
	for seen < r.End() {
		events, err := r.Next(t.Context(), seen, 1000)
		if err != nil {
			t.Fatal(err)
		}
		bytes := 0
		for _, e := range events {
			if seen++; e.ID.Offset != seen {
				t.Fatalf("event %d after %d", e.ID.Offset, seen-1)
			}
			bytes += e.Size()
		}
		if bytes > 2*windowBytes+1<<20 {
			t.Fatalf("%d bytes at once", bytes)
		}
	}
}

// TestQuotaAndSizes: what is refused, and how.
func TestQuotaAndSizes(t *testing.T) {
	r := start(t, store.Options{}, Config{MaxEventBytes: 10000, Policy: func(t hark.TenantID) Policy {
		return Policy{MaxBytes: 5000, Reject: t == 2}
	}})
	big := func(n int) []hark.Event { return []hark.Event{event("a", strings.Repeat("x", n))} }
	for _, c := range []struct {
		events []hark.Event
		kind   hark.Kind
	}{{nil, hark.Mismatch}, {make1(hark.MaxBatchEvents + 1), hark.TooLarge}, {big(10001), hark.TooLarge}, {[]hark.Event{event("a..b", "")}, hark.Mismatch},
		{append(make1(2), event("a b", "")), hark.Mismatch}} {
		if _, err := r.Append(t.Context(), 1, c.events, Idempotency{}); hark.KindOf(err) != c.kind {
			t.Errorf("%d events: %v", len(c.events), err)
		}
	}
	if r.End() != 0 {
		t.Errorf("what was refused left %d events", r.End())
	}
	for range 5 {
		r.must1(t, 1, "a", strings.Repeat("x", 4000)) // over quota: retention's matter
	}
	r.must1(t, 2, "a", strings.Repeat("x", 4000))
	_, err := r.Append(t.Context(), 2, big(4000), Idempotency{})
	if fault, _ := errors.AsType[*hark.Error](err); fault == nil || fault.Kind != hark.TooMany || fault.Code != "quota" {
		t.Errorf("over quota: %v", err)
	}
}

// TestSealed: what is old goes although nobody publishes any more.
func TestSealed(t *testing.T) {
	clock := newClock()
	r := start(t, store.Options{}, Config{Now: clock.now, RetainEvery: 5 * time.Millisecond, Policy: func(hark.TenantID) Policy { return Policy{MaxAge: 2 * time.Hour} }})
	r.must1(t, 1, "a", "1")
	clock.advance(90 * time.Minute)
	eventually(t, "the bucket is sealed", func() bool { return len(r.Buckets()) == 2 })
	if r.Floor(1) != 1 {
		t.Error("removed too early")
	}
	clock.advance(time.Hour)
	eventually(t, "the event is removed", func() bool { return r.Floor(1) == 2 })
	if id := r.must1(t, 1, "a", "2"); id.Offset != 2 {
		t.Errorf("the next is %v", id)
	}
}

// TestRetentionUnderReaders: a walk beside retention tells every event that is left, or a gap.
func TestRetentionUnderReaders(t *testing.T) {
	r := start(t, store.Options{MemTableSize: 256 << 10}, Config{BucketBytes: 2000, TailEvents: 1, Policy: func(hark.TenantID) Policy { return Policy{MaxBytes: 20000} }})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				r.must1(t, 1, "a", strings.Repeat("x", 100))
				r.Retain(time.Now())
			}
		}
	})
	gaps := 0
	for deadline := time.Now().Add(500*time.Millisecond + *soak); time.Now().Before(deadline); {
		at := max(r.Floor(1), 5) - 5
		for {
			p, err := r.Read(1, Query{Patterns: []hark.Pattern{"a"}, After: at, Limit: 7})
			if err != nil {
				t.Fatal(err)
			}
			want := at + 1
			if p.Gap != nil {
				gaps++
				want = p.Gap.To.Offset + 1
			}
			for _, e := range p.Events {
				if e.ID.Offset != want {
					t.Fatalf("after %d came %d without a gap (%v)", want-1, e.ID.Offset, p.Gap)
				}
				want++
			}
			if p.Next != max(want, at+1)-1 {
				t.Fatalf("position %d after event %d", p.Next, want-1)
			}
			if at = p.Next; !p.More {
				break
			}
		}
	}
	close(stop)
	wg.Wait()
	if gaps == 0 {
		t.Error("no gap in the whole run: the test proves nothing")
	}
}
