package api

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
	"github.com/harkhq/hark/internal/store"
)

// DestinationBody is what an owner writes.
type DestinationBody struct {
	Kind     string          `json:"kind" doc:"What carries the events." example:"webhook"`
	Topics   []hark.Pattern  `json:"topics" doc:"Which topics matter: * is one token, a last > one or more." example:"[\"orders.*\"]" minItems:"1" maxItems:"64"`
	Settings json.RawMessage `json:"settings,omitempty" doc:"The kind's own settings." example:"{\"url\":\"https://example.com/hook\"}"`
	UID      string          `json:"uid,omitempty" doc:"Your own name for it, unique in the tenant." maxLength:"255" example:"billing"`
	Name     string          `json:"name,omitempty" maxLength:"255"`
	Filter   json.RawMessage `json:"filter,omitempty" doc:"Which of the matching events matter, by their content."`

	Ordered     bool        `json:"ordered,omitempty" doc:"Keep one delivery in flight per key."`
	OnDead      hark.OnDead `json:"on_dead,omitempty" enum:"continue,stop" doc:"What an ordered destination does after a delivery died."`
	Retry       *hark.Retry `json:"retry,omitempty"`
	RateLimit   float64     `json:"rate_limit,omitempty" minimum:"0" doc:"Deliveries per second; 0 for no limit."`
	Concurrency int         `json:"concurrency,omitempty" minimum:"0" doc:"Most deliveries in flight; 0 leaves it to adaptation."`
	Secret      hark.Secret `json:"secret,omitempty" doc:"A signing secret of your own (whsec_ and base64); one is made when it is missing."`
	Start       string      `json:"start,omitempty" doc:"Where a new destination begins: now (default), earliest, an event id or a time." example:"now"`
}

// DestinationView is what a reader gets. Secrets are in it only where they were asked for.
type DestinationView struct {
	ID          hark.DestinationID    `json:"id"`
	UID         string                `json:"uid,omitempty"`
	Name        string                `json:"name,omitempty"`
	Kind        string                `json:"kind"`
	Topics      []hark.Pattern        `json:"topics"`
	Callback    bool                  `json:"callback,omitempty" doc:"Made by Hark for the callbacks of batches: it has no topics and gets only what is sent to it."`
	Settings    json.RawMessage       `json:"settings"`
	Filter      json.RawMessage       `json:"filter,omitempty"`
	Ordered     bool                  `json:"ordered,omitempty"`
	OnDead      hark.OnDead           `json:"on_dead,omitempty"`
	Retry       *hark.Retry           `json:"retry,omitempty"`
	RateLimit   float64               `json:"rate_limit,omitempty"`
	Concurrency int                   `json:"concurrency,omitempty"`
	State       hark.DestinationState `json:"state"`
	Reason      string                `json:"reason,omitempty"`
	Created     time.Time             `json:"created"`
	Updated     time.Time             `json:"updated"`
	Revision    uint64                `json:"revision"`
	Secret      string                `json:"secret,omitempty" doc:"Verifies what arrives; shown at creation and rotation, and with ?reveal=true to an admin."`
	PublicKey   string                `json:"public_key,omitempty" doc:"Verifies what arrives when the signature is v1a (Ed25519); not a secret."`
	OldSecrets  []OldSecret           `json:"old_secrets,omitempty" doc:"Rotated secrets that still sign."`
	Status      *StatusView           `json:"status,omitempty"`
}

// OldSecret is a rotated secret that still signs.
type OldSecret struct {
	Secret  string    `json:"secret"`
	Expires time.Time `json:"expires,omitzero" doc:"Missing when it goes on signing, as an audience's do."`
}

// StatusView is a destination's status.
type StatusView = hark.DestinationStatus

func (a *API) view(d *hark.Destination, reveal bool) DestinationView {
	v := DestinationView{ID: d.ID, UID: d.UID, Name: d.Name, Kind: d.Kind, Topics: d.Topics, Callback: d.Callback, Settings: a.Redact(d),
		Filter: d.Filter, Ordered: d.Ordered, OnDead: d.OnDead, Retry: d.Retry, RateLimit: d.RateLimit,
		Concurrency: d.Concurrency, State: d.State, Reason: d.Reason, Created: d.Created, Updated: d.Updated, Revision: d.Revision}
	if len(d.Secrets) > 0 {
		v.PublicKey = a.PublicKey(d.Secrets[0].Value)
	}
	if !reveal {
		return v
	}
	for i, s := range d.Secrets {
		if i == 0 {
			v.Secret = s.Value.Reveal()
		} else if s.Expires.IsZero() || s.Expires.After(time.Now()) {
			v.OldSecrets = append(v.OldSecrets, OldSecret{Secret: s.Value.Reveal(), Expires: s.Expires})
		}
	}
	return v
}

