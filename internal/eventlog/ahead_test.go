package eventlog

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// large is an event whose data is in parts.
func large(rng *rand.Rand, size int) hark.Event {
	e := event("large", "")
	e.Data = make([]byte, size)
	for i := range e.Data {
		e.Data[i] = byte(rng.Uint32())
	}
	return e
}

// TestAhead: beside small requests of another tenant, a large one is written in parts, each
// by itself and no more than one between two groups, and then is as light as one of them. Alone,
// and when the log closes, it is taken whole, with what is written already.
func TestAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Log
		l.cfg = Config{}.withDefaults()
		q := &l.queue
		q.init(1 << 30)
		push := func(tenant hark.TenantID, events ...hark.Event) *request {
			r, err := l.prepare(tenant, events)
			if err != nil {
				t.Fatal(err)
			}
			if err := q.push(r); err != nil {
				t.Fatal(err)
			}
			return r
		}
		rng := rand.New(rand.NewPCG(1, 1))
		one := push(1, large(rng, 1<<20-1000))
		if group, part, _, _ := q.next(nil, 7); part != nil || len(group) != 1 || group[0] != one {
			t.Fatal("alone, it was not taken whole")
		}

		batch := push(1, event("a", "small"), large(rng, 300<<10), event("a", "small"), large(rng, 200<<10), large(rng, 400<<10))
		want := store.PartsOf(300<<10) + store.PartsOf(200<<10) + store.PartsOf(400<<10)
		got, anchor := uint32(0), hark.Offset(0)
		for at := hark.Offset(20); ; at++ {
			light := push(2, event("a", "light"))
			sawLight := false
			for !sawLight {
				group, part, held, _ := q.next(nil, at)
				switch {
				case held > 0:
					t.Fatal("held with no commit before")
				case part != nil:
					if anchor == 0 { // it sat out some turns: the one before was large
						anchor = at
					}
					if part.Anchor != anchor || part.Part != got || part.Tenant != 1 {
						t.Fatalf("part %d of tenant %d at %d, want %d at %d", part.Part, part.Tenant, part.Anchor, got, anchor)
					}
					got++
				case slices.Contains(group, batch):
					if got != want || batch.left() > 3<<17+10_000 {
						t.Fatalf("taken with %d parts of %d written, %d bytes left", got, want, batch.left())
					}
					batch.place(at)
					for i := range batch.records {
						if rec := &batch.records[i]; rec.Anchor != anchor || rec.Written != store.PartsOf(len(rec.Data)) {
							t.Fatalf("event %d: anchor %d, %d written", i, rec.Anchor, rec.Written)
						}
					}
					return
				default:
					sawLight = slices.Contains(group, light)
				}
			}
			if got > uint32(at-19)*2 {
				t.Fatalf("%d parts beside %d groups", got, at-19)
			}
		}
	})
}

