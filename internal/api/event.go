package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/harkhq/hark"
)

// ignoreWrite: a client that went away is no fault of ours and gets no answer.
func ignoreWrite(error) error { return nil }

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
