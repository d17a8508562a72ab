package eventlog

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// world is a log beside a plain slice that must tell the same.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	fs    vfs.FS
	clock *clock
	cfg   Config
	log   *running
	all   []*hark.Event // index = offset-1
	floor map[hark.TenantID]hark.Offset
	keys  map[string]Appended
}

const modelTenants = 4

func (w *world) open() {
	w.log = start(w.t, store.Options{FS: w.fs, MemTableSize: 256 << 10}, w.cfg)
}

// TestModel checks appending, reading, retention and restarts against a slice.
func TestModel(t *testing.T) {
	seeds(t, 3, func(t *testing.T, rng *rand.Rand) {
		w := &world{t: t, rng: rng, fs: vfs.NewMem(), clock: newClock(), floor: map[hark.TenantID]hark.Offset{}, keys: map[string]Appended{}}
		w.cfg = Config{BucketBytes: uint64(500 + rng.IntN(20000)), BucketAge: time.Hour, TailEvents: 1 + rng.IntN(100), Now: w.clock.now,
			TailBytes: 1 << uint(8+rng.IntN(15)),
			Policy: func(t hark.TenantID) Policy {
				return []Policy{{MaxAge: 48 * time.Hour}, {MaxBytes: 30000}, {MaxAge: 24 * time.Hour, MaxBytes: 60000}, {}}[int(t)%4]
			}}
		w.open()
		for range 250 {
			w.step()
		}
		w.everything()
	})
}

func (w *world) step() {
	w.clock.advance(time.Duration(w.rng.ExpFloat64() * float64(10*time.Minute)))
	switch n := w.rng.IntN(100); {
	case n < 50:
		w.append()
	case n < 70:
		t, after := w.tenant(), w.offset()
		if floor := w.floor[t]; floor > 0 && w.rng.IntN(4) == 0 { // at the very edge of a gap
			after = floor - hark.Offset(w.rng.IntN(2))
		}
		w.walk(t, w.patterns(), after)
	case n < 76:
		w.next(w.offset())
	case n < 82:
		w.findTime()
	case n < 88:
		w.behind()
	case n < 94:
		w.get()
	case n < 98:
		w.retain()
	default:
		if err := w.log.stop(); err != nil {
			w.t.Fatal(err)
		}
		w.clock.advance(-time.Hour) // clocks are set back while nobody looks
		w.open()
		if w.log.End() != hark.Offset(len(w.all)) {
			w.t.Fatalf("end %d after reopening, want %d", w.log.End(), len(w.all))
		}
	}
}

func (w *world) tenant() hark.TenantID { return hark.TenantID(1 + w.rng.IntN(modelTenants)) }
func (w *world) offset() hark.Offset   { return hark.Offset(w.rng.IntN(len(w.all) + 1)) }

func (w *world) topic(t hark.TenantID) string {
	names := []string{"a", "b", "hark", "orders"}
	topic := names[w.rng.IntN(len(names))]
	for range w.rng.IntN(3) {
		topic += "." + names[w.rng.IntN(len(names))]
	}
	if t == 2 { // so many topics that they are not merged
		topic += fmt.Sprint(".n", w.rng.IntN(400))
	}
	return topic
}

func (w *world) patterns() []hark.Pattern {
	all := []hark.Pattern{">", "a", "a.>", "*", "*.b", "orders.*", "orders.*.a", "hark.>", "hark.a", "b.>", "*.*.>", "a.b.n7", "none", "a.*.*"}
	ps := make([]hark.Pattern, 1+w.rng.IntN(3))
	for i := range ps {
		ps[i] = all[w.rng.IntN(len(all))]
	}
	return ps
}

func (w *world) append() {
	t := w.tenant()
	n := 1
	if w.rng.IntN(4) == 0 {
		n = 1 + w.rng.IntN(40)
	}
	events := make([]hark.Event, n)
	for i := range events {
		size := w.rng.IntN(300)
		if w.rng.IntN(200) == 0 {
			size = 400 << 10
		}
		events[i] = hark.Event{Topic: w.topic(t), Data: bytes.Repeat([]byte{byte(w.rng.IntN(256))}, size), Key: fmt.Sprint(w.rng.IntN(5)),
			ContentType: "application/octet-stream", Attributes: map[string]string{"n": fmt.Sprint(len(w.all) + i)}}
		if w.rng.IntN(3) == 0 {
			events[i].Time = w.clock.now().Add(-time.Hour).In(time.FixedZone("x", 7200))
		}
	}
	want := make([]*hark.Event, n)
	for i := range events {
		e := events[i]
		want[i] = &e
	}
	var idem Idempotency
	if w.rng.IntN(4) == 0 {
		idem = Idempotency{Scope: "api", Key: fmt.Sprint("k", w.rng.IntN(1<<30)), Body: [32]byte{1}}
	}
	got, err := w.log.Append(w.t.Context(), t, events, idem)
	if err != nil || got.Count != n || got.Duplicate || got.First.Offset != hark.Offset(len(w.all)+1) {
		w.t.Fatalf("append gave %+v, %v; want offset %d", got, err, len(w.all)+1)
	}
	for i, e := range want {
		e.ID, e.Tenant = got.ID(i), t
		w.all = append(w.all, e)
	}
	if idem.Key != "" {
		again, err := w.log.Append(w.t.Context(), t, []hark.Event{event("a", "")}, idem)
		if err != nil || !again.Duplicate || again.First != got.First || again.Count != n {
			w.t.Fatalf("repeat gave %+v, %v; want %+v", again, err, got)
		}
	}
}

