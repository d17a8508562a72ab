package eventlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// fake is a request of a shape.
func fake(t hark.TenantID, events, size int) *request {
	return &request{tenant: t, events: make([]hark.Event, events), size: size, done: make(chan error, 1)}
}

// TestTurns: whatever one tenant floods with, another's single appends go with
// the next group, or the one after if a large batch of its own is already there.
func TestTurns(t *testing.T) {
	floods := map[string]func() *request{
		"singles":         func() *request { return fake(1, 1, 600) },
		"just below":      func() *request { return fake(1, GroupEvents-1, GroupBytes-1) },
		"thousand":        func() *request { return fake(1, 1000, 600_000) },
		"8 MiB":           func() *request { return fake(1, 1000, hark.MaxBatchBytes) },
		"one large event": func() *request { return fake(1, 1, hark.MaxBatchBytes) },
	}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			var q queue
			q.init(1 << 30)
			refill := func() {
				for q.tenants[1] == nil || q.tenants[1].len() < 20 {
					if err := q.push(flood()); err != nil {
						t.Fatal(err)
					}
				}
			}
			var own [2]int // what each took, in cost
			waiting := []*request{}
			for group := range 300 {
				refill()
				for len(waiting) < 64 { // 64 writers, each with one append at a time
					r := fake(2, 1, 600)
					r.first.Offset = hark.Offset(group) // when it came
					waiting = append(waiting, r)
					if err := q.push(r); err != nil {
						t.Fatal(err)
					}
				}
				taken, _, open := q.take(nil)
				if !open || len(taken) == 0 {
					t.Fatal("nothing taken")
				}
				checkGroup(t, taken)
				for _, r := range taken {
					own[r.tenant-1] += r.cost()
					if r.tenant == 2 {
						if waited := group - int(r.first.Offset); waited > 4 {
							t.Fatalf("group %d: an append waited %d groups", group, waited)
						}
						waiting = waiting[1:] // in order
					}
				}
			}
			if share := float64(own[1]) / float64(own[0]+own[1]); share < 0.3 {
				t.Errorf("the other tenant got %.2f of the log", share)
			}
		})
	}
}

