package schedule

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

var (
	simRuns = flag.Int("schedule.runs", 12, "how many random histories TestSimulation plays")
	simSeed = flag.Uint64("schedule.seed", 0, "play one history, with this seed")
)

// TestSimulation plays random histories: several schedule, repeat and cancel while the schedule
// publishes, the clock jumps both ways, and the machine dies at any moment. What was
// acknowledged comes exactly once, in one piece of each request, and not before its time; what was
// cancelled never; what was neither comes at most once.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		simulate(t, *simSeed)
		return
	}
	for range *simRuns {
		seed := rand.Uint64()
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { simulate(t, seed) }) {
			t.Fatalf("to repeat: go test ./internal/schedule -run Simulation -schedule.seed=%d", seed)
		}
	}
}

// ask is a request of a history.
type ask struct {
	key     string
	after   []time.Duration
	marks   []string
	ids     []hark.ScheduledID
	acked   bool              // answered, as of the last crash or the end
	stopped map[string]string // by mark: "cancelled" when that was answered, "perhaps" when it was begun
}

// history is what a simulation's actors did.
type history struct {
	mu   sync.Mutex // guards below
	asks []*ask
	last int
	high int64 // the latest that the clock ever was
}

func simulate(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	fs, clock := vfs.NewCrashableMem(), &atomic.Int64{}
	clock.Store(start.UnixMilli())
	h := &history{high: clock.Load()}
	for range 4 {
		w := open(t, fs, clock, Config{})
		h.check(w, false)
		fs = h.live(w, rng, fs)
		w.stop()
	}
	w := open(t, fs, clock, Config{})
	w.advance(400 * 24 * time.Hour)
	w.publishDue(t.Context())
	h.high = clock.Load()
	h.check(w, true)
	w.wantTotal(0)
}

// live plays until the machine dies, and returns what the disk has then.
func (h *history) live(w *world, rng *rand.Rand, fs *vfs.MemFS) *vfs.MemFS {
	ctx, cancel := context.WithCancel(context.Background())
	var actors sync.WaitGroup
	act := func(do func(rng *rand.Rand)) {
		mine := rand.New(rand.NewPCG(rng.Uint64(), 2))
		actors.Go(func() {
			for ctx.Err() == nil {
				do(mine)
			}
		})
	}
	for range 3 {
		act(func(rng *rand.Rand) { h.add(ctx, w, rng) })
	}
	act(func(rng *rand.Rand) { h.cancel(ctx, w, rng) })
	act(func(*rand.Rand) { w.publishDue(ctx) })
	act(func(rng *rand.Rand) { h.tick(w, rng) })
	enough := 20 + rng.IntN(120)
	for h.count() < enough+h.last {
		time.Sleep(time.Millisecond) // real disks and real goroutines: there is nothing to wait on
	}
	h.last = h.count()
	// Whoever was answered by now keeps what it was told.
	h.mu.Lock()
	clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(rng.Uint64(), 3))})
	sealed := map[*ask]ask{}
	for _, a := range h.asks {
		sealed[a] = ask{acked: a.acked, stopped: copyOf(a.stopped)}
	}
	h.mu.Unlock()
	cancel()
	actors.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.asks {
		was := sealed[a]
		for mark, how := range a.stopped {
			if was.stopped[mark] != how {
				a.stopped[mark] = "perhaps"
			}
		}
		a.acked = was.acked
	}
	w.wantAllDue(400 * 24 * time.Hour)
	return clone
}

// wantAllDue checks that nothing waits that has become due by then: a start finds all rows, and
// whoever goes on without one must have noted them. The clock is set back after it.
func (w *world) wantAllDue(by time.Duration) {
	w.Helper()
	now := w.ms.Load()
	defer w.ms.Store(now)
	w.advance(by)
	w.publishDue(context.Background())
	if id, ok, err := w.store.ScheduledNext(1, hark.ScheduledID{}); ok || err != nil {
		w.Errorf("%s was overlooked: %v", id, err)
	}
	w.wantTotal(0)
}

func copyOf(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

func (h *history) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.asks)
}

