package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"mime"
	"net/http"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

// Batches is what the handlers need of batches. MayRead tells whether the caller may
// see batches with events of a topic.
type Batches interface {
	Accept(ctx context.Context, t hark.TenantID, o *hark.BatchOrder, idem eventlog.Idempotency) (hark.BatchAccepted, error)
	Get(t hark.TenantID, id hark.BatchID, mayRead func(topic string) bool) (*hark.Batch, error)
	ByUID(t hark.TenantID, uid string) (hark.BatchID, error)
	List(t hark.TenantID, after hark.BatchID, state hark.BatchState, limit int, mayRead func(topic string) bool) (page []*hark.Batch, next hark.BatchID, err error)
	Forget(t hark.TenantID, id hark.BatchID, mayRead func(topic string) bool) error
}

// batchOverhead is what a batch's body may have beside its events.
const batchOverhead = 16 << 10

// CreateBatch answers POST /v1/batches after one sync that holds events and batch together.
func (a *API) CreateBatch(w http.ResponseWriter, r *http.Request) error {
	if err := knownQuery(r.URL.Query()); err != nil {
		return err
	}
	body, err := readBody(w, r, hark.MaxBatchBytes*3/2+batchOverhead)
	if err != nil {
		return err
	}
	caller := callerOf(r.Context())
	order, err := a.orderOf(caller, r.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	idem, err := idempotencyOf(r, body)
	if err != nil {
		return err
	}
	if err := a.Admit(caller.TenantID(), len(order.Events)); err != nil {
		return err
	}
	done, err := a.Batches.Accept(r.Context(), caller.TenantID(), order, idem)
	if err != nil {
		return err
	}
	return answerBatch(w, order.UID, &done)
}

// orderOf reads a batch and checks what the caller may.
func (a *API) orderOf(caller Caller, contentType string, body []byte) (*hark.BatchOrder, error) {
	order, to, err := parseBatch(contentType, body)
	if err != nil {
		return nil, err
	}
	if err := mayPublish(caller, order.Events, true); err != nil {
		return nil, err
	}
	if to != "" {
		d, err := a.destinationNamed(caller.TenantID(), to)
		if err != nil {
			return nil, err
		}
		order.Callback.To = d.ID
	}
	if err := order.Check(); err != nil {
		return nil, err
	}
	if topic := order.Callback.Topic; topic != "" {
		return order, caller.MayPublish(topic)
	}
	return order, nil
}

// destinationNamed finds a destination by id or uid.
func (a *API) destinationNamed(t hark.TenantID, name string) (*hark.Destination, error) {
	d, err := a.Registry.DestinationByUID(t, name)
	if err == nil {
		return d, nil
	}
	if id, bad := hark.ParseDestinationID(name); bad == nil {
		if d, err = a.Registry.Destination(t, id); err == nil {
			return d, nil
		}
	}
	return nil, hark.Invalidf("callback.destination", "there is no destination with this id or uid")
}

// parseBatch reads a body of POST /v1/batches. The callback's destination is returned as it is written.
func parseBatch(contentType string, body []byte) (o *hark.BatchOrder, to string, err error) {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if contentType != "" && (err != nil || mediaType != "application/json" && mediaType != "application/x-www-form-urlencoded") {
		return nil, "", &hark.Error{Kind: hark.Unsupported, Code: "content-type", Field: "Content-Type", Msg: "send application/json"}
	}
	var p struct {
		Events   json.RawMessage `json:"events"`
		Callback struct {
			URL         string `json:"url"`
			Topic       string `json:"topic"`
			Destination string `json:"destination"`
		} `json:"callback"`
		Deadline string `json:"deadline"`
		UID      string `json:"uid"`
	}
	if err := decodeStrict(body, &p); err != nil {
		return nil, "", err
	}
	if events := bytes.TrimSpace(p.Events); len(events) == 0 || events[0] != '[' {
		return nil, "", hark.Invalidf("events", `must be an array of events as POST /v1/events takes them`)
	}
	o = &hark.BatchOrder{Callback: hark.BatchCallback{URL: p.Callback.URL, Topic: p.Callback.Topic}, UID: p.UID, Body: sha256.Sum256(body)}
	if p.Callback.Destination != "" && (o.Callback.URL != "" || o.Callback.Topic != "") {
		return nil, "", hark.Invalidf("callback", `needs exactly one of "url", "topic" and "destination"`)
	}
	if o.Deadline, err = deadlineOf(p.Deadline, time.Now()); err != nil {
		return nil, "", err
	}
	d, err := parseArray(p.Events)
	if err != nil {
		return nil, "", err
	}
	if d.at != nil {
		return nil, "", hark.Invalidf("deliver_at", "is for POST /v1/events: the events of a batch with a callback are published at once")
	}
	o.Events = d.events
	return o, p.Callback.Destination, nil
}

// deadlineOf reads a duration or a time.
func deadlineOf(text string, now time.Time) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if at, bad := time.Parse(time.RFC3339Nano, text); bad == nil {
		d, err = at.Sub(now), nil
	}
	if err != nil || d < hark.MinBatchDeadline || d > hark.MaxBatchDeadline {
		return 0, hark.Invalidf("deadline", "must be a duration such as 24h, or a time like 2026-01-31T15:04:05Z, between 1s and 168h from now")
	}
	return d, nil
}

