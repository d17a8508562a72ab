package api

import (
	"cmp"
	"context"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// Deliverer is what the handlers need of the delivery engine.
type Deliverer interface {
	// StartAt returns what makes a new destination begin after a position.
	StartAt(after hark.Offset) registry.Attach
	// Wake has a destination probed now whose breaker is open.
	Wake(d *hark.Destination) error
	// Status tells what a destination is doing right now.
	Status(d *hark.Destination) (hark.DestinationStatus, error)

	Delivery(t hark.TenantID, id hark.DeliveryID) (*hark.Delivery, error)
	Deliveries(t hark.TenantID, q DeliveryQuery) (DeliveryPage, error)
	// Retry starts a new run of a finished delivery; Cancel takes back one that waits.
	Retry(ctx context.Context, t hark.TenantID, id hark.DeliveryID) (*hark.Delivery, error)
	Cancel(ctx context.Context, t hark.TenantID, id hark.DeliveryID) (*hark.Delivery, error)
	// RetryAll retries what a query finds, up to its limit.
	RetryAll(ctx context.Context, t hark.TenantID, q DeliveryQuery) (retried int, next string, err error)
	// Send sends any retained event to any destination of the tenant.
	Send(ctx context.Context, d *hark.Destination, o hark.Offset) (*hark.Delivery, error)
	// Test sends a sample event, also to a destination that is paused, and waits for the attempt.
	Test(ctx context.Context, d *hark.Destination, o hark.Offset) (*hark.Delivery, error)

	Replay(ctx context.Context, d *hark.Destination, after, to hark.Offset) (hark.ReplayStatus, error)
	StopReplay(ctx context.Context, d *hark.Destination) error

	Pull(ctx context.Context, d *hark.Destination, most int, lease, wait time.Duration) ([]Grant, error)
	Ack(ctx context.Context, d *hark.Destination, leases []Lease) error
	Nack(ctx context.Context, d *hark.Destination, leases []Lease, delay time.Duration) error
	Extend(ctx context.Context, d *hark.Destination, leases []Lease, lease time.Duration) (time.Time, error)
}

// DeliveryQuery says which deliveries to list, newest first.
type DeliveryQuery struct {
	Destination hark.DestinationID // 0 for all
	Event       hark.EventID       // zero for all
	State       hark.State         // 0 for all
	Topic       hark.Pattern       // "" for all
	Since       time.Time          // of the event; zero for no bound
	Until       time.Time
	Text        string // found in the event's topic or data, or in the first attempt's error or snippet
	Limit       int
	After       string // opaque: DeliveryPage.Next of the page before
	// MayRead tells whether the caller may see events of a topic.
	MayRead func(topic string) bool
}

// DeliveryPage is one bounded look: it may hold fewer than Limit, even none, and still have a Next.
type DeliveryPage struct {
	Deliveries []hark.Delivery
	Next       string
}

// Grant is a delivery handed to a worker until a deadline.
type Grant struct {
	Lease   Lease
	Until   time.Time
	Attempt int
	Event   *hark.Event
}

// Lease names a grant.
type Lease struct {
	Delivery hark.DeliveryID
	Token    uint64
}

// DeliveryView is a delivery in JSON.
type DeliveryView struct {
	ID          hark.DeliveryID    `json:"id"`
	Event       hark.EventID       `json:"event"`
	Destination hark.DestinationID `json:"destination"`
	Topic       string             `json:"topic,omitempty"`
	State       hark.State         `json:"state" enum:"due,sending,delivered,dead,cancelled,expired"`
	Run         int                `json:"run" doc:"Counts manual retries and replays from 1."`
	Attempts    int                `json:"attempts"`
	Next        time.Time          `json:"next_attempt,omitzero" doc:"When the next attempt is due, or the lease ends."`
	Last        *AttemptView       `json:"last_attempt,omitempty"`
	Log         []AttemptView      `json:"attempt_log,omitempty" doc:"All attempts, oldest first; only where one delivery is asked for."`
}

// AttemptView is an attempt in JSON.
type AttemptView struct {
	Number   int          `json:"number"`
	Run      int          `json:"run"`
	Started  time.Time    `json:"started"`
	Duration float64      `json:"duration_ms"`
	Outcome  hark.Outcome `json:"outcome"`
	Status   int          `json:"status,omitempty"`
	Error    string       `json:"error,omitempty"`
	Snippet  string       `json:"response,omitempty" doc:"The beginning of the answer."`
}

func viewDelivery(d *hark.Delivery) DeliveryView {
	v := DeliveryView{ID: d.ID, Event: d.Event, Destination: d.Destination, Topic: d.Topic, State: d.State,
		Run: d.Run, Attempts: d.Attempts, Next: d.Next}
	if d.Last != nil {
		last := viewAttempt(d.Last)
		v.Last = &last
	}
	for i := range d.Log {
		v.Log = append(v.Log, viewAttempt(&d.Log[i]))
	}
	return v
}

func viewAttempt(a *hark.Attempt) AttemptView {
	return AttemptView{Number: a.Number, Run: a.Run, Started: a.Started, Duration: float64(a.Duration.Microseconds()) / 1000,
		Outcome: a.Outcome, Status: a.Status, Error: a.Error, Snippet: string(a.Snippet)}
}

// DeliveryAnswer carries one delivery.
type DeliveryAnswer struct {
	Status int `json:"-"`
	Body   DeliveryView
}

// DeliveryPath names one delivery.
type DeliveryPath struct {
	ID string `path:"id" doc:"dlv_…"`
}

// GetDelivery answers GET /v1/deliveries/{id}, with all attempts.
func (a *API) GetDelivery(ctx context.Context, in *DeliveryPath) (*DeliveryAnswer, error) {
	d, err := a.delivery(ctx, in)
	if err != nil {
		return nil, err
	}
	return &DeliveryAnswer{Status: 200, Body: viewDelivery(d)}, nil
}

// delivery finds one that the caller may see.
func (a *API) delivery(ctx context.Context, in *DeliveryPath) (*hark.Delivery, error) {
	id, err := hark.ParseDeliveryID(in.ID)
	if err != nil {
		return nil, err
	}
	d, err := a.Deliver.Delivery(tenantOf(ctx), id)
	if err != nil {
		return nil, err
	}
	if callerOf(ctx).MayRead(d.Topic) != nil {
		return nil, hark.NoSuch("delivery", in.ID)
	}
	return d, nil
}

// DeliveryList is the input of GET /v1/deliveries.
type DeliveryList struct {
	Destination string    `query:"destination"`
	Event       string    `query:"event"`
	State       string    `query:"state" enum:"due,sending,delivered,dead,cancelled,expired"`
	Topic       string    `query:"topic" doc:"A topic pattern."`
	Since       time.Time `query:"since" doc:"Events received at or after this time."`
	Until       time.Time `query:"until" doc:"Events received before this time."`
	Q           string    `query:"q" maxLength:"255" doc:"Text in the event's topic or data, or in the first attempt's error or response. Scans a bounded number at a time: follow next."`
	Limit       int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After       string    `query:"after" doc:"The next of the page before."`
}

// DeliveriesAnswer carries a page of deliveries.
type DeliveriesAnswer struct {
	Body struct {
		Deliveries []DeliveryView `json:"deliveries"`
		Next       string         `json:"next,omitempty" doc:"Give it as after for the next page; missing on the last. A page may be short and still have a next."`
	}
}

// ListDeliveries answers GET /v1/deliveries, newest first.
func (a *API) ListDeliveries(ctx context.Context, in *DeliveryList) (*DeliveriesAnswer, error) {
	q, err := deliveryQuery(ctx, in.Destination, in.Event, in.State, in.Topic)
	if err != nil {
		return nil, err
	}
	q.Since, q.Until, q.Text, q.Limit, q.After = in.Since, in.Until, in.Q, in.Limit, in.After
	page, err := a.Deliver.Deliveries(tenantOf(ctx), q)
	if err != nil {
		return nil, err
	}
	out := &DeliveriesAnswer{}
	out.Body.Deliveries = make([]DeliveryView, len(page.Deliveries))
	for i := range page.Deliveries {
		out.Body.Deliveries[i] = viewDelivery(&page.Deliveries[i])
	}
	out.Body.Next = page.Next
	return out, nil
}

func deliveryQuery(ctx context.Context, destination, event, state, topic string) (q DeliveryQuery, err error) {
	caller := callerOf(ctx)
	q.MayRead = func(topic string) bool { return caller.MayRead(topic) == nil }
	if destination != "" {
		if q.Destination, err = hark.ParseDestinationID(destination); err != nil {
			return q, err
		}
	}
	if event != "" {
		if q.Event, err = hark.ParseEventID(event); err != nil {
			return q, err
		}
	}
	if state != "" {
		if q.State, err = hark.ParseState(state); err != nil {
			return q, err
		}
	}
	q.Topic = hark.Pattern(topic)
	if topic != "" {
		err = hark.CheckPattern(q.Topic)
	}
	return q, err
}

// RetryDelivery answers POST /v1/deliveries/{id}/retry.
func (a *API) RetryDelivery(ctx context.Context, in *DeliveryPath) (*DeliveryAnswer, error) {
	return a.act(ctx, in, a.Deliver.Retry)
}

// CancelDelivery answers POST /v1/deliveries/{id}/cancel.
func (a *API) CancelDelivery(ctx context.Context, in *DeliveryPath) (*DeliveryAnswer, error) {
	return a.act(ctx, in, a.Deliver.Cancel)
}

func (a *API) act(ctx context.Context, in *DeliveryPath, do func(context.Context, hark.TenantID, hark.DeliveryID) (*hark.Delivery, error)) (*DeliveryAnswer, error) {
	d, err := a.delivery(ctx, in)
	if err != nil {
		return nil, err
	}
	if d, err = do(ctx, tenantOf(ctx), d.ID); err != nil {
		return nil, err
	}
	return &DeliveryAnswer{Status: 200, Body: viewDelivery(d)}, nil
}

// DeliverySend is the input of POST /v1/deliveries.
type DeliverySend struct {
	Body struct {
		Event       hark.EventID       `json:"event" example:"evt_00000d6b1t0g00000000001c"`
		Destination hark.DestinationID `json:"destination"`
	}
}

// SendDelivery answers POST /v1/deliveries: any retained event to any destination.
func (a *API) SendDelivery(ctx context.Context, in *DeliverySend) (*DeliveryAnswer, error) {
	e, err := a.eventOf(callerOf(ctx), in.Body.Event.String())
	if err != nil {
		return nil, err
	}
	d, err := a.Registry.Destination(tenantOf(ctx), in.Body.Destination)
	if err != nil {
		return nil, err
	}
	sent, err := a.Deliver.Send(ctx, d, e.ID.Offset)
	if err != nil {
		return nil, err
	}
	return &DeliveryAnswer{Status: 201, Body: viewDelivery(sent)}, nil
}

// RetryFilter is the input of POST /v1/deliveries/retry.
type RetryFilter struct {
	Body struct {
		Destination string    `json:"destination,omitempty"`
		Event       string    `json:"event,omitempty"`
		State       string    `json:"state,omitempty" enum:"delivered,dead,cancelled,expired" doc:"Default dead."`
		Topic       string    `json:"topic,omitempty"`
		Since       time.Time `json:"since,omitzero"`
		Until       time.Time `json:"until,omitzero"`
		Limit       int       `json:"limit,omitempty" minimum:"1" maximum:"1000" doc:"At most this many now (default 1000)."`
		After       string    `json:"after,omitempty" doc:"The next of the answer before."`
	}
}

// RetryAnswer tells how many deliveries were retried.
type RetryAnswer struct {
	Body struct {
		Retried int    `json:"retried"`
		Next    string `json:"next,omitempty" doc:"There may be more: send the same again with it as after."`
	}
}

// RetryDeliveries answers POST /v1/deliveries/retry.
func (a *API) RetryDeliveries(ctx context.Context, in *RetryFilter) (*RetryAnswer, error) {
	b := &in.Body
	if b.State == "" {
		b.State = hark.Dead.String()
	}
	q, err := deliveryQuery(ctx, b.Destination, b.Event, b.State, b.Topic)
	if err != nil {
		return nil, err
	}
	if err := callerOf(ctx).MayRoute([]hark.Pattern{cmp.Or(q.Topic, ">")}); err != nil {
		return nil, err
	}
	q.Since, q.Until, q.Limit, q.After = b.Since, b.Until, b.Limit, b.After
	if q.Limit == 0 {
		q.Limit = hark.MaxPageSize
	}
	out := &RetryAnswer{}
	out.Body.Retried, out.Body.Next, err = a.Deliver.RetryAll(ctx, tenantOf(ctx), q)
	return out, err
}

// TestAnswer tells how a test went.
type TestAnswer struct {
	Body struct {
		Delivery DeliveryView `json:"delivery"`
		Attempt  *AttemptView `json:"attempt,omitempty" doc:"The attempt; missing when there was none in time."`
	}
}

// TestTopic is the topic of test events. It is an operational topic, so no
// destination gets it unless it is sent there.
const TestTopic = "hark.test"

// TestDestination answers POST /v1/destinations/{id}/test: it sends a sample
// event through the very path that every event takes and waits for the first attempt.
func (a *API) TestDestination(ctx context.Context, in *DestinationPath) (*TestAnswer, error) {
	d, err := a.destination(ctx, in)
	if err != nil {
		return nil, err
	}
	o, err := a.appendTest(ctx, d)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.Retry.AttemptTimeout()+5*time.Second)
	defer cancel()
	sent, err := a.Deliver.Test(ctx, d, o)
	if err != nil {
		return nil, err
	}
	out := &TestAnswer{}
	out.Body.Delivery = viewDelivery(sent)
	out.Body.Attempt = out.Body.Delivery.Last
	return out, nil
}

