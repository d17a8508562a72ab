package eventlog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// TestLatest: whatever is asked for, in whatever number, the position is the one before the
// n-th newest match, over buckets and beside another tenant's events.
func TestLatest(t *testing.T) {
	seeds(t, 3, func(t *testing.T, rng *rand.Rand) {
		r := start(t, store.Options{}, Config{BucketBytes: 20_000, TailBytes: 1, TailEvents: 1})
		var topics []string
		offsets := map[hark.Offset]string{}
		for i := range 60 {
			var events []hark.Event
			for range 1 + rng.IntN(20) {
				topic := fmt.Sprint("a.", rng.IntN(4))
				if rng.IntN(8) == 0 {
					topic = fmt.Sprint("many.", i, ".", len(events))
				}
				events = append(events, event(topic, strings.Repeat("x", rng.IntN(200))))
			}
			topics = topics[:0]
			for _, e := range events {
				topics = append(topics, e.Topic)
			}
			tenant := hark.TenantID(1 + rng.IntN(2))
			res, err := r.Append(t.Context(), tenant, events, Idempotency{})
			if err != nil {
				t.Fatal(err)
			}
			for i, topic := range topics {
				if tenant == 1 {
					offsets[res.ID(i).Offset] = topic
				}
			}
		}
		for _, patterns := range [][]hark.Pattern{{">"}, {"a.1"}, {"a.1", "a.*"}, {"many.>"}, {"many.>", "a.2"}, {"none"}, {"none.>", "*"}} {
			for _, n := range []int{1, 2, 7, 100, 1000} {
				want, left := r.End(), n
				for o := r.End(); o > 0 && left > 0; o-- {
					if topic, ok := offsets[o]; ok && hark.MatchAny(patterns, topic) {
						want, left = o-1, left-1
					}
				}
				if got, err := r.Latest(1, patterns, n); err != nil || got != want {
					t.Errorf("the newest %d of %q begin after %d, %v; want %d", n, patterns, got, err, want)
				}
			}
		}
	})
}

// TestLatestOfLarge: the newest of many large events are found without reading them all, and
// what it may look at is bounded when nothing matches.
func TestLatestOfLarge(t *testing.T) {
	r := start(t, store.Options{}, Config{TailBytes: 1, TailEvents: 1})
	data := large(rand.New(rand.NewPCG(1, 1)), 1<<20-1000).Data
	const count = 80
	for i := range count {
		e := hark.Event{Topic: fmt.Sprint("large.", i), Data: data}
		if _, err := r.Append(t.Context(), 1, []hark.Event{e}, Idempotency{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{1, 10, count - 1} {
		if got, err := r.Latest(1, []hark.Pattern{"large.>"}, n); err != nil || got != r.End()-hark.Offset(n) {
			t.Errorf("the newest %d of %d begin after %d, %v", n, count, got, err)
		}
	}
	s := latest{log: r.Log, tenant: 1, patterns: []hark.Pattern{"other.>"}, at: r.End(), want: 1, keys: 1000, bytes: 2 << 20}
	if err := s.byEvent(1, r.End()+1); err != nil || s.at != r.End() || s.bytes < -2<<20 || s.keys < 1000-40 {
		t.Errorf("with 2 MiB to look at: %d keys and %d bytes are left, %v", s.keys, s.bytes, err)
	}
}