// BatchCallbackView says who is told.
type BatchCallbackView struct {
	URL         string        `json:"url,omitempty"`
	Topic       string        `json:"topic,omitempty"`
	Destination string        `json:"destination,omitempty" doc:"Where the event that tells is sent; of a URL the destination that Hark keeps for it."`
	Secret      string        `json:"secret,omitempty" doc:"Verifies what arrives at the URL; only in the answer of the first batch with it."`
	Event       string        `json:"event,omitempty" doc:"The event that tells, once the batch ended."`
	Delivery    *DeliveryView `json:"delivery,omitempty" doc:"Its delivery to the destination."`
}

func viewCallback(c *hark.BatchCallback) BatchCallbackView {
	v := BatchCallbackView{URL: c.URL, Topic: c.Topic, Destination: c.To.String(), Event: c.Event.String()}
	if c.Delivery != nil {
		d := viewDelivery(c.Delivery)
		d.Log = nil
		v.Delivery = &d
	}
	return v
}

// BatchMade is the answer of POST /v1/batches.
type BatchMade struct {
	ID           hark.BatchID      `json:"id"`
	UID          string            `json:"uid,omitempty"`
	IDs          []hark.EventID    `json:"ids"`
	State        hark.BatchState   `json:"state"`
	Deadline     time.Time         `json:"deadline"`
	Destinations int               `json:"destinations"`
	Callback     BatchCallbackView `json:"callback"`
	Duplicate    bool              `json:"duplicate,omitempty"`
}

func answerBatch(w http.ResponseWriter, uid string, done *hark.BatchAccepted) error {
	m := BatchMade{ID: done.ID, UID: uid, IDs: make([]hark.EventID, done.Count), State: done.State, Deadline: done.Deadline,
		Destinations: done.Destinations, Callback: viewCallback(&done.Callback), Duplicate: done.Duplicate}
	for i := range m.IDs {
		m.IDs[i] = done.Event(i)
	}
	m.Callback.Secret = done.Secret.Reveal()
	if m.Callback.Secret != "" {
		w.Header().Set("Cache-Control", "no-store")
	}
	status := http.StatusCreated
	if done.Duplicate {
		status = http.StatusOK
	}
	return answerMade(w, status, "/v1/batches/"+m.ID.String(), m)
}

// BatchView is a batch in JSON.
type BatchView struct {
	ID           hark.BatchID            `json:"id" example:"bat_00000d6b1t0g00000000001c"`
	UID          string                  `json:"uid,omitempty"`
	State        hark.BatchState         `json:"state" enum:"open,completed,expired"`
	Accepted     time.Time               `json:"accepted"`
	Deadline     time.Time               `json:"deadline"`
	Ended        time.Time               `json:"ended,omitzero"`
	Events       int                     `json:"events" doc:"How many events it holds."`
	Counts       *hark.BatchCounts       `json:"counts,omitempty" doc:"Deliveries by what became of them, over all destinations; in a list only of batches that ended."`
	Destinations []hark.BatchDestination `json:"destinations,omitempty" doc:"Those whose topics matched when the batch was accepted; not in a list."`
	Callback     BatchCallbackView       `json:"callback"`
}

