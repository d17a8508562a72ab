package pushservice

import (
	"context"
	"net/http"
	"time"

	"github.com/harkhq/hark/internal/store"
)

// sweepEvery is how often the service looks for what is due.
const sweepEvery = 20 * time.Second

func (s *Service) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		s.note("sweep", s.sweep(ctx))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sweep looks at all that is due, and forgets that it was.
func (s *Service) sweep(ctx context.Context) error {
	before := store.PushMinute(s.now().UnixMilli()) + 1
	last, some := store.PushDue{}, false
	for {
		dues, err := s.store.PushDues(&last, before)
		if err != nil {
			return err
		}
		for i := range dues {
			if ctx.Err() != nil {
				return nil
			}
			if err := s.due(&dues[i]); err != nil {
				return err
			}
		}
		if len(dues) == 0 {
			break
		}
		last, some = dues[len(dues)-1], true
	}
	if !some {
		return nil
	}
	return s.commit(false, &store.PushDuesDone{Before: before})
}

// due looks at one thing.
func (s *Service) due(d *store.PushDue) error {
	switch d.Kind {
	case store.PushDueMessage:
		a, err := s.hold(d.Agent)
		if err != nil {
			return err
		}
		defer s.release(a)
		_, err = s.remove(a, d.Sequence, Expired, http.StatusGone, false)
		return err
	case store.PushDueCapability:
		return s.commit(false, &store.PushCapabilityForgotten{Hash: d.Hash})
	case store.PushDueReceipt:
		return s.forgetReceipt(d.Receipt)
	case store.PushDueAgent:
		return s.forget(d.Agent)
	}
	return nil
}
