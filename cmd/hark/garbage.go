package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A server holds some 15 MB, however much goes through it. Go collects garbage when there is as
// much of it as is alive, so dozens of times a second, and each time a processor is busy for
// milliseconds, which the slowest of a hundred requests wait for.

const (
	// garbageRoom is how much garbage is worth a collection.
	garbageRoom = 64 << 20
	// leastGarbage and mostGarbage bound it, in percent of what is alive. What is alive may have
	// grown manifold until it is looked at again.
	leastGarbage, mostGarbage = 100, 500
)

// collectSeldom has garbage collected only when it is worth it, until ctx ends. GOGC comes first.
func collectSeldom(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for now := leastGarbage; ; {
		metrics.Read(live)
		if next := garbagePercent(live[0].Value.Uint64()); next != now { // changing it stops everything for a moment
			debug.SetGCPercent(next)
			now = next
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// garbagePercent is how much garbage there may be beside so much that is alive: in steps, so that it
// seldom changes.
func garbagePercent(live uint64) int {
	const step = 50
	percent := uint64(mostGarbage)
	if live > 0 {
		percent = min(percent, 100*garbageRoom/live/step*step)
	}
	return max(int(percent), leastGarbage)
}
