package api

import (
	"context"
	"errors"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// Tokens mints and ends what users show.
type Tokens interface {
	// Mint makes a token of a tenant; by is the key that asks for it, zero for none.
	Mint(t hark.TenantID, by hark.KeyID, spec TokenBody) (TokenView, error)
	// Revoke ends one token, or all of a user.
	Revoke(t hark.TenantID, tokenID, user string) (*registry.Revocation, error)
	Revocations(t hark.TenantID, after hark.RevocationID, limit int) (page []*registry.Revocation, more bool)
	// Rotate replaces what signs a tenant's tokens; the one before it verifies for overlap longer.
	Rotate(t hark.TenantID, overlap time.Duration) (*registry.TokenKey, error)
}

// TokenBody says what a token is for.
type TokenBody struct {
	User      string         `json:"user" minLength:"1" maxLength:"255" doc:"Whose token it is: your own name for the user." example:"42"`
	Subscribe []hark.Pattern `json:"subscribe,omitempty" doc:"Topics that it may subscribe to; none when it is missing." example:"[\"user.42.>\"]"`
	Publish   []hark.Pattern `json:"publish,omitempty" doc:"Topics that it may publish to; none when it is missing."`
	TTL       hark.Duration  `json:"ttl,omitzero" doc:"How long it lives (1h; up to 24h)." example:"1h"`
}

// TokenView is a token that was made, shown this once.
type TokenView struct {
	ID      string    `json:"id" doc:"Its claim jti: what revokes it." example:"tok_5ggkq2o9s8a6l7m1c0f4d3e2b1"`
	Token   string    `json:"token" doc:"The token itself, a JWT."`
	Expires time.Time `json:"expires"`
}

// TokenCreate is the input of POST /v1/tokens.
type TokenCreate struct{ Body TokenBody }

// TokenAnswer carries one token.
type TokenAnswer struct {
	Status       int    `json:"-"`
	CacheControl string `header:"Cache-Control"`
	Body         TokenView
}

// MintToken answers POST /v1/tokens. A key gives away no more than it reaches itself.
func (a *API) MintToken(ctx context.Context, in *TokenCreate) (*TokenAnswer, error) {
	caller := callerOf(ctx)
	for field, patterns := range map[string][]hark.Pattern{"subscribe": in.Body.Subscribe, "publish": in.Body.Publish} {
		if len(patterns) == 0 {
			continue
		}
		if err := hark.CheckPatterns(patterns); err != nil {
			var e *hark.Error
			errors.As(err, &e)
			return nil, hark.Invalidf(field, e.Msg)
		}
	}
	if err := caller.MayRoute(in.Body.Subscribe); err != nil {
		return nil, err
	}
	for _, p := range in.Body.Publish {
		if err := caller.MayFeed(p); err != nil {
			return nil, err
		}
	}
	made, err := a.Tokens.Mint(caller.TenantID(), caller.KeyID(), in.Body)
	if err != nil {
		return nil, err
	}
	return &TokenAnswer{Status: 201, CacheControl: "no-store", Body: made}, nil
}

// RevokeBody names what is to end: one token, or all of a user.
type RevokeBody struct {
	ID   string `json:"id,omitempty" maxLength:"255" doc:"The claim jti of the token, whoever minted it."`
	User string `json:"user,omitempty" maxLength:"255" doc:"The user (sub) whose tokens end that were minted before now." example:"42"`
}

// TokenRevoke is the input of POST /v1/tokens/revoke.
type TokenRevoke struct{ Body RevokeBody }

// RevocationAnswer carries one revocation.
type RevocationAnswer struct{ Body registry.Revocation }

// RevokeTokens answers POST /v1/tokens/revoke.
func (a *API) RevokeTokens(ctx context.Context, in *TokenRevoke) (*RevocationAnswer, error) {
	if (in.Body.ID == "") == (in.Body.User == "") {
		return nil, hark.Invalidf("id", "name what is to end: either id, of one token, or user, for all of theirs")
	}
	v, err := a.Tokens.Revoke(tenantOf(ctx), in.Body.ID, in.Body.User)
	if err != nil {
		return nil, err
	}
	return &RevocationAnswer{*v}, nil
}

// RevocationList is the input of GET /v1/tokens/revoked.
type RevocationList struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After string `query:"after" doc:"Go on after this id: the next of the page before."`
}

// RevocationPage carries revocations.
type RevocationPage struct {
	Body struct {
		Revoked []*registry.Revocation `json:"revoked"`
		Next    string                 `json:"next,omitempty"`
	}
}

// ListRevocations answers GET /v1/tokens/revoked: what is remembered of them.
func (a *API) ListRevocations(ctx context.Context, in *RevocationList) (*RevocationPage, error) {
	var after hark.RevocationID
	if in.After != "" {
		id, err := hark.ParseRevocationID(in.After)
		if err != nil {
			return nil, err
		}
		after = id
	}
	page, more := a.Tokens.Revocations(tenantOf(ctx), after, in.Limit)
	out := &RevocationPage{}
	out.Body.Revoked = append([]*registry.Revocation{}, page...)
	if more {
		out.Body.Next = page[len(page)-1].ID.String()
	}
	return out, nil
}

// TokenRotate is the input of POST /v1/tokens/rotate-secret.
type TokenRotate struct {
	Body struct {
		Overlap *hark.Duration `json:"overlap,omitempty" doc:"How long tokens that the secret before signed still hold (24h); 0s ends them all, and their streams." example:"24h"`
	}
}

// TokenKeyAnswer carries what is known of a secret but the secret.
type TokenKeyAnswer struct{ Body registry.TokenKey }

// RotateTokenSecret answers POST /v1/tokens/rotate-secret.
func (a *API) RotateTokenSecret(ctx context.Context, in *TokenRotate) (*TokenKeyAnswer, error) {
	overlap := hark.RotationOverlap
	if in.Body.Overlap != nil {
		overlap = time.Duration(*in.Body.Overlap)
	}
	k, err := a.Tokens.Rotate(tenantOf(ctx), overlap)
	if err != nil {
		return nil, err
	}
	return &TokenKeyAnswer{*k}, nil
}