// TestTurnsOfMany: with many flooding, the newcomer waits its turn and no longer.
func TestTurnsOfMany(t *testing.T) {
	var q queue
	q.init(1 << 40)
	for tenant := hark.TenantID(1); tenant <= 20; tenant++ {
		for range 100 {
			if err := q.push(fake(tenant, 1000, hark.MaxBatchBytes)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 30 {
		q.take(nil)
	}
	q.push(fake(99, 1, 600))
	for group := range 22 {
		taken, _, _ := q.take(nil)
		if taken[0].tenant == 99 || taken[len(taken)-1].tenant == 99 {
			return
		}
		if group == 21 {
			t.Fatal("20 tenants that flood kept another waiting for more than 21 groups")
		}
	}
}

func checkGroup(t *testing.T, group []*request) {
	t.Helper()
	events, size := 0, 0
	for _, r := range group {
		events += len(r.events)
		size += r.size
	}
	if len(group) > 1 && (events > GroupEvents || size > GroupBytes) {
		t.Fatalf("a group of %d requests with %d events and %d bytes", len(group), events, size)
	}
}

// TestQueueModel: random pushes, takes and clients that give up; every request
// is answered once, in order for its tenant, and the counters return to zero.
func TestQueueModel(t *testing.T) {
	seeds(t, 5, func(t *testing.T, rng *rand.Rand) {
		var q queue
		q.init(1 << 20)
		next := map[hark.TenantID]hark.Offset{}
		last := map[hark.TenantID]hark.Offset{}
		var live []*request
		taken := func(group []*request) {
			for _, r := range group {
				if r.first.Offset <= last[r.tenant] || r.dead {
					t.Fatalf("tenant %d: request %d after %d", r.tenant, r.first.Offset, last[r.tenant])
				}
				last[r.tenant] = r.first.Offset
			}
		}
		for range 2000 {
			switch n := rng.IntN(10); {
			case n < 6:
				r := fake(hark.TenantID(1+rng.IntN(5)), 1+rng.IntN(1+rng.IntN(1000)), rng.IntN(1+rng.IntN(300000)))
				next[r.tenant]++
				r.first.Offset = next[r.tenant]
				if q.push(r) == nil {
					live = append(live, r)
				}
			case n < 8 && len(live) > 0:
				i := rng.IntN(len(live))
				if r := live[i]; r.taken.CompareAndSwap(0, requestGivenUp) {
					q.giveUp(r)
				}
				live = append(live[:i], live[i+1:]...)
			default:
				group, _, _ := q.take(nil)
				checkGroup(t, group)
				taken(group)
			}
		}
		q.close()
		for open := true; open; {
			var group []*request
			group, _, open = q.take(nil)
			taken(group)
		}
		if q.bytes != 0 || q.first != nil || q.last != nil {
			t.Fatalf("an empty queue holds %d bytes", q.bytes)
		}
		for _, r := range live {
			if r.taken.Load() != requestTaken {
				t.Fatalf("request %d of tenant %d was forgotten", r.first.Offset, r.tenant)
			}
		}
		if err := q.push(fake(1, 1, 1)); !IsStopped(err) {
			t.Fatalf("push after close: %v", err)
		}
	})
}

// TestQueueCaps: one tenant may hold a quarter; then it is told to slow down, and others are not.
func TestQueueCaps(t *testing.T) {
	var q queue
	q.init(1 << 20)
	n := 0
	for ; ; n++ {
		if err := q.push(fake(1, 1, 1000)); err != nil {
			if hark.KindOf(err) != hark.TooMany {
				t.Fatal(err)
			}
			break
		}
	}
	if n < 100 || n*1000 > 1<<18 {
		t.Errorf("a quarter of 1 MiB took %d requests of 1000 bytes", n)
	}
	if err := q.push(fake(2, 1000, hark.MaxBatchBytes/4)); err != nil {
		t.Errorf("another tenant's first request: %v", err)
	}
	if err := q.push(fake(3, 1000, hark.MaxBatchBytes)); hark.KindOf(err) != hark.Unavailable {
		t.Errorf("more than four times the room: %v", err)
	}
	// Giving up lets go of the bytes at once.
	for r := range allOf(q.tenants[1]) {
		r.taken.Store(requestGivenUp)
		q.giveUp(r)
	}
	if b := q.tenants[1].bytes; b != 0 {
		t.Errorf("%d bytes are held for nobody", b)
	}
	if held := len(q.tenants[1].waiting); held > 64 {
		t.Errorf("%d empty shells are kept", held)
	}
}

func allOf(l *lane) func(func(*request) bool) {
	rs := append([]*request(nil), l.waiting[l.skip:]...)
	return func(yield func(*request) bool) {
		for _, r := range rs {
			if !yield(r) {
				return
			}
		}
	}
}

// slowSync makes each sync of the log wait until the gate lets it.
type slowSync struct{ gate atomic.Pointer[chan struct{}] }

func (s *slowSync) String() string { return "slow sync" }
func (s *slowSync) MaybeError(op errorfs.Op) error {
	if g := s.gate.Load(); g != nil && strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
		<-*g
	}
	return nil
}

// TestContextEnds: a request whose context ends before its turn leaves nothing;
// one that is being committed tells how that ended.
func TestContextEnds(t *testing.T) {
	slow := &slowSync{}
	r := start(t, store.Options{FS: errorfs.Wrap(vfs.NewMem(), slow)}, Config{})
	r.must1(t, 1, "a", "before")
	gate := make(chan struct{})
	slow.gate.Store(&gate)

	ctx, cancel := context.WithCancel(t.Context())
	committing := make(chan error, 1)
	go func() {
		_, err := r.Append(ctx, 1, []hark.Event{event("a", "committing")}, Idempotency{})
		committing <- err
	}()
	eventually(t, "the first is taken", func() bool { _, ok, _ := r.store.Event(1, 2); return ok })
	waiting := make(chan error, 1)
	go func() {
		_, err := r.Append(ctx, 1, []hark.Event{event("a", "waiting")}, Idempotency{})
		waiting <- err
	}()
	eventually(t, "the second waits", func() bool { r.queue.mu.Lock(); defer r.queue.mu.Unlock(); return r.queue.bytes > 0 })
	cancel()
	if err := <-waiting; hark.KindOf(err) != hark.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("the one that waited: %v", err)
	}
	select {
	case err := <-committing:
		t.Errorf("the one being committed was answered before its sync: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if r.End() != 1 {
		t.Errorf("readers may see %d events before the sync", r.End())
	}
	slow.gate.Store(nil)
	close(gate)
	if err := <-committing; err != nil {
		t.Errorf("the one being committed: %v", err)
	}
	if _, err := r.Append(ctx, 1, []hark.Event{event("a", "late")}, Idempotency{}); hark.KindOf(err) != hark.Unavailable {
		t.Errorf("a context that had ended: %v", err)
	}
	r.must1(t, 1, "a", "after")
	p, err := r.Read(1, Query{Patterns: []hark.Pattern{">"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range p.Events {
		got = append(got, string(e.Data))
	}
	if s := fmt.Sprint(got); s != "[before committing after]" {
		t.Errorf("the log holds %s", s)
	}
}

// TestStop answers everybody: those that wait are committed, later ones refused,
// readers at the end are let go.
func TestStop(t *testing.T) {
	for range 20 {
		r := start(t, store.Options{}, Config{})
		var wg sync.WaitGroup
		var done, refused atomic.Int32
		for range 50 {
			wg.Go(func() {
				for {
					_, err := r.Append(context.Background(), 1, []hark.Event{event("a", "x")}, Idempotency{})
					if err == nil {
						done.Add(1)
						continue
					}
					if !IsStopped(err) {
						t.Errorf("refused with %v", err)
					}
					refused.Add(1)
					return
				}
			})
		}
		wg.Go(func() {
			for after := hark.Offset(0); ; {
				es, err := r.Next(context.Background(), after, 10)
				if err != nil {
					if !IsStopped(err) {
						t.Errorf("Next ended with %v", err)
					}
					return
				}
				after = es[len(es)-1].ID.Offset
			}
		})
		wg.Go(func() { r.Erase(7) })
		time.Sleep(2 * time.Millisecond)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if refused.Load() != 50 || int(done.Load()) != int(r.End()) {
			t.Fatalf("%d acknowledged, %d in the log, %d refused", done.Load(), r.End(), refused.Load())
		}
	}
}

// TestFloodEndToEnd: one tenant sends 8 MiB batches back to back; another's
// appends wait for a few groups, by the committer's own count.
func TestFloodEndToEnd(t *testing.T) {
	var groups atomic.Int64
	r := start(t, store.Options{}, Config{Hooks: Hooks{Committed: func(int, int, time.Duration) { groups.Add(1) }}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	data := strings.Repeat("x", 8000)
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				events := make([]hark.Event, 1000)
				for i := range events {
					events[i] = event("flood", data)
				}
				r.Append(ctx, 1, events, Idempotency{})
			}
		})
	}
	eventually(t, "the flood runs", func() bool { return groups.Load() > 3 })
	worst := int64(0)
	for range 20 {
		before := groups.Load()
		r.must1(t, 2, "a", "x")
		worst = max(worst, groups.Load()-before)
	}
	cancel()
	wg.Wait()
	if worst > 4 {
		t.Errorf("an append beside a flood waited for %d groups", worst)
	}
}
