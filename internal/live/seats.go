package live

import (
	"sync"

	"github.com/harkhq/hark"
)

// seats bounds how many clients are served at once. The last of them are for tenants that
// have few, so that no tenant can lock the others out.
type seats struct {
	max int

	mu  sync.Mutex // guards below
	all int
	of  map[hark.TenantID]int
}

// fewSeats: a tenant has few that has less than this part of all; as many are kept for those.
const fewSeats = 32

func (s *seats) init(max int) { s.max, s.of = max, map[hark.TenantID]int{} }

// take gives a tenant one more seat, if there is one for it. Tenant 0 is those who have
// yet to say who they are.
func (s *seats) take(t hark.TenantID) bool {
	few := s.max / fewSeats
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.max || few > 0 && s.of[t] >= few && s.all >= s.max-few {
		return false
	}
	s.all++
	s.of[t]++
	return true
}

func (s *seats) leave(t hark.TenantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[t]--; s.of[t] == 0 {
		delete(s.of, t)
	}
}

func (s *seats) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}
