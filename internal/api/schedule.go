package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/schedule"
)

// Scheduled is what the handlers need of events that are to be published later. May tells
// whether the caller may publish to a topic.
type Scheduled interface {
	Add(ctx context.Context, t hark.TenantID, events []hark.Event, at []time.Time, idem eventlog.Idempotency) (schedule.Added, error)
	IDs(t hark.TenantID, at []time.Time, key string) []hark.ScheduledID
	Get(t hark.TenantID, id hark.ScheduledID, may func(topic string) bool) (*hark.Scheduled, error)
	List(t hark.TenantID, after hark.ScheduledID, limit int, may func(topic string) bool) (page []*hark.Scheduled, next hark.ScheduledID, err error)
	Cancel(ctx context.Context, t hark.TenantID, id hark.ScheduledID, may func(topic string) bool) error
}

// schedule keeps events to be published later, and answers with their ids.
func (a *API) schedule(w http.ResponseWriter, r *http.Request, d *drafts, idem eventlog.Idempotency) error {
	done, err := a.Scheduled.Add(r.Context(), tenantOf(r.Context()), d.events, d.at, idem)
	switch {
	case err != nil:
		return err
	case done.IDs == nil: // a repeat, of when the clock had gone further
		return answerPublished(w, done.Published, d.batch)
	}
	return answerScheduled(w, d, done.IDs, done.Duplicate)
}

func answerScheduled(w http.ResponseWriter, d *drafts, ids []hark.ScheduledID, duplicate bool) error {
	m := struct {
		ID        *hark.ScheduledID  `json:"id,omitempty"`
		IDs       []hark.ScheduledID `json:"ids,omitempty"`
		DeliverAt *time.Time         `json:"deliver_at,omitempty"`
		Duplicate bool               `json:"duplicate,omitempty"`
	}{Duplicate: duplicate}
	location := ""
	if d.batch {
		m.IDs = ids
	} else {
		at := ids[0].At()
		m.ID, m.DeliverAt, location = &ids[0], &at, "/v1/scheduled/"+ids[0].String()
	}
	status := http.StatusAccepted
	if duplicate {
		status = http.StatusOK
	}
	return answerMade(w, status, location, m)
}

// ScheduledView is a scheduled event in JSON.
type ScheduledView struct {
	ID          hark.ScheduledID  `json:"id" example:"sch_00000mdl3dgg0abcd1234efgh8"`
	DeliverAt   time.Time         `json:"deliver_at"`
	Topic       string            `json:"topic"`
	Time        time.Time         `json:"time,omitzero" doc:"The sender's, if it gave one."`
	Key         string            `json:"key,omitempty"`
	ContentType string            `json:"content_type"`
	Data        json.RawMessage   `json:"data,omitempty" doc:"The JSON value, or text."`
	DataBase64  []byte            `json:"data_base64,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
}

func viewScheduled(s *hark.Scheduled) ScheduledView {
	e := s.Event
	v := ScheduledView{ID: s.ID, DeliverAt: s.ID.At(), Topic: e.Topic, Time: e.Time, Key: e.Key, ContentType: e.ContentType, Attributes: e.Attributes}
	switch {
	case hark.IsJSON(e.ContentType) && json.Valid(e.Data):
		v.Data = e.Data
	case utf8.Valid(e.Data):
		v.Data, _ = json.Marshal(string(e.Data)) // a string has a JSON form
	default:
		v.DataBase64 = e.Data
	}
	return v
}

// mayPublishTo tells what of the tenant's scheduled events is the caller's.
func mayPublishTo(ctx context.Context) func(topic string) bool {
	caller := callerOf(ctx)
	return func(topic string) bool { return caller.MayPublish(topic) == nil }
}

// ScheduledList is the input of GET /v1/scheduled.
type ScheduledList struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After string `query:"after" doc:"Go on after this id: the next of the page before."`
}

// ScheduledPage carries scheduled events.
type ScheduledPage struct {
	Body struct {
		Scheduled []ScheduledView `json:"scheduled"`
		Next      string          `json:"next,omitempty" doc:"Give it as after for the next page; missing on the last. A page may be short and still have a next."`
	}
}

// ListScheduled answers GET /v1/scheduled, what is due first.
func (a *API) ListScheduled(ctx context.Context, in *ScheduledList) (*ScheduledPage, error) {
	var after hark.ScheduledID
	if in.After != "" {
		var err error
		if after, err = hark.ParseScheduledID(in.After); err != nil {
			return nil, err
		}
	}
	page, next, err := a.Scheduled.List(tenantOf(ctx), after, in.Limit, mayPublishTo(ctx))
	if err != nil {
		return nil, err
	}
	out := &ScheduledPage{}
	out.Body.Scheduled = make([]ScheduledView, len(page))
	for i, s := range page {
		out.Body.Scheduled[i] = viewScheduled(s)
	}
	out.Body.Next = next.String()
	return out, nil
}

// ScheduledPath names one scheduled event.
type ScheduledPath struct {
	ID string `path:"id" doc:"sch_…" example:"sch_00000mdl3dgg0abcd1234efgh8"`
}

// ScheduledAnswer carries one scheduled event.
type ScheduledAnswer struct{ Body ScheduledView }

// GetScheduled answers GET /v1/scheduled/{id}.
func (a *API) GetScheduled(ctx context.Context, in *ScheduledPath) (*ScheduledAnswer, error) {
	id, err := hark.ParseScheduledID(in.ID)
	if err != nil {
		return nil, err
	}
	s, err := a.Scheduled.Get(tenantOf(ctx), id, mayPublishTo(ctx))
	if err != nil {
		return nil, err
	}
	return &ScheduledAnswer{Body: viewScheduled(s)}, nil
}

// CancelScheduled answers DELETE /v1/scheduled/{id}: it is not published.
func (a *API) CancelScheduled(ctx context.Context, in *ScheduledPath) (*Nothing, error) {
	id, err := hark.ParseScheduledID(in.ID)
	if err != nil {
		return nil, err
	}
	return nil, a.Scheduled.Cancel(ctx, tenantOf(ctx), id, mayPublishTo(ctx))
}
