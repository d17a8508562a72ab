package server

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/auth"
	"github.com/harkhq/hark/internal/registry"
)

func specConfig(version string) huma.Config {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[hark.Duration](), reflect.TypeFor[durationText]())
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "Hark", Version: version, License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
				Description: "The push side of an application: publish events, and they reach every webhook, worker and reader, durably."},
			Components: &huma.Components{Schemas: schemas, SecuritySchemes: map[string]*huma.SecurityScheme{
				"key":    {Type: "http", Scheme: "bearer", Description: "An API key: hk_…, or a token."},
				"cookie": {Type: "apiKey", In: "cookie", Name: auth.CookieName, Description: "A token, for pages of the same origin."},
				"query":  {Type: "apiKey", In: "query", Name: "token", Description: "A token, where no header can be sent."},
			}},
			Tags: []*huma.Tag{
				{Name: "events", Description: "Publish and read."}, {Name: "destinations", Description: "Who is pushed to."},
				{Name: "sources", Description: "Who pushes to Hark, and how they prove who they are."},
				{Name: "deliveries", Description: "What became of each event for each destination."},
				{Name: "devices", Description: "Browsers and phones that are pushed to."}, {Name: "push", Description: "What browsers need for being pushed to."},
				{Name: "batches", Description: "Publish many events and be told when all are done."},
				{Name: "keys", Description: "Who may do what."}, {Name: "tokens", Description: "Who may listen: short-lived credentials for browsers."}, {Name: "tenants", Description: "Isolated spaces."},
				{Name: "admin", Description: "The server as a whole."},
			},
		},
		Formats: map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat,
			"application/x-www-form-urlencoded": huma.DefaultJSONFormat}, // what curl -d says when it is told nothing
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
	return config
}

// durationText describes a [hark.Duration], so that a bad one is found where its
// place in the body is known.
type durationText struct{}

