package pushservice

import (
	"testing"
	"time"
)

// TestBuckets: however many strangers come, only so many are remembered, and while those can be
// forgotten that used nothing lately, who takes too much is not.
func TestBuckets(t *testing.T) {
	var b buckets[int]
	b.init(1, 10)
	now := time.Now()
	for k := 1; k < maxBuckets; k++ {
		b.take(k, now)
	}
	now = now.Add(time.Minute)
	for range 10 {
		if wait := b.take(0, now); wait > 0 {
			t.Fatalf("refused for %s", wait)
		}
	}
	if len(b.m) != maxBuckets {
		t.Fatalf("%d are remembered", len(b.m))
	}
	b.take(-1, now)
	if wait := b.take(0, now); wait <= 0 || wait > time.Second || len(b.m) != 2 {
		t.Errorf("it waits %s, with %d remembered", wait, len(b.m))
	}
	for k := range 3 * maxBuckets {
		if b.take(k+1, now); len(b.m) > maxBuckets {
			t.Fatalf("%d are remembered", len(b.m))
		}
	}
	b.init(-1, 1)
	for k := range 100 {
		if b.take(k%2, now) > 0 || len(b.m) > 0 {
			t.Fatal("no limit is one")
		}
	}
}
