package hark

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
)

func randomID(rng *rand.Rand) EventID {
	// Small numbers and all widths are both likely.
	return EventID{Shard: uint16(rng.Uint32() >> rng.IntN(32)), Incarnation: rng.Uint64() >> (24 + rng.IntN(40)), Offset: Offset(rng.Uint64() >> rng.IntN(64))}
}

// TestEventIDOrder: the texts sort as the ids do, and come back as they were.
func TestEventIDOrder(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 20000 {
		a, b := randomID(rng), randomID(rng)
		if rng.IntN(3) == 0 {
			b.Shard, b.Incarnation = a.Shard, a.Incarnation
		}
		if a.IsZero() || b.IsZero() {
			continue
		}
		if cmp.Compare(a.String(), b.String()) != a.Compare(b) {
			t.Fatalf("seed %d: %v and %v: texts sort otherwise", seed, a, b)
		}
		for _, parse := range []func(string) (EventID, error){ParseEventID, ParseCursor} {
			if got, err := parse(a.String()); err != nil || got != a {
				t.Fatalf("seed %d: %v came back as %v, %v", seed, a, got, err)
			}
		}
		d := DeliveryID{Destination: DestinationID(rng.Uint64() >> rng.IntN(64)), Event: a}
		if got, err := ParseDeliveryID(d.String()); err != nil || got != d {
			t.Fatalf("seed %d: %v came back as %v, %v", seed, d, got, err)
		}
		if d.Destination != 0 {
			if got, err := ParseDestinationID(d.Destination.String()); err != nil || got != d.Destination {
				t.Fatalf("seed %d: %v came back as %v, %v", seed, d.Destination, got, err)
			}
			k := KeyID(d.Destination)
			if got, err := ParseKeyID(k.String()); err != nil || got != k {
				t.Fatalf("seed %d: %v came back as %v, %v", seed, k, got, err)
			}
		}
	}
}

func TestIDTexts(t *testing.T) {
	id := EventID{Incarnation: 1, Offset: 1}
	if len(id.String()) != 28 || strings.ContainsAny(id.String(), ".=") {
		t.Errorf("text %q", id)
	}
	last := EventID{Shard: 1<<16 - 1, Incarnation: MaxIncarnation, Offset: ^Offset(0)}
	if got, err := ParseEventID(last.String()); err != nil || got != last {
		t.Errorf("the last id came back as %v, %v", got, err)
	}
	for _, s := range []string{"", "evt_", "evt", id.String()[1:], id.String() + "0", id.String()[:27], strings.ToUpper(id.String()), "dst_" + id.String()[4:],
		"evt_" + strings.Repeat("w", 24), "evt_" + strings.Repeat("é", 12), id.String() + "\n", " " + id.String()} {
		if got, err := ParseEventID(s); KindOf(err) != Invalid {
			t.Errorf("%q is the id %+v, %v", s, got, err)
		}
	}
	// One id has one text: spare bits of the last character are refused.
	d := DestinationID(1).String()
	if got, err := ParseDestinationID(d[:len(d)-1] + "v"); err == nil {
		t.Errorf("a second text for %d: %d", 1, got)
	}
	if long := strings.Repeat("x", 1<<16); true {
		if _, err := ParseEventID(long); len(err.Error()) > 300 {
			t.Errorf("the error repeats %d bytes", len(err.Error()))
		}
	}
	var in struct{ A, B EventID }
	text, _ := json.Marshal(struct{ A, B EventID }{A: id})
	if err := json.Unmarshal(text, &in); err != nil || in.A != id || !in.B.IsZero() {
		t.Errorf("%s came back as %+v, %v", text, in, err)
	}
}

func FuzzIDs(f *testing.F) {
	f.Add(EventID{Incarnation: 1, Offset: 1}.String())
	f.Add(DestinationID(7).String())
	f.Add(KeyID(7).String())
	f.Add(DeliveryID{Destination: 7, Event: EventID{Incarnation: 1, Offset: 1}}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseEventID(s); err == nil && !id.IsZero() && id.String() != s {
			t.Errorf("%q is %+v is %q", s, id, id)
		}
		if id, err := ParseDestinationID(s); err == nil && id != 0 && id.String() != s {
			t.Errorf("%q is %d is %q", s, uint64(id), id)
		}
		if id, err := ParseKeyID(s); err == nil && id != 0 && id.String() != s {
			t.Errorf("%q is %d is %q", s, uint64(id), id)
		}
		if id, err := ParseDeliveryID(s); err == nil && id != (DeliveryID{}) && id.String() != s {
			t.Errorf("%q is %+v is %q", s, id, id)
		}
	})
}
