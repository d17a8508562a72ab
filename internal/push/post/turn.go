package post

import (
	"context"
	"runtime"
	"time"
)

// Sealing takes the processor, and hundreds of messages wait for it at once. One sealed after the
// other without a pause, they would keep the runtime from looking for ready sockets and for
// goroutines that come back from the disk: it does so when a processor has nothing else to run, and
// only every 10 ms when it always has. So whoever has sealed for a while lets the processor go.
const (
	sealStretch = 100 * time.Microsecond // about one message
	sealRest    = 60 * time.Microsecond
)

// turns bounds how many seal at once, and has them rest in between.
type turns struct{ free chan *turn }

type turn struct {
	worked time.Duration // since it rested
}

func newTurns() *turns {
	n := runtime.GOMAXPROCS(0)
	t := &turns{free: make(chan *turn, n)}
	for range n {
		t.free <- &turn{}
	}
	return t
}

// do works when it is its turn; false if ctx ended before. Who worked goes on at once: its turn
// rests without it.
func (t *turns) do(ctx context.Context, work func()) bool {
	var mine *turn
	select {
	case mine = <-t.free:
	case <-ctx.Done():
		return false
	}
	start := time.Now()
	work()
	if mine.worked += time.Since(start); mine.worked < sealStretch {
		t.free <- mine
		return true
	}
	mine.worked = 0
	time.AfterFunc(sealRest, func() { t.free <- mine })
	return true
}
