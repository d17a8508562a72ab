package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/live"
)

// openLive makes the hub, and has it end the streams of keys that are revoked.
func (s *Server) openLive() (err error) {
	s.live, err = live.New(live.Config{
		Log: s.eventlog, MaxStreams: s.maxStreams(), SlowAfter: s.cfg.SlowAfter, Front: socketFront{s},
		Publisher: socketPublisher{&api.API{Log: s.eventlog, MaxEvent: cmpOr(s.cfg.MaxEvent, hark.MaxEventBytes), Admit: s.admit}},
		CallerOf:  func(ctx context.Context) live.Caller { return api.CallerOf(ctx).(*caller) },
		ClientOf: func(r *http.Request) string {
			return s.front.Client(r).String() + " " + api.CallerOf(r.Context()).(*caller).Name
		},
		Hooks: live.Hooks{
			Opened: func(transport string) { s.metrics.streamsOpened.WithLabelValues(transport).Inc() },
			Closed: func(transport, why string) { s.metrics.streamsClosed.WithLabelValues(transport, why).Inc() },
		},
	})
	if err != nil {
		return err
	}
	s.auth.Watch(s.live.Recheck)
	return nil
}

// maxStreams is the setting, or four in five of the files that this process may open.
func (s *Server) maxStreams() int {
	if s.cfg.MaxStreams > 0 {
		return s.cfg.MaxStreams
	}
	return max(1000, openFiles()/5*4)
}

// Until implements live.Caller.
func (c *caller) Until() time.Time { return c.Expires }

// Recheck implements live.Caller.
func (c *caller) Recheck() error { return c.auth.Recheck(&c.Principal) }

const startDoc = " Start with after (a cursor), from or last; without them, at now."

func docStart() []*huma.Param {
	return []*huma.Param{query("topic", "A topic pattern; may be repeated. None: all that the key reaches.", list(text())),
		query("after", "A cursor or event id.", text()), query("from", "earliest, now, an event id or a time.", text()),
		query("last", "The newest N matching events first (up to 1000).", number())}
}

func docStream(op *huma.Operation) {
	op.Description += startDoc + " Server-Sent Events, or NDJSON with Accept: application/x-ndjson. Each event's id is its cursor;" +
		" Last-Event-ID resumes. A gap is told as an event named gap, the end of a stream as one named end."
	op.Parameters = append(docStart(), header("Last-Event-ID", "The last id that was received; goes before after."),
		query("format", "sse or ndjson.", text()), query("ping", "event: keep-alives of SSE are events named ping.", text()))
	op.Responses = map[string]*huma.Response{"200": {Description: "Events, as long as both sides like.", Content: map[string]*huma.MediaType{
		"text/event-stream":    {Schema: text(), Example: "id: " + exampleID + "\ndata: {\"id\":\"" + exampleID + "\",\"topic\":\"orders.paid\",\"data\":{\"order\":1042}}\n\n"},
		"application/x-ndjson": {Schema: text(), Example: "{\"cursor\":\"" + exampleID + "\"}\n"}}}}
	addProblems(op, http.StatusBadRequest, 401, 403, 422)
}

func docListEvents(op *huma.Operation) {
	op.Description += startDoc + " The cursor of an answer is the after of the next request; gap tells that events in between are missing." +
		" With wait the request is held until something matches: a long poll."
	op.Parameters = append(docStart(), query("limit", "At most this many (100; up to 1000).", number()),
		query("wait", "How many seconds to wait for a matching event (0; up to 30).", number()),
		header("If-None-Match", "The ETag of an earlier answer."))
	page := object([]string{"events", "cursor", "gap", "more"}, map[string]*huma.Schema{
		"events": list(eventSchema()), "cursor": text(), "gap": gapSchema(), "more": {Type: huma.TypeBoolean}})
	op.Responses = map[string]*huma.Response{
		"200": {Description: "A page.", Content: jsonBody(map[string]any{"events": []any{}, "cursor": exampleID, "gap": nil, "more": false}, page)},
		"304": {Description: "Nothing new."},
	}
	addProblems(op, http.StatusBadRequest, 401, 403, 422, 429)
}
