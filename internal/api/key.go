package api

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// KeyBody is what an owner writes.
type KeyBody struct {
	Name      string         `json:"name,omitempty" maxLength:"255" example:"shop backend"`
	Scopes    []string       `json:"scopes" minItems:"1" doc:"Any of publish, subscribe, manage, admin." example:"[\"publish\"]"`
	Publish   []hark.Pattern `json:"publish,omitempty" doc:"Topics it may publish to; all when empty."`
	Subscribe []hark.Pattern `json:"subscribe,omitempty" doc:"Topics it may read; all when empty."`
	RateLimit float64        `json:"rate_limit,omitempty" doc:"Requests per second; 0 for the server's default."`
	Expires   time.Time      `json:"expires,omitzero"`
	Tenant    string         `json:"tenant,omitempty" doc:"Make it in this tenant; needs an admin key."`
}

// KeyView is what a reader gets. Key, the text itself, is in it once: at creation.
type KeyView struct {
	registry.Key
	Text string `json:"key,omitempty" doc:"The key itself, shown this once."`
}

// KeyCreate is the input of POST /v1/keys.
type KeyCreate struct{ Body KeyBody }

// KeyAnswer carries one key.
type KeyAnswer struct {
	Status int `json:"-"`
	Body   KeyView
}

// CreateKey answers POST /v1/keys.
func (a *API) CreateKey(ctx context.Context, in *KeyCreate) (*KeyAnswer, error) {
	tenant, err := a.tenantNamed(ctx, in.Body.Tenant)
	if err != nil {
		return nil, err
	}
	scopes, err := registry.ParseScopes(in.Body.Scopes)
	if err != nil {
		return nil, err
	}
	k, text, err := a.NewKey(tenant, &registry.Key{Name: in.Body.Name, Scopes: scopes, Publish: in.Body.Publish,
		Subscribe: in.Body.Subscribe, RateLimit: in.Body.RateLimit, Expires: in.Body.Expires})
	if err != nil {
		return nil, err
	}
	return &KeyAnswer{Status: 201, Body: KeyView{Key: *k, Text: text.Reveal()}}, nil
}

func (a *API) tenantNamed(ctx context.Context, name string) (hark.TenantID, error) {
	if name == "" {
		return tenantOf(ctx), nil
	}
	t, err := a.Registry.TenantByName(name)
	if err != nil {
		return 0, err
	}
	return t.ID, nil
}

// KeyPath names one key.
type KeyPath struct {
	ID string `path:"id" doc:"key_…"`
}

// GetKey answers GET /v1/keys/{id}.
func (a *API) GetKey(ctx context.Context, in *KeyPath) (*KeyAnswer, error) {
	id, err := hark.ParseKeyID(in.ID)
	if err != nil {
		return nil, err
	}
	k, err := a.Registry.Key(tenantOf(ctx), id)
	if err != nil {
		return nil, err
	}
	return &KeyAnswer{Status: 200, Body: KeyView{Key: *k}}, nil
}

// KeyList is the input of GET /v1/keys.
type KeyList struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After string `query:"after" doc:"Go on after this id: the next of the page before."`
}

// KeyPage carries keys.
type KeyPage struct {
	Body struct {
		Keys []KeyView `json:"keys"`
		Next string    `json:"next,omitempty"`
	}
}

// ListKeys answers GET /v1/keys.
func (a *API) ListKeys(ctx context.Context, in *KeyList) (*KeyPage, error) {
	var after hark.KeyID
	if in.After != "" {
		id, err := hark.ParseKeyID(in.After)
		if err != nil {
			return nil, err
		}
		after = id
	}
	page, more := a.Registry.Keys(tenantOf(ctx), after, in.Limit)
	out := &KeyPage{}
	out.Body.Keys = make([]KeyView, len(page))
	for i, k := range page {
		out.Body.Keys[i].Key = *k
	}
	if more {
		out.Body.Next = page[len(page)-1].ID.String()
	}
	return out, nil
}

// DeleteKey answers DELETE /v1/keys/{id}; it ends at once.
func (a *API) DeleteKey(ctx context.Context, in *KeyPath) (*Nothing, error) {
	id, err := hark.ParseKeyID(in.ID)
	if err != nil {
		return nil, err
	}
	return nil, a.Registry.DeleteKey(tenantOf(ctx), id, 0)
}

// etagOf writes a revision as an entity tag; revisionOf reads If-Match. Empty and
// "*" mean any revision.
func etagOf(revision uint64) string { return `"` + strconv.FormatUint(revision, 10) + `"` }

func revisionOf(ifMatch string) (uint64, error) {
	if ifMatch == "" || ifMatch == "*" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.Trim(ifMatch, `"`), 10, 64)
	if err != nil || n == 0 {
		return 0, hark.Invalidf("If-Match", `must be the ETag of an earlier answer, such as "3"`)
	}
	return n, nil
}