func (b *DestinationBody) destination() *hark.Destination {
	d := &hark.Destination{Kind: b.Kind, Topics: b.Topics, Settings: b.Settings, UID: b.UID, Name: b.Name, Filter: b.Filter,
		Ordered: b.Ordered, OnDead: b.OnDead, Retry: b.Retry, RateLimit: b.RateLimit, Concurrency: b.Concurrency}
	if b.Secret != "" {
		d.Secrets = []hark.SigningSecret{{Value: b.Secret}}
	}
	return d
}

// DestinationAnswer carries one destination.
type DestinationAnswer struct {
	Status int    `json:"-"`
	ETag   string `header:"ETag" doc:"The revision, for If-Match."`
	Body   DestinationView
}

func (a *API) answer(d *hark.Destination, reveal bool) *DestinationAnswer {
	return &DestinationAnswer{Status: 200, ETag: etagOf(d.Revision), Body: a.view(d, reveal)}
}

// DestinationCreate is the input of POST /v1/destinations.
type DestinationCreate struct{ Body DestinationBody }

// CreateDestination answers POST /v1/destinations.
func (a *API) CreateDestination(ctx context.Context, in *DestinationCreate) (*DestinationAnswer, error) {
	attach, err := a.startAttach(ctx, in.Body.Start, in.Body.Topics)
	if err != nil {
		return nil, err
	}
	d, err := a.Registry.CreateDestination(tenantOf(ctx), in.Body.destination(), attach)
	if err != nil {
		return nil, err
	}
	answer := a.answer(d, true)
	answer.Status = 201
	return answer, nil
}

// startAttach makes the record that starts a new destination elsewhere than at now.
func (a *API) startAttach(ctx context.Context, start string, topics []hark.Pattern) (registry.Attach, error) {
	if err := mayReach(ctx, topics); err != nil {
		return nil, err
	}
	if start == "" || start == "now" {
		return nil, nil
	}
	after, err := a.fromOf(tenantOf(ctx), "start", start)
	if err != nil {
		return nil, err
	}
	return a.Deliver.StartAt(after), nil
}

// mayReach: a destination reads for its owner, so it may not see more than its owner
// may: before a change, too, or what it is sent could be led elsewhere.
func mayReach(ctx context.Context, topics []hark.Pattern) error {
	if len(topics) == 0 {
		return nil // refused with all other faults
	}
	if err := hark.CheckPatterns(topics); err != nil {
		return err
	}
	return callerOf(ctx).MayRoute(topics)
}

// DestinationUpsert is the input of PUT /v1/destinations/uid/{uid}.
type DestinationUpsert struct {
	UID     string `path:"uid" maxLength:"255"`
	IfMatch string `header:"If-Match" doc:"Only change this revision."`
	Body    DestinationBody
}

// PutDestination answers PUT /v1/destinations/uid/{uid}: create or replace.
func (a *API) PutDestination(ctx context.Context, in *DestinationUpsert) (*DestinationAnswer, error) {
	if in.Body.UID != "" && in.Body.UID != in.UID {
		return nil, hark.Invalidf("uid", "differs from the one in the path; leave it out of the body")
	}
	revision, err := revisionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	attach, err := a.startAttach(ctx, in.Body.Start, in.Body.Topics)
	if err != nil {
		return nil, err
	}
	present, _ := a.Registry.Destinations(tenantOf(ctx), registry.DestinationQuery{UID: in.UID})
	for _, d := range present {
		if err := mayReach(ctx, d.Topics); err != nil {
			return nil, err
		}
	}
	d := in.Body.destination()
	d.UID = in.UID
	now, created, err := a.Registry.PutDestination(tenantOf(ctx), revision, d, onlyNew(attach))
	if err != nil {
		return nil, err
	}
	answer := a.answer(now, created)
	answer.Status = 200
	if created {
		answer.Status = 201
	}
	return answer, nil
}

// onlyNew keeps a start position from moving a destination that exists.
func onlyNew(attach registry.Attach) registry.Attach {
	if attach == nil {
		return nil
	}
	return func(old, d *hark.Destination) (recs []store.Record, done func(bool)) {
		if old != nil {
			return nil, nil
		}
		return attach(old, d)
	}
}

