package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

// maxPull bounds how many deliveries one pull grants, maxPullWait how long it waits for one.
const (
	maxPull     = 1000
	maxPullWait = 30 * time.Second
)

// Pull answers POST /v1/destinations/{id}/pull: deliveries for one worker, each
// until its lease ends. The leases are durable before the answer.
func (a *API) Pull(w http.ResponseWriter, r *http.Request) error {
	d, err := a.destination(r.Context(), &DestinationPath{ID: r.PathValue("id")})
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if err := knownQuery(q, "max", "lease", "wait"); err != nil {
		return err
	}
	most, err := intOf(q, "max", 10, 1, maxPull)
	if err != nil {
		return err
	}
	lease, err := durationOf(q.Get("lease"), "lease", 0, time.Second, hark.MaxLease)
	if err != nil {
		return err
	}
	wait, err := durationOf(q.Get("wait"), "wait", 0, 0, maxPullWait)
	if err != nil {
		return err
	}
	grants, err := a.Deliver.Pull(r.Context(), d, most, lease, wait)
	if err != nil {
		return err
	}
	w.Header()["Content-Type"] = jsonContentType
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(appendGrants(nil, grants))
	return ignoreWrite(err)
}

func appendGrants(b []byte, grants []Grant) []byte {
	b = append(b, `{"deliveries":[`...)
	for i, g := range grants {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"delivery":%q,"token":"%016x","lease_until":%q,"attempt":%d,"event":`,
			g.Lease.Delivery, g.Lease.Token, g.Until.UTC().Format(time.RFC3339Nano), g.Attempt)
		b = append(hark.AppendEventJSON(b, g.Event), '}')
	}
	return append(b, "]}\n"...)
}

func durationOf(text, field string, otherwise, least, most time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	v, err := time.ParseDuration(text)
	if n, numErr := strconv.Atoi(text); err != nil && numErr == nil {
		v, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || v < least || v > most {
		return 0, hark.Invalidf(field, fmt.Sprintf("must be a duration from %s to %s, such as 30s", least, most))
	}
	return v, nil
}

// LeaseBody names a grant.
type LeaseBody struct {
	Delivery hark.DeliveryID `json:"delivery"`
	Token    string          `json:"token" pattern:"^[0-9a-f]{16}$"`
}

// LeasesInput is the input of ack, nack and extend.
type LeasesInput struct {
	DestinationPath
	Body struct {
		Deliveries []LeaseBody    `json:"deliveries" minItems:"1" maxItems:"1000"`
		Delay      *hark.Duration `json:"delay,omitempty" doc:"nack: how long before it is handed out again; the schedule's next wait when missing."`
		Lease      *hark.Duration `json:"lease,omitempty" doc:"extend: how long from now (default 30s)."`
	}
}

func (in *LeasesInput) leases() ([]Lease, error) {
	leases := make([]Lease, len(in.Body.Deliveries))
	for i, b := range in.Body.Deliveries {
		token, err := strconv.ParseUint(b.Token, 16, 64)
		if err != nil {
			return nil, hark.Invalidf(fmt.Sprintf("deliveries[%d].token", i), "is not a token of a pull")
		}
		leases[i] = Lease{Delivery: b.Delivery, Token: token}
	}
	return leases, nil
}

// Ack answers POST …/ack: done. Each lease stands alone: a 409 names those whose
// token is stale, and the others are done.
func (a *API) Ack(ctx context.Context, in *LeasesInput) (*Nothing, error) {
	d, leases, err := a.leased(ctx, in)
	if err != nil {
		return nil, err
	}
	return nil, a.Deliver.Ack(ctx, d, leases)
}

// Nack answers POST …/nack: hand them out again.
func (a *API) Nack(ctx context.Context, in *LeasesInput) (*Nothing, error) {
	d, leases, err := a.leased(ctx, in)
	if err != nil {
		return nil, err
	}
	delay := time.Duration(-time.Millisecond) // the schedule's next wait
	if in.Body.Delay != nil {
		delay = time.Duration(*in.Body.Delay)
		if delay < 0 || delay > hark.MaxLease {
			return nil, hark.Invalidf("delay", "must be between 0s and 12h")
		}
	}
	return nil, a.Deliver.Nack(ctx, d, leases, delay)
}

// ExtendAnswer tells until when the leases hold now.
type ExtendAnswer struct {
	Body struct {
		LeaseUntil time.Time `json:"lease_until"`
	}
}

// Extend answers POST …/extend.
func (a *API) Extend(ctx context.Context, in *LeasesInput) (*ExtendAnswer, error) {
	d, leases, err := a.leased(ctx, in)
	if err != nil {
		return nil, err
	}
	lease := hark.DefaultLease
	if in.Body.Lease != nil {
		lease = time.Duration(*in.Body.Lease)
		if lease < time.Second || lease > hark.MaxLease {
			return nil, hark.Invalidf("lease", "must be between 1s and 12h")
		}
	}
	out := &ExtendAnswer{}
	out.Body.LeaseUntil, err = a.Deliver.Extend(ctx, d, leases, lease)
	return out, err
}

func (a *API) leased(ctx context.Context, in *LeasesInput) (*hark.Destination, []Lease, error) {
	d, err := a.destination(ctx, &in.DestinationPath)
	if err != nil {
		return nil, nil, err
	}
	leases, err := in.leases()
	return d, leases, err
}

// appendTest appends a sample event for a destination and returns its offset.
func (a *API) appendTest(ctx context.Context, d *hark.Destination) (hark.Offset, error) {
	data, err := json.Marshal(map[string]string{"message": "Hello from Hark: this is a test.", "destination": d.ID.String()})
	if err != nil {
		return 0, err
	}
	done, err := a.Log.Append(ctx, d.Tenant, []hark.Event{{Topic: TestTopic, ContentType: "application/json", Data: data}}, eventlog.Idempotency{})
	return done.First.Offset, err
}
