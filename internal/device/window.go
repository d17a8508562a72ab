package device

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/store"
)

// message is one event on its way to devices.
type message struct {
	event    *hark.Event
	composed *push.Composed
}

// tried is one try to push to one device.
type tried struct {
	device *hark.Device
	result push.Result
	number int // of the try, for this event and device, from 1
	// silent says that nothing was sent: the device is in quarantine, its platform held, its
	// push service left alone.
	silent bool
}

// entry is one device, or one user of whose devices any will do, on its way through a window.
type entry struct {
	device *hark.Device
	msg    *message
	tries  int                 // before this one
	top    hark.DeviceID       // of its job; 0 for none
	from   *store.PushRetryKey // the retry that it is; nil for the first try
	test   bool                // of no event in the log: it is not tried again

	// Guarded by the window's mu.
	state    entryState
	started  time.Time
	finished bool // of one that was left: its result is there
	kept     bool // of one that was left: its retry is durable

	// The worker's until it is done.
	dest *hark.Destination
	all  []tried // what was tried, in order; the last counts. None if it was not its turn

	lease *store.PushRetryKey // of one that was left: the retry in its place
}

type entryState uint8

const (
	waiting entryState = iota
	sending
	done
	left // committed while it was under way
)

// source gives a window what is to be tried.
type source interface {
	// more appends at most n entries, in order. End says that there are no more after them.
	more(dst []*entry, n int) (entries []*entry, end bool, err error)
	// renew tells of the audience as it is now.
	renew(dest *hark.Destination) error
}

// window tries entries in order, a bounded number at once, and commits what came of them in
// the same order, page by page. One goroutine runs it; another commits.
type window struct {
	a      *Audiences
	dest   *hark.Destination
	source source
	seat   *seat
	wake   chan struct{}

	// job is what the entries are of; nil for retries. Saved says that it has a row. The
	// committer's while it commits.
	job   *job
	saved bool

	mu         sync.Mutex // guards below
	ring       []*entry   // not committed, in order
	begun      int        // how many of them were started
	end        bool       // the source has no more
	stop       error      // nothing is started any more
	committing bool
	complete   bool // the last page is committed: whoever stops us now is too late
	committed  time.Time
	failed     error
}

const (
	// readAhead is how many devices are read at once.
	readAhead = 64
	// commitEvery bounds how long what came of devices waits to be committed.
	commitEvery = 100 * time.Millisecond
)

func (a *Audiences) newWindow(dest *hark.Destination, s source) *window {
	w := &window{a: a, dest: dest, source: s, wake: make(chan struct{}, 1), committed: time.Now()}
	w.seat = a.lanes.open(dest.Tenant, w.wake)
	return w
}

// run returns when everything was tried and committed, or why it stopped before.
func (w *window) run(ctx context.Context) error {
	defer w.seat.close()
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	closed := w.a.closed
	for {
		if err := w.fill(); err != nil {
			w.halt(err)
		}
		w.start()
		w.commitSome()
		if over, err := w.over(); over {
			return err
		}
		select {
		case <-w.wake:
		case <-tick.C:
		case <-ctx.Done():
			w.halt(errStopping)
			ctx = context.Background()
		case <-closed:
			w.halt(errStopping)
			closed = nil
		}
	}
}

// halt lets what is under way come to its end, and starts nothing more.
func (w *window) halt(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop == nil {
		w.stop = err
		clear(w.ring[w.begun:])
		w.ring = w.ring[:w.begun]
	}
}

// fill reads more entries when there is room for a good part.
func (w *window) fill() error {
	w.mu.Lock()
	room := w.a.lim.Page - len(w.ring)
	ready := len(w.ring) - w.begun
	skip := w.end || w.stop != nil || w.failed != nil || w.full() || ready >= readAhead
	w.mu.Unlock()
	if skip {
		return nil
	}
	if err := w.refresh(); err != nil {
		return err
	}
	more, end, err := w.source.more(nil, min(room, readAhead))
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ring = append(w.ring, more...)
	w.end = end
	return nil
}

// full reports whether the page takes no more until some of it is committed. The caller holds mu.
func (w *window) full() bool {
	return w.a.lim.Page-len(w.ring) < min(readAhead, w.a.lim.Page/2)
}

// refresh takes up the audience's settings as they are now.
func (w *window) refresh() error {
	now, err := w.a.Devices.cfg.Directory.Destination(w.dest.Tenant, w.dest.ID)
	switch {
	case hark.KindOf(err) == hark.NotFound:
		return errGone
	case err != nil:
		return err
	case now.State != hark.DestinationActive:
		return errPaused
	case now.Revision == w.dest.Revision:
		return nil
	}
	w.dest = now
	return w.source.renew(now)
}

// start begins as many tries as the share of this job allows.
func (w *window) start() {
	for n := 1; ; n++ {
		e := w.next()
		if e == nil {
			return
		}
		if n%16 == 0 {
			runtime.Gosched()
		}
		if t := (task{w, e}); !w.a.sendAside(t) {
			w.a.spawn(t)
		}
	}
}

