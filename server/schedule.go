package server

import (
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/schedule"
)

var _ api.Scheduled = (*schedule.Schedule)(nil)

// openSchedule opens what is to be published later.
func (s *Server) openSchedule() (err error) {
	m := s.metrics
	s.schedule, err = schedule.Open(schedule.Config{Store: s.store, Log: s.eventlog, MaxEvent: cmpOr(s.cfg.MaxEvent, hark.MaxEventBytes),
		Hooks: schedule.Hooks{
			Published: func(_ hark.TenantID, n int, late time.Duration) {
				m.scheduledEnded.WithLabelValues("published").Add(float64(n))
				m.scheduledLate.Observe(late.Seconds())
			},
			Cancelled: func(hark.TenantID) { m.scheduledEnded.WithLabelValues("cancelled").Inc() },
			Delayed: func(t hark.TenantID, err error) {
				s.log.Warn("due events could not be published yet", "tenant", t, "error", err)
			},
			Dropped: func(t hark.TenantID, id hark.ScheduledID, err error) {
				m.scheduledEnded.WithLabelValues("dropped").Inc()
				s.log.Error("a scheduled event was given up: it cannot be published", "tenant", t, "scheduled", id.String(), "error", err)
			},
		}})
	return err
}
