package eventlog

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// ledger is what the world outside was told.
type ledger struct {
	mu    sync.Mutex
	told  map[hark.EventID]string // acknowledged or shown to a reader → data
	keyed map[string]Appended     // idempotency key → acknowledged answer
	tried map[string]bool         // every key ever used
}

func (l *ledger) tell(t *testing.T, id hark.EventID, data string) {
	if was, ok := l.told[id]; ok && was != data {
		t.Errorf("%v named %q and names %q", id, was, data)
	}
	l.told[id] = data
}

// copy is the ledger at one moment.
func (l *ledger) copy() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{told: maps.Clone(l.told), keyed: maps.Clone(l.keyed), tried: maps.Clone(l.tried)}
}

// TestPowerCut cuts the power at random moments under concurrent appends, with
// part of what was not synced on disk all the same, and goes on from there.
func TestPowerCut(t *testing.T) {
	seeds(t, 2, func(t *testing.T, rng *rand.Rand) {
		fs := vfs.NewCrashableMem()
		book := &ledger{told: map[hark.EventID]string{}, keyed: map[string]Appended{}, tried: map[string]bool{}}
		for life := range 4 {
			fs, book = liveUntilCut(t, rng, fs, book, life)
			if t.Failed() {
				return
			}
			checkAfterCut(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}), book)
		}
	})
}

var cutConfig = Config{BucketBytes: 300 << 10, TailEvents: 64, RetainEvery: 5 * time.Millisecond,
	Policy: func(t hark.TenantID) Policy {
		if t == 1 {
			return Policy{MaxBytes: 2 << 20}
		}
		return Policy{}
	}}

// liveUntilCut runs a server for a while and returns the disk and the ledger at the moment of the cut.
func liveUntilCut(t *testing.T, rng *rand.Rand, fs *vfs.MemFS, book *ledger, life int) (*vfs.MemFS, *ledger) {
	r := start(t, store.Options{FS: fs, MemTableSize: 256 << 10, ValueBytes: []int{-1, 300, 600}[rng.IntN(3)]}, cutConfig)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for w := range 8 {
		seed := rng.Uint64()
		wg.Go(func() { publish(ctx, t, r, book, rand.New(rand.NewPCG(seed, 2)), fmt.Sprint(life, "-", w, "-", seed)) })
	}
	wg.Go(func() { follow(ctx, t, r, book) })
	time.Sleep(time.Duration(20+rng.IntN(150)) * time.Millisecond)
	told := book.copy()
	after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(rng.Uint64(), 3))})
	cancel()
	wg.Wait()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	return after, told
}

// publish appends until ctx ends: single events, batches, with and without keys.
// Data is "batch name/place/batch size" and padding.
func publish(ctx context.Context, t *testing.T, r *running, book *ledger, rng *rand.Rand, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		size := 1
		if rng.IntN(4) == 0 {
			size = 1 + rng.IntN(100)
		}
		events, data := make([]hark.Event, size), make([]string, size)
		for i := range events {
			pad := rng.IntN(1500)
			if size == 1 && rng.IntN(20) == 0 { // in parts, written ahead
				pad = rng.IntN(600_000)
			}
			data[i] = fmt.Sprintf("%s-%d/%d/%d/%s", name, n, i, size, strings.Repeat("x", pad))
			events[i] = event(fmt.Sprint("t.", rng.IntN(3)), data[i])
		}
		var idem Idempotency
		if rng.IntN(3) == 0 {
			idem = Idempotency{Scope: "api", Key: fmt.Sprint(name, n)}
			book.mu.Lock()
			book.tried[idem.Key] = true
			book.mu.Unlock()
		}
		res, err := r.Append(ctx, hark.TenantID(1+rng.IntN(3)%2), events, idem)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("append: %v", err)
			}
			return
		}
		book.mu.Lock()
		for i := range data {
			book.tell(t, res.ID(i), data[i])
		}
		if idem.Key != "" {
			book.keyed[idem.Key] = res
		}
		book.mu.Unlock()
	}
}

// follow reads the log of all tenants as it grows: what it is shown must survive.
func follow(ctx context.Context, t *testing.T, r *running, book *ledger) {
	for after := r.End(); ; {
		events, err := r.Next(ctx, after, 100)
		if err != nil {
			return
		}
		book.mu.Lock()
		for _, e := range events {
			book.tell(t, e.ID, string(e.Data))
		}
		book.mu.Unlock()
		after = events[len(events)-1].ID.Offset
	}
}

// checkAfterCut opens what is left and compares it with what was told.
func checkAfterCut(t *testing.T, fs *vfs.MemFS, book *ledger) {
	cfg := cutConfig
	cfg.RetainEvery = time.Hour
	r := start(t, store.Options{FS: fs, MemTableSize: 256 << 10}, cfg)
	defer r.stop()
	floor := r.Floor(1)
	here := map[hark.EventID]string{}
	for tenant := hark.TenantID(1); tenant <= 2; tenant++ {
		for q := (Query{Patterns: []hark.Pattern{">"}, Limit: 1000}); ; {
			p, err := r.Read(tenant, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range p.Events {
				here[e.ID] = string(e.Data)
			}
			if q.After = p.Next; !p.More {
				break
			}
		}
	}
	for id, data := range book.told {
		if got, ok := here[id]; !ok && id.Offset >= max(floor, r.Floor(2)) {
			t.Fatalf("%v was told to somebody and is gone; the log ends at %d", id, r.End())
		} else if ok && got != data {
			t.Fatalf("%v was %.40q and is %.40q", id, data, got)
		}
	}
	checkBatches(t, here, max(floor, r.Floor(2)))
	if len(here) > 0 && len(here) < int(r.End()-max(floor, r.Floor(2))) {
		t.Fatalf("offsets are not dense: %d events up to %d from %d", len(here), r.End(), max(floor, r.Floor(2)))
	}
	for key, want := range book.keyed {
		if want.First.Offset < floor {
			continue
		}
		e := event("t.0", "again")
		tenant := tenantOf(t, r, want.First.Offset)
		got, err := r.Append(t.Context(), tenant, []hark.Event{e}, Idempotency{Scope: "api", Key: key})
		if err != nil || !got.Duplicate || got.First != want.First || got.Count != want.Count {
			t.Fatalf("repeat of %s: %+v, %v; want %+v", key, got, err, want)
		}
	}
}

func tenantOf(t *testing.T, r *running, o hark.Offset) hark.TenantID {
	for tenant := hark.TenantID(1); tenant <= 2; tenant++ {
		if _, err := r.Event(tenant, o); err == nil {
			return tenant
		}
	}
	t.Fatalf("no tenant has %d", o)
	return 0
}

// checkBatches demands that each batch above the floor is whole and in a row.
func checkBatches(t *testing.T, here map[hark.EventID]string, floor hark.Offset) {
	type batch struct {
		first hark.Offset
		n     int
	}
	batches, sizes := map[string]batch{}, map[string]int{}
	for id, data := range here {
		part := strings.SplitN(data, "/", 4)
		var place, size int
		fmt.Sscan(part[1], &place)
		fmt.Sscan(part[2], &size)
		b, first := batches[part[0]], id.Offset-hark.Offset(place)
		if b.n > 0 && b.first != first {
			t.Fatalf("batch %s is not in a row", part[0])
		}
		batches[part[0]], sizes[part[0]] = batch{first, b.n + 1}, size
	}
	for name, b := range batches {
		if b.n != sizes[name] && b.first >= floor {
			t.Fatalf("batch %s: %d of %d events are there", name, b.n, sizes[name])
		}
	}
}
