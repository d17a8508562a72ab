package device

import (
	"slices"
	"sync"

	"github.com/harkhq/hark"
)

// lateness collects what came of devices whose page was committed without waiting for them.
type lateness struct {
	mu     sync.Mutex // guards below
	all    []*entry
	closed bool
	wake   chan struct{}
}

func (l *lateness) init() { l.wake = make(chan struct{}, 1) }

func (l *lateness) add(e *entry) {
	l.mu.Lock()
	l.all = append(l.all, e)
	l.mu.Unlock()
	signal(l.wake)
}

// close ends the loop once it has committed what is there.
func (l *lateness) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	signal(l.wake)
}

func (l *lateness) take() (all []*entry, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, l.all = l.all, nil
	return all, l.closed
}

// lateLoop commits what comes late: it takes the place of the retry that stands for it.
func (a *Audiences) lateLoop() {
	for range a.late.wake {
		all, closed := a.late.take()
		for _, dest := range byDestination(all) {
			entries := all[:0:0]
			for _, e := range all {
				if e.dest.ID == dest.ID {
					e.state = done
					entries = append(entries, e)
				}
			}
			if err := a.commitPage(dest, entries, nil, false, false); err != nil && err != errGone {
				a.oops("committing what came late of a push", err) // they are pushed again when their time comes
			}
		}
		if closed {
			return
		}
	}
}

func byDestination(all []*entry) (dests []*hark.Destination) {
	for _, e := range all {
		if !slices.ContainsFunc(dests, func(d *hark.Destination) bool { return d.ID == e.dest.ID }) {
			dests = append(dests, e.dest)
		}
	}
	return dests
}

// sorted returns ids in order, each once.
func sorted(ids []hark.DeviceID) []hark.DeviceID {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}
