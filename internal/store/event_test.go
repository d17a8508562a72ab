package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/harkhq/hark"
)

// appended is the record of an event with random data of a size.
func appended(t hark.TenantID, o hark.Offset, size int) (*EventAppended, []byte) {
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(uint64(o), uint64(size)))
	for i := range data {
		data[i] = byte(rng.IntN(256))
	}
	e := &hark.Event{Topic: "a", Attributes: map[string]string{"x": "y"}, Data: data}
	return &EventAppended{Tenant: t, Bucket: 1, Offset: o, Topic: e.Topic, Head: AppendEventHead(nil, e), Data: data, Anchor: o}, data
}

func countParts(t *testing.T, s *Store) (n int) {
	t.Helper()
	prefix := newKey(tablePart)
	if err := s.scanAll(prefix, prefix.after(), func(_, v []byte) bool {
		if n++; len(v) == 0 || len(v) > partBytes {
			t.Errorf("a part of %d bytes", len(v))
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEventParts: large data comes back as it was by every way of reading, and goes with its event.
func TestEventParts(t *testing.T) {
	s := open(t, Options{})
	sizes := []int{0, 1, partBytes - 1, partBytes, partBytes + 1, 2 * partBytes, 2*partBytes + 1, 1 << 20, 3<<20 + 7}
	want := map[hark.Offset][]byte{}
	var offsets []hark.Offset
	for i, size := range sizes {
		o := hark.Offset(1 + 2*i)
		var rec *EventAppended
		rec, want[o] = appended(1, o, size)
		other, _ := appended(2, o+1, size)
		commit(t, s, rec, other)
		offsets = append(offsets, o)
	}
	check := func(e *hark.Event) bool {
		if e.Tenant != 1 || e.Topic != "a" || e.Attributes["x"] != "y" || !bytes.Equal(e.Data, want[e.ID.Offset]) {
			t.Errorf("event %d of tenant %d has %d bytes, want %d", e.ID.Offset, e.Tenant, len(e.Data), len(want[e.ID.Offset]))
		}
		return true
	}
	for _, o := range offsets {
		e, ok, err := s.Event(1, o)
		if err != nil || !ok {
			t.Fatalf("event %d: %v, %v", o, ok, err)
		}
		check(e)
	}
	seen := 0
	if err := s.EventsAt(1, offsets, func(e *hark.Event) bool { seen++; return check(e) }); err != nil || seen != len(sizes) {
		t.Errorf("EventsAt saw %d events, %v", seen, err)
	}
	seen = 0
	for from, more := hark.Offset(0), true; more; {
		last, left, err := s.Events(1, from, 1000, 100, nil, func(e *hark.Event) bool { seen++; return check(e) })
		if err != nil {
			t.Fatal(err)
		}
		from, more = last+1, left
	}
	if seen != len(sizes) {
		t.Errorf("Events saw %d events", seen)
	}

	parts := 0
	for _, size := range sizes {
		parts += max(0, (size-1)/partBytes)
	}
	if n := countParts(t, s); n != 2*parts {
		t.Errorf("%d parts, want %d", n, 2*parts)
	}
	commit(t, s, &EventsRemoved{Tenant: 1, Bucket: 1, Usage: Usage{First: 1, Last: offsets[len(offsets)-1]}})
	if n := countParts(t, s); n != parts {
		t.Errorf("after retention took one tenant's, %d parts are left, want %d", n, parts)
	}
	commit(t, s, &TenantErased{Tenant: 2, End: 100})
	if n := countParts(t, s); n != 0 {
		t.Errorf("after the other tenant was erased, %d parts are left", n)
	}
}

// TestPartsForgotten: what is beyond an event's own parts goes, and nothing else.
func TestPartsForgotten(t *testing.T) {
	s := open(t, Options{})
	for _, at := range []hark.Offset{4, 5, 6} {
		for n := range uint32(5) {
			commit(t, s, &EventPart{Tenant: 1, Anchor: at, Part: n, Data: []byte("left")})
		}
	}
	rec, want := appended(1, 7, 3*partBytes)
	rec.Anchor = 5
	commit(t, s, rec, &PartsForgotten{Tenant: 1, Anchor: 5, From: 2})
	if n := countParts(t, s); n != 5+2+5 {
		t.Errorf("%d parts are left", n)
	}
	if e, ok, err := s.Event(1, 7); err != nil || !ok || !bytes.Equal(e.Data, want) {
		t.Errorf("the event: %v, %v", ok, err)
	}
}

// TestEventWithoutParts: an event whose parts are gone is gone if it went with them, while it was
// read; else it is corrupt, and so is one with too many. Nobody passes over it.
func TestEventWithoutParts(t *testing.T) {
	s := open(t, Options{})
	rec, _ := appended(1, 5, 3*partBytes)
	next, _ := appended(1, 6, 3)
	commit(t, s, rec, next)
	b := s.db.NewBatch()
	must(b.Delete(partKey(1, 5, 1), nil))
	if err := b.Commit(nil); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Event(1, 5); ok || !errors.Is(err, errCorrupt) {
		t.Errorf("an event without its last part: %v, %v", ok, err)
	}
	var got []hark.Offset
	see := func(e *hark.Event) bool { got = append(got, e.ID.Offset); return true }
	if err := s.EventsAt(1, []hark.Offset{5, 6}, see); !errors.Is(err, errCorrupt) || len(got) > 0 {
		t.Errorf("EventsAt saw %v, %v", got, err)
	}
	if _, _, err := s.Events(1, 0, 10, 10, nil, see); !errors.Is(err, errCorrupt) || len(got) > 0 {
		t.Errorf("Events saw %v, %v", got, err)
	}
	b = s.db.NewBatch()
	must(b.Set(partKey(1, 5, 1), make([]byte, partBytes+1), nil))
	if err := b.Commit(nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Event(1, 5); !errors.Is(err, errCorrupt) {
		t.Errorf("an event with a byte too much: %v", err)
	}
	value, _, err := s.get(eventKey(1, 5))
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, &EventsRemoved{Tenant: 1, Bucket: 1, Usage: Usage{First: 5, Last: 5}})
	if e, err := s.wholeEvent(1, 5, value); e != nil || err != nil {
		t.Errorf("an event that retention took while it was read: %v, %v", e, err)
	}
	if err := s.EventsAt(1, []hark.Offset{5, 6}, see); err != nil || !slices.Equal(got, []hark.Offset{6}) {
		t.Errorf("EventsAt saw %v, %v", got, err)
	}
	if _, err := DecodeEvent(rec.Head); !errors.Is(err, errCorrupt) {
		t.Errorf("a head that promises data: %v", err)
	}
}
