package api

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/capture"
	"github.com/harkhq/hark/internal/registry"
)

// What a bin is when its owner says nothing.
const (
	defaultBinTTL      = 7 * 24 * time.Hour
	defaultBinRequests = 1000
	defaultBinBytes    = 32 << 20
)

// Bins is what the handlers need of the registry for bins.
type Bins interface {
	Source(t hark.TenantID, id hark.SourceID) (*hark.Source, error)
	Sources(t hark.TenantID, q registry.SourceQuery) (page []*hark.Source, more bool)
	CreateSource(t hark.TenantID, d *hark.Source) (*hark.Source, error)
	UpdateSource(t hark.TenantID, id hark.SourceID, revision uint64, edit func(d *hark.Source) error) (*hark.Source, error)
	DeleteSource(t hark.TenantID, id hark.SourceID, revision uint64) error
}

// BinBody is what an owner writes. All of it is optional.
type BinBody struct {
	UID         string               `json:"uid,omitempty" maxLength:"255" doc:"Your own name for it, unique in the tenant."`
	Name        string               `json:"name,omitempty" maxLength:"255"`
	Scheme      string               `json:"scheme,omitempty" doc:"Verify with this scheme and note how that went: a bin takes everything all the same. none when it is missing." example:"github"`
	Settings    json.RawMessage      `json:"settings,omitempty" doc:"The scheme's own settings."`
	Secret      hark.Secret          `json:"secret,omitempty" doc:"What to verify with."`
	Response    *hark.SourceResponse `json:"response,omitempty" doc:"What senders are answered: status, headers, body, delay; 200 at once when it is missing."`
	TTL         hark.Duration        `json:"ttl,omitzero" doc:"How long it lives after the last request (168h)." example:"24h"`
	MaxRequests int                  `json:"max_requests,omitempty" minimum:"0" doc:"How many requests it keeps (1000); the oldest go first."`
	MaxBytes    int64                `json:"max_bytes,omitempty" minimum:"0" doc:"How many bytes of requests it keeps (33554432)."`
	MaxBody     int                  `json:"max_body,omitempty" minimum:"0" doc:"Largest body in bytes; 0 for the server's limit."`
	AllowIPs    []string             `json:"allow_ips,omitempty" maxItems:"256" doc:"Addresses and networks that may send; all when it is missing."`
	CORSOrigins []string             `json:"cors_origins,omitempty" maxItems:"64" doc:"Origins of web pages that may send; * for all."`
	RateLimit   float64              `json:"rate_limit,omitempty" minimum:"0" doc:"Requests per second; 0 for the server's default."`
	Concurrency int                  `json:"concurrency,omitempty" minimum:"0" doc:"Requests at once; 0 for the server's default."`
}

func (b *BinBody) source() *hark.Source {
	s := &hark.Source{UID: b.UID, Name: b.Name, Scheme: cmp.Or(b.Scheme, "none"), Settings: b.Settings, Response: b.Response,
		MaxBody: b.MaxBody, AllowIPs: b.AllowIPs, CORSOrigins: b.CORSOrigins, RateLimit: b.RateLimit, Concurrency: b.Concurrency,
		Bin: &hark.Bin{TTL: cmp.Or(b.TTL, hark.Duration(defaultBinTTL)), MaxRequests: cmp.Or(b.MaxRequests, defaultBinRequests),
			MaxBytes: cmp.Or(b.MaxBytes, defaultBinBytes)}}
	if b.Secret != "" {
		s.Secrets = []hark.SigningSecret{{Value: b.Secret}}
	}
	return s
}

// NewBin is a bin whose owner says nothing.
func NewBin() *hark.Source { return new(BinBody).source() }

// BinView is what a reader gets.
type BinView struct {
	ID          hark.SourceID        `json:"id" example:"src_0001m5b2t0g00"`
	UID         string               `json:"uid,omitempty"`
	Name        string               `json:"name,omitempty"`
	URL         string               `json:"url" doc:"Where senders send; any path below it too." example:"https://hooks.example.com/in/4f0c1v9q2m8s7t6u5r3e"`
	Page        string               `json:"page" doc:"Where people look. With its view parameter whoever has the link can see this bin, and nothing else."`
	Scheme      string               `json:"scheme"`
	Settings    json.RawMessage      `json:"settings"`
	Verifying   bool                 `json:"verifying" doc:"It has a secret to verify with."`
	Response    *hark.SourceResponse `json:"response,omitempty"`
	TTL         hark.Duration        `json:"ttl"`
	Expires     time.Time            `json:"expires" doc:"When it and all it holds go; each request moves it."`
	MaxRequests int                  `json:"max_requests"`
	MaxBytes    int64                `json:"max_bytes"`
	MaxBody     int                  `json:"max_body,omitempty"`
	AllowIPs    []string             `json:"allow_ips,omitempty"`
	CORSOrigins []string             `json:"cors_origins,omitempty"`
	RateLimit   float64              `json:"rate_limit,omitempty"`
	Concurrency int                  `json:"concurrency,omitempty"`
	Requests    uint64               `json:"requests" doc:"How many it holds."`
	Bytes       uint64               `json:"bytes" doc:"What they weigh."`
	Newest      string               `json:"newest,omitempty" doc:"The newest of them; watch from here."`
	State       hark.SourceState     `json:"state"`
	Created     time.Time            `json:"created"`
	Updated     time.Time            `json:"updated"`
	Revision    uint64               `json:"revision"`
	Secret      string               `json:"secret,omitempty" doc:"What it verifies with; shown at creation."`
}