// matching is what the model says is left of a tenant's events after a position.
func (w *world) matching(t hark.TenantID, ps []hark.Pattern, after hark.Offset) []*hark.Event {
	var out []*hark.Event
	for _, e := range w.all[after:] {
		if (t == 0 || e.Tenant == t) && e.ID.Offset > w.floor[e.Tenant] && (ps == nil || hark.MatchAny(ps, e.Topic)) {
			out = append(out, e)
		}
	}
	return out
}

// walk reads page after page to the end.
func (w *world) walk(t hark.TenantID, ps []hark.Pattern, after hark.Offset) {
	want, at, pages := w.matching(t, ps, after), after, 0
	limit := []int{0, 1, 2, 7, 50, 1000}[w.rng.IntN(6)]
	stretch := []int{0, 0, 1000, 20_000}[w.rng.IntN(4)]
	removed := w.floor[t] > after && slices.ContainsFunc(w.all[after:w.floor[t]], func(e *hark.Event) bool { return e.Tenant == t })
	for {
		p, err := w.log.Read(t, Query{Patterns: ps, After: at, Limit: limit, Stretch: stretch})
		if err != nil {
			w.t.Fatal(err)
		}
		if gap := pages == 0 && removed; (p.Gap != nil) != gap {
			w.t.Fatalf("tenant %d after %d (page %d): gap %v, want one: %v", t, after, pages, p.Gap, gap)
		}
		if len(p.Events) > len(want) {
			w.t.Fatalf("tenant %d %v after %d: more than the model has: %v", t, ps, at, p.Events[len(want)].ID)
		}
		for i, e := range p.Events {
			w.same(e, want[i])
		}
		want = want[len(p.Events):]
		if p.Next < at || p.More && p.Next == at || p.Next > w.log.End() {
			w.t.Fatalf("position went from %d to %d, more %v", at, p.Next, p.More)
		}
		at, pages = p.Next, pages+1
		if !p.More {
			break
		}
	}
	if len(want) > 0 || at != w.log.End() {
		w.t.Fatalf("tenant %d %v after %d limit %d: %d events were never told, ended at %d of %d", t, ps, after, limit, len(want), at, w.log.End())
	}
}

func (w *world) same(got, want *hark.Event) {
	w.t.Helper()
	switch {
	case got.ID != want.ID, got.Tenant != want.Tenant, got.Topic != want.Topic, !bytes.Equal(got.Data, want.Data), got.Key != want.Key,
		!got.Time.Equal(want.Time), got.Attributes["n"] != want.Attributes["n"], got.ContentType != want.ContentType:
		w.t.Fatalf("got %v %s %q, want %v %s", got.ID, got.Topic, got.Attributes, want.ID, want.Topic)
	}
	if loc := got.Time.Location(); loc != time.UTC {
		w.t.Fatalf("time in %v", loc)
	}
	if !want.Received.IsZero() && !got.Received.Equal(want.Received) {
		w.t.Fatalf("%v was received at %v and at %v", got.ID, want.Received, got.Received)
	}
	want.Received = got.Received
	if o := got.ID.Offset; o > 1 && got.Received.Before(w.all[o-2].Received) {
		w.t.Fatalf("%v was received before its predecessor", got.ID)
	}
}

// next reads all tenants to the end.
func (w *world) next(after hark.Offset) {
	want := w.matching(0, nil, after)
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	for at := after; len(want) > 0; {
		events, err := w.log.Next(ctx, at, 1+w.rng.IntN(60))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range events {
			// The tail may still show what retention took.
			if e.ID.Offset > w.floor[e.Tenant] {
				w.same(e, want[0])
				want = want[1:]
			}
		}
		at = events[len(events)-1].ID.Offset
	}
	cancel()
	if _, err := w.log.Next(ctx, w.log.End(), 10); err == nil {
		w.t.Fatal("Next at the end did not wait")
	}
}