// DestinationPath names one destination.
type DestinationPath struct {
	ID string `path:"id" doc:"dst_…" example:"dst_0001m5b2t0g00"`
}

func (p *DestinationPath) id() (hark.DestinationID, error) { return hark.ParseDestinationID(p.ID) }

// DestinationGet is the input of GET /v1/destinations/{id}.
type DestinationGet struct {
	DestinationPath
	Reveal bool `query:"reveal" doc:"Show the signing secret; needs an admin key."`
}

// GetDestination answers GET /v1/destinations/{id}, with its status.
func (a *API) GetDestination(ctx context.Context, in *DestinationGet) (*DestinationAnswer, error) {
	if in.Reveal {
		if err := callerOf(ctx).Require(registry.ScopeAdmin); err != nil {
			return nil, err
		}
	}
	d, err := a.destination(ctx, &in.DestinationPath)
	if err != nil {
		return nil, err
	}
	status, err := a.Deliver.Status(d)
	if err != nil {
		return nil, err
	}
	answer := a.answer(d, in.Reveal)
	answer.Body.Status = &status
	return answer, nil
}

func (a *API) destination(ctx context.Context, p *DestinationPath) (*hark.Destination, error) {
	id, err := p.id()
	if err != nil {
		return nil, err
	}
	return a.Registry.Destination(tenantOf(ctx), id)
}

// DestinationList is the input of GET /v1/destinations.
type DestinationList struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After string `query:"after" doc:"Go on after this id: the next of the page before."`
	Kind  string `query:"kind"`
	State string `query:"state" enum:"active,paused,disabled"`
	UID   string `query:"uid"`
}

// DestinationPage carries destinations.
type DestinationPage struct {
	Body struct {
		Destinations []DestinationView `json:"destinations"`
		Next         string            `json:"next,omitempty" doc:"Give it as after for the next page; missing on the last."`
	}
}

// ListDestinations answers GET /v1/destinations.
func (a *API) ListDestinations(ctx context.Context, in *DestinationList) (*DestinationPage, error) {
	q := registry.DestinationQuery{Limit: in.Limit, Kind: in.Kind, State: hark.DestinationState(in.State), UID: in.UID}
	if in.After != "" {
		id, err := hark.ParseDestinationID(in.After)
		if err != nil {
			return nil, err
		}
		q.After = id
	}
	page, more := a.Registry.Destinations(tenantOf(ctx), q)
	out := &DestinationPage{}
	out.Body.Destinations = make([]DestinationView, len(page))
	for i, d := range page {
		out.Body.Destinations[i] = a.view(d, false)
	}
	if more {
		out.Body.Next = page[len(page)-1].ID.String()
	}
	return out, nil
}

// DestinationPatch is the input of PATCH /v1/destinations/{id}: what is left out stays.
type DestinationPatch struct {
	DestinationPath
	IfMatch string `header:"If-Match" doc:"Only change this revision."`
	Body    struct {
		Topics      []hark.Pattern  `json:"topics,omitempty" maxItems:"64"`
		Settings    json.RawMessage `json:"settings,omitempty" doc:"Merged into the present settings (RFC 7396): null removes a field."`
		UID         *string         `json:"uid,omitempty"`
		Name        *string         `json:"name,omitempty"`
		Filter      json.RawMessage `json:"filter,omitempty" doc:"null removes it."`
		Ordered     *bool           `json:"ordered,omitempty"`
		OnDead      *hark.OnDead    `json:"on_dead,omitempty" enum:"continue,stop"`
		Retry       *hark.Retry     `json:"retry,omitempty"`
		RateLimit   *float64        `json:"rate_limit,omitempty" minimum:"0"`
		Concurrency *int            `json:"concurrency,omitempty" minimum:"0"`
	}
}

// PatchDestination answers PATCH /v1/destinations/{id}.
func (a *API) PatchDestination(ctx context.Context, in *DestinationPatch) (*DestinationAnswer, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := mayReach(ctx, in.Body.Topics); err != nil {
		return nil, err
	}
	d, err := a.Registry.UpdateDestination(tenantOf(ctx), id, revision, func(d *hark.Destination) error {
		if err := mayReach(ctx, d.Topics); err != nil {
			return err
		}
		return in.edit(d)
	})
	if err != nil {
		return nil, err
	}
	return a.answer(d, false), nil
}

