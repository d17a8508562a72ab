package eventlog

import (
	"time"

	"github.com/harkhq/hark"
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
	if !now.Before(p.until) {
		return false
	}
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
