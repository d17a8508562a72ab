package registry

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// OverQuota says what happens to a tenant that is over its quota.
type OverQuota string

// What happens over quota.
const (
	OverQuotaReject OverQuota = "reject" // its publishing is refused (default)
	OverQuotaTrim   OverQuota = "trim"   // its oldest events go
)

// Tenant is an isolated space for one customer or application. Its limits are kept
// here for the rooms that apply them; a zero takes the server's default.
type Tenant struct {
	ID   hark.TenantID `json:"-"`
	Name string        `json:"name"`

	// QuotaBytes bounds what its events take, in logical bytes.
	QuotaBytes int64     `json:"quota_bytes,omitempty"`
	OverQuota  OverQuota `json:"over_quota,omitempty"`
	// RetentionAge is how long its events are kept.
	RetentionAge hark.Duration `json:"retention_age,omitzero"`
	// PublishRate is in events per second.
	PublishRate     float64 `json:"publish_rate,omitempty"`
	MaxDestinations int     `json:"max_destinations,omitempty"`
	MaxKeys         int     `json:"max_keys,omitempty"`
	MaxSources      int     `json:"max_sources,omitempty"`
	MaxBins         int     `json:"max_bins,omitempty"`
	MaxDevices      int     `json:"max_devices,omitempty"`

	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Revision uint64    `json:"revision"`
}

func limitOf(own, general int) int {
	if own > 0 {
		return own
	}
	return general
}

// Tenant returns one by id.
func (r *Registry) Tenant(id hark.TenantID) (*Tenant, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if t := r.tenants[id]; t != nil {
		return t.row, nil
	}
	return nil, hark.NoSuch("tenant", fmt.Sprint(id))
}

// TenantByName returns one by name.
func (r *Registry) TenantByName(name string) (*Tenant, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if id, ok := r.names[name]; ok {
		return r.tenants[id].row, nil
	}
	return nil, hark.NoSuch("tenant", name)
}

// Tenants returns a page, oldest first, and whether there is more. After is the last
// id of the page before; a limit of 0 means [hark.MaxPageSize].
func (r *Registry) Tenants(after hark.TenantID, limit int) (page []*Tenant, more bool) {
	limit = pageSize(limit)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, id := range r.tenantIDs() {
		switch {
		case id <= after:
		case len(page) == limit:
			return page, true
		default:
			page = append(page, r.tenants[id].row)
		}
	}
	return page, false
}

// CreateTenant makes a tenant of t; id, times and revision are the registry's.
func (r *Registry) CreateTenant(given *Tenant) (*Tenant, error) {
	r.write.Lock()
	defer r.write.Unlock()
	t, at := *given, now()
	t.ID, t.Created, t.Updated, t.Revision = 0, at, at, 1
	if err := r.checkTenant(&t); err != nil {
		return nil, err
	}
	if len(r.tenants) >= r.limits.Tenants || r.top.Tenant == math.MaxUint32 {
		return nil, tooMany("tenants", len(r.tenants))
	}
	r.top.Tenant++ // never used again, also when the commit fails
	t.ID = r.top.Tenant
	if err := r.commit(r.changeTenant(nil, &t)); err != nil {
		return nil, err
	}
	return &t, nil
}

// UpdateTenant changes one, as [Registry.UpdateDestination] does. The default
// tenant keeps its name.
func (r *Registry) UpdateTenant(id hark.TenantID, revision uint64, edit func(t *Tenant) error) (*Tenant, error) {
	r.write.Lock()
	defer r.write.Unlock()
	old, err := r.Tenant(id)
	if err != nil {
		return nil, err
	}
	if err := checkRevision(revision, old.Revision); err != nil {
		return nil, err
	}
	t := *old
	if err := edit(&t); err != nil {
		return nil, err
	}
	t.ID, t.Created, t.Updated, t.Revision = old.ID, old.Created, old.Updated, old.Revision
	if err := r.checkTenant(&t); err != nil {
		return nil, err
	}
	if bytes.Equal(encode(t), encode(*old)) {
		return old, nil
	}
	t.Updated, t.Revision = now(), old.Revision+1
	if err := r.commit(r.changeTenant(old, &t)); err != nil {
		return nil, err
	}
	return &t, nil
}

