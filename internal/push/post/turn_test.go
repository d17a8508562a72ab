package post

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestTurns: no more work at once than there are processors, each rests after a stretch, nobody is
// left out, and who has no time left does nothing.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared, most := newTurns(), runtime.GOMAXPROCS(0)
		const each = 50
		var mu sync.Mutex
		now, peak, done := 0, 0, 0
		var all sync.WaitGroup
		start := time.Now()
		for range most * each {
			all.Go(func() {
				if !shared.do(t.Context(), func() {
					mu.Lock()
					now++
					peak = max(peak, now)
					mu.Unlock()
					time.Sleep(sealStretch)
					mu.Lock()
					now--
					done++
					mu.Unlock()
				}) {
					t.Error("left out")
				}
			})
		}
		all.Wait()
		if took, least := time.Since(start), each*sealStretch+(each-1)*sealRest; took < least || peak > most || done != most*each {
			t.Errorf("%d at once, %d done in %v; at least %v", peak, done, took, least)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if (&turns{}).do(ctx, func() { t.Error("it worked") }) {
			t.Error("it says it did")
		}
		time.Sleep(sealRest)
		synctest.Wait() // the last turns are back
		if len(shared.free) != most {
			t.Errorf("%d turns are free", len(shared.free))
		}
	})
}
