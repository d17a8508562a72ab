package client

import (
	"context"
	"iter"
	"time"

	"github.com/harkhq/hark"
)

// Attempt is one try of a delivery as the server shows it.
type Attempt struct {
	// Number counts from 1 over all runs.
	Number  int       `json:"number"`
	Run     int       `json:"run"`
	Started time.Time `json:"started"`
	// Millis is how long it took, to the last byte read.
	Millis  float64      `json:"duration_ms"`
	Outcome hark.Outcome `json:"outcome"`
	// Status is the HTTP status; 0 when there was no answer.
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
	// Response is the beginning of the answer.
	Response string `json:"response,omitempty"`
}

// Duration is how long the attempt took.
func (a *Attempt) Duration() time.Duration {
	return time.Duration(a.Millis * float64(time.Millisecond))
}

// Delivery is a delivery as the server shows it.
type Delivery struct {
	hark.Delivery
	Last *Attempt `json:"last_attempt,omitempty"`
	// Log holds all attempts, oldest first; only [Client.Delivery] tells.
	Log []Attempt `json:"attempt_log,omitempty"`
}

// DeliveryQuery chooses deliveries. Empty fields choose all.
type DeliveryQuery struct {
	Destination hark.DestinationID
	Event       hark.EventID
	State       hark.State
	// Topic is a pattern.
	Topic hark.Pattern
	// Since and Until bound when the event was received.
	Since, Until time.Time
	// Text is searched for in the event's data, topic and key, and in attempts' errors
	// and answers.
	Text string
	// PageSize is how many one request asks for; 0 leaves it to the server.
	PageSize int
}

// Deliveries lists deliveries, newest first. The first error ends it.
func (c *Client) Deliveries(ctx context.Context, q DeliveryQuery) iter.Seq2[*Delivery, error] {
	query := values("destination", q.Destination.String(), "event", q.Event.String(), "state", q.State.String(),
		"topic", string(q.Topic), "since", instant(q.Since), "until", instant(q.Until), "q", q.Text)
	return pages[*Delivery](ctx, c, "/v1/deliveries", "deliveries", query, q.PageSize)
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Delivery returns one, with all its attempts.
func (c *Client) Delivery(ctx context.Context, id hark.DeliveryID) (*Delivery, error) {
	return c.delivery(ctx, call{method: "GET", path: "/v1/deliveries/" + id.String(), safe: true})
}

// RetryDelivery sends a finished delivery again, as a new run of the same id.
func (c *Client) RetryDelivery(ctx context.Context, id hark.DeliveryID) (*Delivery, error) {
	return c.delivery(ctx, call{method: "POST", path: "/v1/deliveries/" + id.String() + "/retry"})
}

// CancelDelivery takes back a delivery that is not finished.
func (c *Client) CancelDelivery(ctx context.Context, id hark.DeliveryID) (*Delivery, error) {
	return c.delivery(ctx, call{method: "POST", path: "/v1/deliveries/" + id.String() + "/cancel"})
}

// SendEvent sends any retained event to any destination.
func (c *Client) SendEvent(ctx context.Context, event hark.EventID, to hark.DestinationID) (*Delivery, error) {
	return c.delivery(ctx, call{method: "POST", path: "/v1/deliveries", body: Patch{"event": event, "destination": to}})
}

func (c *Client) delivery(ctx context.Context, k call) (*Delivery, error) {
	var d Delivery
	if err := c.do(ctx, k, &d); err != nil {
		return nil, err
	}
	return &d, nil
}

// RetryFilter chooses finished deliveries to send again. Empty fields choose all, but
// an empty State those that are dead.
type RetryFilter struct {
	Destination hark.DestinationID `json:"destination,omitempty"`
	Event       hark.EventID       `json:"event,omitzero"`
	State       hark.State         `json:"state,omitempty"`
	Topic       hark.Pattern       `json:"topic,omitempty"`
	Since       time.Time          `json:"since,omitzero"`
	Until       time.Time          `json:"until,omitzero"`
	// Limit bounds how many; 0 for all.
	Limit int `json:"-"`
}

// RetryDeliveries sends every chosen delivery again, in as many requests as it takes,
// and returns how many. It returns the number so far beside an error.
func (c *Client) RetryDeliveries(ctx context.Context, f RetryFilter) (retried int, err error) {
	body := struct {
		RetryFilter
		Limit int    `json:"limit,omitempty"`
		After string `json:"after,omitempty"`
	}{RetryFilter: f}
	for {
		if body.Limit = 0; f.Limit > 0 {
			body.Limit = min(f.Limit-retried, hark.MaxPageSize)
		}
		var answer struct {
			Retried int    `json:"retried"`
			Next    string `json:"next"`
		}
		if err := c.do(ctx, call{method: "POST", path: "/v1/deliveries/retry", body: body}, &answer); err != nil {
			return retried, err
		}
		retried += answer.Retried
		if answer.Next == "" || answer.Next == body.After || f.Limit > 0 && retried >= f.Limit {
			return retried, nil
		}
		body.After = answer.Next
	}
}