// DeleteTenant removes a tenant with its keys, destinations and sources, in one commit. Its
// events and deliveries are for attach functions ([Registry.AttachTenant]), which
// can erase them in the same commit.
func (r *Registry) DeleteTenant(id hark.TenantID, revision uint64) error {
	if id == hark.DefaultTenant {
		return &hark.Error{Kind: hark.Conflict, Code: "default-tenant", Msg: "the default tenant always exists"}
	}
	r.write.Lock()
	defer r.write.Unlock()
	home := r.tenants[id]
	if home == nil {
		return hark.NoSuch("tenant", fmt.Sprint(id))
	}
	if err := checkRevision(revision, home.row.Revision); err != nil {
		return err
	}
	m := &mutation{}
	for _, k := range home.keys {
		m.and(r.changeKey(k, nil))
	}
	for _, d := range home.destinations {
		m.and(r.changeDestination(d, nil, nil))
	}
	for _, d := range home.sources {
		m.and(r.changeSource(d, nil))
	}
	for _, k := range home.tokenKeys {
		m.and(r.changeTokenKey(k, nil))
	}
	for _, v := range home.revocations {
		m.and(r.changeRevocation(v, nil))
	}
	m.and(r.changeTenant(home.row, nil))
	// The maps lose the tenant first, so that dropping its parts does not shift
	// a hundred thousand of them one by one.
	last := len(m.swap) - 1
	m.swap[0], m.swap[last] = m.swap[last], m.swap[0]
	return r.commit(m)
}

func (r *Registry) changeTenant(old, t *Tenant) *mutation {
	m := &mutation{changes: []Change{{Tenant: Pair[Tenant]{old, t}}}}
	switch {
	case t == nil:
		m.recs = append(m.recs, &store.RegistryDeleted{Noun: store.NounTenant, Tenant: old.ID, ID: uint64(old.ID)})
		m.swap = append(m.swap, func() {
			delete(r.tenants, old.ID)
			delete(r.names, old.Name)
		})
	case old == nil:
		m.recs = append(m.recs, tenantRecord(t), r.topRecord())
		m.swap = append(m.swap, func() {
			r.tenants[t.ID] = newTenant(t)
			r.names[t.Name] = t.ID
		})
	default:
		m.recs = append(m.recs, tenantRecord(t))
		m.swap = append(m.swap, func() {
			r.tenants[t.ID].row = t
			delete(r.names, old.Name)
			r.names[t.Name] = t.ID
		})
	}
	for _, fn := range r.attachTenant {
		m.attached(fn(old, t))
	}
	return m
}

// checkTenant tells everything that is wrong with t. The caller holds write.
func (r *Registry) checkTenant(t *Tenant) error {
	var faults []error
	if err := hark.CheckTopic(t.Name); err != nil || hark.IsReserved(t.Name) {
		faults = append(faults, hark.Invalidf("name", fmt.Sprintf(
			"must be tokens of A-Z a-z 0-9 _ and -, separated by single dots, at most %d bytes, and not begin with \"hark.\"", hark.MaxTopicBytes)))
	} else if id, taken := r.names[t.Name]; taken && id != t.ID {
		faults = append(faults, &hark.Error{Kind: hark.Conflict, Code: "name-taken", Field: "name", Msg: "another tenant has this name"})
	}
	if t.ID == hark.DefaultTenant && t.Name != hark.DefaultTenantName {
		faults = append(faults, hark.Invalidf("name", "the default tenant keeps its name"))
	}
	if t.QuotaBytes < 0 {
		faults = append(faults, hark.Invalidf("quota_bytes", "must not be negative; 0 takes the server's default"))
	}
	if t.OverQuota != "" && t.OverQuota != OverQuotaReject && t.OverQuota != OverQuotaTrim {
		faults = append(faults, hark.Invalidf("over_quota", "must be reject or trim"))
	}
	if age := time.Duration(t.RetentionAge); age != 0 && age < time.Minute {
		faults = append(faults, hark.Invalidf("retention_age", "must be at least 1m, or 0s for the server's default"))
	}
	if err := checkRate("publish_rate", t.PublishRate); err != nil {
		faults = append(faults, err)
	}
	for _, limit := range []struct {
		field string
		n     int
	}{{"max_destinations", t.MaxDestinations}, {"max_keys", t.MaxKeys}, {"max_sources", t.MaxSources}, {"max_bins", t.MaxBins}, {"max_devices", t.MaxDevices}} {
		if limit.n < 0 {
			faults = append(faults, hark.Invalidf(limit.field, "must not be negative; 0 takes the server's default"))
		}
	}
	return errors.Join(faults...)
}