// Schema implements huma.SchemaProvider.
func (durationText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$`,
		PatternDescription: "a duration such as 500ms, 5s or 2h30m", Examples: []any{"5s"}}
}

// operation is what the description says of any route.
func operation(rt *route) huma.Operation {
	op := huma.Operation{Method: rt.method, Path: rt.path, Summary: rt.summary, OperationID: operationID(rt),
		MaxBodyBytes: 256 << 10, Hidden: rt.summary == ""}
	if parts := strings.Split(rt.path, "/"); len(parts) > 2 && parts[1] == "v1" {
		op.Tags = []string{parts[2]}
		switch parts[2] {
		case "topics":
			op.Tags = []string{"events"}
		case "schemes":
			op.Tags = []string{"sources"}
		}
	}
	if !rt.scope.isPublic() {
		op.Security = []map[string][]string{{"key": {}}}
		if rt.scope&browsers != 0 {
			op.Security = append(op.Security, map[string][]string{"cookie": {}}, map[string][]string{"query": {}})
		}
		op.Description = "Needs a credential with the scope " + scopeWord(rt.scope.scopes()) + "."
		if rt.scope&own != 0 {
			op.Description = "Needs a key with the scope manage, or a token of a user, which reaches the user's own devices."
		}
		op.Errors = []int{401, 403, 429}
	}
	if rt.method == http.MethodDelete {
		op.DefaultStatus = http.StatusNoContent
	}
	return op
}

func scopeWord(s registry.Scopes) string { return s.String() }

// operationID makes "post-v1-destinations-id-pause" of a route.
func operationID(rt *route) string {
	clean := strings.NewReplacer("{", "", "}", "", "/v1/", "-", "/", "-", "$", "").Replace(rt.path)
	return strings.ToLower(rt.method) + strings.TrimSuffix(clean, "-")
}

func jsonBody(example any, schema *huma.Schema) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{"application/json": {Schema: schema, Example: example}}
}

func query(name, doc string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: doc, Schema: schema}
}

func header(name, doc string) *huma.Param {
	return &huma.Param{Name: name, In: "header", Description: doc, Schema: text()}
}

func pathParam(name, doc string, example any) *huma.Param {
	return &huma.Param{Name: name, In: "path", Required: true, Description: doc, Schema: text(), Example: example}
}

func text() *huma.Schema   { return &huma.Schema{Type: huma.TypeString} }
func number() *huma.Schema { return &huma.Schema{Type: huma.TypeInteger} }
func object(required []string, properties map[string]*huma.Schema) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Required: required, Properties: properties}
}

func list(items *huma.Schema) *huma.Schema { return &huma.Schema{Type: huma.TypeArray, Items: items} }

func stringMap() *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: text()}
}

func instant() *huma.Schema { return &huma.Schema{Type: huma.TypeString, Format: "date-time"} }

// draftSchema is an event as a publisher writes it.
func draftSchema() *huma.Schema {
	return object([]string{"topic"}, map[string]*huma.Schema{
		"topic": text(), "data": {Description: "Any JSON value; a string when content_type is not JSON."},
		"data_base64": text(), "key": text(), "content_type": text(), "attributes": stringMap(), "time": instant(),
		"deliver_at": {Type: huma.TypeString, Format: "date-time", Description: "When to publish it, at most 366 days ahead: it gets an id sch_… until then. For all events of an array or for none."}})
}

// eventSchema is an event as readers get it.
func eventSchema() *huma.Schema {
	return object([]string{"id", "topic", "received", "content_type"}, map[string]*huma.Schema{
		"id": text(), "topic": text(), "time": instant(), "received": instant(), "key": text(), "content_type": text(),
		"data": {Description: "The JSON value or text, exactly as it was stored."}, "data_base64": text(),
		"attributes": stringMap(), "source": text()})
}

func gapSchema() *huma.Schema {
	return object(nil, map[string]*huma.Schema{"from": text(), "to": text(), "reason": text()})
}

const exampleScheduled = "sch_00000mdl3dgg0abcd1234efgh8"

const exampleID = "evt_00000d6b1t0g00000000001c"

func published() *huma.Schema {
	return object(nil, map[string]*huma.Schema{"id": text(), "ids": list(text()), "duplicate": {Type: huma.TypeBoolean}})
}

func docPublish(op *huma.Operation) {
	op.Description += " One JSON object is one event; an array or NDJSON (application/x-ndjson) is an atomic batch of at most 1,000 events and 8 MiB." +
		" Answered after the event is synced to disk. A repeat with the same Idempotency-Key answers 200 with the first ids; the same key with another body answers 422."
	op.Parameters = []*huma.Param{header("Idempotency-Key", "Makes repeats within 24 h lead to one event.")}
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: &huma.Schema{OneOf: []*huma.Schema{draftSchema(), list(draftSchema())}},
			Example: map[string]any{"topic": "orders.paid", "data": map[string]any{"order": 1042, "total": "19.90"}, "key": "customer-7"}},
		"application/x-ndjson": {Schema: text(), Example: "{\"topic\":\"orders.paid\",\"data\":1}\n{\"topic\":\"orders.paid\",\"data\":2}\n"},
	}}
	op.Responses = map[string]*huma.Response{
		"201": {Description: "Appended and synced.", Content: jsonBody(map[string]any{"id": exampleID}, published())},
		"202": {Description: "Scheduled, for deliver_at, and synced.", Content: jsonBody(map[string]any{"id": exampleScheduled, "deliver_at": "2026-12-01T09:00:00Z"},
			object(nil, map[string]*huma.Schema{"id": text(), "ids": list(text()), "deliver_at": instant()}))},
		"200": {Description: "A repeat.", Content: jsonBody(map[string]any{"id": exampleID, "duplicate": true}, published())},
	}
	addProblems(op, 400, 401, 403, 413, 415, 422, 429, 503)
}

func docPublishTopic(op *huma.Operation) {
	op.Description += " The body is the event's data, its Content-Type is kept."
	op.Parameters = []*huma.Param{pathParam("topic", "Where to publish.", "orders.paid"), header("Idempotency-Key", "Makes repeats within 24 h lead to one event."),
		header("Hark-Key", "The event's ordering key."), header("Hark-Time", "The sender's time, RFC 3339."),
		header("Hark-Deliver-At", "When to publish it, RFC 3339; the answer is then 202, as that of POST /v1/events with deliver_at.")}
	op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"*/*": {Schema: text(), Example: "any bytes"}}}
	op.Responses = map[string]*huma.Response{"201": {Description: "Appended and synced.", Content: jsonBody(map[string]any{"id": exampleID}, published())}}
	addProblems(op, 400, 401, 403, 413, 422, 429, 503)
}

func docGetEvent(op *huma.Operation) {
	op.Parameters = []*huma.Param{pathParam("id", "evt_…", exampleID)}
	op.Responses = map[string]*huma.Response{"200": {Description: "The event.", Content: jsonBody(map[string]any{
		"id": exampleID, "topic": "orders.paid", "received": "2026-01-31T15:04:05.123456Z", "content_type": "application/json",
		"data": map[string]any{"order": 1042}}, eventSchema())}}
	addProblems(op, 400, 401, 403, 404, 410, 429)
}

func docPull(op *huma.Operation) {
	op.Description += " For destinations of kind pull. Each delivery belongs to the caller until lease_until; then acknowledge, give back or extend it with its token."
	op.Parameters = []*huma.Param{pathParam("id", "dst_…", nil), query("max", "At most this many (10; up to 1000).", number()),
		query("lease", "How long (30s).", text()), query("wait", "How long to wait for one (0s; up to 30s).", text())}
	grant := object(nil, map[string]*huma.Schema{"delivery": text(), "token": text(), "lease_until": instant(), "attempt": number(), "event": eventSchema()})
	op.Responses = map[string]*huma.Response{"200": {Description: "What was granted, perhaps nothing.",
		Content: jsonBody(map[string]any{"deliveries": []any{}}, object(nil, map[string]*huma.Schema{"deliveries": list(grant)}))}}
	addProblems(op, 400, 401, 403, 404, 409, 422, 429, 503)
}

func docBackup(op *huma.Operation) {
	op.Description += " A tar archive for hark restore."
	op.Responses = map[string]*huma.Response{"200": {Description: "The archive.", Content: map[string]*huma.MediaType{"application/x-tar": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}}
	addProblems(op, 401, 403)
}

// addProblems names the errors of a raw route.
func addProblems(op *huma.Operation, statuses ...int) {
	for _, status := range statuses {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: map[string]*huma.MediaType{
			"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}}}
	}
}

// docInbound: any method will do; the description shows the commonest.
func docInbound(op *huma.Operation) {
	op.Method, op.Tags = http.MethodPost, []string{"sources"}
	op.Description = "Any method, any body, and any path behind the token. The source's scheme verifies the request; it is answered after the event is synced to disk," +
		" with what the source says (200 without a body unless it says otherwise). Never a redirect. What is refused says why in one word; the owner sees a sentence."
	op.Parameters = []*huma.Param{pathParam("token", "The last part of the source's URL.", "0123456789abcdefghij")}
	op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"*/*": {Schema: text(), Example: "any bytes"}}}
	op.Responses = map[string]*huma.Response{"200": {Description: "Kept: appended and synced, or a repeat of what was."}}
	addProblems(op, 400, 401, 403, 404, 408, 413, 429, 503)
}
