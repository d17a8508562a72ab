package live

import (
	"sync"
	"time"
)

// drain tells the streams that handlers serve when to end.
type drain struct {
	mu       sync.Mutex // guards below
	started  bool
	until    time.Time
	watchers map[*watcher]struct{}
}

// watcher is one such stream.
type watcher struct {
	drain  *drain
	caller Caller
	why    chan string // has room for one
	expiry *time.Timer
}

func (d *drain) init() { d.watchers = map[*watcher]struct{}{} }

// watch returns what tells when and why a caller's stream ends.
func (d *drain) watch(c Caller) *watcher {
	w := &watcher{drain: d, caller: c, why: make(chan string, 1)}
	if c != nil && !c.Until().IsZero() {
		w.expiry = time.AfterFunc(time.Until(c.Until()), func() { w.tell(endExpired) })
	}
	d.mu.Lock()
	d.watchers[w] = struct{}{}
	if d.started {
		w.tell(endStopping)
	}
	d.mu.Unlock()
	w.recheck() // it may have been revoked before there was anybody to tell
	return w
}

// recheck ends a stream whose credential holds no more.
func (w *watcher) recheck() {
	if w.caller != nil && w.caller.Recheck() != nil {
		w.tell(endRevoked)
	}
}

func (w *watcher) tell(why string) {
	select {
	case w.why <- why:
	default:
	}
}

func (w *watcher) stop() {
	if w.expiry != nil {
		w.expiry.Stop()
	}
	w.drain.mu.Lock()
	defer w.drain.mu.Unlock()
	delete(w.drain.watchers, w)
}

// begin ends all, now and in future, with a window in which to come back.
func (d *drain) begin(window time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.started {
		return
	}
	d.started, d.until = true, time.Now().Add(window)
	for w := range d.watchers {
		w.tell(endStopping)
	}
}

func (d *drain) begun() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.started
}

// left is what is left of the window.
func (d *drain) left() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(0, time.Until(d.until))
}

// recheck ends those whose credential holds no more.
func (d *drain) recheck() {
	d.mu.Lock()
	all := make([]*watcher, 0, len(d.watchers))
	for w := range d.watchers {
		all = append(all, w)
	}
	d.mu.Unlock()
	for _, w := range all {
		w.recheck()
	}
}