func (a *API) binView(ctx context.Context, d *hark.Source) BinView {
	usage := a.Captures.Usage(d.Tenant, d.ID)
	v := BinView{ID: d.ID, UID: d.UID, Name: d.Name, URL: a.base(ctx) + "/in/" + d.Token, Page: a.base(ctx) + "/bins/" + d.ID.String(),
		Scheme: d.Scheme, Settings: a.RedactSource(d), Verifying: len(d.Secrets) > 0, Response: d.Response, TTL: d.Bin.TTL, Expires: d.Bin.Expires,
		MaxRequests: d.Bin.MaxRequests, MaxBytes: d.Bin.MaxBytes, MaxBody: d.MaxBody, AllowIPs: d.AllowIPs, CORSOrigins: d.CORSOrigins,
		RateLimit: d.RateLimit, Concurrency: d.Concurrency, Requests: usage.Requests, Bytes: usage.Bytes, Newest: usage.Newest.String(),
		State: d.State, Created: d.Created, Updated: d.Updated, Revision: d.Revision}
	if callerOf(ctx).Require(registry.ScopeManage) == nil {
		v.Page += "?view=" + d.Bin.View.Reveal()
	}
	return v
}

// BinAnswer carries one bin.
type BinAnswer struct {
	Status int    `json:"-"`
	ETag   string `header:"ETag" doc:"The revision, for If-Match."`
	Body   BinView
}

// BinCreate is the input of POST /v1/bins.
type BinCreate struct{ Body *BinBody }

// CreateBin answers POST /v1/bins.
func (a *API) CreateBin(ctx context.Context, in *BinCreate) (*BinAnswer, error) {
	body := in.Body
	if body == nil {
		body = &BinBody{}
	}
	given := body.source()
	given.Bin.Creator = callerOf(ctx).Creator()
	d, err := a.Bins.CreateSource(tenantOf(ctx), given)
	if err != nil {
		return nil, err
	}
	answer := &BinAnswer{Status: 201, ETag: etagOf(d.Revision), Body: a.binView(ctx, d)}
	if len(d.Secrets) > 0 {
		answer.Body.Secret = d.Secrets[0].Value.Reveal()
	}
	return answer, nil
}

// BinPath names one bin.
type BinPath struct {
	ID string `path:"id" doc:"src_…" example:"src_0001m5b2t0g00"`
}

func (a *API) bin(ctx context.Context, p *BinPath) (*hark.Source, error) {
	id, err := hark.ParseSourceID(p.ID)
	if err != nil {
		return nil, err
	}
	d, err := a.Bins.Source(tenantOf(ctx), id)
	if err != nil || d.Bin == nil {
		return nil, hark.NoSuch("bin", p.ID)
	}
	return d, nil
}

// GetBin answers GET /v1/bins/{id}.
func (a *API) GetBin(ctx context.Context, in *BinPath) (*BinAnswer, error) {
	d, err := a.bin(ctx, in)
	if err != nil {
		return nil, err
	}
	return &BinAnswer{Status: 200, ETag: etagOf(d.Revision), Body: a.binView(ctx, d)}, nil
}

// BinList is the input of GET /v1/bins.
type BinList struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After string `query:"after" doc:"Go on after this id: the next of the page before."`
	UID   string `query:"uid"`
}

// BinPage carries bins.
type BinPage struct {
	Body struct {
		Bins []BinView `json:"bins"`
		Next string    `json:"next,omitempty"`
	}
}

// ListBins answers GET /v1/bins.
func (a *API) ListBins(ctx context.Context, in *BinList) (*BinPage, error) {
	q := registry.SourceQuery{Bins: true, Limit: in.Limit, UID: in.UID}
	if in.After != "" {
		id, err := hark.ParseSourceID(in.After)
		if err != nil {
			return nil, err
		}
		q.After = id
	}
	page, more := a.Bins.Sources(tenantOf(ctx), q)
	out := &BinPage{}
	out.Body.Bins = make([]BinView, len(page))
	for i, d := range page {
		out.Body.Bins[i] = a.binView(ctx, d)
	}
	if more {
		out.Body.Next = page[len(page)-1].ID.String()
	}
	return out, nil
}

