package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// Receipt is the server's word that an event is durable.
type Receipt struct {
	ID hark.EventID `json:"id"`
	// Duplicate is true when an earlier request with the same idempotency key had
	// published it already; ID is that event's.
	Duplicate bool `json:"duplicate,omitempty"`
}

// BatchReceipt is a [Receipt] of several events, in their order.
type BatchReceipt struct {
	IDs       []hark.EventID `json:"ids"`
	Duplicate bool           `json:"duplicate,omitempty"`
}

// PublishOption changes one publishing.
type PublishOption func(*publishing)

type publishing struct{ key string }

// IdempotencyKey names the publishing: within 24 hours the server takes a second one
// with the same key for a repetition. Without it the client makes a random key, which
// covers its own retries.
func IdempotencyKey(key string) PublishOption { return func(p *publishing) { p.key = key } }

func idempotency(options []PublishOption) (http.Header, error) {
	p := publishing{key: rand.Text()}
	for _, set := range options {
		set(&p)
	}
	if p.key == "" || len(p.key) > hark.MaxIdempotency {
		return nil, hark.Invalidf("idempotency-key", fmt.Sprintf("must have 1 to %d bytes", hark.MaxIdempotency))
	}
	return http.Header{"Idempotency-Key": {p.key}}, nil
}

// Publish publishes one event: its topic, and of the optional fields those that are
// set: Data, ContentType, Key, Attributes and Time. Data arrives byte for byte.
//
// An empty ContentType is chosen by the data: "application/json" when it is one JSON
// value, "text/plain; charset=utf-8" when it is text, else "application/octet-stream".
func (c *Client) Publish(ctx context.Context, e hark.Event, options ...PublishOption) (Receipt, error) {
	var receipt Receipt
	header, err := idempotency(options)
	if err != nil {
		return receipt, err
	}
	body, err := appendMessage(nil, &e)
	if err != nil {
		return receipt, err
	}
	err = c.do(ctx, call{method: "POST", path: "/v1/events", header: header, body: body, contentType: "application/json", safe: true}, &receipt)
	return receipt, err
}

// PublishJSON publishes v, encoded as JSON.
func (c *Client) PublishJSON(ctx context.Context, topic string, v any, options ...PublishOption) (Receipt, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return Receipt{}, err
	}
	return c.Publish(ctx, hark.Event{Topic: topic, ContentType: "application/json", Data: data}, options...)
}

// PublishRaw publishes data of any type as it is, without wrapping it in JSON: the
// cheapest way for what is large or binary. It carries no key, time or attributes.
func (c *Client) PublishRaw(ctx context.Context, topic, contentType string, data []byte, options ...PublishOption) (Receipt, error) {
	var receipt Receipt
	if err := hark.CheckTopic(topic); err != nil {
		return receipt, err
	}
	header, err := idempotency(options)
	if err != nil {
		return receipt, err
	}
	if contentType == "" {
		contentType = guessType(data)
	}
	err = c.do(ctx, call{method: "POST", path: "/v1/topics/" + url.PathEscape(topic), header: header, body: nonNil(data), contentType: contentType, safe: true}, &receipt)
	return receipt, err
}

// PublishBatch publishes several events atomically: all of them or none, next to each
// other in the log. At most [hark.MaxBatchEvents] and [hark.MaxBatchBytes].
func (c *Client) PublishBatch(ctx context.Context, events []hark.Event, options ...PublishOption) (BatchReceipt, error) {
	var receipt BatchReceipt
	if len(events) == 0 {
		return receipt, errors.New("a batch needs at least one event")
	}
	if len(events) > hark.MaxBatchEvents {
		return receipt, &hark.Error{Kind: hark.TooLarge, Code: "batch-too-large",
			Msg: fmt.Sprintf("a batch holds at most %d events, not %d: send several", hark.MaxBatchEvents, len(events))}
	}
	header, err := idempotency(options)
	if err != nil {
		return receipt, err
	}
	body := []byte{'['}
	for i := range events {
		if i > 0 {
			body = append(body, ',')
		}
		if body, err = appendMessage(body, &events[i]); err != nil {
			return receipt, fmt.Errorf("event %d: %w", i, err)
		}
	}
	body = append(body, ']')
	err = c.do(ctx, call{method: "POST", path: "/v1/events", header: header, body: body, contentType: "application/json", safe: true}, &receipt)
	return receipt, err
}

// message is an event as it is sent, but for its data.
type message struct {
	Topic       string            `json:"topic"`
	Key         string            `json:"key,omitempty"`
	ContentType string            `json:"content_type"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	Time        time.Time         `json:"time,omitzero"`
}

// appendMessage writes e by hand where encoding/json would change it: it compacts
// what it is given as JSON, and the bytes must arrive as they are.
func appendMessage(dst []byte, e *hark.Event) ([]byte, error) {
	if err := hark.CheckTopic(e.Topic); err != nil {
		return nil, err
	}
	m := message{Topic: e.Topic, Key: e.Key, ContentType: e.ContentType, Attributes: e.Attributes, Time: e.Time}
	if m.ContentType == "" {
		m.ContentType = guessType(e.Data)
	}
	head, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	dst = append(dst, head[:len(head)-1]...)
	switch {
	case hark.IsJSON(m.ContentType) && isBareJSON(e.Data):
		dst = append(append(dst, `,"data":`...), e.Data...)
	case hark.IsText(m.ContentType) && utf8.Valid(e.Data):
		text, err := json.Marshal(string(e.Data))
		if err != nil {
			return nil, err
		}
		dst = append(append(dst, `,"data":`...), text...)
	default:
		dst = append(dst, `,"data_base64":"`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, e.Data), '"')
	}
	return append(dst, '}'), nil
}

// isBareJSON: white space around the value would be lost as a part of the request.
func isBareJSON(data []byte) bool {
	return utf8.Valid(data) && len(bytes.TrimSpace(data)) == len(data) && json.Valid(data)
}

func guessType(data []byte) string {
	switch {
	case utf8.Valid(data) && json.Valid(data):
		return "application/json"
	case utf8.Valid(data):
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
