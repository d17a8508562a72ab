package post

import (
	"cmp"
	"context"
	"os/exec"
	"sync"
	"time"

	"github.com/harkhq/hark/internal/egress"
)

const (
	// crowd is how many messages under way at once are worth a worker.
	crowd = 32
	// starved is how long a worker may not begin with a message before others are posted here.
	starved = 300 * time.Millisecond
	// startWithin bounds how long a worker takes until it is ready, a machine that has no time
	// for it included.
	startWithin = 30 * time.Second
	// restFor is how long a worker stays that has nothing to do.
	restFor = time.Minute
	// leaveWithin is how long a worker takes to go before it is killed.
	leaveWithin = 2 * time.Second
	// A worker that ends by itself is started again after a pause, longer each time unless it
	// has lived for a while.
	leastPause, longestPause = time.Second, 5 * time.Minute
)

// Worker is how to have one.
type Worker struct {
	// Command makes the command that runs [Serve] on its file 3; nil for never.
	Command func() *exec.Cmd
	// Settings are given to the worker; see [Serve].
	Settings []byte
	// Posted is told of each message who posts it; may be nil.
	Posted func(apart bool)
	// Beside runs while there is a worker, and ends soon when ctx does; may be nil.
	Beside func(ctx context.Context)
	// Failed is told when a worker could not be started or ended by itself; may be nil.
	Failed func(error)

	patience time.Duration // instead of dead
}

// Apart posts in a worker when that is worth it and possible, and else from here. It is safe for
// concurrent use.
type Apart struct {
	here   *Here
	worker Worker

	mu       sync.RWMutex // guards below
	process  *process     // nil for none
	starting bool
	pause    time.Duration // before the next start
	after    time.Time     // not before
	closed   bool

	watches sync.WaitGroup // of workers
}

// NewApart makes one of which Run must run. The zero Worker is none: all is posted from here.
func NewApart(here *Here, w Worker) *Apart { return &Apart{here: here, worker: w} }

// Post seals a message and posts it. It returns the answer of the push service, but for when and
// from where it came, and with no more of its header than Location and Retry-After. The error is a
// [webpush.Error] of a subscription that cannot be used or a message that cannot be sealed, or an
// [egress.Error] of one that got no answer by the deadline of ctx.
func (a *Apart) Post(ctx context.Context, m *Message) (egress.Response, error) {
	if p := a.current(); p != nil {
		if got, ok := p.post(ctx, m); ok {
			a.posted(true)
			return got.res, got.err
		}
	} else if a.here.busy.Load() >= crowd {
		a.start()
	}
	a.posted(false)
	return a.here.Post(ctx, m)
}

// Begin is Post in a worker that does not wait: done gets what Post returns, from a goroutine that
// it must not hold up, by the deadline or a little after ctx has ended. False if no worker takes
// it now: then Post is to be used.
func (a *Apart) Begin(ctx context.Context, deadline time.Time, m *Message, done func(egress.Response, error)) bool {
	p := a.current()
	if p == nil {
		return false
	}
	_, ok := p.begin(ctx, deadline, m, func(got answer) { done(got.res, got.err) })
	if ok {
		a.posted(true)
	}
	return ok
}

// Ready says whether Begin has a worker to begin with.
func (a *Apart) Ready() bool { return a.current() != nil }

// Behind is for how long a message has waited for the worker to begin with it: when it grows,
// more at once makes nothing faster. False if there is no worker that Begin would begin with.
func (a *Apart) Behind() (time.Duration, bool) {
	p := a.current()
	if p == nil {
		return 0, false
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.behindLocked(now), p.takesLocked(now)
}

func (a *Apart) current() *process {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.process
}

func (a *Apart) posted(apart bool) {
	if a.worker.Posted != nil {
		a.worker.Posted(apart)
	}
}

// start starts a worker, unless there is one or it is too early.
func (a *Apart) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.worker.Command == nil || a.closed || a.starting || a.process != nil || time.Now().Before(a.after) {
		return
	}
	a.starting = true
	a.watches.Go(a.watch)
}

// watch is a worker's whole life.
func (a *Apart) watch() {
	began := time.Now()
	p, err := startProcess(a.worker.Command(), a.worker.Settings, cmp.Or(a.worker.patience, dead))
	a.mu.Lock()
	a.starting = false
	if err == nil {
		a.process = p
		if a.closed {
			p.end(errRetired)
		}
	}
	a.mu.Unlock()
	if err == nil {
		ctx, over := context.WithCancel(context.Background())
		var beside sync.WaitGroup
		if a.worker.Beside != nil {
			beside.Go(func() { a.worker.Beside(ctx) })
		}
		late := time.AfterFunc(startWithin, p.giveUp)
		<-p.over
		over()
		beside.Wait() // before there may be the next
		late.Stop()
		p.mu.Lock()
		err = p.err
		p.mu.Unlock()
	}
	a.mu.Lock()
	a.process = nil
	retired := err == errRetired
	if time.Since(began) > longestPause || retired {
		a.pause = 0
	}
	if !retired {
		a.pause = min(max(2*a.pause, leastPause), longestPause)
		a.after = time.Now().Add(a.pause)
	}
	a.mu.Unlock()
	if !retired && a.worker.Failed != nil {
		a.worker.Failed(err)
	}
}

// Run ends a worker that has nothing to do, until ctx ends; then it ends it at once.
func (a *Apart) Run(ctx context.Context) error {
	tick := time.NewTicker(restFor / 4)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if p := a.current(); p != nil {
				p.retire(now.Add(-restFor))
			}
		case <-ctx.Done():
			a.mu.Lock()
			a.closed = true
			p := a.process
			a.mu.Unlock()
			if p != nil {
				p.end(errRetired)
			}
			a.leave()
			return nil
		}
	}
}

// leave waits until workers are gone, but not for ever: they need processor time even to be killed.
func (a *Apart) leave() {
	gone := make(chan struct{})
	go func() {
		a.watches.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(2 * leaveWithin):
	}
}
