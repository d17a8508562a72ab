package store

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

func someEvent(rng *rand.Rand) *hark.Event {
	e := &hark.Event{Topic: strings.Repeat("t", 1+rng.IntN(200)), Key: strings.Repeat("k", rng.IntN(200)), ContentType: "application/json",
		Source: strings.Repeat("s", rng.IntN(3)), Received: time.UnixMicro(rng.Int64N(1 << 52)).UTC(), Data: make([]byte, rng.IntN(1000))}
	for i := range e.Data {
		e.Data[i] = byte(rng.IntN(256))
	}
	switch rng.IntN(3) {
	case 0: // years 1 to 9999 and beyond
		e.Time = time.Unix(rng.Int64N(1<<40)-1<<39, rng.Int64N(1e9)).UTC()
	case 1:
		e.Time = time.Date(rng.IntN(9999), 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	}
	for range rng.IntN(4) * rng.IntN(60) {
		if e.Attributes == nil {
			e.Attributes = map[string]string{}
		}
		e.Attributes[strings.Repeat("a", 1+rng.IntN(130))] = strings.Repeat("v", rng.IntN(300))
	}
	return e
}

func TestEventCodec(t *testing.T) {
	for range 500 {
		seed := rand.Uint64()
		e := someEvent(rand.New(rand.NewPCG(seed, 1)))
		v := EncodeEvent(e)
		if bound := EventHeadBound(e) + len(e.Data); len(v) > bound {
			t.Fatalf("seed %d: %d bytes, bound %d", seed, len(v), bound)
		}
		got, err := DecodeEvent(v)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("seed %d: %v\ngot  %+v\nwant %+v", seed, err, got, e)
		}
		if string(eventTopic(v)) != e.Topic || !eventReceived(v).Equal(e.Received) {
			t.Fatalf("seed %d: topic %q, received %v", seed, eventTopic(v), eventReceived(v))
		}
		at := time.UnixMicro(1e15 + 7).UTC()
		SetReceived(v, at)
		if got, _ := DecodeEvent(v); !got.Received.Equal(at) {
			t.Fatalf("SetReceived: %v", got.Received)
		}
		for cut := range min(len(v)-len(e.Data), 400) { // a cut inside the data is not to be seen
			if _, err := DecodeEvent(v[:cut]); err == nil {
				t.Fatalf("seed %d: cut at %d and still an event", seed, cut)
			}
		}
	}
}

func someRow(rng *rand.Rand) DeliveryRow {
	row := DeliveryRow{State: hark.State(1 + rng.IntN(7)), Run: rng.IntN(100), Attempts: rng.IntN(1000), Next: rng.Int64N(1 << 50), Token: rng.Uint64(),
		Topic: strings.Repeat("t", rng.IntN(200)), Received: rng.Int64N(1 << 50)}
	if rng.IntN(2) == 0 {
		row.First = someAttempt(rng)
	}
	if !row.State.Finished() {
		row.Tried, row.Lane, row.Key, row.Size = rng.IntN(1000), uint8(rng.IntN(256)), rng.Uint64(), rng.Int32N(1<<30)
	}
	return row
}

func someAttempt(rng *rand.Rand) hark.Attempt {
	a := hark.Attempt{Number: 1 + rng.IntN(1000), Run: rng.IntN(10), Started: time.UnixMicro(rng.Int64N(1 << 52)).UTC(), Duration: time.Duration(rng.IntN(1e9)) * time.Microsecond,
		Outcome: hark.Outcome(1 + rng.IntN(11)), Status: rng.IntN(600), Error: strings.Repeat("e", rng.IntN(100))}
	if n := rng.IntN(200); n > 0 {
		a.Snippet = make([]byte, n)
	}
	return a
}

func TestRowCodec(t *testing.T) {
	for range 500 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 1))
		row := someRow(rng)
		v := row.encode()
		if got, err := decodeRow(v); err != nil || !reflect.DeepEqual(got, row) {
			t.Fatalf("seed %d: %v\ngot  %+v\nwant %+v", seed, err, got, row)
		}
		for cut := range v {
			if _, err := decodeRow(v[:cut]); err == nil {
				t.Fatalf("seed %d: cut at %d of %d and still a row", seed, cut, len(v))
			}
		}
		a := someAttempt(rng)
		r := reader{b: appendAttempt(nil, &a)}
		if got := r.attempt(); r.bad || len(r.b) > 0 || !reflect.DeepEqual(got, a) {
			t.Fatalf("seed %d: attempt %+v, want %+v", seed, got, a)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	for i := range uint64(20) {
		f.Add(EncodeEvent(someEvent(rand.New(rand.NewPCG(i, 1)))))
	}
	f.Add(EncodeEvent(&hark.Event{Topic: "large", Data: make([]byte, partBytes+1)}))
	f.Fuzz(func(t *testing.T, v []byte) {
		eventTopic(v)
		eventReceived(v)
		e, err := DecodeEvent(v)
		if err != nil {
			return
		}
		if n := e.Size(); n > len(v) {
			t.Fatalf("%d bytes became an event of %d", len(v), n)
		}
		if again, err := DecodeEvent(EncodeEvent(e)); err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("not stable: %v\n%+v\n%+v", err, e, again)
		}
	})
}

func FuzzDecodeRow(f *testing.F) {
	for i := range uint64(20) {
		row := someRow(rand.New(rand.NewPCG(i, 1)))
		f.Add(row.encode())
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		row, err := decodeRow(v)
		if err != nil {
			return
		}
		if n := len(row.Topic) + len(row.First.Error) + len(row.First.Snippet); n > len(v) {
			t.Fatalf("%d bytes became %d", len(v), n)
		}
		if again, err := decodeRow(row.encode()); err != nil || !reflect.DeepEqual(again, row) {
			t.Fatalf("not stable: %v\n%+v\n%+v", err, row, again)
		}
	})
}

func FuzzAttempt(f *testing.F) {
	for i := range uint64(20) {
		a := someAttempt(rand.New(rand.NewPCG(i, 1)))
		f.Add(appendAttempt(nil, &a))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		r := reader{b: v}
		a := r.attempt()
		if r.bad {
			return
		}
		r = reader{b: appendAttempt(nil, &a)}
		if again := r.attempt(); r.bad || !reflect.DeepEqual(again, a) {
			t.Fatalf("not stable:\n%+v\n%+v", a, again)
		}
	})
}
