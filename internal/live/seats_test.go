package live

import (
	"testing"

	"github.com/harkhq/hark"
)

// TestSeats: one tenant that takes all it gets leaves some to others, and who leaves makes room.
func TestSeats(t *testing.T) {
	var s seats
	s.init(640)
	n := 0
	for s.take(1, 1) {
		n++
	}
	if n != 620 {
		t.Errorf("the first tenant has %d", n)
	}
	for tenant := range hark.TenantID(2) {
		for range 10 {
			if !s.take(10+tenant, 1) {
				t.Fatalf("nothing is left for %d", tenant)
			}
		}
	}
	if s.take(1, 1) || s.take(99, 1) || s.taken() != 640 {
		t.Error("there are more than there are", s.taken())
	}
	s.leave(10, 1)
	if s.take(1, 1) || !s.take(99, 1) {
		t.Error("the seat that came free is not for who has few")
	}
	for range 620 {
		s.leave(1, 1)
	}
	if !s.take(1, 1) || s.of[1] != 1 {
		t.Error(s.of)
	}
}
