package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// Destination is a destination as the server shows it.
type Destination struct {
	hark.Destination
	// Secret signs its webhooks. It is there at creation, after a rotation, and for
	// keys that may see it.
	Secret hark.Secret `json:"secret,omitempty"`
	// PublicKey (whpk_…) verifies its webhooks when they are signed with v1a; it is no
	// secret, and empty otherwise.
	PublicKey string `json:"public_key,omitempty"`
	// OldSecrets were rotated and still sign; they are shown where Secret is.
	OldSecrets []OldSecret `json:"old_secrets,omitempty"`
	// Status is what it is doing now; only [Client.Destination] tells.
	Status *hark.DestinationStatus `json:"status,omitempty"`
}

// OldSecret is a rotated secret that still signs.
type OldSecret struct {
	Secret  hark.Secret `json:"secret"`
	Expires time.Time   `json:"expires"`
}

// DestinationSpec is what an owner says about a destination.
type DestinationSpec struct {
	// UID is the owner's own name for it, unique in the tenant.
	UID    string         `json:"uid,omitempty"`
	Name   string         `json:"name,omitempty"`
	Kind   string         `json:"kind"`
	Topics []hark.Pattern `json:"topics"`
	// Filter chooses by content, such as {"data.total": {"$gte": 100}}.
	Filter any `json:"filter,omitempty"`
	// Settings are the kind's own, such as {"url": "https://…"} for a webhook.
	Settings any `json:"settings,omitempty"`
	// Secret signs (whsec_…, or whsk_… for v1a); the server makes one if it is empty and
	// the kind signs.
	Secret hark.Secret `json:"secret,omitempty"`

	Ordered     bool        `json:"ordered,omitempty"`
	OnDead      hark.OnDead `json:"on_dead,omitempty"`
	Retry       *hark.Retry `json:"retry,omitempty"`
	RateLimit   float64     `json:"rate_limit,omitempty"`
	Concurrency int         `json:"concurrency,omitempty"`
	// Start is where a new destination begins: "earliest", an event id or an RFC 3339
	// time; empty for now.
	Start string `json:"start,omitempty"`
}

// Webhook is the spec of a webhook to a URL for topics that match a pattern.
func Webhook(to string, topics ...hark.Pattern) DestinationSpec {
	return DestinationSpec{Kind: "webhook", Topics: topics, Settings: map[string]any{"url": to}}
}

// Patch is a change of some fields, by their names in JSON.
type Patch map[string]any

func destinationPath(id hark.DestinationID, verb ...string) string {
	return "/v1/destinations/" + strings.Join(append([]string{id.String()}, verb...), "/")
}

// CreateDestination makes a destination. The answer holds its secret.
func (c *Client) CreateDestination(ctx context.Context, spec DestinationSpec) (*Destination, error) {
	return c.destination(ctx, call{method: "POST", path: "/v1/destinations", body: spec})
}

// PutDestination makes the destination with spec.UID, or changes the one that has it.
// Doing it twice is the same as doing it once.
func (c *Client) PutDestination(ctx context.Context, spec DestinationSpec) (*Destination, error) {
	if spec.UID == "" {
		return nil, hark.Invalidf("uid", "is needed to create or replace by it")
	}
	path := "/v1/destinations/uid/" + url.PathEscape(spec.UID)
	return c.destination(ctx, call{method: "PUT", path: path, body: spec, safe: true})
}

// Destination returns one, with its status.
func (c *Client) Destination(ctx context.Context, id hark.DestinationID) (*Destination, error) {
	return c.destination(ctx, call{method: "GET", path: destinationPath(id), safe: true})
}

// RevealDestination is [Client.Destination] with the signing secrets; it needs an admin key.
func (c *Client) RevealDestination(ctx context.Context, id hark.DestinationID) (*Destination, error) {
	return c.destination(ctx, call{method: "GET", path: destinationPath(id), query: values("reveal", "true"), safe: true})
}

// UpdateDestination changes the given fields.
func (c *Client) UpdateDestination(ctx context.Context, id hark.DestinationID, patch Patch) (*Destination, error) {
	return c.destination(ctx, call{method: "PATCH", path: destinationPath(id), body: patch, safe: true})
}

// DeleteDestination removes one with its deliveries.
func (c *Client) DeleteDestination(ctx context.Context, id hark.DestinationID) error {
	return c.do(ctx, call{method: "DELETE", path: destinationPath(id)}, nil)
}

