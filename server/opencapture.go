package server

import "github.com/danielgtaylor/huma/v2"

const (
	exampleBin     = "src_0001m5b2t0g00"
	exampleCapture = "cap_0034n2kd5t4f0"
)

func capturePath(op *huma.Operation) {
	op.Parameters = append(op.Parameters, pathParam("id", "src_…", exampleBin), pathParam("capture", "cap_…", exampleCapture))
}

func boolean() *huma.Schema { return &huma.Schema{Type: huma.TypeBoolean} }

// fieldsSchema is the header of a request, in order.
func fieldsSchema() *huma.Schema {
	return list(object([]string{"name", "value"}, map[string]*huma.Schema{"name": text(), "value": text()}))
}

// captureSchema is a captured request as readers get it.
func captureSchema() *huma.Schema {
	base64 := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString, ContentEncoding: "base64"} }
	return object([]string{"id", "source", "received", "method", "target", "header", "body_size"}, map[string]*huma.Schema{
		"id": text(), "source": text(), "received": instant(), "remote": text(), "method": text(), "target": text(), "proto": text(),
		"head_base64": base64(), "header": fieldsSchema(), "body": text(), "body_base64": base64(), "body_size": number(),
		"truncated": boolean(), "scheme": text(), "reason": text(), "detail": text(), "event": text(), "duplicate": boolean(),
		"status": number(), "replay_of": text()})
}

func exampleRequest() map[string]any {
	return map[string]any{"id": exampleCapture, "source": exampleBin, "received": "2026-01-31T15:04:05.123456Z", "remote": "203.0.113.7",
		"method": "POST", "target": "/in/4f0c1v9q2m8s7t6u5r3e/orders?x=1", "proto": "HTTP/1.1",
		"header": []any{map[string]any{"name": "Content-Type", "value": "application/json"}}, "body": "{\"order\":1042}", "body_size": 14,
		"scheme": "github", "reason": "no-secret-matches", "detail": "…", "status": 200}
}

// filterParams are the search of a route.
func filterParams() []*huma.Param {
	return []*huma.Param{
		query("q", `A search: method:POST path:/orders header:x-github-event:push body:"order 1042" reason:rejected status:401 and any words.`, text()),
		query("method", "The whole method.", text()), query("path", "Found in path and query.", text()),
		query("header", "A field name, or name: part of its value.", text()), query("body", "Found in the body, byte for byte.", text()),
		query("reason", "The verdict's word; rejected for every one but ok.", text()), query("status", "What the sender was answered.", number()),
		query("since", "Received at or after this time.", instant()), query("until", "Received before this time.", instant())}
}

func docListCaptures(op *huma.Operation) {
	op.Description += " Newest first; with after oldest first. A page can hold nothing and still have next: go on from there. Bodies are left out unless bodies=true."
	op.Parameters = append(append([]*huma.Param{pathParam("id", "src_…", exampleBin)}, filterParams()...),
		query("before", "Go on before this id: the next of the page before.", text()), query("after", "Oldest first, after this id.", text()),
		query("limit", "At most this many (50; up to 500).", number()), query("bodies", "true for bodies too.", boolean()))
	page := object([]string{"requests", "total"}, map[string]*huma.Schema{"requests": list(captureSchema()), "next": text(), "more": boolean(), "gap": boolean(), "total": number()})
	op.Responses = map[string]*huma.Response{"200": {Description: "A page.",
		Content: jsonBody(map[string]any{"requests": []any{exampleRequest()}, "total": 1}, page)}}
	addProblems(op, 400, 401, 403, 404, 422, 429, 503)
}

func docGetCapture(op *huma.Operation) {
	capturePath(op)
	op.Responses = map[string]*huma.Response{"200": {Description: "The request, with its body.", Content: jsonBody(exampleRequest(), captureSchema())}}
	addProblems(op, 400, 401, 403, 404, 429)
}

func docFile(op *huma.Operation) {
	op.Description += " Answered as a file to save, never as a page."
	op.Parameters = []*huma.Param{pathParam("id", "src_…", exampleBin)}
	op.Responses = map[string]*huma.Response{"200": {Description: "The file.",
		Content: map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}}
	addProblems(op, 400, 401, 403, 404, 422, 429)
}

func docNothing(op *huma.Operation) {
	op.Parameters = []*huma.Param{pathParam("id", "src_…", exampleBin)}
	op.Responses = map[string]*huma.Response{"204": {Description: "Gone."}}
	addProblems(op, 400, 401, 403, 404, 429)
}

func docReplay(op *huma.Operation) {
	op.Description += " To a URL, to a source or bin, or once to a destination. The original stays as it is; what is sent carries Hark-Replay-Of."
	capturePath(op)
	edit := object(nil, map[string]*huma.Schema{"method": text(), "path": text(), "headers": {Type: huma.TypeObject,
		Description: "Fields to set; null removes one."}, "body": text(), "body_base64": text()})
	op.RequestBody = &huma.RequestBody{Required: true, Content: jsonBody(map[string]any{"url": "https://example.com/hook", "resign": true},
		object(nil, map[string]*huma.Schema{"url": text(), "source": text(), "destination": text(), "edit": edit, "resign": boolean(),
			"scheme": text(), "secret": text()}))}
	op.Responses = map[string]*huma.Response{"200": {Description: "What came back, or why nothing did.", Content: jsonBody(
		map[string]any{"replay_of": exampleCapture, "to": "https://example.com/hook", "status": 204, "duration_ms": 12.5},
		object([]string{"replay_of", "to", "duration_ms"}, map[string]*huma.Schema{"replay_of": text(), "to": text(), "status": number(),
			"header": fieldsSchema(), "body": text(), "body_base64": text(), "body_more": boolean(), "duration_ms": {Type: huma.TypeNumber},
			"error": text(), "event": text(), "capture": text()}))}}
	addProblems(op, 400, 401, 403, 404, 409, 413, 422, 429)
}

func docLive(op *huma.Operation) {
	op.Description += " Server-Sent Events: request, with the id to resume from; gap when some are lost to this reader; gone when the bin was deleted."
	op.Parameters = append(append([]*huma.Param{pathParam("id", "src_…", exampleBin)}, filterParams()...),
		query("after", "Begin after this id; now when it is missing.", text()), query("bodies", "true for bodies too.", boolean()),
		header("Last-Event-ID", "As after; sent by browsers when they reconnect."))
	op.Responses = map[string]*huma.Response{"200": {Description: "A stream without an end.",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: text()}}}}
	addProblems(op, 400, 401, 403, 404, 422, 429)
}

func docWait(op *huma.Operation) {
	op.Description += " Answers with the first request that matches, as soon as there is one, else with request null when the time is over. What is there already counts; next is the after of the next wait."
	op.Parameters = append(append([]*huma.Param{pathParam("id", "src_…", exampleBin)}, filterParams()...),
		query("after", "Only what comes after this id; now for what comes from now on.", text()), query("timeout", "How long (30s; up to 2m).", text()))
	op.Responses = map[string]*huma.Response{"200": {Description: "A request, or none.", Content: jsonBody(
		map[string]any{"request": exampleRequest(), "next": exampleCapture},
		object([]string{"request"}, map[string]*huma.Schema{"request": captureSchema(), "next": text()}))}}
	addProblems(op, 400, 401, 403, 404, 422, 429)
}