func (h *history) add(ctx context.Context, w *world, rng *rand.Rand) {
	h.mu.Lock()
	a := &ask{stopped: map[string]string{}}
	again := len(h.asks) > 0 && rng.IntN(4) == 0
	if again {
		again = false
		if old := h.asks[rng.IntN(len(h.asks))]; old.key != "" {
			a, again = old, true
		}
	}
	if !again {
		n := len(h.asks)
		now := time.UnixMilli(w.ms.Load()).Sub(start)
		for i := range 1 + rng.IntN(4) {
			a.marks = append(a.marks, fmt.Sprintf("%d.%d", n, i))
			a.after = append(a.after, now+time.Duration(rng.IntN(20_000)-2000)*time.Millisecond)
		}
		if rng.IntN(2) == 0 {
			a.key = fmt.Sprint("key", n)
		}
		h.asks = append(h.asks, a)
	}
	h.mu.Unlock()
	got, err := w.add(1, a.key, a.after, a.marks...)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		a.acked, a.ids = true, got.IDs
	case ctx.Err() == nil && !errors.Is(err, context.Canceled):
		w.Errorf("adding %q: %v", a.marks, err)
	}
}

func (h *history) cancel(ctx context.Context, w *world, rng *rand.Rand) {
	h.mu.Lock()
	var a *ask
	if len(h.asks) > 0 {
		a = h.asks[rng.IntN(len(h.asks))]
	}
	if a == nil || a.ids == nil || rng.IntN(3) > 0 {
		h.mu.Unlock()
		time.Sleep(100 * time.Microsecond) // or it is all that happens
		return
	}
	i := rng.IntN(len(a.ids))
	mark, id := a.marks[i], a.ids[i]
	if a.stopped[mark] == "" {
		a.stopped[mark] = "perhaps"
	}
	h.mu.Unlock()
	err := w.Cancel(ctx, 1, id, anyTopic)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		a.stopped[mark] = "cancelled"
	case hark.KindOf(err) == hark.NotFound && a.stopped[mark] == "perhaps" && a.acked: // it is published, or was cancelled by a life before
	case hark.KindOf(err) == hark.NotFound, ctx.Err() != nil:
	default:
		w.Errorf("cancelling %s: %v", id, err)
	}
}

// tick moves the clock: mostly on, sometimes far, sometimes back.
func (h *history) tick(w *world, rng *rand.Rand) {
	step := time.Duration(rng.IntN(50)) * time.Millisecond
	switch rng.IntN(40) {
	case 0:
		step = time.Duration(rng.IntN(10_000)) * time.Millisecond
	case 1:
		step = -time.Duration(rng.IntN(10_000)) * time.Millisecond
	}
	w.advance(step)
	h.mu.Lock()
	h.high = max(h.high, w.ms.Load())
	h.mu.Unlock()
	time.Sleep(time.Millisecond)
}

// check compares the log with what was done. At the end nothing may be missing.
func (h *history) check(w *world, end bool) {
	w.Helper()
	seen := map[string]int{}
	for _, mark := range w.published(1) {
		seen[mark]++
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, a := range h.asks {
		came := 0
		for i, mark := range a.marks {
			n := seen[mark]
			came += n
			due := start.Add(a.after[i]).UnixMilli()
			switch {
			case n > 1:
				say("%s comes %d times", mark, n)
			case n > 0 && due > h.high:
				say("%s comes before its time", mark)
			case n > 0 && a.stopped[mark] == "cancelled":
				say("%s was cancelled", mark)
			case n == 0 && end && a.acked && a.stopped[mark] == "":
				say("%s is missing", mark)
			}
			delete(seen, mark)
		}
		if end && !a.acked && came > 0 && came < len(a.marks) && len(a.stopped) == 0 {
			say("%d of %q came", came, a.marks)
		}
	}
	if len(seen) > 0 {
		say("nobody scheduled %v", seen)
	}
	if len(wrong) > 0 {
		w.Fatal(strings.Join(wrong[:min(len(wrong), 10)], "\n"))
	}
}