func viewBatch(b *hark.Batch) BatchView {
	return BatchView{ID: b.ID, UID: b.UID, State: b.State, Accepted: b.Accepted, Deadline: b.Deadline, Ended: b.Ended,
		Events: b.Events, Counts: b.Counts, Destinations: b.Destinations, Callback: viewCallback(&b.Callback)}
}

// BatchPath names one batch.
type BatchPath struct {
	ID string `path:"id" doc:"bat_…" example:"bat_00000d6b1t0g00000000001c"`
}

// BatchAnswer carries one batch.
type BatchAnswer struct{ Body BatchView }

// GetBatch answers GET /v1/batches/{id}.
func (a *API) GetBatch(ctx context.Context, in *BatchPath) (*BatchAnswer, error) {
	id, err := hark.ParseBatchID(in.ID)
	if err != nil {
		return nil, err
	}
	b, err := a.Batches.Get(tenantOf(ctx), id, ownBatches(ctx))
	if err != nil {
		return nil, err
	}
	return &BatchAnswer{Body: viewBatch(b)}, nil
}

// ownBatches: who may publish what a batch holds may see what became of it.
func ownBatches(ctx context.Context) func(topic string) bool {
	caller := callerOf(ctx)
	return func(topic string) bool { return caller.MayPublish(topic) == nil }
}

// BatchList is the input of GET /v1/batches.
type BatchList struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After string `query:"after" doc:"Go on after this id: the next of the page before."`
	State string `query:"state" enum:"open,completed,expired"`
	UID   string `query:"uid" maxLength:"255" doc:"The one with this uid."`
}

// BatchPage carries batches.
type BatchPage struct {
	Body struct {
		Batches []BatchView `json:"batches"`
		Next    string      `json:"next,omitempty" doc:"Give it as after for the next page; missing on the last. A page may be short and still have a next."`
	}
}

// ListBatches answers GET /v1/batches, newest first.
func (a *API) ListBatches(ctx context.Context, in *BatchList) (*BatchPage, error) {
	out := &BatchPage{}
	out.Body.Batches = []BatchView{}
	if in.UID != "" {
		return out, a.batchByUID(ctx, in, out)
	}
	var after hark.BatchID
	if in.After != "" {
		var err error
		if after, err = hark.ParseBatchID(in.After); err != nil {
			return nil, err
		}
	}
	page, next, err := a.Batches.List(tenantOf(ctx), after, hark.BatchState(in.State), in.Limit, ownBatches(ctx))
	if err != nil {
		return nil, err
	}
	for _, b := range page {
		out.Body.Batches = append(out.Body.Batches, viewBatch(b))
	}
	out.Body.Next = next.String()
	return out, nil
}

// batchByUID lists the one batch with a uid, if it is there.
func (a *API) batchByUID(ctx context.Context, in *BatchList, out *BatchPage) error {
	id, err := a.Batches.ByUID(tenantOf(ctx), in.UID)
	if err == nil {
		var b *hark.Batch
		if b, err = a.Batches.Get(tenantOf(ctx), id, ownBatches(ctx)); err == nil && (in.State == "" || in.State == string(b.State)) {
			b.Destinations = nil
			out.Body.Batches = append(out.Body.Batches, viewBatch(b))
		}
	}
	if hark.KindOf(err) == hark.NotFound {
		return nil
	}
	return err
}

// DeleteBatch answers DELETE /v1/batches/{id}: it is forgotten, and nobody is told of its end.
func (a *API) DeleteBatch(ctx context.Context, in *BatchPath) (*Nothing, error) {
	id, err := hark.ParseBatchID(in.ID)
	if err != nil {
		return nil, err
	}
	return nil, a.Batches.Forget(tenantOf(ctx), id, ownBatches(ctx))
}
