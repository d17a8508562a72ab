package client

import (
	"context"
	"iter"
	"net/url"
	"time"

	"github.com/harkhq/hark"
)

// TenantSpec is a tenant's name and its limits. A zero takes the server's default.
type TenantSpec struct {
	Name string `json:"name"`
	// QuotaBytes bounds what its events take.
	QuotaBytes int64 `json:"quota_bytes,omitempty"`
	// OverQuota is "reject" (publishing is refused) or "trim" (its oldest events go).
	OverQuota string `json:"over_quota,omitempty"`
	// RetentionAge is how long its events are kept.
	RetentionAge hark.Duration `json:"retention_age,omitzero"`
	// PublishRate is in events per second.
	PublishRate     float64 `json:"publish_rate,omitempty"`
	MaxDestinations int     `json:"max_destinations,omitempty"`
	MaxKeys         int     `json:"max_keys,omitempty"`
	MaxSources      int     `json:"max_sources,omitempty"`
	MaxBins         int     `json:"max_bins,omitempty"`
	MaxDevices      int     `json:"max_devices,omitempty"`
}

// Tenant is a tenant as the server shows it.
type Tenant struct {
	TenantSpec
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Revision uint64    `json:"revision"`
}

func tenantPath(name string) string { return "/v1/tenants/" + url.PathEscape(name) }

// CreateTenant makes a tenant. This and all else about tenants needs an admin key.
func (c *Client) CreateTenant(ctx context.Context, spec TenantSpec) (*Tenant, error) {
	return c.tenant(ctx, call{method: "POST", path: "/v1/tenants", body: spec})
}

// Tenants lists tenants, oldest first. The first error ends it.
func (c *Client) Tenants(ctx context.Context) iter.Seq2[*Tenant, error] {
	return pages[*Tenant](ctx, c, "/v1/tenants", "tenants", values(), 0)
}

// Tenant returns one.
func (c *Client) Tenant(ctx context.Context, name string) (*Tenant, error) {
	return c.tenant(ctx, call{method: "GET", path: tenantPath(name), safe: true})
}

// PutTenant replaces all limits of the tenant with spec.Name, which must be there.
func (c *Client) PutTenant(ctx context.Context, spec TenantSpec) (*Tenant, error) {
	return c.tenant(ctx, call{method: "PUT", path: tenantPath(spec.Name), body: spec, safe: true})
}

// DeleteTenant removes a tenant with its events, destinations, sources, deliveries and keys.
func (c *Client) DeleteTenant(ctx context.Context, name string) error {
	return c.do(ctx, call{method: "DELETE", path: tenantPath(name)}, nil)
}

func (c *Client) tenant(ctx context.Context, k call) (*Tenant, error) {
	var t Tenant
	if err := c.do(ctx, k, &t); err != nil {
		return nil, err
	}
	return &t, nil
}
