package server

import (
	"context"
	"runtime/debug"
	"testing"
	"time"
)

func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 500, 1: 500, 12 << 20: 500, 15 << 20: 400, 16 << 20: 400, 32 << 20: 200, 40 << 20: 150, 64 << 20: 100, 1 << 40: 100} {
		if got := garbagePercent(live); got != want {
			t.Errorf("beside %d bytes: %d %%, want %d", live, got, want)
		}
	}
}

// TestCollectSeldom: it sets what is worth it, and leaves GOGC alone.
func TestCollectSeldom(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	t.Setenv("GOGC", "77")
	collectSeldom(ended)
	if got := debug.SetGCPercent(77); got != 77 {
		t.Errorf("with GOGC=77 it is %d", got)
	}
	t.Setenv("GOGC", "")
	done := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() { collectSeldom(ctx); close(done) }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if now := debug.SetGCPercent(77); now > 77 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is never changed")
		}
	}
	stop()
	<-done
	if got := debug.SetGCPercent(77); got != leastGarbage {
		t.Errorf("in the end it is %d", got)
	}
}
