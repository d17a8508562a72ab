package api

import (
	"context"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// TenantBody is what an admin writes.
type TenantBody struct {
	Name            string             `json:"name" doc:"Dot-separated tokens, like a topic." example:"acme"`
	QuotaBytes      int64              `json:"quota_bytes,omitempty" minimum:"0" doc:"Most bytes of events; 0 for the server's default."`
	OverQuota       registry.OverQuota `json:"over_quota,omitempty" enum:"reject,trim" doc:"Refuse publishing, or lose the oldest events."`
	RetentionAge    hark.Duration      `json:"retention_age,omitzero" doc:"How long events are kept." example:"168h0m0s"`
	PublishRate     float64            `json:"publish_rate,omitempty" minimum:"0" doc:"Events per second; 0 for no limit."`
	MaxDestinations int                `json:"max_destinations,omitempty" minimum:"0"`
	MaxKeys         int                `json:"max_keys,omitempty" minimum:"0"`
	MaxSources      int                `json:"max_sources,omitempty" minimum:"0"`
	MaxBins         int                `json:"max_bins,omitempty" minimum:"0"`
	MaxDevices      int                `json:"max_devices,omitempty" minimum:"0"`
}

func (b *TenantBody) fill(t *registry.Tenant) {
	t.Name, t.QuotaBytes, t.OverQuota, t.RetentionAge = b.Name, b.QuotaBytes, b.OverQuota, b.RetentionAge
	t.PublishRate, t.MaxDestinations, t.MaxKeys, t.MaxSources, t.MaxBins, t.MaxDevices = b.PublishRate, b.MaxDestinations, b.MaxKeys, b.MaxSources, b.MaxBins, b.MaxDevices
}

// TenantAnswer carries one tenant.
type TenantAnswer struct {
	Status int    `json:"-"`
	ETag   string `header:"ETag" doc:"The revision, for If-Match."`
	Body   registry.Tenant
}

// TenantCreate is the input of POST /v1/tenants.
type TenantCreate struct{ Body TenantBody }

// CreateTenant answers POST /v1/tenants.
func (a *API) CreateTenant(_ context.Context, in *TenantCreate) (*TenantAnswer, error) {
	given := &registry.Tenant{}
	in.Body.fill(given)
	t, err := a.Registry.CreateTenant(given)
	if err != nil {
		return nil, err
	}
	return &TenantAnswer{Status: 201, ETag: etagOf(t.Revision), Body: *t}, nil
}

// TenantPath names one tenant.
type TenantPath struct {
	Name string `path:"name" example:"default"`
}

// GetTenant answers GET /v1/tenants/{name}.
func (a *API) GetTenant(_ context.Context, in *TenantPath) (*TenantAnswer, error) {
	t, err := a.Registry.TenantByName(in.Name)
	if err != nil {
		return nil, err
	}
	return &TenantAnswer{Status: 200, ETag: etagOf(t.Revision), Body: *t}, nil
}

// TenantPut is the input of PUT /v1/tenants/{name}.
type TenantPut struct {
	TenantPath
	IfMatch string `header:"If-Match" doc:"Only change this revision."`
	Body    TenantBody
}

// PutTenant answers PUT /v1/tenants/{name}: it replaces the limits.
func (a *API) PutTenant(_ context.Context, in *TenantPut) (*TenantAnswer, error) {
	t, err := a.Registry.TenantByName(in.Name)
	if err != nil {
		return nil, err
	}
	revision, err := revisionOf(in.IfMatch)
	if err != nil {
		return nil, err
	}
	now, err := a.Registry.UpdateTenant(t.ID, revision, func(t *registry.Tenant) error { in.Body.fill(t); return nil })
	if err != nil {
		return nil, err
	}
	return &TenantAnswer{Status: 200, ETag: etagOf(now.Revision), Body: *now}, nil
}

// DeleteTenant answers DELETE /v1/tenants/{name}: everything that it has goes.
func (a *API) DeleteTenant(_ context.Context, in *TenantPath) (*Nothing, error) {
	t, err := a.Registry.TenantByName(in.Name)
	if err != nil {
		return nil, err
	}
	return nil, a.Registry.DeleteTenant(t.ID, 0)
}

// TenantList is the input of GET /v1/tenants.
type TenantList struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After string `query:"after" doc:"Go on after this name: the next of the page before."`
}

// TenantPage carries tenants.
type TenantPage struct {
	Body struct {
		Tenants []registry.Tenant `json:"tenants"`
		Next    string            `json:"next,omitempty"`
	}
}

// ListTenants answers GET /v1/tenants.
func (a *API) ListTenants(_ context.Context, in *TenantList) (*TenantPage, error) {
	var after hark.TenantID
	if in.After != "" {
		t, err := a.Registry.TenantByName(in.After)
		if err != nil {
			return nil, err
		}
		after = t.ID
	}
	page, more := a.Registry.Tenants(after, in.Limit)
	out := &TenantPage{}
	out.Body.Tenants = make([]registry.Tenant, len(page))
	for i, t := range page {
		out.Body.Tenants[i] = *t
	}
	if more {
		out.Body.Next = page[len(page)-1].Name
	}
	return out, nil
}