func (in *DestinationPatch) edit(d *hark.Destination) (err error) {
	b := &in.Body
	if b.Topics != nil {
		d.Topics = b.Topics
	}
	if b.Settings != nil {
		if d.Settings, err = mergePatch(d.Settings, b.Settings); err != nil {
			return err
		}
	}
	if b.Filter != nil {
		d.Filter = b.Filter
		if bytes.Equal(b.Filter, []byte("null")) {
			d.Filter = nil
		}
	}
	if b.Retry != nil {
		d.Retry = b.Retry
	}
	give(&d.UID, b.UID)
	give(&d.Name, b.Name)
	give(&d.Ordered, b.Ordered)
	give(&d.OnDead, b.OnDead)
	give(&d.RateLimit, b.RateLimit)
	give(&d.Concurrency, b.Concurrency)
	return nil
}

func give[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// mergePatch merges the fields of one JSON object into another, RFC 7396 at the first level.
func mergePatch(old, patch json.RawMessage) (json.RawMessage, error) {
	was, change := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if len(old) > 0 {
		if err := json.Unmarshal(old, &was); err != nil {
			return nil, err
		}
	}
	if json.Unmarshal(patch, &change) != nil || change == nil {
		return nil, hark.Invalidf("settings", "must be a JSON object")
	}
	for name, value := range change {
		if bytes.Equal(value, []byte("null")) {
			delete(was, name)
		} else {
			was[name] = value
		}
	}
	return json.Marshal(was)
}

// DestinationDelete is the input of DELETE /v1/destinations/{id}.
type DestinationDelete struct {
	DestinationPath
	IfMatch string `header:"If-Match" doc:"Only delete this revision."`
}

// Nothing is an answer without a body: 204.
type Nothing struct{}

// DeleteDestination answers DELETE /v1/destinations/{id}.
func (a *API) DeleteDestination(ctx context.Context, in *DestinationDelete) (*Nothing, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	return nil, a.Registry.DeleteDestination(tenantOf(ctx), id, revision)
}

// DestinationPause is the input of POST /v1/destinations/{id}/pause.
type DestinationPause struct {
	DestinationPath
	Body *struct {
		Reason string `json:"reason,omitempty" maxLength:"255"`
	}
}

// PauseDestination answers POST …/pause: nothing is sent until it is resumed; its cursor waits.
func (a *API) PauseDestination(ctx context.Context, in *DestinationPause) (*DestinationAnswer, error) {
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	return a.setState(ctx, &in.DestinationPath, hark.DestinationPaused, reason)
}

// ResumeDestination answers POST …/resume, after a pause or after Hark disabled
// it. One that is active and whose breaker is open is probed at once.
func (a *API) ResumeDestination(ctx context.Context, in *DestinationPath) (*DestinationAnswer, error) {
	answer, err := a.setState(ctx, in, hark.DestinationActive, "")
	if err != nil {
		return nil, err
	}
	d, err := a.destination(ctx, in)
	if err != nil {
		return nil, err
	}
	return answer, a.Deliver.Wake(d)
}

func (a *API) setState(ctx context.Context, in *DestinationPath, state hark.DestinationState, reason string) (*DestinationAnswer, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	d, err := a.Registry.SetDestinationState(tenantOf(ctx), id, 0, state, reason)
	if err != nil {
		return nil, err
	}
	return a.answer(d, false), nil
}

// SecretRotate is the input of POST /v1/destinations/{id}/rotate-secret.
type SecretRotate struct {
	DestinationPath
	Body *struct {
		Secret  hark.Secret    `json:"secret,omitempty" doc:"A secret of your own; one is made when it is missing."`
		Overlap *hark.Duration `json:"overlap,omitempty" doc:"How long the old secret still signs too (24h; those of an audience without an end)." example:"24h"`
	}
}

// RotateSecret answers POST …/rotate-secret with the new secret.
func (a *API) RotateSecret(ctx context.Context, in *SecretRotate) (*DestinationAnswer, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	overlap, given := registry.KindOverlap, hark.Secret("")
	if in.Body != nil {
		given = in.Body.Secret
		if in.Body.Overlap != nil {
			overlap = time.Duration(*in.Body.Overlap)
		}
	}
	present, err := a.Registry.Destination(tenantOf(ctx), id)
	if err == nil {
		err = mayReach(ctx, present.Topics) // the answer shows what signs
	}
	if err != nil {
		return nil, err
	}
	d, err := a.Registry.RotateSecret(tenantOf(ctx), id, given, overlap)
	if err != nil {
		return nil, err
	}
	return a.answer(d, true), nil
}