// next returns the entry that is to be tried now, or nil.
func (w *window) next() *entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil || w.failed != nil || w.begun == len(w.ring) || !w.seat.take() {
		return nil
	}
	e := w.ring[w.begun]
	w.begun++
	e.state, e.started, e.dest = sending, time.Now(), w.dest
	return e
}

// finish takes up what came of an entry.
func (w *window) finish(e *entry) {
	w.seat.give()
	w.mu.Lock()
	e.finished = true
	late := e.state == left && e.kept
	if e.state == sending {
		e.state = done
	}
	w.mu.Unlock()
	if late {
		w.a.late.add(e)
	}
	signal(w.wake)
}

// commitSome begins the commit of the next page if there is one worth it.
func (w *window) commitSome() {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.ready(time.Now())
	if w.committing || w.failed != nil || n == 0 {
		return
	}
	page := w.ring[:n:n]
	for _, e := range page {
		if e.state == sending {
			e.state = left
		}
	}
	last := w.end && w.stop == nil && n == len(w.ring)
	w.committing = true
	go w.commit(w.dest, page, last)
}

// ready is how many entries could be a page now. The caller holds mu.
func (w *window) ready(now time.Time) int {
	n := 0
	waited := w.full() || w.end || w.stop != nil // for, by all that comes behind
	for _, e := range w.ring[:w.begun] {
		if e.state != done && !(waited && now.Sub(e.started) > w.a.lim.Patience) {
			break
		}
		n++
	}
	all := n == len(w.ring) && (w.end || w.stop != nil)
	if n >= w.a.lim.Page/4 || all || now.Sub(w.committed) >= commitEvery {
		return n
	}
	return 0
}

// commit makes what came of a page durable.
func (w *window) commit(dest *hark.Destination, page []*entry, last bool) {
	err := w.a.commitPage(dest, page, w.job, w.saved, last)
	w.mu.Lock()
	w.committing, w.committed = false, time.Now()
	var late []*entry
	if err != nil {
		w.failed = err
	} else {
		w.saved, w.complete = w.job != nil && !last, last
		for i, e := range page {
			if e.state == left {
				e.kept = true
				if e.finished {
					late = append(late, e)
				}
			}
			w.ring[i] = nil
		}
		w.ring = w.ring[len(page):]
		w.begun -= len(page)
	}
	w.mu.Unlock()
	for _, e := range late {
		w.a.late.add(e)
	}
	signal(w.wake)
}

// over reports whether the window has come to its end.
func (w *window) over() (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.committing:
		return false, nil
	case w.failed != nil:
		return true, w.failed // what is under way comes to nothing, and is tried again
	case len(w.ring) > 0:
		return false, nil
	case w.complete:
		return true, nil
	case w.stop != nil:
		return true, w.stop
	case w.end && w.saved: // the last page was committed before it was known to be the last
		w.committing = true
		go w.commit(w.dest, nil, true)
		return false, nil
	}
	return w.end, nil
}

// task is one entry to try.
type task struct {
	w *window
	e *entry
}

// sendAside tries an entry without a goroutine that waits; false if it needs one.
func (a *Audiences) sendAside(t task) bool {
	e, now := t.e, time.Now()
	if a.begins == nil || len(e.all) > 0 || a.anyOf(e) {
		return false
	}
	if _, ok := a.instead(e.dest, e.device, e.msg, now); ok {
		return false
	}
	a.sends.Add(1)
	finish := func(r push.Result) {
		a.sent(e.dest, e.device, &r)
		e.all = append(e.all, tried{device: e.device, number: e.tries + 1, result: r, silent: r.Shut})
		t.w.finish(e)
		a.sends.Done()
	}
	ok := a.begins.Begin(a.sendCtx, e.dest, e.device, e.msg.composed, now, func(r push.Result) {
		if r.Outcome == push.Accepted {
			finish(r)
		} else {
			go finish(r) // it may write to the log
		}
	})
	if !ok {
		a.sends.Done()
	}
	return ok
}

// workerIdle is how long a worker waits for its next task: its stack has grown to what a
// request needs.
const workerIdle = 5 * time.Second

// spawn tries an entry in a goroutine of its own, one that just finished another if there is.
func (a *Audiences) spawn(t task) {
	a.sends.Add(1)
	select {
	case a.tasks <- t:
	default:
		go a.work(t)
	}
}

func (a *Audiences) work(t task) {
	idle := time.NewTimer(workerIdle)
	defer idle.Stop()
	for {
		a.try(t.e)
		t.w.finish(t.e)
		a.sends.Done()
		t = task{}
		idle.Reset(workerIdle)
		select {
		case t = <-a.tasks:
		case <-idle.C:
			return
		case <-a.sendCtx.Done():
			return
		}
	}
}
