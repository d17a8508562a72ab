package auth

import (
	"fmt"
	"slices"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// Principal is who is calling, and what they may. The zero Principal may nothing.
type Principal struct {
	// Tenant is the one it acts for.
	Tenant hark.TenantID
	// Key is the API key it came with; zero for hark dev and for tokens.
	Key hark.KeyID
	// Name is for logs: the key's id, "dev", "anonymous", or a token's subject.
	Name string
	// User is the subject of a token; "" for keys.
	User   string
	Scopes registry.Scopes
	// Publish and Subscribe narrow where those scopes reach. Empty is everywhere for a
	// key, and nowhere for a token.
	Publish, Subscribe []hark.Pattern
	// Expires is when its credential ends; zero for never. Streams end then.
	Expires time.Time
	// Anonymous tells that no credential came: it may subscribe to what anyone may,
	// perhaps nothing.
	Anonymous bool
	// Mercure is what a token says to a Mercure hub; nil without.
	Mercure *MercureClaim

	hash   [32]byte // of the key
	narrow bool     // empty patterns are nowhere
	reads  bool     // a page of another origin sent its cookie: it may not publish
	token  *facts   // of a token
}

// Require tells whether p has a scope.
func (p *Principal) Require(want registry.Scopes) error {
	if p.Scopes.Has(want) {
		return nil
	}
	switch {
	case p.Anonymous:
		return unauthenticated("no-credential", "this needs a credential: send \"Authorization: Bearer …\" with a key or a token")
	case p.reads && want == registry.ScopePublish:
		return forbidden("foreign-origin", "a cookie that a page of another origin sends is for reading: to publish, send the token itself, in the header Authorization or in a frame")
	case p.narrow:
		return forbidden("missing-scope", fmt.Sprintf("this needs the right %q, and your token has %q: its claim \"hark\" must list topic patterns for it", want.String(), p.Scopes.String()))
	}
	return forbidden("missing-scope", fmt.Sprintf("this needs a key with the scope %q; yours has %q", want.String(), p.Scopes.String()))
}

// MayPublish tells whether p may publish to topic. That the reserved topics are for
// nobody is the log's matter.
func (p *Principal) MayPublish(topic string) error {
	if err := p.Require(registry.ScopePublish); err != nil {
		return err
	}
	if p.everywhere(p.Publish) || hark.MatchAny(p.Publish, topic) {
		return nil
	}
	return topicForbidden("publish to", topic, p.Publish)
}

// MayRead tells whether p may see an event of topic.
func (p *Principal) MayRead(topic string) error {
	if err := p.Require(registry.ScopeSubscribe); err != nil {
		return err
	}
	if p.everywhere(p.Subscribe) || hark.MatchAny(p.Subscribe, topic) {
		return nil
	}
	return topicForbidden("read", topic, p.Subscribe)
}

// MaySubscribe tells whether p may see every topic that asked match.
func (p *Principal) MaySubscribe(asked []hark.Pattern) error {
	if err := p.Require(registry.ScopeSubscribe); err != nil {
		return err
	}
	return p.covers(asked)
}

// MayRoute tells whether p may make or change a destination with these topics:
// whoever chooses where events go sees them.
func (p *Principal) MayRoute(asked []hark.Pattern) error {
	if err := p.Require(registry.ScopeManage); err != nil {
		return err
	}
	return p.covers(asked)
}

// MayFeed tells whether p may make or change a source whose events' topics match a
// pattern: a source publishes for whoever has its secret.
func (p *Principal) MayFeed(asked hark.Pattern) error {
	if err := p.Require(registry.ScopeManage); err != nil {
		return err
	}
	if p.everywhere(p.Publish) || coveredBy(p.Publish, asked) {
		return nil
	}
	return topicForbidden("publish to", string(asked), p.Publish)
}

func (p *Principal) covers(asked []hark.Pattern) error {
	if p.everywhere(p.Subscribe) {
		return nil
	}
	for _, q := range asked {
		if !coveredBy(p.Subscribe, q) {
			return topicForbidden("subscribe to", string(q), p.Subscribe)
		}
	}
	return nil
}

func coveredBy(patterns []hark.Pattern, asked hark.Pattern) bool {
	return slices.ContainsFunc(patterns, func(own hark.Pattern) bool { return own.Covers(asked) })
}

func (p *Principal) everywhere(ps []hark.Pattern) bool {
	return len(ps) == 0 && !p.narrow || p.Scopes&registry.ScopeAdmin != 0
}

// IsLocal reports whether p is hark dev's user, who shows no credential.
func (p *Principal) IsLocal() bool {
	return p.Scopes != 0 && p.Key == 0 && p.token == nil && !p.Anonymous
}

// Everywhere reports whether p reads every topic of its tenant.
func (p *Principal) Everywhere() bool { return p.everywhere(p.Subscribe) }

func topicForbidden(verb, topic string, own []hark.Pattern) error {
	if len(own) > 8 {
		own = own[:8:8]
	}
	if len(topic) > 64 {
		topic = topic[:64] + "…"
	}
	return &hark.Error{Kind: hark.Forbidden, Code: "topic-forbidden", Field: "topic",
		Msg: fmt.Sprintf("your credential may not %s %q; it reaches %q", verb, topic, own)}
}
