package client

import (
	"context"
	"iter"
	"time"

	"github.com/harkhq/hark"
)

// Key is an API key as the server shows it.
type Key struct {
	ID   hark.KeyID `json:"id"`
	Name string     `json:"name,omitempty"`
	// Key is the key's text; only [Client.CreateKey] tells, once.
	Key hark.Secret `json:"key,omitempty"`
	// Hint is the beginning of the text, to tell keys apart.
	Hint      string         `json:"hint,omitempty"`
	Tenant    string         `json:"tenant,omitempty"`
	Scopes    []string       `json:"scopes"`
	Publish   []hark.Pattern `json:"publish,omitempty"`
	Subscribe []hark.Pattern `json:"subscribe,omitempty"`
	RateLimit float64        `json:"rate_limit,omitempty"`
	Expires   time.Time      `json:"expires,omitzero"`
	LastUsed  time.Time      `json:"last_used,omitzero"`
	Created   time.Time      `json:"created"`
}

// KeySpec is what a new key may do.
type KeySpec struct {
	Name string `json:"name,omitempty"`
	// Scopes are of publish, subscribe, manage and admin.
	Scopes []string `json:"scopes"`
	// Publish and Subscribe narrow where those scopes reach; empty for everywhere.
	Publish   []hark.Pattern `json:"publish,omitempty"`
	Subscribe []hark.Pattern `json:"subscribe,omitempty"`
	// Tenant is whose key it is; empty for the caller's.
	Tenant string `json:"tenant,omitempty"`
	// RateLimit is in requests per second; 0 for the server's default.
	RateLimit float64 `json:"rate_limit,omitempty"`
	// Expires is when it ends; zero for never.
	Expires time.Time `json:"expires,omitzero"`
}

// CreateKey makes a key. Its text is in the answer and nowhere else.
func (c *Client) CreateKey(ctx context.Context, spec KeySpec) (*Key, error) {
	var k Key
	if err := c.do(ctx, call{method: "POST", path: "/v1/keys", body: spec}, &k); err != nil {
		return nil, err
	}
	return &k, nil
}

// Keys lists keys, oldest first. The first error ends it.
func (c *Client) Keys(ctx context.Context) iter.Seq2[*Key, error] {
	return pages[*Key](ctx, c, "/v1/keys", "keys", values(), 0)
}

// RevokeKey ends a key at once.
func (c *Client) RevokeKey(ctx context.Context, id hark.KeyID) error {
	return c.do(ctx, call{method: "DELETE", path: "/v1/keys/" + id.String()}, nil)
}
