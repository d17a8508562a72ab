package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/deliver"
	"github.com/harkhq/hark/internal/destination"
	"github.com/harkhq/hark/internal/device"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/registry"
)

// openDelivery makes the delivery engine and ties it to the registry: it hears of
// every change, and what it must write goes into the change's own commit.
func (s *Server) openDelivery() error {
	s.deliver = deliver.New(deliver.Config{
		Store: s.store, Log: s.eventlog, Sender: sender{s.sender},
		Pull:     func(kind string) bool { k := destination.Find(kind); return k != nil && k.Mode == destination.Pull },
		Host:     s.sender.Host,
		Filter:   s.compileFilter,
		Disable:  s.disable,
		Publish:  s.publish,
		Passed:   func(id hark.DestinationID, first hark.Offset) { s.batches.Passed(id, first) },
		Limits:   deliver.Limits{Flight: s.cfg.MaxInFlight},
		DrainFor: s.cfg.StopTimeout,
		Hooks:    s.deliverHooks(),
	})
	s.newBatches()
	s.registry.Watch(func(c registry.Change) { s.deliver.Changed(c.Destination.Old, c.Destination.New) })
	if err := s.deliver.Restore(); err != nil {
		return fmt.Errorf("restoring deliveries: %w", err)
	}
	s.registry.Attach(s.deliver.Attach)
	s.registry.Attach(s.changeAudience)
	s.registry.AttachTenant(s.eraseTenant)
	s.eventlog.SetHold(s.deliver.Hold)
	return nil
}

// compileFilter returns what keeps events from a destination; nil for nothing. An audience
// gets no event that none of its devices wants.
func (s *Server) compileFilter(d *hark.Destination) (func(*hark.Event) bool, error) {
	if len(d.Filter) == 0 && d.Kind != hark.AudienceKind {
		return nil, nil
	}
	f, err := hark.ParseFilter(d.Filter)
	if d.Kind != hark.AudienceKind {
		return f.Match, err
	}
	app := device.App(d)
	return func(e *hark.Event) bool { return s.devices.Wants(e.Tenant, app, e.Topic) && f.Match(e) }, err
}

// disable is how the engine has it written down that a destination is disabled.
func (s *Server) disable(_ context.Context, t hark.TenantID, id hark.DestinationID, reason string) error {
	_, err := s.registry.SetDestinationState(t, id, 0, hark.DestinationDisabled, reason)
	if err == nil {
		s.log.Warn("destination disabled", "destination", id.String(), "reason", reason)
	}
	return err
}

// publish appends an operational event.
func (s *Server) publish(ctx context.Context, t hark.TenantID, e hark.Event) error {
	_, err := s.eventlog.Append(ctx, t, []hark.Event{e}, eventlog.Idempotency{})
	return err
}

func (s *Server) deliverHooks() deliver.Hooks {
	m := s.metrics
	return deliver.Hooks{
		Attempted: func(_ *hark.Destination, _ *hark.Event, _ int, r deliver.Result) {
			m.attempted(r.Outcome).Inc()
			m.attemptTime.Observe(r.Duration.Seconds())
		},
		Committed: func(_ int, took time.Duration) { m.resultTime.Observe(took.Seconds()) },
		Noticed: func(n deliver.Notice) {
			s.log.Info(n.Kind.Topic(), "tenant", n.Tenant, "destination", n.Dest.String(), "count", n.Count, "reason", n.Reason)
		},
		Failed: func(what string, err error) { s.log.Error("delivery: "+what, "error", err) },
	}
}

// sender lets the engine reach the table of kinds.
type sender struct{ kinds *destination.Sender }

// Send implements deliver.Sender.
func (s sender) Send(ctx context.Context, d *hark.Destination, e *hark.Event, attempt int) deliver.Result {
	if k := destination.Find(d.Kind); k == nil || !k.Lasts() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Retry.AttemptTimeout())
		defer cancel()
	}
	r := s.kinds.Send(ctx, d, e, destination.Meta{Attempt: attempt, Time: time.Now()})
	return deliver.Result{Outcome: r.Outcome, Status: r.Status, RetryAfter: r.RetryAfter,
		Snippet: r.Snippet, Error: r.Error, Ours: r.Ours}
}

// delivery is the engine as the API sees it.
type delivery struct {
	*deliver.Deliverer
	log *eventlog.Log
}

var _ api.Deliverer = delivery{}

// StartAt implements api.Deliverer.
func (v delivery) StartAt(after hark.Offset) registry.Attach { return v.Deliverer.StartAt(after) }

// Wake implements api.Deliverer.
func (v delivery) Wake(d *hark.Destination) error { return v.Deliverer.Wake(d.Tenant, d.ID) }

// Status implements api.Deliverer.
func (v delivery) Status(d *hark.Destination) (hark.DestinationStatus, error) {
	return v.Deliverer.Status(d.Tenant, d.ID)
}

// Delivery implements api.Deliverer.
func (v delivery) Delivery(t hark.TenantID, id hark.DeliveryID) (*hark.Delivery, error) {
	return pointer(v.Get(t, id))
}

func pointer(d hark.Delivery, err error) (*hark.Delivery, error) {
	if err != nil {
		return nil, err
	}
	return &d, nil
}

