package capture

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// stuck is a store whose reads of tenant A do not come to an end.
type stuck struct {
	Store
	release chan struct{}
}

func (s *stuck) CaptureUsages(fn func(hark.TenantID, hark.SourceID, store.CaptureUsage)) error {
	for _, t := range []hark.TenantID{tenantA, tenantA + 1} {
		fn(t, hark.SourceID(t), store.CaptureUsage{Count: 1, Bytes: 1, Floor: 1, Newest: 1})
	}
	return nil
}

func (s *stuck) ScanCaptures(t hark.TenantID, _ hark.SourceID, _ store.CaptureScan, _ func(*store.CaptureView) bool) (bool, error) {
	if t == tenantA {
		<-s.release
	}
	return false, nil
}

// TestSearchesOfOneTenantLeaveRoom: whoever has the link to one bin may search it as
// often as they like, and must not hold up other tenants.
func TestSearchesOfOneTenantLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{release: make(chan struct{})}
		r, err := Open(Config{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 3*maxSearches)
		for range cap(ended) {
			go func() {
				_, err := r.Captures(context.Background(), tenantA, hark.SourceID(tenantA), Query{})
				ended <- err
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := r.Captures(ctx, tenantA+1, hark.SourceID(tenantA+1), Query{}); err != nil {
			t.Error("another tenant waits:", err)
		}
		// Who waits for its own tenant's can give up.
		short, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		if _, err := r.Captures(short, tenantA, hark.SourceID(tenantA), Query{}); hark.KindOf(err) != hark.Unavailable {
			t.Error(err)
		}
		close(s.release)
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if len(r.searches) != 0 {
			t.Error("a place is not given back")
		}
	})
}
