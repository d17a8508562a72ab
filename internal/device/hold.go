package device

import (
	"sync"
	"time"

	"github.com/harkhq/hark"
)

// platformLines are the lines of the retry queue in which messages of a held platform wait.
// They are on disk, so they never change. Line 0 is in order of time.
var platformLines = map[string]uint8{"webpush": 1, "fcm": 2, "apns": 3}

const lines = 4

// holds are the platforms of audiences whose credentials were refused. They are left alone
// until a time, or until the audience's settings change.
type holds struct {
	mu  sync.Mutex // guards all
	all map[holdKey]hold
}

type holdKey struct {
	dest     hark.DestinationID
	platform string
}

type hold struct {
	revision uint64
	until    time.Time
}

func (h *holds) init() { h.all = make(map[holdKey]hold) }

func (h *holds) hold(dest *hark.Destination, platform string, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[holdKey{dest.ID, platform}] = hold{dest.Revision, until}
}

// held reports whether a platform is left alone.
func (h *holds) held(dest *hark.Destination, platform string, now time.Time) bool {
	return now.Before(h.until(dest, platform))
}

// until is when a platform is tried again; zero when it is not held.
func (h *holds) until(dest *hark.Destination, platform string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	x, ok := h.all[holdKey{dest.ID, platform}]
	if !ok {
		return time.Time{}
	}
	if x.revision < dest.Revision { // other settings
		delete(h.all, holdKey{dest.ID, platform})
		return time.Time{}
	}
	return x.until
}

// extend prolongs a hold, if there is one: the origin is shut, so trying sooner would try
// nothing, and move one message of the line after the other to no end.
func (h *holds) extend(dest *hark.Destination, platform string, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := holdKey{dest.ID, platform}
	if x, ok := h.all[k]; ok && x.revision == dest.Revision && x.until.Before(until) {
		x.until = until
		h.all[k] = x
	}
}

// release ends a hold, if there is one.
func (h *holds) release(dest hark.DestinationID, platform string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, holdKey{dest, platform})
}

// forget drops what is held of an audience that is gone.
func (h *holds) forget(dest hark.DestinationID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.all {
		if k.dest == dest {
			delete(h.all, k)
		}
	}
}
