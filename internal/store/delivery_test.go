package store

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

var (
	soak   = flag.Duration("store.soak", 0, "how long the model check of delivery rows runs at least")
	seedOf = flag.Uint64("store.seed", 0, "run it once, with this seed")
)

type rowKey struct {
	tenant hark.TenantID
	bucket Bucket
	dest   hark.DestinationID
	offset hark.Offset
}

// bucketAt: a hundred offsets a bucket.
func bucketAt(o hark.Offset) Bucket { return Bucket(o/100) + 1 }

// rows is a store beside a map that must tell the same.
type rows struct {
	t        *testing.T
	rng      *rand.Rand
	fs       vfs.FS
	s        *Store
	model    map[rowKey]DeliveryRow
	attempts map[rowKey][]hark.Attempt
}

func TestDeliveryRows(t *testing.T) {
	until := time.Now().Add(*soak)
	for i := 0; i < 2 || time.Now().Before(until); i++ {
		seed := rand.Uint64()
		if *seedOf != 0 {
			seed = *seedOf
		}
		if !t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := &rows{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewMem(), model: map[rowKey]DeliveryRow{}, attempts: map[rowKey][]hark.Attempt{}}
			w.open()
			for n := range 500 {
				w.change()
				if n%125 == 124 {
					w.check()
				}
			}
			w.s.Close()
		}) || *seedOf != 0 {
			return
		}
	}
}

func (w *rows) open() {
	s, err := Open(Options{FS: w.fs, Dir: "data", MemTableSize: 256 << 10})
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
}

// change commits one batch of a few legal moves, or removes a bucket, or reopens.
func (w *rows) change() {
	if w.rng.IntN(300) == 0 {
		t, b := hark.TenantID(1+w.rng.IntN(2)), Bucket(1+w.rng.IntN(6))
		commit(w.t, w.s, &DeliveriesRemoved{Tenant: t, Bucket: b})
		gone := func(k rowKey) bool { return k.tenant == t && k.bucket == b }
		maps.DeleteFunc(w.model, func(k rowKey, _ DeliveryRow) bool { return gone(k) })
		maps.DeleteFunc(w.attempts, func(k rowKey, _ []hark.Attempt) bool { return gone(k) })
		return
	}
	if w.rng.IntN(400) == 0 {
		w.s.Close()
		w.open()
	}
	var recs []Record
	seen := map[rowKey]bool{}
	for range 1 + w.rng.IntN(5) {
		o := hark.Offset(1 + w.rng.IntN(550))
		k := rowKey{hark.TenantID(1 + w.rng.IntN(2)), bucketAt(o), hark.DestinationID(1 + w.rng.IntN(6)), o}
		if seen[k] {
			continue
		}
		seen[k] = true
		prev := w.model[k].State
		moves := hark.Moves[prev]
		row := someRow(w.rng)
		row.State = moves[w.rng.IntN(len(moves))]
		if row.State.Finished() {
			row.Tried, row.Lane, row.Key, row.Size = 0, 0, 0, 0
		}
		w.model[k] = row
		recs = append(recs, &DeliverySaved{Tenant: k.tenant, Bucket: k.bucket, Destination: k.dest, Offset: k.offset, Prev: prev, Row: row})
		if w.rng.IntN(3) == 0 {
			a := someAttempt(w.rng)
			a.Number = len(w.attempts[k]) + 2
			w.attempts[k] = append(w.attempts[k], a)
			recs = append(recs, &AttemptAdded{Tenant: k.tenant, Bucket: k.bucket, Destination: k.dest, Offset: k.offset, Attempt: a})
		}
	}
	commit(w.t, w.s, recs...)
}

// keys returns the model's keys that want says, in order of the key space.
func (w *rows) keys(want func(rowKey, DeliveryRow) bool) []rowKey {
	var ks []rowKey
	for k, row := range w.model {
		if want(k, row) {
			ks = append(ks, k)
		}
	}
	slices.SortFunc(ks, func(a, b rowKey) int {
		return slices.Compare([]uint64{uint64(a.tenant), uint64(a.bucket), uint64(a.dest), uint64(a.offset)},
			[]uint64{uint64(b.tenant), uint64(b.bucket), uint64(b.dest), uint64(b.offset)})
	})
	return ks
}

