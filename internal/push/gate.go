package push

import (
	"context"
	"sync"
	"time"
)

// A gate stands before each origin of an audience. It holds how much is under way there, opens
// (lets nobody through) after failures in a row or when the origin asks for a pause, and then
// lets one through at a time until one succeeds.
//
//	begin: 1 at a time until the first success (APNs wants that), then 16, doubling to 256
//	5xx, timeout, a pause asked for: half as many
//	3 failures in a row: shut for 5 s, doubling to 5 min; then one probe at a time
//	429 or Retry-After that means all: shut that long, at most 5 min; then one probe at a time

const (
	firstCap     = 16
	maxCap       = 256
	failures     = 3
	minShut      = 5 * time.Second
	maxShut      = 5 * time.Minute
	defaultPause = time.Minute // for a 429 that does not say how long
	// maxQueue is how long a send waits for its turn at a gate that is not shut.
	maxQueue = time.Second
	// maxGates bounds how many origins are remembered.
	maxGates = 8192
)

// gate is safe for concurrent use.
type gate struct {
	mu       sync.Mutex // guards below
	used     time.Time
	inFlight int
	cap      int
	waiting  []chan struct{} // in order; closed for who may go
	failed   int             // in a row
	shut     time.Time       // nobody goes before; zero if it is not shut
	backoff  time.Duration   // how long it was shut last, 0 after a success
	probing  bool            // shut is over, and one goes at a time until a success
	proven   bool            // it has answered once
	full     int             // successes since cap changed
}

func newGate() *gate { return &gate{cap: 1} }

// enter waits for a turn. It returns how long to wait instead, 0 if the turn is now; every
// turn ends with leave. Crowded says that it is open, but others came first.
func (g *gate) enter(ctx context.Context, now time.Time) (wait time.Duration, crowded bool) {
	g.mu.Lock()
	g.used = now
	if wait := g.shutLocked(now); wait > 0 {
		g.mu.Unlock()
		return wait, false
	}
	if g.inFlight < g.cap {
		g.inFlight++
		g.mu.Unlock()
		return 0, false
	}
	if g.probing {
		g.mu.Unlock()
		return time.Second, false // the probe will tell
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()
	return g.await(ctx, turn)
}

// tryEnter takes a turn if there is one at once.
func (g *gate) tryEnter(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used = now
	if g.shutLocked(now) > 0 || g.inFlight >= g.cap {
		return false
	}
	g.inFlight++
	return true
}

// await waits for a turn that leave gives.
func (g *gate) await(ctx context.Context, turn chan struct{}) (wait time.Duration, crowded bool) {
	timer := time.NewTimer(maxQueue)
	defer timer.Stop()
	select {
	case <-turn:
	case <-ctx.Done():
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w == turn { // nobody gave it
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return time.Second, true
		}
	}
	if wait := g.shutLocked(time.Now()); wait > 0 { // shut since it was given
		g.inFlight--
		return wait, false
	}
	return 0, false
}

// shutLocked returns for how long it is shut yet.
func (g *gate) shutLocked(now time.Time) time.Duration {
	if g.shut.IsZero() {
		return 0
	}
	if wait := g.shut.Sub(now); wait > 0 {
		return wait
	}
	g.shut, g.probing, g.cap = time.Time{}, true, 1
	return 0
}

// leave ends a turn and learns from what came of it.
func (g *gate) leave(r *Result, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
	switch {
	case r.ours:
	case r.Outcome == RetryAt && r.Wide:
		g.slowLocked()
		pause := r.After
		if pause <= 0 {
			pause = defaultPause
		}
		g.shutForLocked(min(pause, maxShut), now)
	case r.troubled() && now.Before(g.shut): // it was under way when others failed: the same trouble
	case r.troubled():
		g.slowLocked()
		if g.failed++; g.failed >= failures || g.probing {
			g.backoff = min(max(2*g.backoff, minShut), maxShut)
			g.shutForLocked(g.backoff, now)
		}
	default: // whatever it says of this device, it answers
		g.failed, g.backoff = 0, 0
		g.fasterLocked()
	}
	g.admitLocked()
}

// troubled says that the origin itself is not well.
func (r *Result) troubled() bool {
	return r.refused || r.Outcome == RetryAt && (r.Status == 0 || r.Status >= 500)
}

func (g *gate) slowLocked() { g.cap, g.full = max(g.cap/2, 1), 0 }

func (g *gate) fasterLocked() {
	if g.full++; g.probing || !g.proven {
		g.probing, g.proven, g.cap, g.full = false, true, firstCap, 0
	} else if g.full >= g.cap && g.cap < maxCap {
		g.cap, g.full = 2*g.cap, 0
	}
}

func (g *gate) shutForLocked(d time.Duration, now time.Time) {
	if until := now.Add(d); until.After(g.shut) {
		g.shut = until
	}
	g.probing = false
	// Who waits here would wait in vain.
	for _, turn := range g.waiting {
		g.inFlight++ // await gives it back
		close(turn)
	}
	g.waiting = nil
}

func (g *gate) admitLocked() {
	for len(g.waiting) > 0 && g.inFlight < g.cap && g.shut.IsZero() {
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
		g.inFlight++
	}
}

// idle says since when nobody came, and whether nothing would be forgotten with it.
func (g *gate) idle() (since time.Time, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.used, g.inFlight == 0 && len(g.waiting) == 0
}
