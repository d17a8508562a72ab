package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/harkhq/hark"
)

// BatchSpec is what an owner says about a batch.
type BatchSpec struct {
	// Events are published together, all or none: 1 to [hark.MaxBatchEvents] of them.
	Events []hark.Event
	// URL is called when the batch is done, signed as a webhook. Give it, or Topic,
	// where the event that tells is published, or To, a destination's id or uid.
	URL, Topic, To string
	// Deadline is when it is told at the latest; 0 for [hark.DefaultBatchDeadline].
	Deadline time.Duration
	// UID is the owner's own name for it: the same request again leads to the same batch.
	UID string
}

// BatchCallback says who is told of a batch.
type BatchCallback struct {
	URL   string             `json:"url,omitempty"`
	Topic string             `json:"topic,omitempty"`
	To    hark.DestinationID `json:"destination,omitzero"`
	// Secret verifies what arrives at the URL; only in the answer to the first batch with it.
	Secret hark.Secret `json:"secret,omitempty"`
	// Event is the event that tells, and Delivery its delivery to To, once the batch ended.
	Event    hark.EventID `json:"event,omitzero"`
	Delivery *Delivery    `json:"delivery,omitempty"`
}

// BatchMade is the server's word that a batch is durable.
type BatchMade struct {
	ID       hark.BatchID    `json:"id"`
	UID      string          `json:"uid,omitempty"`
	IDs      []hark.EventID  `json:"ids"`
	State    hark.BatchState `json:"state"`
	Deadline time.Time       `json:"deadline"`
	// Destinations is how many are waited for.
	Destinations int           `json:"destinations"`
	Callback     BatchCallback `json:"callback"`
	// Duplicate is true when an earlier request had made it already.
	Duplicate bool `json:"duplicate,omitempty"`
}

// Batch is a batch as the server shows it.
type Batch struct {
	hark.Batch
	Callback BatchCallback `json:"callback"`
}

// SendBatch publishes events together and has the callback told when every
// destination is done with them, or at the deadline. It returns when they are durable.
func (c *Client) SendBatch(ctx context.Context, spec BatchSpec, options ...PublishOption) (*BatchMade, error) {
	if len(spec.Events) == 0 {
		return nil, errors.New("a batch needs at least one event")
	}
	if len(spec.Events) > hark.MaxBatchEvents {
		return nil, &hark.Error{Kind: hark.TooLarge, Code: "batch-too-large",
			Msg: fmt.Sprintf("a batch holds at most %d events, not %d: send several", hark.MaxBatchEvents, len(spec.Events))}
	}
	header, err := idempotency(options)
	if err != nil {
		return nil, err
	}
	body, err := appendBatch(nil, &spec)
	if err != nil {
		return nil, err
	}
	var made BatchMade
	err = c.do(ctx, call{method: "POST", path: "/v1/batches", header: header, body: body, contentType: "application/json", safe: true}, &made)
	if err != nil {
		return nil, err
	}
	return &made, nil
}

// appendBatch writes a batch: events by hand, as they are.
func appendBatch(dst []byte, spec *BatchSpec) (_ []byte, err error) {
	rest := struct {
		Callback map[string]string `json:"callback"`
		Deadline string            `json:"deadline,omitempty"`
		UID      string            `json:"uid,omitempty"`
	}{Callback: map[string]string{}, UID: spec.UID}
	for name, value := range map[string]string{"url": spec.URL, "topic": spec.Topic, "destination": spec.To} {
		if value != "" {
			rest.Callback[name] = value
		}
	}
	if spec.Deadline != 0 {
		rest.Deadline = spec.Deadline.String()
	}
	k := call{body: rest}
	head, err := k.encode()
	if err != nil {
		return nil, err
	}
	dst = append(append(dst, head[:len(head)-1]...), `,"events":[`...)
	for i := range spec.Events {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendMessage(dst, &spec.Events[i]); err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
	}
	return append(dst, "]}"...), nil
}

// Batch returns one with what became of it so far.
func (c *Client) Batch(ctx context.Context, id hark.BatchID) (*Batch, error) {
	var b Batch
	if err := c.do(ctx, call{method: "GET", path: "/v1/batches/" + id.String(), safe: true}, &b); err != nil {
		return nil, err
	}
	return &b, nil
}

// BatchQuery chooses batches. Empty fields choose all.
type BatchQuery struct {
	State hark.BatchState
	UID   string
	// PageSize is how many one request asks for; 0 leaves it to the server.
	PageSize int
}

// Batches lists batches, newest first, without their destinations. The first error ends it.
func (c *Client) Batches(ctx context.Context, q BatchQuery) iter.Seq2[*Batch, error] {
	return pages[*Batch](ctx, c, "/v1/batches", "batches", values("state", string(q.State), "uid", q.UID), q.PageSize)
}

// ForgetBatch removes a batch: nobody is told of its end any more. Its events and
// deliveries stay.
func (c *Client) ForgetBatch(ctx context.Context, id hark.BatchID) error {
	return c.do(ctx, call{method: "DELETE", path: "/v1/batches/" + id.String()}, nil)
}

// WaitBatch returns a batch once it ended, and calls progress, unless that is nil, each
// time it looked, at least every second.
func (c *Client) WaitBatch(ctx context.Context, id hark.BatchID, progress func(*Batch)) (*Batch, error) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		b, err := c.Batch(ctx, id)
		if err != nil {
			return nil, err
		}
		if progress != nil {
			progress(b)
		}
		if b.State != hark.BatchOpen {
			return b, nil
		}
		if !sleep(ctx, wait) {
			return b, context.Cause(ctx)
		}
	}
}
