package device

import (
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/push"
)

func TestOutcomesPacked(t *testing.T) {
	var all []*tried
	for i := range 300 {
		all = append(all, &tried{device: &hark.Device{ID: hark.DeviceID(1<<60 + (i*7919)%300)}, number: i, result: push.Result{
			Outcome: push.Outcome(1 + i%7), Status: 200 + i, Code: []string{"", "A", "B"}[i%3], Error: strings.Repeat("x", i%250)}})
	}
	got, err := decodeOutcomes(encodeOutcomes(1234567, all))
	if err != nil || len(got) != len(all) {
		t.Fatal(len(got), err)
	}
	for i, o := range got {
		x := all[i]
		if o.Device != x.device.ID || o.Outcome != Word(x.result.Outcome) || o.Status != x.result.Status || o.Code != x.result.Code || o.Try != x.number ||
			o.Error != bound(x.result.Error, 200) || !o.At.Equal(time.UnixMilli(1234567)) {
			t.Fatalf("%d: %+v of %+v", i, o, x)
		}
	}
}

func TestJobPacked(t *testing.T) {
	j := job{position: 1 << 62, top: 1<<63 + 5, tally: Tally{Devices: 7, Accepted: 1, Gone: 2, Suspect: 3, Retrying: 4, Expired: 5, Failed: 6}}
	got, err := decodeJob(j.encode())
	if err != nil || got != j {
		t.Errorf("%+v %v", got, err)
	}
}

func FuzzOutcomes(f *testing.F) {
	f.Add(encodeOutcomes(1, []*tried{{device: &hark.Device{ID: 5}, number: 1, result: push.Result{Outcome: push.Accepted, Status: 201, Code: "c"}}}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		decodeOutcomes(b)
		decodeJob(b)
	})
}

// TestReceipts: a token is taken as it was made, for its time, and in no other form.
func TestReceipts(t *testing.T) {
	w := newWorld(t)
	r, err := OpenReceipts(w.Devices, w.log)
	if err != nil {
		t.Fatal(err)
	}
	d, e := w.device("t", "42", "news"), w.publish("news", aMessage)
	now := time.Now()
	token := r.Token(e, d, now)
	take := func(token, what string, at time.Time) hark.Kind {
		err := r.Take(t.Context(), token, what, at)
		if err == nil {
			return 0xff
		}
		return hark.KindOf(err)
	}
	for i := range token {
		for _, c := range "A_" {
			if bad := token[:i] + string(c) + token[i+1:]; bad != token && take(bad, "shown", now) != hark.NotFound {
				t.Fatalf("with %c at %d it is taken", c, i)
			}
		}
	}
	for _, bad := range []string{"", token + "A", token[1:], "%", strings.Repeat("A", 10_000)} {
		if take(bad, "shown", now) != hark.NotFound {
			t.Errorf("%.20q is taken", bad)
		}
	}
	if k := take(token, "shown", now.Add(73*time.Hour)); k != hark.Gone {
		t.Error(k)
	}
	again, err := OpenReceipts(w.Devices, w.log) // after a restart
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := again.Take(t.Context(), token, "shown", now); err != nil {
			t.Error(err)
		}
	}
	if err := r.Take(t.Context(), token, "clicked", now); err != nil {
		t.Error(err)
	}
	if a, b := w.told("hark.push.delivered"), w.told("hark.push.clicked"); len(a) != 1 || len(b) != 1 || !strings.Contains(a[0], `"user":"42"`) {
		t.Error(a, b)
	}
}

func FuzzReceipt(f *testing.F) {
	r := &Receipts{}
	f.Add(r.Token(&hark.Event{ID: hark.EventID{Offset: 1}}, &hark.Device{ID: 2}, time.Unix(0, 0)))
	f.Fuzz(func(t *testing.T, token string) {
		if r.Take(t.Context(), token, "shown", time.Now()) == nil { // expired, if it is right
			t.Error("taken")
		}
	})
}
