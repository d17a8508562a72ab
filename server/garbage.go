package server

import (
	"context"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// A server holds some 15 MB, however much it pushes. Go collects garbage when there is as much of it
// as is alive, so more than once a second beside a push to many, and each time a processor is busy
// for milliseconds, which the slowest of a hundred publishes wait for. At other times a small heap
// is worth more.

const (
	// garbageRoom is how much garbage is worth a collection.
	garbageRoom = 64 << 20
	// leastGarbage and mostGarbage bound it, in percent of what is alive. What is alive may have
	// grown manifold until it is looked at again.
	leastGarbage, mostGarbage = 100, 500
)

// collectSeldom has garbage collected only when it is worth it, until ctx ends: beside a push
// worker. GOGC comes first.
func collectSeldom(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer debug.SetGCPercent(leastGarbage)
	live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for now := leastGarbage; ; {
		runtimemetrics.Read(live)
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