func listQuery(q api.DeliveryQuery) deliver.Query {
	return deliver.Query{Destination: q.Destination, Event: q.Event, State: q.State, Topic: q.Topic, Since: q.Since,
		Until: q.Until, Text: q.Text, Limit: q.Limit, After: q.After}
}

// Deliveries implements api.Deliverer.
func (v delivery) Deliveries(t hark.TenantID, q api.DeliveryQuery) (api.DeliveryPage, error) {
	page, err := v.List(t, listQuery(q))
	if q.MayRead != nil {
		page.Deliveries = slices.DeleteFunc(page.Deliveries, func(d hark.Delivery) bool { return !q.MayRead(d.Topic) })
	}
	return api.DeliveryPage{Deliveries: page.Deliveries, Next: page.Next}, err
}

// Retry implements api.Deliverer.
func (v delivery) Retry(ctx context.Context, t hark.TenantID, id hark.DeliveryID) (*hark.Delivery, error) {
	return pointer(v.Deliverer.Retry(ctx, t, id))
}

// Cancel implements api.Deliverer.
func (v delivery) Cancel(_ context.Context, t hark.TenantID, id hark.DeliveryID) (*hark.Delivery, error) {
	return pointer(v.Deliverer.Cancel(t, id))
}

// RetryAll implements api.Deliverer.
func (v delivery) RetryAll(_ context.Context, t hark.TenantID, q api.DeliveryQuery) (int, string, error) {
	return v.Deliverer.RetryAll(t, listQuery(q))
}

// Send implements api.Deliverer.
func (v delivery) Send(ctx context.Context, d *hark.Destination, o hark.Offset) (*hark.Delivery, error) {
	sent, err := v.Deliverer.Send(ctx, d.Tenant, d.ID, v.log.ID(o), deliver.Wish{})
	if err != nil {
		return nil, err
	}
	return pointer(v.Get(d.Tenant, sent.ID))
}

// Test implements api.Deliverer.
func (v delivery) Test(ctx context.Context, d *hark.Destination, o hark.Offset) (*hark.Delivery, error) {
	k := destination.Find(d.Kind)
	sent, err := v.Deliverer.Send(ctx, d.Tenant, d.ID, v.log.ID(o), deliver.Wish{Test: true, Wait: k != nil && k.Mode == destination.Push})
	if err != nil {
		return nil, err
	}
	if err := v.Sync(); err != nil {
		return nil, err
	}
	got, err := v.Get(d.Tenant, sent.ID)
	if err == nil && got.Last == nil && sent.Attempt != nil {
		got.Last = sent.Attempt
	}
	return pointer(got, err)
}

// Replay implements api.Deliverer.
func (v delivery) Replay(_ context.Context, d *hark.Destination, after, to hark.Offset) (hark.ReplayStatus, error) {
	return v.Deliverer.Replay(d.Tenant, d.ID, after, to)
}

// StopReplay implements api.Deliverer.
func (v delivery) StopReplay(_ context.Context, d *hark.Destination) error {
	return v.Deliverer.StopReplay(d.Tenant, d.ID)
}

// Pull implements api.Deliverer.
func (v delivery) Pull(ctx context.Context, d *hark.Destination, most int, lease, wait time.Duration) ([]api.Grant, error) {
	if lease == 0 {
		lease = destination.Lease(d)
	}
	leases, err := v.Deliverer.Pull(ctx, d.Tenant, d.ID, most, lease, wait)
	grants := make([]api.Grant, len(leases))
	for i, l := range leases {
		grants[i] = api.Grant{Lease: api.Lease{Delivery: l.ID, Token: l.Token}, Until: l.Deadline, Attempt: l.Attempt, Event: l.Event}
	}
	return grants, err
}

// Ack implements api.Deliverer.
func (v delivery) Ack(_ context.Context, d *hark.Destination, leases []api.Lease) error {
	return v.settle(d, leases, deliver.Ack, 0)
}

// Nack implements api.Deliverer.
func (v delivery) Nack(_ context.Context, d *hark.Destination, leases []api.Lease, delay time.Duration) error {
	return v.settle(d, leases, deliver.Nack, delay)
}

// Extend implements api.Deliverer.
func (v delivery) Extend(_ context.Context, d *hark.Destination, leases []api.Lease, lease time.Duration) (time.Time, error) {
	until := time.Now().Add(lease).UTC().Truncate(time.Millisecond)
	return until, v.settle(d, leases, deliver.Extend, lease)
}

// settle gives a worker's word on several leases, which share one commit. Each
// stands alone: those that are stale are named, the others are done.
func (v delivery) settle(d *hark.Destination, leases []api.Lease, verdict deliver.Verdict, after time.Duration) error {
	errs := make([]error, len(leases))
	var wg sync.WaitGroup
	for i, l := range leases {
		wg.Go(func() {
			if l.Delivery.Destination != d.ID {
				errs[i] = hark.NoSuch("delivery", l.Delivery.String())
			} else {
				errs[i] = v.Settle(d.Tenant, l.Delivery, l.Token, verdict, after)
			}
			if e, ok := errors.AsType[*hark.Error](errs[i]); ok && len(leases) > 1 {
				named := *e
				named.Field = fmt.Sprintf("deliveries[%d]", i)
				errs[i] = &named
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
