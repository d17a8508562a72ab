package client

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/harkhq/hark"
)

// Lease is a delivery that belongs to this worker for a while.
type Lease struct {
	Delivery hark.DeliveryID
	// Token proves the lease; a later lease of the same delivery makes it stale.
	Token string
	Until time.Time
	// Attempt counts how often the delivery was handed out, from 1.
	Attempt int
	Event   hark.Event
}

// PullOptions say how much to pull. The zero value takes one delivery, if there is one.
type PullOptions struct {
	// Max is how many deliveries to take at most; 0 means 1.
	Max int
	// Lease is how long they belong to this worker; 0 leaves it to the server (30 s).
	Lease time.Duration
	// Wait is how long to wait for the first one.
	Wait time.Duration
}

// Pull takes deliveries of a pull destination. Each must be acked, nacked or extended
// before its lease ends; else another worker gets it. Most programs want [Client.Work].
func (c *Client) Pull(ctx context.Context, from hark.DestinationID, o PullOptions) ([]Lease, error) {
	query := values("max", strconv.Itoa(max(o.Max, 1)))
	if o.Lease > 0 {
		query.Set("lease", o.Lease.String())
	}
	if o.Wait > 0 {
		query.Set("wait", o.Wait.String())
	}
	var answer struct {
		Deliveries []leaseJSON `json:"deliveries"`
	}
	k := call{method: "POST", path: destinationPath(from, "pull"), query: query, wait: o.Wait}
	if err := c.do(ctx, k, &answer); err != nil {
		return nil, err
	}
	leases := make([]Lease, len(answer.Deliveries))
	for i, l := range answer.Deliveries {
		e, err := parseEvent(l.Event)
		if err != nil {
			return nil, fmt.Errorf("delivery %v: %w", l.Delivery, err)
		}
		leases[i] = Lease{Delivery: l.Delivery, Token: l.Token, Until: l.Until, Attempt: l.Attempt, Event: e}
	}
	return leases, nil
}

type leaseJSON struct {
	Delivery hark.DeliveryID `json:"delivery"`
	Token    string          `json:"token"`
	Until    time.Time       `json:"lease_until"`
	Attempt  int             `json:"attempt"`
	Event    json.RawMessage `json:"event"`
}

// leaseRef names a lease in a request.
type leaseRef struct {
	Delivery hark.DeliveryID `json:"delivery"`
	Token    string          `json:"token"`
}

type leaseRefs struct {
	Deliveries []leaseRef     `json:"deliveries"`
	Delay      *hark.Duration `json:"delay,omitempty"`
	Lease      hark.Duration  `json:"lease,omitzero"`
}

func refs(leases []Lease) leaseRefs {
	r := leaseRefs{Deliveries: make([]leaseRef, len(leases))}
	for i, l := range leases {
		r.Deliveries[i] = leaseRef{l.Delivery, l.Token}
	}
	return r
}

// Ack says that the work is done. It returns after the server made that durable.
func (c *Client) Ack(ctx context.Context, from hark.DestinationID, leases ...Lease) error {
	return c.settle(ctx, from, "ack", refs(leases))
}

// Nack gives deliveries back, to be handed out again after delay; negative leaves the
// delay to the destination's schedule.
func (c *Client) Nack(ctx context.Context, from hark.DestinationID, delay time.Duration, leases ...Lease) error {
	r := refs(leases)
	if delay >= 0 {
		r.Delay = new(hark.Duration(delay))
	}
	return c.settle(ctx, from, "nack", r)
}

// Extend makes the leases last for another stretch from now.
func (c *Client) Extend(ctx context.Context, from hark.DestinationID, lease time.Duration, leases ...Lease) error {
	r := refs(leases)
	r.Lease = hark.Duration(lease)
	return c.settle(ctx, from, "extend", r)
}

func (c *Client) settle(ctx context.Context, from hark.DestinationID, verb string, r leaseRefs) error {
	if len(r.Deliveries) == 0 {
		return nil
	}
	return c.do(ctx, call{method: "POST", path: destinationPath(from, verb), body: r, safe: true}, nil)
}
