package api

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

// ListEvents answers GET /v1/events: the next page after a cursor.
func (a *API) ListEvents(w http.ResponseWriter, r *http.Request) error {
	caller, q := callerOf(r.Context()), r.URL.Query()
	if err := knownQuery(q, "topic", "after", "from", "limit"); err != nil {
		return err
	}
	patterns, err := patternsOf(q["topic"])
	if err != nil {
		return err
	}
	if patterns == nil {
		patterns = caller.Reach()
	}
	if err := caller.MaySubscribe(patterns); err != nil {
		return err
	}
	query := eventlog.Query{Patterns: patterns}
	if query.Limit, err = intOf(q, "limit", 100, 1, hark.MaxPageSize); err != nil {
		return err
	}
	after, lost, err := a.startOf(caller.TenantID(), q)
	if err != nil {
		return err
	}
	query.After = after
	page, err := a.Log.Read(caller.TenantID(), query)
	if err != nil {
		return err
	}
	if lost != nil && page.Gap == nil {
		page.Gap = lost
	}
	etag := `"` + a.Log.Cursor(page.Next).String() + `"`
	h := w.Header()
	h.Set("ETag", etag)
	h.Set("Cache-Control", "private, no-cache")
	if len(page.Events) == 0 && page.Gap == nil && slices.Contains(r.Header.Values("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "application/json")
	_, err = w.Write(a.appendPage(nil, page))
	return ignoreWrite(err)
}

// ignoreWrite: a client that went away is no fault of ours and gets no answer.
func ignoreWrite(error) error { return nil }

func (a *API) appendPage(b []byte, page eventlog.Page) []byte {
	b = append(b, `{"events":[`...)
	for i, e := range page.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = hark.AppendEventJSON(b, e)
	}
	b = append(b, `],"cursor":"`...)
	b = append(b, a.Log.Cursor(page.Next).String()...)
	b = append(b, `","gap":`...)
	b = appendGap(b, page.Gap)
	b = append(b, `,"more":`...)
	b = strconv.AppendBool(b, page.More)
	return append(b, '}', '\n')
}

func appendGap(b []byte, gap *hark.Gap) []byte {
	if gap == nil {
		return append(b, "null"...)
	}
	b = append(b, `{"from":"`...)
	b = append(b, gap.From.String()...)
	b = append(b, `","to":"`...)
	b = append(b, gap.To.String()...)
	return append(b, `"}`...)
}

// startOf reads where to begin: after=cursor, from=earliest, from=time; without either, now.
func (a *API) startOf(t hark.TenantID, q url.Values) (after hark.Offset, gap *hark.Gap, err error) {
	cursor, from := q.Get("after"), q.Get("from")
	switch {
	case cursor != "" && from != "":
		return 0, nil, hark.Invalidf("from", "give either after or from, not both")
	case cursor != "":
		c, err := hark.ParseCursor(cursor)
		if err != nil {
			return 0, nil, err
		}
		return a.Log.Position(c)
	case from != "":
		after, err = a.fromOf(t, "from", from)
		return after, nil, err
	}
	return a.Log.End(), nil, nil
}

// fromOf reads "earliest", "now", a time or an event id; an id means from that event on.
func (a *API) fromOf(t hark.TenantID, field, from string) (after hark.Offset, err error) {
	switch {
	case from == "earliest":
		return a.Log.Floor(t) - 1, nil
	case from == "now":
		return a.Log.End(), nil
	case len(from) > 4 && from[:4] == "evt_":
		id, err := hark.ParseEventID(from)
		if err != nil {
			return 0, err
		}
		o, err := a.Log.Locate(id)
		if err != nil {
			return 0, err
		}
		return o - 1, nil
	}
	at, err := time.Parse(time.RFC3339, from)
	if err != nil {
		return 0, hark.Invalidf(field, `must be "earliest", "now", an event id or a time like 2026-01-31T15:04:05Z`)
	}
	return a.Log.FindTime(t, at)
}

// GetEvent answers GET /v1/events/{id}.
func (a *API) GetEvent(w http.ResponseWriter, r *http.Request) error {
	caller := callerOf(r.Context())
	e, err := a.eventOf(caller, r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "private, max-age=3600, immutable")
	_, err = w.Write(append(hark.AppendEventJSON(nil, e), '\n'))
	return ignoreWrite(err)
}

// eventOf finds an event that the caller may read. One that it may not read
// answers like one that is not there.
func (a *API) eventOf(caller Caller, text string) (*hark.Event, error) {
	id, err := hark.ParseEventID(text)
	if err != nil {
		return nil, err
	}
	o, err := a.Log.Locate(id)
	if err != nil {
		return nil, err
	}
	e, err := a.Log.Event(caller.TenantID(), o)
	if err != nil {
		return nil, err
	}
	if caller.MayRead(e.Topic) != nil {
		return nil, hark.NoSuch("event", text)
	}
	return e, nil
}

func patternsOf(texts []string) ([]hark.Pattern, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	patterns := make([]hark.Pattern, len(texts))
	for i, text := range texts {
		patterns[i] = hark.Pattern(text)
	}
	if err, ok := errors.AsType[*hark.Error](hark.CheckPatterns(patterns)); ok {
		named := *err
		named.Field = "topic" // as the query calls it
		return nil, &named
	}
	return patterns, nil
}

// knownQuery refuses query parameters that nobody reads: a misspelt filter must
// not silently mean no filter.
func knownQuery(q url.Values, names ...string) error {
	for name := range q {
		if !slices.Contains(names, name) {
			return hark.Invalidf(name, "unknown query parameter; known are "+joinWords(names))
		}
	}
	return nil
}

func intOf(q url.Values, name string, otherwise, least, most int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, hark.Invalidf(name, "must be a number from "+strconv.Itoa(least)+" to "+strconv.Itoa(most))
	}
	return n, nil
}