// TestAheadClosing: when the log closes, a request is taken with the parts that it has;
// the commit writes the others, and the event is whole.
func TestAheadClosing(t *testing.T) {
	for ahead := range 8 {
		s, err := store.Open(store.Options{FS: vfs.NewMem(), Dir: "data"})
		if err != nil {
			t.Fatal(err)
		}
		var l Log
		l.cfg = Config{}.withDefaults()
		l.queue.init(1 << 30)
		want := large(rand.New(rand.NewPCG(2, 2)), 1_000_000)
		r, err := l.prepare(1, []hark.Event{want})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.queue.push(r); err != nil {
			t.Fatal(err)
		}
		l.queue.pace.saw(2, time.Now())
		for range ahead {
			_, part, _, _ := l.queue.next(nil, 5)
			if part == nil {
				t.Fatalf("no part after %d", r.ahead.parts)
			}
			if err := s.Commit(part); err != nil {
				t.Fatal(err)
			}
		}
		l.queue.close()
		group, part, _, _ := l.queue.next(nil, 5)
		if part != nil || len(group) != 1 {
			t.Fatalf("%d taken", len(group))
		}
		r.place(9)
		r.records[0].Offset, r.records[0].Bucket = 9, 1
		if err := s.Commit(&r.records[0]); err != nil {
			t.Fatal(err)
		}
		if e, ok, err := s.Event(1, 9); err != nil || !ok || !bytes.Equal(e.Data, want.Data) {
			t.Errorf("%d ahead: %v, %v", ahead, ok, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAheadAbandoned: whoever begins large requests and commits none leaves no more behind
// than one of them had, and the tenant's next request takes that away.
func TestAheadAbandoned(t *testing.T) {
	var l Log
	l.cfg = Config{}.withDefaults()
	l.incarnations = []store.IncarnationStarted{{Incarnation: 1, First: 1}}
	q := &l.queue
	q.init(1 << 30)
	push := func(events ...hark.Event) *request {
		t.Helper()
		r, err := l.prepare(1, events)
		if err == nil {
			err = q.push(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	type place struct {
		anchor hark.Offset
		part   uint32
	}
	written := map[place]bool{}
	ahead := func(at hark.Offset, n int) {
		t.Helper()
		q.pace.saw(2, time.Now())
		for i := 0; i < n; {
			_, part, held, open := q.next(nil, at)
			if part == nil && (held > 0 || !open || q.first == nil) {
				t.Fatalf("no part at %d after %d", at, i)
			}
			if part != nil { // else it sat out a turn
				written[place{part.Anchor, part.Part}] = true
				i++
			}
		}
	}
	rng := rand.New(rand.NewPCG(4, 4))
	giveUp := func(r *request) {
		if !r.taken.CompareAndSwap(0, requestGivenUp) {
			t.Fatal("it was taken")
		}
		q.giveUp(r)
	}
	for i := range 20 {
		r := push(large(rng, 1_000_000))
		ahead(hark.Offset(10+i), 1+i%7)
		giveUp(r)
	}
	// One whose client gives up when it is taken already is no other.
	r := push(large(rng, 1_000_000))
	ahead(40, 2)
	r.taken.Store(requestGivenUp)
	q.pace = pace{}
	for len(q.tenants[1].waiting) > 0 {
		if group, _, _ := q.take(nil); len(group) > 0 {
			t.Fatal("it was taken")
		}
	}
	// And one that is refused when it was taken, for want of disk.
	r = push(large(rng, 1_000_000))
	ahead(41, 3)
	q.pace = pace{}
	var group []*request
	for len(group) == 0 {
		group, _, _ = q.take(nil)
	}
	l.disk.low.Store(true)
	w := writer{log: &l, next: 42}
	if err := w.commit(group); err != nil || <-r.done != errDiskFloor {
		t.Fatalf("%v, and it was not refused", err)
	}
	if want := int(store.PartsOf(1_000_000)); len(written) != want {
		t.Errorf("%d parts are left, want those of one request, %d: %v", len(written), want, written)
	}

	// The next one is smaller, and takes the place.
	r = push(event("a", "small"), large(rng, 300<<10))
	ahead(50, 1)
	for group = nil; len(group) == 0; {
		q.pace = pace{}
		group, _, _ = q.take(nil)
	}
	w.next = 60
	w.number(r, 1, time.Now())
	var forgotten *store.PartsForgotten
	for _, rec := range w.records {
		if f, ok := rec.(*store.PartsForgotten); ok {
			forgotten = f
		}
	}
	if forgotten == nil || *forgotten != (store.PartsForgotten{Tenant: 1, Anchor: 10, From: store.PartsOf(300 << 10)}) || r.records[1].Anchor != 10 || r.records[1].Written != 1 {
		t.Errorf("%+v, of a request at %d with %d written", forgotten, r.records[1].Anchor, r.records[1].Written)
	}
	w.records = nil
	after := push(event("a", "small"))
	for group = nil; len(group) == 0; {
		group, _, _ = q.take(nil)
	}
	if w.number(after, 1, time.Now()); after.ahead.over {
		t.Error("the one after it takes parts away, too")
	}
}

// TestAheadAndBack: many large events beside small ones, with clients that give up while their
// parts are being written; everything acknowledged is read back from disk as it was, after a restart too.
func TestAheadAndBack(t *testing.T) {
	fs := vfs.NewMem()
	cfg := Config{TailBytes: 1, TailEvents: 1}
	r := start(t, store.Options{FS: fs}, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var light, heavy sync.WaitGroup
	light.Go(func() {
		for ctx.Err() == nil {
			r.Append(ctx, 9, []hark.Event{event("a", "light")}, Idempotency{})
		}
	})
	var mu sync.Mutex
	acked := map[hark.EventID]*hark.Event{}
	gaveUp, written := 0, 0
	for tenant := hark.TenantID(1); tenant <= 3; tenant++ {
		heavy.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(tenant)))
			for n := range 6 {
				events := []hark.Event{large(rng, rng.IntN(500_000)), event("a", fmt.Sprint(n)), large(rng, rng.IntN(200<<10))}
				ctx, cancel := context.WithCancel(context.Background())
				if n%3 == 0 {
					time.AfterFunc(time.Duration(rng.IntN(20))*time.Millisecond, cancel)
				}
				res, err := r.Append(ctx, tenant, events, Idempotency{})
				cancel()
				mu.Lock()
				if err != nil {
					gaveUp++
				}
				for i := range events {
					if err == nil {
						acked[res.ID(i)] = &events[i]
					}
				}
				mu.Unlock()
			}
		})
	}
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		for ctx.Err() == nil {
			r.queue.mu.Lock()
			for tenant := hark.TenantID(1); tenant <= 3; tenant++ {
				if l := r.queue.tenants[tenant]; l != nil && l.len() > 0 {
					if w := l.front(); w != nil && w.ahead.parts > 0 {
						written++
					}
				}
			}
			r.queue.mu.Unlock()
			time.Sleep(100 * time.Microsecond)
		}
	}()
	heavy.Wait()
	cancel()
	light.Wait()
	<-watch
	if written == 0 || gaveUp == 0 || len(acked) == 0 {
		t.Errorf("%d looks saw parts written ahead, %d gave up, %d acknowledged: the test proves little", written, gaveUp, len(acked))
	}
	check := func(r *running) {
		t.Helper()
		for id, want := range acked {
			e, err := r.Event(want.Tenant, id.Offset)
			if err != nil || !bytes.Equal(e.Data, want.Data) || e.ID != id {
				t.Fatalf("%v: %v, %d bytes, want %d", id, err, len(e.Data), len(want.Data))
			}
		}
	}
	check(r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	check(start(t, store.Options{FS: fs}, cfg))
}
