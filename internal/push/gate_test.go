package push

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark/internal/egress"
)

var (
	good     = &Result{Outcome: Accepted, Status: 201}
	gone     = &Result{Outcome: TargetGone, Status: 410}
	broken   = &Result{Outcome: RetryAt, Status: 500}
	silent   = &Result{Outcome: RetryAt}
	ours     = &Result{Outcome: RetryAt, ours: true}
	one429   = &Result{Outcome: RetryAt, Status: 429}
	all429   = &Result{Outcome: RetryAt, Status: 429, Wide: true, After: 30 * time.Second}
	long503  = &Result{Outcome: RetryAt, Status: 503, Wide: true, After: 3 * time.Hour}
	refusing = &Result{Outcome: ConfigError, Status: 403, refused: true}
)

// pass goes through a gate that is open, and tells it what came of it.
func pass(t *testing.T, g *gate, r *Result) {
	t.Helper()
	if wait, _ := g.enter(t.Context(), time.Now()); wait != 0 {
		t.Fatalf("the gate is shut for %v", wait)
	}
	g.leave(r, time.Now())
}

func shutFor(t *testing.T, g *gate, want time.Duration) {
	t.Helper()
	if wait, _ := g.enter(t.Context(), time.Now()); wait != want {
		t.Fatalf("shut for %v, want %v", wait, want)
	}
}

func TestGateShutsAndProbes(t *testing.T) {
	for name, bad := range map[string]*Result{"5xx": broken, "no answer": silent, "refused": refusing} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				pass(t, g, bad)
				pass(t, g, good) // two in a row are needed after this, and a third
				pass(t, g, bad)
				pass(t, g, bad)
				pass(t, g, gone) // it answers
				pass(t, g, bad)
				pass(t, g, bad)
				pass(t, g, bad)
				for _, wait := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
					shutFor(t, g, wait*time.Second)
					time.Sleep(wait * time.Second)
					// One probe goes; who comes meanwhile does not wait for it.
					if wait, _ := g.enter(t.Context(), time.Now()); wait != 0 {
						t.Fatalf("no probe: %v", wait)
					}
					shutFor(t, g, time.Second)
					g.leave(bad, time.Now())
				}
				time.Sleep(5 * time.Minute)
				pass(t, g, good)
				for range firstCap {
					if wait, _ := g.enter(t.Context(), time.Now()); wait != 0 {
						t.Fatal("not open again")
					}
				}
			})
		})
	}
}

func TestGatePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		pass(t, g, good)
		for range 10 {
			pass(t, g, one429) // one device's is not everybody's
			pass(t, g, ours)
		}
		pass(t, g, all429)
		shutFor(t, g, 30*time.Second)
		time.Sleep(30 * time.Second)
		pass(t, g, long503)
		shutFor(t, g, maxShut) // not for three hours: it is asked again
		time.Sleep(maxShut)
		pass(t, g, &Result{Outcome: RetryAt, Status: 429, Wide: true})
		shutFor(t, g, defaultPause)
	})
}

// One at a time until the first success, then 16, then more as it goes well.
func TestGateWidens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		var now, most atomic.Int64
		var wg sync.WaitGroup
		send := func(n int) int64 {
			most.Store(0)
			for range n {
				wg.Go(func() {
					if wait, _ := g.enter(t.Context(), time.Now()); wait > 0 {
						return
					}
					if in := now.Add(1); in > most.Load() {
						most.Store(in)
					}
					time.Sleep(time.Millisecond)
					now.Add(-1)
					g.leave(good, time.Now())
				})
			}
			wg.Wait()
			return most.Load()
		}
		// The first goes alone, those after it together.
		if m := send(1); m != 1 {
			t.Errorf("%d at first", m)
		}
		if m := send(16); m != 16 {
			t.Errorf("%d after the first", m)
		}
		if m := send(5000); m != maxCap {
			t.Errorf("at most %d at once, want %d", m, maxCap)
		}
		pass(t, g, broken)
		if g.cap != maxCap/2 {
			t.Errorf("%d at once after a failure", g.cap)
		}
	})
}

func TestGateIsNoTrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		if wait, _ := g.enter(t.Context(), time.Now()); wait != 0 {
			t.Fatal("shut")
		}
		// Nobody waits for longer than a second, or after its context ended.
		start := time.Now()
		if wait, crowded := g.enter(t.Context(), start); wait == 0 || !crowded || time.Since(start) != maxQueue {
			t.Errorf("waited %v, then %v", time.Since(start), wait)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if wait, _ := g.enter(ctx, time.Now()); wait == 0 {
			t.Error("a cancelled one went in")
		}
		// Those who wait when it shuts are told so at once.
		var told atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if wait, _ := g.enter(t.Context(), time.Now()); wait == 30*time.Second {
					told.Add(1)
				}
			})
		}
		synctest.Wait()
		g.leave(all429, time.Now())
		wg.Wait()
		if told.Load() != 10 || g.inFlight != 0 || len(g.waiting) != 0 {
			t.Errorf("%d of 10 were told; %d in flight", told.Load(), g.inFlight)
		}
	})
}

// TestOneOriginAlone: an origin that fails or asks for a pause holds up nobody else's devices,
// and another audience's devices of the same origin neither.
func TestOneOriginAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &doer{answer: func(s sent) (egress.Response, error) {
			switch s.URL.Host {
			case "slow.example":
				return status(429, "", "Retry-After", "60")(s)
			case "down.example":
				return egress.Response{}, &egress.Error{Fault: egress.FaultConnect, Msg: "no connection"}
			}
			return status(201, "")(s)
		}}
		s := newTestSender(fake)
		a, c := webpushAudience("{}"), compose(t, `{"title":"x"}`)
		send := func(host string) Result {
			b := newBrowser(t, "https://"+host+"/p")
			return s.Send(t.Context(), a, &b.device, c, time.Now())
		}
		for i := range 5 {
			if r := send("good.example"); r.Outcome != Accepted {
				t.Errorf("the good origin: %+v", r)
			}
			if r := send("slow.example"); r.Outcome != RetryAt || i > 0 && (r.Code != codeHeld || r.After != time.Minute || !r.Shut) {
				t.Errorf("the slow origin: %+v", r)
			}
			if r := send("down.example"); r.Outcome != RetryAt || (r.Code == codeHeld) != (i > 2) || r.Shut != (i > 2) {
				t.Errorf("the one that is down, %d: %+v", i, r)
			}
		}
		if n := fake.count(); n != 5+1+3 {
			t.Errorf("%d requests", n)
		}
		time.Sleep(time.Minute)
		if r := send("slow.example"); r.Code == codeHeld {
			t.Errorf("after the pause: %+v", r)
		}
		other := *a
		other.ID = 2
		b := newBrowser(t, "https://slow.example/p")
		if r := s.Send(t.Context(), &other, &b.device, c, time.Now()); r.Code == codeHeld {
			t.Errorf("another audience is held: %+v", r)
		}
		changed := *a
		changed.Revision++
		if r := s.Send(t.Context(), &changed, &b.device, c, time.Now()); r.Code == codeHeld {
			t.Errorf("other settings are held: %+v", r)
		}
	})
}

// A stranger chooses the origins of his devices: they are bounded.
func TestOriginsAreBounded(t *testing.T) {
	s := newTestSender(&doer{answer: status(201, "")})
	busy := s.gate(gateKey{1, 1, "https://busy.example"}, time.Now())
	if wait, _ := busy.enter(t.Context(), time.Now()); wait != 0 {
		t.Fatal("shut")
	}
	for i := range 3 * maxGates {
		s.gate(gateKey{2, 1, fmt.Sprint("https://", i)}, time.Now())
	}
	if len(s.gates) > maxGates {
		t.Errorf("%d gates", len(s.gates))
	}
	if s.gate(gateKey{1, 1, "https://busy.example"}, time.Now()) != busy {
		t.Error("a gate in use was forgotten")
	}
	w := &webpushChannel{accepted: map[string]bool{}}
	for i := range 3 * maxAccepted {
		w.accept(fmt.Sprint(i))
	}
	if len(w.accepted) > maxAccepted {
		t.Errorf("%d proofs", len(w.accepted))
	}
}
