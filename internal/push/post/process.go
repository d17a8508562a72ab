package post

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/harkhq/hark/internal/egress"
)

// process is one worker, from its start to its end.
type process struct {
	conn net.Conn
	cmd  *exec.Cmd
	out  *outbox
	over chan struct{} // closed when it is gone

	taken uint64 // answers; read's own

	mu     sync.Mutex // guards below
	ready  bool
	err    error // why nothing is taken any more
	next   uint64
	calls  map[uint64]call
	sent   []time.Time // when those that it has not begun with were handed over
	begun  uint64
	latest time.Time // when it was given something
	heard  time.Time // when it said something, or was given something after a rest
}

// call is a message that it has not answered.
type call struct {
	ctx      context.Context
	deadline time.Time
	done     func(answer)
}

// startProcess starts a worker with its settings; it is killed when it does not get on for so long.
func startProcess(cmd *exec.Cmd, settings []byte, patience time.Duration) (*process, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd.ExtraFiles = []*os.File{theirs} // its file 3
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	p := &process{conn: ours, cmd: cmd, out: newOutbox(), over: make(chan struct{}), calls: make(map[uint64]call), latest: time.Now()}
	p.out.add(func(b []byte) []byte { return frame(b, func(b []byte) []byte { return append(b, settings...) }) })
	go func() {
		if err := p.out.writeTo(p.conn, p.over); err != nil {
			p.end(err)
		}
	}()
	go p.read()
	go p.sweep(patience)
	return p, nil
}

// read takes answers until there are no more, and then answers what was not.
func (p *process) read() {
	defer close(p.over)
	r := bufio.NewReaderSize(p.conn, 64<<10)
	var buf []byte
	for first := true; ; first = false {
		b, err := readFrame(r, buf)
		if err == nil && !first {
			err = p.take(b)
		} else if err == nil {
			p.mu.Lock()
			p.ready = true
			p.mu.Unlock()
		}
		if err != nil {
			p.end(err)
			break
		}
		buf = b
	}
	stays := time.AfterFunc(leaveWithin, func() { p.cmd.Process.Kill() })
	died := p.cmd.Wait()
	stays.Stop()
	p.mu.Lock()
	if died != nil && p.err != errRetired && p.err != errDead {
		p.err = died
	}
	left, why := p.calls, p.err
	p.calls = nil
	p.mu.Unlock()
	for _, c := range left {
		c.done(answer{err: &egress.Error{Fault: egress.FaultBusy, Msg: "the process that pushed it ended", Err: why}})
	}
}

// restEvery is after how many answers others get a turn: each has a device looked after.
const restEvery = 16

func (p *process) take(b []byte) error {
	id, started, a, err := decodeAnswer(b)
	if err != nil {
		return err
	}
	now := time.Now()
	p.mu.Lock()
	p.heard = now
	if n := started - p.begun; n <= uint64(len(p.sent)) { // else an older answer came later
		p.sent, p.begun = p.sent[n:], started
	}
	c, waits := p.calls[id]
	delete(p.calls, id)
	p.mu.Unlock()
	if waits {
		c.done(a)
	}
	if p.taken++; p.taken%restEvery == 0 {
		runtime.Gosched()
	}
	return nil
}

// sweepEvery is how late it may be noticed that an answer does not come.
const sweepEvery = 250 * time.Millisecond

// dead is for how long a worker may not get on before it is killed: what it has is tried again.
const dead = 2 * time.Second

// sweep answers what the worker does not in time, and what nobody wants any more. It kills a worker
// that does not get on, when it finds it so twice: the first time it may be this process that stood
// still.
func (p *process) sweep(patience time.Duration) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	late := 0
	for {
		var now time.Time
		select {
		case now = <-tick.C:
		case <-p.over:
			return
		}
		var given []call
		p.mu.Lock()
		if late++; p.behindLocked(time.Now()) < patience {
			late = 0
		}
		for id, c := range p.calls {
			if c.ctx.Err() != nil || now.After(c.deadline) {
				given = append(given, c)
				delete(p.calls, id)
			}
		}
		p.mu.Unlock()
		for _, c := range given {
			c.done(answer{err: gaveUp(c.ctx)})
		}
		if late == 2 {
			p.end(errDead)
			p.cmd.Process.Kill()
		}
	}
}

var errDead = errors.New("it did not get on")

// end closes the socket: the worker goes. The first reason counts.
func (p *process) end(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = why
	}
	p.conn.Close()
}

var errRetired = errors.New("not needed any more")

// retire ends it if it has nothing to do since then.
func (p *process) retire(since time.Time) bool {
	p.mu.Lock()
	idle := p.err == nil && len(p.calls) == 0 && p.latest.Before(since)
	if idle {
		p.err = errRetired
	}
	p.mu.Unlock()
	if idle {
		p.conn.Close()
	}
	return idle
}

// begin hands a message over, to be answered by done: soon, quick and in another goroutine. False
// if it is better posted by somebody else.
func (p *process) begin(ctx context.Context, deadline time.Time, m *Message, done func(answer)) (id uint64, ok bool) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.takesLocked(now) {
		return 0, false
	}
	p.next++
	id = p.next
	if len(p.calls) == 0 {
		p.heard = now
	}
	p.calls[id] = call{ctx, deadline, done}
	p.sent = append(p.sent, now)
	p.latest = now
	p.out.add(func(b []byte) []byte { return appendRequest(b, id, deadline, m) }) // in the order of sent
	return id, true
}

// takesLocked says whether a message is well posted here now.
func (p *process) takesLocked(now time.Time) bool {
	return p.ready && p.err == nil && p.behindLocked(now) <= starved
}

// behindLocked is for how long a message has waited that it has not begun with, or nothing was
// heard of those that it has.
func (p *process) behindLocked(now time.Time) (d time.Duration) {
	if len(p.sent) > 0 {
		d = now.Sub(p.sent[0])
	}
	if len(p.calls) > 0 {
		d = max(d, now.Sub(p.heard)-starved/4) // it tells as often as that
	}
	return d
}

// post waits for the answer.
func (p *process) post(ctx context.Context, m *Message) (a answer, ok bool) {
	came := make(chan answer, 1)
	id, ok := p.begin(ctx, deadlineOf(ctx), m, func(a answer) { came <- a })
	if !ok {
		return a, false
	}
	select {
	case a = <-came:
		return a, true
	case <-ctx.Done():
	}
	p.mu.Lock()
	_, waits := p.calls[id]
	delete(p.calls, id)
	p.mu.Unlock()
	if waits {
		return answer{err: gaveUp(ctx)}, true
	}
	return <-came, true
}

// longest is how long a message takes for which no deadline is set.
const longest = time.Minute

func deadlineOf(ctx context.Context) time.Time {
	if t, ok := ctx.Deadline(); ok {
		return t
	}
	return time.Now().Add(longest)
}

// gaveUp is what a message comes to that was not answered in time.
func gaveUp(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &egress.Error{Fault: egress.FaultCanceled, Msg: "the request was cancelled", Err: ctx.Err()}
	}
	return &egress.Error{Fault: egress.FaultTimeout, Msg: "the push service took too long", Err: context.DeadlineExceeded}
}

// giveUp ends a worker that is not ready by now.
func (p *process) giveUp() {
	p.mu.Lock()
	ready := p.ready
	p.mu.Unlock()
	if !ready {
		p.end(errors.New("it was not ready in time"))
		p.cmd.Process.Kill()
	}
}