func (w *rows) equal(what string, got, want any) {
	w.t.Helper()
	if !reflect.DeepEqual(got, want) {
		w.t.Fatalf("%s:\ngot  %+v\nwant %+v", what, got, want)
	}
}

func (w *rows) check() {
	w.checkUnfinished()
	w.checkBeyond()
	for t := hark.TenantID(1); t <= 2; t++ {
		for b := Bucket(1); b <= 6; b++ {
			for state := hark.State(0); state <= hark.Expired; state++ {
				w.checkDestinations(t, b, state)
				w.checkList(t, b, hark.DestinationID(1+w.rng.IntN(6)), state)
			}
		}
		for range 20 {
			w.checkEvent(t, hark.Offset(1+w.rng.IntN(550)))
		}
	}
	for k, row := range w.model {
		got, ok, err := w.s.Delivery(k.tenant, k.bucket, k.dest, k.offset)
		if err != nil || !ok {
			w.t.Fatalf("%+v: %v, %v", k, ok, err)
		}
		w.equal("row", got, row)
		attempts, err := w.s.Attempts(k.tenant, k.bucket, k.dest, k.offset, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		w.equal("attempts", attempts, w.attempts[k])
	}
}

func (w *rows) checkUnfinished() {
	got := []rowKey{}
	err := w.s.ScanUnfinished(func(d SavedDelivery) error {
		k := rowKey{d.Tenant, d.Bucket, d.Destination, d.Offset}
		w.equal("unfinished row", d.Row, w.model[k])
		got = append(got, k)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	want := w.keys(func(_ rowKey, row DeliveryRow) bool { return !row.State.Finished() })
	if len(got) != len(want) {
		w.t.Fatalf("%d rows are unfinished, the model has %d", len(got), len(want))
	}
}

func (w *rows) checkBeyond() {
	first := Bucket(1 + w.rng.IntN(6))
	at := map[hark.DestinationID]hark.Offset{}
	for d := hark.DestinationID(1); d <= 6; d++ {
		at[d] = hark.Offset(w.rng.IntN(600))
	}
	at[6] = ^hark.Offset(0)
	var got []rowKey
	err := w.s.RowsBeyond(first, func(_ hark.TenantID, d hark.DestinationID) hark.Offset { return at[d] }, func(d SavedDelivery) error {
		k := rowKey{d.Tenant, d.Bucket, d.Destination, d.Offset}
		w.equal("row beyond", d.Row, w.model[k])
		got = append(got, k)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.equal("rows beyond", got, w.keys(func(k rowKey, _ DeliveryRow) bool { return k.bucket >= first && k.offset > at[k.dest] }))
}

func (w *rows) checkDestinations(t hark.TenantID, b Bucket, state hark.State) {
	var got []hark.DestinationID
	if err := w.s.DestinationsOf(t, b, state, func(d hark.DestinationID) bool { got = append(got, d); return true }); err != nil {
		w.t.Fatal(err)
	}
	var want []hark.DestinationID
	for _, k := range w.keys(func(k rowKey, row DeliveryRow) bool {
		return k.tenant == t && k.bucket == b && (state == 0 || state == hark.Delivered || row.State == state)
	}) {
		if !slices.Contains(want, k.dest) {
			want = append(want, k.dest)
		}
	}
	w.equal(fmt.Sprint("destinations with ", state), got, want)
}

// checkList pages through a list, newest first.
func (w *rows) checkList(t hark.TenantID, b Bucket, d hark.DestinationID, state hark.State) {
	want := w.keys(func(k rowKey, row DeliveryRow) bool {
		return k.tenant == t && k.bucket == b && k.dest == d && (state == 0 || row.State == state)
	})
	slices.Reverse(want)
	var got []rowKey
	q := DeliveryList{Tenant: t, Bucket: b, Destination: d, State: state, Limit: 1 + w.rng.IntN(20)}
	for more := true; more; {
		stop, n, last := 1+w.rng.IntN(10), 0, q.Before
		var err error
		more, err = w.s.Deliveries(q, func(o hark.Offset, row DeliveryRow) bool {
			k := rowKey{t, b, d, o}
			w.equal("listed row", row, w.model[k])
			got = append(got, k)
			last = o
			n++
			return n < stop
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if more && last == q.Before { // all it walked were of other states
			q.Limit *= 2
			continue
		}
		q.Before = last
	}
	w.equal(fmt.Sprint("list of ", state), got, want)
}

func (w *rows) checkEvent(t hark.TenantID, o hark.Offset) {
	var got []rowKey
	var after hark.DestinationID
	for more := true; more; {
		var err error
		more, err = w.s.DeliveriesOfEvent(t, bucketAt(o), o, after, 2, func(d hark.DestinationID, row DeliveryRow) bool {
			k := rowKey{t, bucketAt(o), d, o}
			w.equal("row of event", row, w.model[k])
			got, after = append(got, k), d
			return true
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.equal("deliveries of an event", got, w.keys(func(k rowKey, _ DeliveryRow) bool { return k.tenant == t && k.offset == o }))
	if more, err := w.s.DeliveriesOfEvent(t, 1, o, ^hark.DestinationID(0), 2, nil); more || err != nil {
		w.t.Fatal("after the last destination came another")
	}
}

func TestPositions(t *testing.T) {
	s := open(t, Options{})
	commit(t, s, &CursorMoved{Tenant: 1, Destination: 5, Offset: 9}, &CursorMoved{Tenant: 2, Destination: 6, Offset: 10}, &CursorMoved{Tenant: 2, Destination: 7, Offset: 11},
		&CursorJoined{Tenant: 2, Destination: 7}, &ReplayMoved{Tenant: 1, Destination: 5, Replay: Replay{1, 9, 4}}, &ReplayMoved{Tenant: 1, Destination: 6}, &ReplayEnded{Tenant: 1, Destination: 6},
		&FilteredCounted{Tenant: 1, Destination: 5, Count: 3}, &HealthSaved{Tenant: 1, Destination: 5, Health: HealthRow{1, 2, 3, true}})
	for i := range hark.Offset(1500) {
		commit(t, s, &GapRecorded{Tenant: 1, Destination: 5, Gap: GapRecord{From: i, To: i + 1, At: 7}})
	}
	show := func() string {
		out := ""
		s.Cursors(func(t hark.TenantID, d hark.DestinationID, at hark.Offset) {
			out += fmt.Sprint("cursor ", uint32(t), uint64(d), at, "; ")
		})
		s.Replays(func(t hark.TenantID, d hark.DestinationID, r Replay) {
			out += fmt.Sprint("replay ", uint32(t), uint64(d), r, "; ")
		})
		s.FilteredCounts(func(t hark.TenantID, d hark.DestinationID, n uint64) {
			out += fmt.Sprint("filtered ", uint32(t), uint64(d), n, "; ")
		})
		s.Healths(func(t hark.TenantID, d hark.DestinationID, h HealthRow) {
			out += fmt.Sprint("health ", uint32(t), uint64(d), h, "; ")
		})
		gaps, _ := s.Gaps(1, 5, 2)
		return out + fmt.Sprint(gaps)
	}
	if got, want := show(), "cursor 1 5 9; cursor 2 6 10; replay 1 5 {1 9 4}; filtered 1 5 3; health 1 5 {1 2 3 true}; [{1498 1499 7} {1499 1500 7}]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	commit(t, s, &PositionsErased{Tenant: 1, Destination: 5})
	if got, want := show(), "cursor 2 6 10; []"; got != want {
		t.Errorf("erased: got %s, want %s", got, want)
	}
	commit(t, s, &TenantErased{Tenant: 2})
	if got := show(); got != "[]" {
		t.Errorf("tenant erased: %s", got)
	}
}
