package live

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
)

// TestFetchRounds: whoever waits has a turn in the next round, those that are at one place after
// each other, and nobody who comes back at once has two turns before another has one.
func TestFetchRounds(t *testing.T) {
	q := fetchQueue{wake: make(chan struct{}, 1)}
	at := func(tenant hark.TenantID, o hark.Offset) *stream {
		return &stream{feed: &feed{query: Query{Tenant: tenant}}, asked: o}
	}
	a, b, c, d, gone := at(1, 500), at(2, 10), at(1, 20), at(1, 500), at(1, 30)
	for _, st := range []*stream{a, b, c, gone, d} {
		q.push(st)
	}
	var got []*stream
	var alone bool
	take := func(n int) {
		for range n {
			st, many := q.pop()
			got, alone = append(got, st), !many
		}
	}
	take(1)
	q.drop(gone) // of the round
	c.asked = 21
	q.push(c) // for the next
	late := at(1, 1)
	q.push(late)
	q.drop(late) // of those that wait
	take(3)
	if alone {
		t.Error("a round of several is told to be of one")
	}
	take(1)
	if !alone {
		t.Error("a round of one is told to be of several")
	}
	take(1)
	if want := []*stream{c, a, d, b, c, nil}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestPace: who catches up rests as long as it worked while there are live events, and not at
// all without.
func TestPace(t *testing.T) {
	rested := func(fed bool, worked time.Duration, n int) (in time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			h, began := &Hub{}, time.Now()
			var p pace
			for range n {
				if fed {
					h.fed.Store(time.Now().UnixMilli())
				}
				p.rest(t.Context(), h, worked)
			}
			in = time.Since(began)
		})
		return in
	}
	if in := rested(true, 300*time.Microsecond, 100); in < 28*time.Millisecond || in > 30*time.Millisecond {
		t.Errorf("after 30 ms of work beside live events there were %v of rest", in)
	}
	if in := rested(false, 300*time.Microsecond, 100); in != 0 {
		t.Errorf("there were %v of rest for nobody", in)
	}
}
