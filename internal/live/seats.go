package live

import (
	"sync"

	"github.com/harkhq/hark"
)

// seats bounds how many there are of something that clients take: streams, polls that wait,
// patterns of WebSockets. The last of them are for tenants that have few, so that no tenant
// can lock the others out.
type seats struct {
	max int

	mu  sync.Mutex // guards below
	all int
	of  map[hark.TenantID]int
}

// fewSeats: a tenant has few that has less than this part of all; as many are kept for those.
const fewSeats = 32

func (s *seats) init(max int) { s.max, s.of = max, map[hark.TenantID]int{} }

// take gives a tenant n more, if there are as many for it. Tenant 0 is those who have yet to
// say who they are.
func (s *seats) take(t hark.TenantID, n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeLocked(t, n)
}

func (s *seats) takeLocked(t hark.TenantID, n int) bool {
	few := s.max / fewSeats
	if all := s.all + n; all > s.max || few > 0 && s.of[t]+n > few && all > s.max-few {
		return false
	}
	s.all += n
	s.of[t] += n
	return true
}

func (s *seats) leave(t hark.TenantID, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(t, n)
}

func (s *seats) leaveLocked(t hark.TenantID, n int) {
	s.all -= n
	if s.of[t] -= n; s.of[t] == 0 {
		delete(s.of, t)
	}
}

// move gives one that a tenant has to another, if there is one for it.
func (s *seats) move(from, to hark.TenantID) bool {
	if from == to {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(from, 1)
	ok := s.takeLocked(to, 1)
	if !ok {
		s.all++
		s.of[from]++
	}
	return ok
}

func (s *seats) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}
