package device

import (
	"fmt"
	"sync"
	"time"

	"github.com/harkhq/hark/internal/store"
)

// numbers gives numbers that rise and are never given twice, whatever was deleted and
// wherever the clock went: milliseconds since 1970 shifted left by 20, plus a counter.
// They name devices and pages of outcomes. So that a number costs no write, a ceiling is
// made durable ahead, every ten seconds of use.
type numbers struct {
	store *store.Store

	mu      sync.Mutex // guards below
	last    uint64
	ceiling uint64
}

const (
	numberShift  = 20
	ceilingAhead = 10_000 << numberShift
)

func (n *numbers) open(s *store.Store) (err error) {
	n.store = s
	n.ceiling, err = s.DeviceNumbers()
	n.last = n.ceiling
	return err
}

// take returns the first of count numbers.
func (n *numbers) take(count int) (first uint64, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	first = max(n.last+1, uint64(time.Now().UnixMilli())<<numberShift)
	last := first + uint64(max(count, 1)) - 1
	if last > n.ceiling {
		ceiling := last + ceilingAhead
		if err := n.store.Commit(&store.DeviceNumbersTaken{Upto: ceiling}); err != nil {
			return 0, fmt.Errorf("numbers of devices: %w", err)
		}
		n.ceiling = ceiling
	}
	n.last = last
	return first, nil
}

// top returns the largest number given so far.
func (n *numbers) top() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}
