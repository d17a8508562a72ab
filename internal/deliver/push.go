package deliver

import (
	"time"

	"github.com/harkhq/hark"
)

// Result is how an attempt ended.
type Result struct {
	Outcome  hark.Outcome
	Status   int
	Error    string
	Snippet  []byte
	Started  time.Time
	Duration time.Duration
	// RetryAfter is what the destination asked for; 0 for nothing. At most [MaxRetryAfter] counts.
	RetryAfter time.Duration
	// Ours says that the failure tells nothing about destination or event: we were
	// out of sockets, our proxy was down. It is no attempt.
	Ours bool
	// Gone says that nothing was sent: retention took the event.
	Gone bool
}

// oursWait is the pause after a failure of our own.
const oursWait = 5_000

// Done tells the result of a Send.
func (c *Core) Done(now int64, id hark.DestinationID, o hark.Offset, attempt int, r Result) {
	c.advance(now)
	defer c.settleUp()
	d := c.dests[id]
	if d == nil {
		return
	}
	x := d.all[o]
	if x == nil || x.where != inFlight || x.total+1 != attempt {
		return
	}
	c.landed(x)
	if !d.gone {
		c.settlePush(x, &r)
	}
	c.nudge(d)
}

func (c *Core) settlePush(x *delivery, r *Result) {
	d := x.d
	if r.Gone {
		c.answer(x, nil, hark.Expired)
		c.save(x, hark.Expired, nil)
		c.drop(x)
		return
	}
	if r.Ours && !x.cancel {
		c.answer(x, c.attempt(x, r), hark.Due)
		x.next = c.now + c.jitter(oursWait, d.id, x.Offset, x.total)
		c.put(x)
		return
	}
	x.total++
	x.tried++
	a := c.attempt(x, r)
	if r.Outcome == hark.OK {
		c.worked(d)
		c.finish(x, hark.Delivered, a)
		return
	}
	c.failed(x, r)
	switch {
	case x.cancel:
		c.finish(x, hark.Cancelled, a)
	case r.Outcome == hark.Unsubscribed:
		// Not the event's fault: it waits for the destination to be resumed.
		c.again(x, a, c.now+c.wait(x, min(x.tried, len(d.set.Waits)-1)))
		c.disable(x, "the destination answered 410 Gone")
	case x.tried >= len(d.set.Waits):
		c.died(x, a)
	default:
		c.again(x, a, max(c.now+c.wait(x, x.tried), d.notBefore))
	}
}

// wait is the jittered wait before the attempt with index step of the schedule.
func (c *Core) wait(x *delivery, step int) int64 {
	if step < 0 || step >= len(x.d.set.Waits) {
		return 0
	}
	return c.jitter(x.d.set.Waits[step], x.d.id, x.Offset, x.total)
}

func (c *Core) attempt(x *delivery, r *Result) *hark.Attempt {
	return &hark.Attempt{Number: x.total, Run: x.run, Started: r.Started, Duration: r.Duration, Outcome: r.Outcome,
		Status: r.Status, Error: r.Error, Snippet: r.Snippet}
}

// finish writes the last attempt and the end of a delivery.
func (c *Core) finish(x *delivery, state hark.State, a *hark.Attempt) {
	c.answer(x, a, state)
	if a != nil && a.Number > 1 {
		c.record(x.d, Record{Kind: RecAttempt, Offset: x.Offset, Attempt: a})
		a = nil
	}
	c.save(x, state, a)
	c.drop(x)
}

// again writes a failed attempt and when the next one is due.
func (c *Core) again(x *delivery, a *hark.Attempt, next int64) {
	c.answer(x, a, hark.Due)
	x.next = next
	x.token = 0
	c.record(x.d, Record{Kind: RecAttempt, Offset: x.Offset, Attempt: a})
	c.save(x, hark.Due, nil)
	c.put(x)
}

// died ends a delivery whose schedule is exhausted.
func (c *Core) died(x *delivery, a *hark.Attempt) {
	d := x.d
	inOrder := x.lane == LaneLive
	c.finish(x, hark.Dead, a)
	if hark.IsReserved(x.Topic) {
		// A delivery of an operational event never causes another.
	} else {
		c.notify(d, Notice{Kind: NoticeDead, Offset: x.Offset, Reason: a.Outcome.String()})
	}
	if d.set.Ordered && d.set.StopOnDead && inOrder {
		c.disable(x, "a delivery died, and on_dead is stop")
	}
}

// answer tells who waits for the attempt.
func (c *Core) answer(x *delivery, a *hark.Attempt, state hark.State) {
	if x.waiter != 0 {
		c.out.Answers = append(c.out.Answers, Answer{Req: x.waiter, Attempt: a, State: state})
		x.waiter = 0
	}
}
