package device

import (
	"sync"

	"github.com/harkhq/hark"
)

// lanes share out how many sends may be under way: equally between the tenants that push
// at the moment, and between the jobs of a tenant.
type lanes struct {
	mu      sync.Mutex // guards below
	size    int
	busy    int
	tenants map[hark.TenantID]int // seats of each
	seats   map[*seat]bool        // true: it waits
}

// seat is one job's place.
type seat struct {
	l      *lanes
	tenant hark.TenantID
	busy   int
	wake   chan<- struct{} // told when there may be room
}

func newLanes(size int) *lanes {
	return &lanes{size: size, tenants: make(map[hark.TenantID]int), seats: make(map[*seat]bool)}
}

func (l *lanes) open(t hark.TenantID, wake chan<- struct{}) *seat {
	s := &seat{l: l, tenant: t, wake: wake}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tenants[t]++
	l.seats[s] = false
	return s
}

func (s *seat) close() {
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tenants[s.tenant]--; l.tenants[s.tenant] == 0 {
		delete(l.tenants, s.tenant)
	}
	delete(l.seats, s)
	l.wakeAll()
}

// wakeAll tells those that wait that shares have grown. The caller holds mu.
func (l *lanes) wakeAll() {
	for s, waits := range l.seats {
		if waits {
			l.seats[s] = false
			signal(s.wake)
		}
	}
}

// take begins a send if there is room in the job's share; else the seat is told when there
// may be.
func (s *seat) take() bool {
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	share := max(1, l.size/len(l.tenants)/l.tenants[s.tenant])
	if s.busy >= share || l.busy >= l.size {
		l.seats[s] = true
		return false
	}
	s.busy++
	l.busy++
	return true
}

// give ends a send. It may come after the seat was closed.
func (s *seat) give() {
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	s.busy--
	full := l.busy >= l.size
	l.busy--
	if l.seats[s] {
		l.seats[s] = false
		signal(s.wake)
	}
	if full {
		l.wakeAll()
	}
}

// resize bounds the sends under way anew.
func (l *lanes) resize(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > l.size {
		l.wakeAll()
	}
	l.size = n
}

func (l *lanes) limit() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// load is how many sends are under way.
func (l *lanes) load() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
