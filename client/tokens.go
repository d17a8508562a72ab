package client

import (
	"context"
	"iter"
	"time"

	"github.com/harkhq/hark"
)

// TokenSpec says what a token for a user may do.
type TokenSpec struct {
	// User is your own name for whose token it is.
	User string `json:"user"`
	// Subscribe and Publish are the topics that the user may subscribe and publish to;
	// what is not listed is not allowed.
	Subscribe []hark.Pattern `json:"subscribe,omitempty"`
	Publish   []hark.Pattern `json:"publish,omitempty"`
	// TTL is how long it lives, at most 24 h; 0 for an hour.
	TTL hark.Duration `json:"ttl,omitzero"`
}

// Token is a token that was minted. The server keeps nothing of it.
type Token struct {
	// ID is what revokes it.
	ID string `json:"id"`
	// Token is what the user's browser shows.
	Token   hark.Secret `json:"token"`
	Expires time.Time   `json:"expires"`
}

// MintToken makes a token for a user. It reaches no further than the key that asks.
func (c *Client) MintToken(ctx context.Context, spec TokenSpec) (*Token, error) {
	var t Token
	if err := c.do(ctx, call{method: "POST", path: "/v1/tokens", body: spec}, &t); err != nil {
		return nil, err
	}
	return &t, nil
}

// Revocation ends tokens before their time.
type Revocation struct {
	ID hark.RevocationID `json:"id"`
	// TokenID is the token that it ends, User whose tokens; one of them is set.
	TokenID string `json:"token_id,omitempty"`
	User    string `json:"user,omitempty"`
	// Before goes with User: tokens that were minted earlier are ended.
	Before  time.Time `json:"before,omitzero"`
	Created time.Time `json:"created"`
	// Until is when the server forgets it; zero for never.
	Until time.Time `json:"until,omitzero"`
}

// RevokeToken ends one token, by its id, and the streams that it opened.
func (c *Client) RevokeToken(ctx context.Context, id string) (*Revocation, error) {
	return c.revoke(ctx, map[string]string{"id": id})
}

// RevokeUser ends all tokens of a user that were minted until now, and the streams that
// they opened.
func (c *Client) RevokeUser(ctx context.Context, user string) (*Revocation, error) {
	return c.revoke(ctx, map[string]string{"user": user})
}

func (c *Client) revoke(ctx context.Context, what map[string]string) (*Revocation, error) {
	var v Revocation
	if err := c.do(ctx, call{method: "POST", path: "/v1/tokens/revoke", body: what}, &v); err != nil {
		return nil, err
	}
	return &v, nil
}

// Revocations lists those that could still matter, oldest first. The first error ends it.
func (c *Client) Revocations(ctx context.Context) iter.Seq2[*Revocation, error] {
	return pages[*Revocation](ctx, c, "/v1/tokens/revoked", "revoked", values(), 0)
}

// RotateTokenSecret replaces the secret that signs the tenant's tokens. Those that the
// one before it signed hold for overlap longer; with 0 they end at once.
func (c *Client) RotateTokenSecret(ctx context.Context, overlap time.Duration) error {
	body := map[string]hark.Duration{"overlap": hark.Duration(overlap)}
	return c.do(ctx, call{method: "POST", path: "/v1/tokens/rotate-secret", body: body}, nil)
}
