package device

import (
	"fmt"
	"math/rand/v2"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

func randomPattern(rng *rand.Rand) hark.Pattern {
	var toks []string
	for range 1 + rng.IntN(4) {
		toks = append(toks, [...]string{"a", "b", "*", "hark", "c"}[rng.IntN(5)])
	}
	if rng.IntN(3) == 0 {
		toks = append(toks, ">")
	}
	return hark.Pattern(strings.Join(toks, "."))
}

// TestWants compares what is known by hashes with a plain list, while patterns come and go.
func TestWants(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newWants()
	var all []hark.Pattern
	for range 4000 {
		if rng.IntN(2) == 0 || len(all) == 0 {
			p := randomPattern(rng)
			if !w.add(1, "x", []hark.Pattern{p}) {
				t.Fatal("too many shapes", seed)
			}
			all = append(all, p)
		} else {
			i := rng.IntN(len(all))
			w.remove(1, "x", all[i:i+1])
			all = slices.Delete(all, i, i+1)
		}
		topic := strings.NewReplacer("*", "q", ".>", ".b.c", ">", "z").Replace(string(randomPattern(rng)))
		if got, want := w.any(1, "x", topic), hark.MatchAny(all, topic); got != want {
			t.Fatalf("%s in %q: %v (seed %d)", topic, all, got, seed)
		}
		found := w.matching(1, "x", topic)
		for _, p := range all {
			if p.Match(topic) != slices.Contains(found, p) {
				t.Fatalf("%s: found %q, and there is %q (seed %d)", topic, found, p, seed)
			}
		}
		if w.any(2, "x", topic) || w.any(1, "y", topic) {
			t.Fatal("another tenant's or app's", seed)
		}
	}
	w.remove(1, "x", all)
	if len(w.counts) != 0 || len(w.apps) != 0 {
		t.Errorf("%d hashes and %d apps are left (seed %d)", len(w.counts), len(w.apps), seed)
	}
}

// TestShapesAreBounded: an app whose patterns have every shape is refused more, all or none.
func TestShapesAreBounded(t *testing.T) {
	w := newWants()
	n := 0
	for tokens := 1; tokens <= hark.MaxTopicTokens; tokens++ {
		for star := range tokens {
			toks := slices.Repeat([]string{"t"}, tokens)
			toks[star] = "*"
			if w.add(1, "x", []hark.Pattern{hark.Pattern(strings.Join(toks, "."))}) {
				n++
			}
		}
	}
	if n != MaxShapes {
		t.Error(n)
	}
	if before := len(w.counts); w.add(1, "x", []hark.Pattern{"*", "b.c.d.e.*.*.*.f"}) || len(w.counts) != before {
		t.Error("half of it was added")
	}
}

func BenchmarkWants(b *testing.B) {
	w := newWants()
	for i := range 200_000 {
		w.add(1, "default", []hark.Pattern{hark.Pattern(fmt.Sprintf("user.%d.>", i)), "news.*"})
	}
	for b.Loop() {
		w.any(1, "default", "user.123456.chat")
	}
}

// TestRestart: what is wanted, and how many there are, is known again.
func TestRestart(t *testing.T) {
	fs, dir := vfs.NewMem(), newDirectory()
	w := openWorld(t, fs, dir, newFake(), quick)
	for i := range 50 {
		w.device(fmt.Sprint("t", i), fmt.Sprint(i%7), hark.Pattern(fmt.Sprintf("user.%d.>", i)), "news")
	}
	gone := w.device("x", "", "only.x")
	if err := w.Delete(theTenant, gone.ID, nil); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w = openWorld(t, fs, dir, newFake(), quick)
	if w.Count(theTenant) != 50 || !w.Wants(theTenant, hark.DefaultApp, "user.7.a") || w.Wants(theTenant, hark.DefaultApp, "only.x") {
		t.Error(w.Count(theTenant))
	}
	if fresh := w.device("y", "", "a"); fresh.ID <= gone.ID {
		t.Errorf("%v after %v", fresh.ID, gone.ID)
	}
	for q, want := range map[Query]int{{}: 51, {User: "3"}: 7, {Topic: "user.7.a"}: 1, {Topic: "news"}: 50, {User: "3", Topic: "user.3.x"}: 1, {Kind: "apns"}: 0} {
		n := 0
		for q.Limit = 6; ; {
			page, next, err := w.List(theTenant, q)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page)
			if q.After = next; next == 0 {
				break
			}
		}
		if n != want {
			t.Errorf("%+v: %d, want %d", q, n, want)
		}
	}
}

// TestPace: sends make room when goroutines wait, and take it back.
func TestPace(t *testing.T) {
	if n := pace(100, leastPace, 512, 2*time.Millisecond, waitShort, waitLong); n != 75 {
		t.Error(n)
	}
	if n := pace(leastPace+2, leastPace, 512, time.Second, waitShort, waitLong); n != leastPace {
		t.Error(n)
	}
	if n := pace(500, leastPace, 512, 0, waitShort, waitLong); n != 512 {
		t.Error(n)
	}
	if n := pace(100, leastPace, 512, 150*time.Microsecond, waitShort, waitLong); n != 100 {
		t.Error(n)
	}
	h := &metrics.Float64Histogram{Counts: []uint64{10, 100, 15}, Buckets: []float64{0, .001, .002, .003}}
	if q := quantileOf(h, []uint64{10, 5, 5}, .5); q != time.Millisecond {
		t.Error(q)
	}
	if q := quantileOf(h, []uint64{10, 5, 5}, .95); q != 2*time.Millisecond {
		t.Error(q)
	}
}

// TestLanes: shares are equal between tenants, and between the jobs of one.
func TestLanes(t *testing.T) {
	l := newLanes(100)
	wake := make(chan struct{}, 1)
	a1, a2, b := l.open(1, wake), l.open(1, wake), l.open(2, wake)
	count := func(s *seat) (n int) {
		for s.take() {
			n++
		}
		return n
	}
	if x, y, z := count(a1), count(a2), count(b); x != 25 || y != 25 || z != 50 {
		t.Error(x, y, z)
	}
	a2.close()
	select {
	case <-wake:
	default:
		t.Error("nobody was told of the room")
	}
	for range 25 {
		a2.give()
	}
	if n := count(a1); n != 25 || l.load() != 100 {
		t.Error(n, l.load())
	}
}
