package mercure

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/harkhq/hark"
)

// Claim is the claim "mercure" of a JWT.
type Claim struct {
	Publish   []string        `json:"publish"`
	Subscribe []string        `json:"subscribe"`
	Payload   json.RawMessage `json:"payload"`
}

// Grant is what a caller may on a hub: what the claim says and what its rights to
// Hark's own topics say. The zero Grant sees public updates and publishes nothing.
type Grant struct {
	Publish, Subscribe Selectors
	// MayPublish and MaySubscribe ask for the caller's native rights; nil for none.
	MayPublish   func(topic string) error
	MaySubscribe func([]hark.Pattern) error
	// Reach holds the native patterns that private updates may be read by.
	Reach []hark.Pattern
	// Payload is told to those who see the caller's subscriptions.
	Payload json.RawMessage
}

// Allow adds what a claim grants. A claim that cannot be read grants nothing.
func (g *Grant) Allow(c *Claim) (err error) {
	if g.Publish, err = parseSelectors("mercure.publish", c.Publish, maxClaimed); err != nil {
		return err
	}
	if g.Subscribe, err = parseSelectors("mercure.subscribe", c.Subscribe, maxClaimed); err != nil {
		return err
	}
	g.Payload = c.Payload
	return nil
}

// CheckPublish tells whether every topic of an update may be published to.
func (g *Grant) CheckPublish(u *Update) error {
	for _, t := range u.Topics {
		if g.Publish.Match(t) {
			continue
		}
		name, ok := native(t)
		if !ok {
			name = TopicOf(t)
		}
		if g.MayPublish == nil || g.MayPublish(name) != nil {
			return forbidden("mercure.publish", "publish to", t)
		}
	}
	return nil
}

// CheckSubscribe tells whether Hark's own topics that are asked for may be read.
// Mercure topics may be asked for by anyone: private updates are left out.
func (g *Grant) CheckSubscribe(want Selectors) error {
	for _, asked := range want.Native() {
		covered := slices.ContainsFunc(g.Subscribe.Native(), func(own hark.Pattern) bool { return own.Covers(asked) })
		if !covered && (g.MaySubscribe == nil || g.MaySubscribe([]hark.Pattern{asked}) != nil) {
			return forbidden("mercure.subscribe", "subscribe to", nativeScheme+string(asked))
		}
	}
	return nil
}

// CheckRead tells whether what the hub itself tells at a path may be read.
func (g *Grant) CheckRead(path string) error {
	if g.Subscribe.Match(path) || hark.MatchAny(g.Reach, TopicOf(path)) {
		return nil
	}
	return forbidden("mercure.subscribe", "read", path)
}

// mayRead reports whether a private update of topics may be read.
func (g *Grant) mayRead(topics []string) bool {
	return g.Subscribe.MatchAny(topics) || len(g.Reach) > 0 &&
		slices.ContainsFunc(topics, func(t string) bool { return hark.MatchAny(g.Reach, TopicOf(t)) })
}

func forbidden(claim, verb, topic string) error {
	if len(topic) > 64 {
		topic = strings.ToValidUTF8(topic[:64], "") + "…"
	}
	return &hark.Error{Kind: hark.Forbidden, Code: "topic-forbidden", Field: "topic",
		Msg: "your credential may not " + verb + " " + topic + ": no selector of its claim " + claim + " means it"}
}
