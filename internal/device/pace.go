package device

import (
	"context"
	"runtime/metrics"
	"time"
)

// The processor is not the pushes' alone: with hundreds of messages to encrypt at once,
// everything else of the server would stand in line behind them. So the number of sends
// under way follows how long goroutines wait until they run: it shrinks when that is long,
// and grows to its bound while only the network is waited for. Messages that another process
// encrypts hold up no goroutine: then it follows how long they wait for that process.
const (
	paceEvery = 50 * time.Millisecond
	startPace = 48
	leastPace = 48 // fewer leave processors idle and gain nothing for others: see package post, turn.go
	// waitLong and waitShort are the times that one goroutine in twenty waits for a processor.
	waitLong  = 250 * time.Microsecond
	waitShort = 80 * time.Microsecond
	// asideLeast is what keeps another process busy while answers wait to be told together.
	asideLeast = 112
	// behindLong and behindShort are how long a message has waited for that process.
	behindLong  = 12 * time.Millisecond
	behindShort = 6 * time.Millisecond
)

const schedLatencies = "/sched/latencies:seconds"

// paceLoop keeps the number of sends to what the processors bear, until ctx ends.
func (a *Audiences) paceLoop(ctx context.Context) {
	sample := []metrics.Sample{{Name: schedLatencies}}
	var before []uint64
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			a.lanes.resize(a.lim.Flight)
			return
		case <-tick.C:
		}
		if a.lanes.load() == 0 {
			before = nil
			continue
		}
		metrics.Read(sample)
		h := sample[0].Value.Float64Histogram()
		if before != nil {
			n := pace(a.lanes.limit(), leastPace, a.lim.Flight, quantileOf(h, before, .95), waitShort, waitLong)
			if a.begins != nil {
				if behind, aside := a.begins.Behind(); aside {
					n = pace(a.lanes.limit(), asideLeast, a.lim.Flight, behind, behindShort, behindLong)
				}
			}
			a.lanes.resize(n)
		}
		before = append(before[:0], h.Counts...)
	}
}

// pace is how many sends may be under way after so many, when something has waited so long.
func pace(now, least, most int, wait, short, long time.Duration) int {
	switch {
	case wait > long:
		now = now * 3 / 4
	case wait < short:
		now += max(1, now/8)
	}
	return min(max(now, least), most)
}

// quantileOf returns a quantile of what was added to a histogram since before.
func quantileOf(h *metrics.Float64Histogram, before []uint64, q float64) time.Duration {
	total := uint64(0)
	for i, n := range h.Counts {
		total += n - before[i]
	}
	left := uint64(q * float64(total))
	for i, n := range h.Counts {
		if n -= before[i]; n > left {
			return time.Duration(h.Buckets[i] * float64(time.Second))
		}
		left -= h.Counts[i] - before[i]
	}
	return 0
}