// BinPatch is the input of PATCH /v1/bins/{id}: what is left out stays.
type BinPatch struct {
	BinPath
	IfMatch string `header:"If-Match" doc:"Only change this revision."`
	Body    struct {
		UID         *string         `json:"uid,omitempty"`
		Name        *string         `json:"name,omitempty"`
		Scheme      *string         `json:"scheme,omitempty" doc:"With another scheme settings and secret begin anew."`
		Settings    json.RawMessage `json:"settings,omitempty" doc:"Merged into the present settings (RFC 7396): null removes a field."`
		Secret      *hark.Secret    `json:"secret,omitempty" doc:"Verifies from now on; the one before for another day."`
		Response    json.RawMessage `json:"response,omitempty" doc:"Replaces the present one; null for 200 at once."`
		TTL         *hark.Duration  `json:"ttl,omitempty" doc:"Counts from now."`
		MaxRequests *int            `json:"max_requests,omitempty"`
		MaxBytes    *int64          `json:"max_bytes,omitempty"`
		MaxBody     *int            `json:"max_body,omitempty"`
		AllowIPs    *[]string       `json:"allow_ips,omitempty" maxItems:"256"`
		CORSOrigins *[]string       `json:"cors_origins,omitempty" maxItems:"64"`
		RateLimit   *float64        `json:"rate_limit,omitempty"`
		Concurrency *int            `json:"concurrency,omitempty"`
	}
}

// PatchBin answers PATCH /v1/bins/{id}.
func (a *API) PatchBin(ctx context.Context, in *BinPatch) (*BinAnswer, error) {
	revision, err := revisionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	old, err := a.bin(ctx, &in.BinPath)
	if err != nil {
		return nil, err
	}
	d, err := a.Bins.UpdateSource(old.Tenant, old.ID, revision, in.edit)
	if err != nil {
		return nil, err
	}
	return &BinAnswer{Status: 200, ETag: etagOf(d.Revision), Body: a.binView(ctx, d)}, nil
}

func (in *BinPatch) edit(d *hark.Source) (err error) {
	b := &in.Body
	if b.Scheme != nil && *b.Scheme != d.Scheme {
		d.Scheme, d.Settings, d.Secrets = *b.Scheme, nil, nil
	}
	if b.Settings != nil {
		if d.Settings, err = mergePatch(d.Settings, b.Settings); err != nil {
			return err
		}
	}
	if b.Secret != nil {
		d.Secrets = []hark.SigningSecret{{Value: *b.Secret}}
	}
	if b.Response != nil {
		d.Response = nil
		if err := json.Unmarshal(b.Response, &d.Response); err != nil {
			return hark.Invalidf("response", "must be an object of status, headers, body and delay")
		}
	}
	if b.TTL != nil {
		d.Bin.TTL = *b.TTL
		d.Bin.Expires = time.Now().Add(time.Duration(*b.TTL))
	}
	put(&d.UID, b.UID)
	put(&d.Name, b.Name)
	put(&d.Bin.MaxRequests, b.MaxRequests)
	put(&d.Bin.MaxBytes, b.MaxBytes)
	put(&d.MaxBody, b.MaxBody)
	put(&d.AllowIPs, b.AllowIPs)
	put(&d.CORSOrigins, b.CORSOrigins)
	put(&d.RateLimit, b.RateLimit)
	put(&d.Concurrency, b.Concurrency)
	return nil
}

// put sets what was given.
func put[T any](to, given *T) {
	if given != nil {
		*to = *given
	}
}

// DeleteBin answers DELETE /v1/bins/{id}: all it holds goes too.
func (a *API) DeleteBin(ctx context.Context, in *BinPath) (*Nothing, error) {
	d, err := a.bin(ctx, in)
	if err != nil {
		return nil, err
	}
	return nil, a.Bins.DeleteSource(d.Tenant, d.ID, 0)
}

// Captures is what the handlers need of the rings of captured requests.
type Captures interface {
	Captures(ctx context.Context, t hark.TenantID, s hark.SourceID, q capture.Query) (capture.Page, error)
	Get(t hark.TenantID, s hark.SourceID, id hark.CaptureID) (*hark.Capture, error)
	Delete(ctx context.Context, t hark.TenantID, s hark.SourceID, id hark.CaptureID) error
	Clear(ctx context.Context, t hark.TenantID, s hark.SourceID) error
	Watch(t hark.TenantID, s hark.SourceID) (*capture.Watch, error)
	Usage(t hark.TenantID, s hark.SourceID) capture.Usage
}