func (w *world) findTime() {
	t := w.tenant()
	at := w.clock.now().Add(-time.Duration(w.rng.Int64N(int64(100 * time.Hour))))
	if es := w.matching(t, nil, 0); len(es) > 0 && w.rng.IntN(2) == 0 {
		if e := es[w.rng.IntN(len(es))]; !e.Received.IsZero() {
			at = e.Received.Add(time.Duration(w.rng.IntN(3)-1) * time.Microsecond)
		}
	}
	pos, err := w.log.FindTime(t, at)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range w.matching(t, nil, 0) {
		got, err := w.log.Event(t, e.ID.Offset)
		if err != nil {
			w.t.Fatal(err)
		}
		if (e.ID.Offset > pos) != !got.Received.Before(at) {
			w.t.Fatalf("FindTime(%v) = %d, but %v was received at %v", at, pos, e.ID, got.Received)
		}
	}
}

func (w *world) behind() {
	t, ps, after := w.tenant(), w.patterns(), w.offset()
	n, err := w.log.Behind(t, ps, after)
	if err != nil {
		w.t.Fatal(err)
	}
	if want := len(w.matching(t, ps, after)); int(n) != want { // a test never has so many that it is estimated
		w.t.Fatalf("tenant %d %v after %d: %d behind, want %d", t, ps, after, n, want)
	}
}

func (w *world) get() {
	t, o := w.tenant(), w.offset()+1
	e, err := w.log.Event(t, o)
	switch {
	case o > hark.Offset(len(w.all)):
		if hark.KindOf(err) != hark.NotFound {
			w.t.Fatalf("event beyond the end: %v", err)
		}
	case o <= w.floor[t]:
		if hark.KindOf(err) != hark.Gone {
			w.t.Fatalf("event that retention took: %v", err)
		}
	case w.all[o-1].Tenant != t:
		if hark.KindOf(err) != hark.NotFound {
			w.t.Fatalf("another tenant's event: %v", err)
		}
	case err != nil:
		w.t.Fatal(err)
	default:
		w.same(e, w.all[o-1])
		if at, err := w.log.Locate(e.ID); err != nil || at != o {
			w.t.Fatalf("Locate: %d, %v", at, err)
		}
	}
}

// retain runs retention and checks that it took what the policy says and no more.
func (w *world) retain() {
	now := w.clock.now()
	if err := w.log.Retain(now); err != nil {
		w.t.Fatal(err)
	}
	newest := w.log.Buckets()[max(0, len(w.log.Buckets())-1):]
	for t := hark.TenantID(1); t <= modelTenants; t++ {
		floor, p := w.log.Floor(t)-1, w.cfg.Policy(t)
		was := w.floor[t]
		w.floor[t] = floor
		bytes := w.log.Usage(t).Bytes
		if p.MaxBytes > 0 && bytes > p.MaxBytes { // allowed in the newest bucket only
			for _, e := range w.matching(t, nil, 0) {
				if e.ID.Offset < newest[0].First {
					w.t.Fatalf("tenant %d holds %d bytes and %v is still there", t, bytes, e.ID)
				}
			}
		}
		if floor < was || floor > 0 && w.all[floor-1].Tenant != t {
			w.t.Fatalf("floor of tenant %d went from %d to %d", t, was, floor)
		}
		if p.MaxBytes == 0 {
			for _, e := range w.all[was:floor] {
				if e.Tenant == t && !e.Received.IsZero() && now.Sub(e.Received) < p.MaxAge-time.Millisecond {
					w.t.Fatalf("%v was removed at the age of %v", e.ID, now.Sub(e.Received))
				}
			}
		}
		if p.MaxAge == 0 && p.MaxBytes == 0 && floor > 0 {
			w.t.Fatalf("tenant %d keeps for ever and lost up to %d", t, floor)
		}
	}
}

func (w *world) everything() {
	for t := hark.TenantID(1); t <= modelTenants; t++ {
		w.walk(t, []hark.Pattern{">", "hark.>", "hark"}, 0)
		for _, ps := range [][]hark.Pattern{{">"}, {"*.>"}, {"a.b"}, {"orders.*", "b.>"}} {
			w.walk(t, ps, 0)
		}
		if u := w.log.Usage(t); int(u.Count) != len(w.matching(t, nil, 0)) {
			w.t.Fatalf("tenant %d: usage says %d events, the model %d", t, u.Count, len(w.matching(t, nil, 0)))
		}
	}
	w.next(0)
}
