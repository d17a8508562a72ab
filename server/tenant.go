package server

import (
	"fmt"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/registry"
	"github.com/harkhq/hark/internal/store"
	"golang.org/x/time/rate"
)

// policy is what a tenant may keep: its own settings over the server's.
func (s *Server) policy(t hark.TenantID) eventlog.Policy {
	p := eventlog.Policy{MaxAge: s.cfg.RetainAge, MaxBytes: uint64(s.cfg.RetainBytes),
		DeliveryAge: s.cfg.DeliveryAge, DeliveryBytes: uint64(s.cfg.DeliveryBytes)}
	row, err := s.registry.Tenant(t)
	if err != nil {
		return p
	}
	if row.QuotaBytes > 0 {
		p.MaxBytes = uint64(row.QuotaBytes)
		p.Reject = row.OverQuota != registry.OverQuotaTrim
	}
	if row.RetentionAge > 0 {
		p.MaxAge = time.Duration(row.RetentionAge)
	}
	return p
}

// eraseTenant takes everything of a deleted tenant away in the commit that deletes it.
func (s *Server) eraseTenant(old, now *registry.Tenant) ([]store.Record, func(bool)) {
	if old == nil || now != nil {
		return nil, nil
	}
	rec, done, err := s.eventlog.Erase(old.ID)
	if err != nil {
		s.log.Error("erasing a tenant's events", "tenant", old.Name, "error", err)
		return nil, nil
	}
	gone, unscheduled := s.devices.Erase(old.ID), s.schedule.Erase(old.ID)
	return []store.Record{rec}, func(committed bool) {
		unscheduled(committed)
		gone(committed)
		done(committed)
	}
}

// rates holds tenants to their own publish rate. Most have none and cost nothing.
type rates struct {
	mu sync.Mutex // guards m
	m  map[hark.TenantID]*rate.Limiter
}

// admit tells whether a tenant may publish n events now.
func (s *Server) admit(t hark.TenantID, n int) error {
	row, err := s.registry.Tenant(t)
	if err != nil || row.PublishRate <= 0 {
		return err
	}
	limiter := s.rates.of(t, row.PublishRate)
	now := time.Now()
	// A batch larger than the burst still gets through once the bucket is full: it
	// then leaves the bucket empty for as long as it is worth.
	take := min(n, limiter.Burst())
	reservation := limiter.ReserveN(now, take)
	if wait := reservation.DelayFrom(now); wait > 0 {
		reservation.CancelAt(now)
		return &hark.Error{Kind: hark.TooMany, Code: "publish-rate", RetryAfter: wait,
			Msg: fmt.Sprintf("the tenant may publish %g events per second", row.PublishRate)}
	}
	return nil
}

func (r *rates) of(t hark.TenantID, perSecond float64) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	limiter := r.m[t]
	if limiter == nil {
		if r.m == nil {
			r.m = make(map[hark.TenantID]*rate.Limiter)
		}
		limiter = rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))
		r.m[t] = limiter
	} else if limiter.Limit() != rate.Limit(perSecond) {
		limiter.SetLimit(rate.Limit(perSecond))
		limiter.SetBurst(max(1, int(2*perSecond)))
	}
	return limiter
}
