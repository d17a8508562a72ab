package post

import (
	"net"
	"sync"
	"time"
)

// gather is how long frames wait for others to be written with: the fewer times the other side is
// woken, the less it disturbs what else goes on.
const gather = time.Millisecond

// outbox holds the frames that one side has not written yet. Its lock is a leaf.
type outbox struct {
	wake chan struct{} // there is something to write

	mu     sync.Mutex // guards below
	frames []byte
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// add has what write appends written soon.
func (o *outbox) add(write func([]byte) []byte) {
	o.mu.Lock()
	o.frames = write(o.frames)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// writeTo writes what comes until over is closed or conn fails.
func (o *outbox) writeTo(conn net.Conn, over <-chan struct{}) error {
	var spare []byte
	for {
		select {
		case <-o.wake:
		case <-over:
			return nil
		}
		time.Sleep(gather)
		o.mu.Lock()
		b := o.frames
		o.frames = spare[:0]
		o.mu.Unlock()
		if _, err := conn.Write(b); err != nil {
			return err
		}
		if spare = b; cap(spare) > 1<<20 {
			spare = nil
		}
	}
}
