package client

import (
	"context"
	"encoding/json"
	"iter"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// ScheduleReceipt is the server's word that an event is kept until its time. A time that is over
// has it published at once: then Event is set instead of ID.
type ScheduleReceipt struct {
	ID        hark.ScheduledID `json:"id,omitzero"`
	Event     hark.EventID     `json:"event,omitzero"`
	DeliverAt time.Time        `json:"deliver_at"`
	// Duplicate is true when an earlier request with the same idempotency key did it.
	Duplicate bool `json:"duplicate,omitempty"`
}

// Schedule has an event published at a time, at most [hark.MaxScheduleAhead] from now. What is
// set of the event is as for [Client.Publish].
func (c *Client) Schedule(ctx context.Context, e hark.Event, at time.Time, options ...PublishOption) (ScheduleReceipt, error) {
	receipt := ScheduleReceipt{DeliverAt: at}
	header, err := idempotency(options)
	if err != nil {
		return receipt, err
	}
	body, err := appendMessage(nil, &e)
	if err != nil {
		return receipt, err
	}
	when, err := at.MarshalJSON()
	if err != nil {
		return receipt, err
	}
	body = append(append(append(body[:len(body)-1], `,"deliver_at":`...), when...), '}')
	var answer struct {
		ID        string    `json:"id"`
		DeliverAt time.Time `json:"deliver_at"`
		Duplicate bool      `json:"duplicate"`
	}
	err = c.do(ctx, call{method: "POST", path: "/v1/events", header: header, body: body, contentType: "application/json", safe: true}, &answer)
	if err != nil {
		return receipt, err
	}
	receipt.Duplicate = answer.Duplicate
	if strings.HasPrefix(answer.ID, "evt_") {
		receipt.Event, err = hark.ParseEventID(answer.ID)
		return receipt, err
	}
	receipt.DeliverAt = answer.DeliverAt
	receipt.ID, err = hark.ParseScheduledID(answer.ID)
	return receipt, err
}

// ScheduledEvent is an event that is to be published, as the server shows it.
type ScheduledEvent struct {
	ID          hark.ScheduledID  `json:"id"`
	DeliverAt   time.Time         `json:"deliver_at"`
	Topic       string            `json:"topic"`
	Time        time.Time         `json:"time,omitzero"`
	Key         string            `json:"key,omitempty"`
	ContentType string            `json:"content_type"`
	Data        json.RawMessage   `json:"data,omitempty"` // a JSON string for text
	DataBase64  []byte            `json:"data_base64,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
}

// Scheduled lists what is to be published, what is due first. The first error ends it.
func (c *Client) Scheduled(ctx context.Context) iter.Seq2[*ScheduledEvent, error] {
	return pages[*ScheduledEvent](ctx, c, "/v1/scheduled", "scheduled", values(), 0)
}

// ScheduledByID returns one event that is to be published.
func (c *Client) ScheduledByID(ctx context.Context, id hark.ScheduledID) (*ScheduledEvent, error) {
	var e ScheduledEvent
	if err := c.do(ctx, call{method: "GET", path: "/v1/scheduled/" + id.String(), safe: true}, &e); err != nil {
		return nil, err
	}
	return &e, nil
}

// CancelScheduled has an event not be published. It fails with [hark.NotFound] if it was already.
func (c *Client) CancelScheduled(ctx context.Context, id hark.ScheduledID) error {
	return c.do(ctx, call{method: "DELETE", path: "/v1/scheduled/" + id.String(), safe: true}, nil)
}