// DestinationReplay is the input of POST /v1/destinations/{id}/replay.
type DestinationReplay struct {
	DestinationPath
	Body struct {
		From string `json:"from" doc:"earliest, an event id or a time: the first event to send again." example:"earliest"`
		To   string `json:"to,omitempty" doc:"now (default), an event id or a time: the last one."`
	}
}

// ReplayAnswer tells where a replay stands.
type ReplayAnswer struct {
	Status int `json:"-"`
	Body   struct {
		Replay hark.ReplayStatus `json:"replay"`
	}
}

// ReplayDestination answers POST …/replay.
func (a *API) ReplayDestination(ctx context.Context, in *DestinationReplay) (*ReplayAnswer, error) {
	d, err := a.destination(ctx, &in.DestinationPath)
	if err != nil {
		return nil, err
	}
	after, err := a.fromOf(d.Tenant, "from", in.Body.From)
	if err != nil {
		return nil, err
	}
	to := a.Log.End()
	if in.Body.To != "" && in.Body.To != "now" {
		if to, err = a.fromOf(d.Tenant, "to", in.Body.To); err != nil {
			return nil, err
		}
		if len(in.Body.To) > 4 && in.Body.To[:4] == "evt_" {
			to++ // an id means up to and with that event
		}
	}
	if to <= after {
		return nil, hark.Invalidf("to", "must be after from")
	}
	out := &ReplayAnswer{Status: 202}
	out.Body.Replay, err = a.Deliver.Replay(ctx, d, after, to)
	return out, err
}

// StopReplay answers DELETE …/replay.
func (a *API) StopReplay(ctx context.Context, in *DestinationPath) (*Nothing, error) {
	d, err := a.destination(ctx, in)
	if err != nil {
		return nil, err
	}
	return nil, a.Deliver.StopReplay(ctx, d)
}
