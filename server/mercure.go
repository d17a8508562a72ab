package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/live"
	"github.com/harkhq/hark/internal/mercure"
)

// openMercure makes the hub that Mercure's clients talk to.
func (s *Server) openMercure() error {
	s.mercure = live.NewMercure(live.MercureConfig{
		Hub: s.live, Log: s.eventlog, Admit: s.admit, MaxEvent: s.cfg.MaxEvent,
		CallerOf:  func(ctx context.Context) live.MercureCaller { return api.CallerOf(ctx).(*caller) },
		Anonymous: s.cfg.MercureAnonymous, Subscriptions: s.cfg.MercureSubscriptions,
		Failed: func(n int, err error) {
			s.log.Error("updates about Mercure subscriptions could not be published", "updates", n, "error", err)
		},
	})
	return nil
}

// MercureClaim implements live.MercureCaller.
func (c *caller) MercureClaim() *mercure.Claim {
	if c.Mercure == nil {
		return nil
	}
	return &mercure.Claim{Publish: c.Mercure.Publish, Subscribe: c.Mercure.Subscribe, Payload: c.Mercure.Payload}
}

// Credential implements live.MercureCaller.
func (c *caller) Credential() (shown, local bool) {
	local = c.IsLocal()
	return !c.Anonymous && !local, local
}

const mercureDoc = " The Mercure protocol, draft-07; docs/mercure.md says what updates are natively."

func docMercurePublish(op *huma.Operation) {
	op.Description += mercureDoc + " The token's claim mercure.publish must have a selector for every topic."
	form := object([]string{"topic"}, map[string]*huma.Schema{"topic": text(), "data": text(), "private": text(), "id": text(), "type": text(), "retry": number()})
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/x-www-form-urlencoded": {Schema: form, Example: map[string]any{"topic": "https://example.com/books/1", "data": `{"title":"Emma"}`}}}}
	op.Responses = map[string]*huma.Response{"200": {Description: "The id of the update, once it is on disk.",
		Content: map[string]*huma.MediaType{"text/plain": {Schema: text(), Example: exampleID}}}}
	addProblems(op, http.StatusBadRequest, 401, 403, 413, 415, 429)
}

func docMercureSubscribe(op *huma.Operation) {
	op.Description += mercureDoc + " Private updates come if the token's claim mercure.subscribe has a selector for one of their topics."
	op.Parameters = []*huma.Param{query("topic", "A topic, a URI template or *; may be repeated.", list(text())),
		query("lastEventID", "Go on after this update; earliest for all that is kept.", text()),
		header("Last-Event-ID", "The last id that was received; goes before lastEventID.")}
	op.Responses = map[string]*huma.Response{"200": {Description: "Updates, as long as both sides like.", Content: map[string]*huma.MediaType{
		"text/event-stream": {Schema: text(), Example: "id: " + exampleID + "\ndata: {\"title\":\"Emma\"}\n\n"}}}}
	addProblems(op, http.StatusBadRequest, 401, 403)
}

func docMercureSubscriptions(op *huma.Operation) {
	op.Description += mercureDoc + " Only with --mercure-subscriptions; the token's claim mercure.subscribe must have a selector for the path."
	op.Responses = map[string]*huma.Response{"200": {Description: "JSON-LD.", Content: map[string]*huma.MediaType{"application/ld+json": {Schema: object(nil, nil)}}},
		"304": {Description: "Nothing changed."}}
	addProblems(op, http.StatusUnauthorized, 403, 404)
}