// PauseDestination stops sending; the cursor waits. The reason is for people.
func (c *Client) PauseDestination(ctx context.Context, id hark.DestinationID, reason string) (*Destination, error) {
	body := Patch{}
	if reason != "" {
		body["reason"] = reason
	}
	return c.destination(ctx, call{method: "POST", path: destinationPath(id, "pause"), body: body, safe: true})
}

// ResumeDestination sends again, from where it stopped.
func (c *Client) ResumeDestination(ctx context.Context, id hark.DestinationID) (*Destination, error) {
	return c.destination(ctx, call{method: "POST", path: destinationPath(id, "resume"), safe: true})
}

// RotateSecret makes a new secret, which the answer holds. The old one signs beside it
// for overlap, such as [hark.RotationOverlap]; 0 ends it at once.
func (c *Client) RotateSecret(ctx context.Context, id hark.DestinationID, overlap time.Duration) (*Destination, error) {
	body := Patch{"overlap": hark.Duration(overlap)}
	return c.destination(ctx, call{method: "POST", path: destinationPath(id, "rotate-secret"), body: body})
}

func (c *Client) destination(ctx context.Context, k call) (*Destination, error) {
	var d Destination
	if err := c.do(ctx, k, &d); err != nil {
		return nil, err
	}
	return &d, nil
}

// DestinationQuery chooses destinations. Empty fields choose all.
type DestinationQuery struct {
	Kind  string
	State hark.DestinationState
	UID   string
	// PageSize is how many one request asks for; 0 leaves it to the server.
	PageSize int
}

// Destinations lists destinations, oldest first. The first error ends it.
func (c *Client) Destinations(ctx context.Context, q DestinationQuery) iter.Seq2[*Destination, error] {
	query := values("kind", q.Kind, "state", string(q.State), "uid", q.UID)
	return pages[*Destination](ctx, c, "/v1/destinations", "destinations", query, q.PageSize)
}

// values makes a query of pairs, leaving out what is empty.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

// pages walks a list page by page: {noun: […], "next": "…"}.
func pages[T any](ctx context.Context, c *Client, path, noun string, query url.Values, size int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		if size > 0 {
			query.Set("limit", strconv.Itoa(size))
		}
		for {
			var answer map[string]json.RawMessage
			if err := c.do(ctx, call{method: "GET", path: path, query: query, safe: true}, &answer); err != nil {
				yield(zero, err)
				return
			}
			var items []T
			var next string
			if err := decodePage(answer, noun, &items, &next); err != nil {
				yield(zero, fmt.Errorf("the list of %s is not what a hark server says: %w", noun, err))
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == "" || next == query.Get("after") {
				return
			}
			query.Set("after", next)
		}
	}
}

func decodePage(answer map[string]json.RawMessage, noun string, items, next any) error {
	if err := json.Unmarshal(answer[noun], items); err != nil {
		return err
	}
	if len(answer["next"]) == 0 {
		return nil
	}
	return json.Unmarshal(answer["next"], next)
}

// TestResult is what a test event met.
type TestResult struct {
	Delivery Delivery `json:"delivery"`
	// Attempt is nil when there was none in time.
	Attempt *Attempt `json:"attempt,omitempty"`
}

// TestDestination sends a test event now and waits for how it went. The error is about
// the asking; whether the destination took the event is in the attempt.
func (c *Client) TestDestination(ctx context.Context, id hark.DestinationID) (*TestResult, error) {
	var r TestResult
	k := call{method: "POST", path: destinationPath(id, "test"), wait: hark.MaxTimeout}
	if err := c.do(ctx, k, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// ReplayRange says what to deliver again. From is an event id, an RFC 3339 time or
// "earliest"; To is an id (that event is the last) or a time, or empty for now.
type ReplayRange struct {
	From string `json:"from"`
	To   string `json:"to,omitempty"`
}

// ReplayDestination starts delivering a past range again.
func (c *Client) ReplayDestination(ctx context.Context, id hark.DestinationID, r ReplayRange) (*hark.ReplayStatus, error) {
	var answer struct {
		Replay *hark.ReplayStatus `json:"replay"`
	}
	if err := c.do(ctx, call{method: "POST", path: destinationPath(id, "replay"), body: r}, &answer); err != nil {
		return nil, err
	}
	return answer.Replay, nil
}

// CancelReplay ends a replay under way. What it reopened already goes on.
func (c *Client) CancelReplay(ctx context.Context, id hark.DestinationID) error {
	return c.do(ctx, call{method: "DELETE", path: destinationPath(id, "replay"), safe: true}, nil)
}
