package eventlog

import (
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// pace keeps large requests from taking all of the disk's time: a synced write of
// a megabyte takes several times as long as a small one, and whoever comes
// meanwhile waits for it. While other tenants publish small requests, what large
// ones take beyond the time of a small one is held to one part in paceShare of the
// writer's time; with nobody to disturb they are not held.
type pace struct {
	until time.Time     // large requests wait until then
	base  time.Duration // what a small commit takes at best, of late
	small [2]struct {
		tenant hark.TenantID
		at     time.Time
	} // the last two tenants that brought a small request, the newer first
}

const (
	largeBytes = 64 << 10
	paceShare  = 64
	paceMemory = time.Second
	maxPace    = time.Second
)

// saw notes a small request.
func (p *pace) saw(t hark.TenantID, now time.Time) {
	if p.small[0].tenant != t {
		p.small[1] = p.small[0]
		p.small[0].tenant = t
	}
	p.small[0].at = now
}

// holds reports whether a large request of a tenant must wait.
func (p *pace) holds(t hark.TenantID, now time.Time) bool {
	return now.Before(p.until) && p.disturbs(t, now)
}

// disturbs reports whether a tenant's large requests make others wait.
func (p *pace) disturbs(t hark.TenantID, now time.Time) bool {
	for _, s := range p.small {
		if s.tenant != t && now.Sub(s.at) < paceMemory {
			return true
		}
	}
	return false
}

// took notes how long a commit took, and whether a large request was part of it.
func (p *pace) took(d time.Duration, heavy bool, now time.Time) {
	if !heavy {
		p.base = min(d, p.base+p.base/64+time.Microsecond)
		return
	}
	p.until = now.Add(min(maxPace, (paceShare-1)*max(0, d-p.base)))
}

// ahead is how much of a large request was written before its commit. While others
// publish small requests, its data is not written at once but in parts, each in a
// commit of its own that takes hardly longer than theirs: they wait for one part, and
// never for a megabyte.
//
// A request that is not committed after all leaves its parts behind. They are in no event
// and in no quota, so its tenant's next request writes over them, under their anchor, and
// its commit takes what is beyond its own away: who begins a thousand requests and
// commits none leaves what one of them had.
type ahead struct {
	anchor hark.Offset // see [store.EventPart]; 0 before it is known
	over   bool        // there are another request's parts under anchor
	event  int         // those before it have all parts written
	parts  uint32      // written, of all events together
	bytes  int
}

// hasPart reports whether there is a part to be written ahead.
func (r *request) hasPart() bool {
	for a := &r.ahead; a.event < len(r.records); a.event++ {
		rec := &r.records[a.event]
		if a.parts-rec.Part < store.PartsOf(len(rec.Data)) {
			return true
		}
	}
	return false
}

// writeAhead returns the next part, after [request.hasPart]. at is the next event's offset.
// A tenant's requests are committed in order, so none of its events comes in between.
func (r *request) writeAhead(at hark.Offset) *store.EventPart {
	a := &r.ahead
	if a.anchor == 0 {
		a.anchor = at
	}
	rec := &r.records[a.event]
	rec.Anchor = a.anchor
	part := rec.PartAt(a.parts - rec.Part)
	a.parts++
	a.bytes += len(part.Data)
	return part
}

// place says where a request's parts are, now that it begins at first.
func (r *request) place(first hark.Offset) {
	a := &r.ahead
	if a.anchor == 0 {
		a.anchor = first
	}
	for i := range r.records {
		rec := &r.records[i]
		rec.Anchor = a.anchor
		if a.parts > rec.Part {
			rec.Written = min(a.parts-rec.Part, store.PartsOf(len(rec.Data)))
		}
	}
}

// parts is how many parts a request has in all.
func (r *request) parts() uint32 {
	last := &r.records[len(r.records)-1]
	return last.Part + store.PartsOf(len(last.Data))
}
