package deliver

import (
	"time"

	"github.com/harkhq/hark"
)

// job is one attempt to make.
type job struct {
	send Send
	dest *hark.Destination
}

// workerIdle is how long a worker waits for its next attempt before it ends.
const workerIdle = 5 * time.Second

// start makes an attempt in a goroutine of its own. Workers that just finished one
// are used again: their stacks have grown to what an HTTP request needs, and
// growing one anew costs as much as the rest of the bookkeeping. The caller holds mu.
func (d *Deliverer) start(s Send, dest *hark.Destination) {
	d.sends.Add(1)
	j := job{s, dest}
	select {
	case d.jobs <- j:
	default:
		go d.work(j)
	}
}

// work makes attempts until none came for a while.
func (d *Deliverer) work(j job) {
	idle := time.NewTimer(workerIdle)
	defer idle.Stop()
	for {
		d.attempt(j.send, j.dest)
		idle.Reset(workerIdle)
		select {
		case j = <-d.jobs:
		case <-idle.C:
			return
		case <-d.sendCtx.Done():
			return
		}
	}
}
