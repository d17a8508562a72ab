package live

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// MaxLast bounds last=N.
const MaxLast = 1000

// cursorNames are the query parameters that carry a cursor, as clients of several kinds
// write them: EventSource sends its header only when it reconnects.
var cursorNames = []string{"after", "lastEventId", "last_event_id", "lastEventID", "Last-Event-ID"}

// asked is what every transport is asked for.
type asked struct {
	patterns []hark.Pattern
	after    hark.Offset
	gap      *hark.Gap
}

// start is where a client wants to begin.
type start struct {
	after, from string
	last        int
}

// askedBy reads topics and start of a request: query parameters, and the header that EventSource sends.
func (h *Hub) askedBy(r *http.Request, c Caller, q url.Values, known ...string) (*asked, error) {
	known = append(append(known, "topic", "from", "last", "token"), cursorNames...)
	for name := range q {
		if !slices.Contains(known, name) {
			return nil, hark.Invalidf(name, "unknown query parameter; known are "+strings.Join(known, ", "))
		}
	}
	patterns, err := patternsFor(c, q["topic"])
	if err != nil {
		return nil, err
	}
	st := start{from: q.Get("from")}
	var resumed bool
	if st.after, resumed, err = cursorOf(r, q); err != nil {
		return nil, err
	}
	if text := q.Get("last"); text != "" {
		if st.last, err = strconv.Atoi(text); err != nil || st.last < 1 || st.last > MaxLast {
			return nil, hark.Invalidf("last", "must be a number from 1 to "+strconv.Itoa(MaxLast))
		}
	}
	if resumed { // what reconnects repeats what it began with
		st.from, st.last = "", 0
	}
	a := &asked{patterns: patterns}
	a.after, a.gap, err = h.locate(c.TenantID(), patterns, st)
	return a, err
}

// cursorOf returns the cursor that a request carries, "" for none, and whether it came in the
// header of a client that reconnects, which goes first.
func cursorOf(r *http.Request, q url.Values) (cursor string, resumed bool, err error) {
	if ids := r.Header["Last-Event-Id"]; len(ids) == 1 && ids[0] != "" {
		return ids[0], true, nil
	} else if len(ids) > 1 {
		return "", false, hark.Invalidf("Last-Event-ID", "there are several of these headers: send one")
	}
	for _, name := range cursorNames {
		for _, v := range q[name] {
			if cursor != "" && v != "" && v != cursor {
				return "", false, hark.Invalidf(name, "there are several cursors: give one")
			}
			cursor = max(cursor, v)
		}
	}
	return cursor, false, nil
}

// patternsFor checks topic patterns that a caller asks for; none means all it reaches.
func patternsFor(c Caller, texts []string) ([]hark.Pattern, error) {
	if len(texts) == 0 {
		patterns := c.Reach()
		return patterns, c.MaySubscribe(patterns)
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
	return patterns, c.MaySubscribe(patterns)
}

// locate finds where reading begins.
func (h *Hub) locate(t hark.TenantID, patterns []hark.Pattern, s start) (after hark.Offset, gap *hark.Gap, err error) {
	given := 0
	for _, set := range []bool{s.after != "", s.from != "", s.last != 0} {
		if set {
			given++
		}
	}
	switch {
	case given > 1:
		return 0, nil, hark.Invalidf("from", "give at most one of after, from and last")
	case s.after != "":
		return h.resume(t, s.after)
	case s.last != 0:
		after, err = h.log.Latest(t, patterns, s.last)
		return after, nil, err
	case s.from != "":
		after, err = h.from(t, s.from)
		return after, nil, err
	}
	return h.log.End(), nil, nil
}

// resume finds where reading goes on after a cursor. What is missing in between, with a
// restore or by retention, is one gap, so that the head of an answer can tell it.
func (h *Hub) resume(t hark.TenantID, cursor string) (after hark.Offset, gap *hark.Gap, err error) {
	c, err := hark.ParseCursor(cursor)
	if err != nil {
		return 0, nil, err
	}
	after, gap, err = h.log.Position(c)
	if lost := h.log.Floor(t) - 1; err == nil && after < lost {
		if gap == nil {
			gap = &hark.Gap{From: c, Reason: hark.GapRetention}
		}
		after, gap.To = lost, h.log.Cursor(lost)
	}
	return after, gap, err
}

// from reads "earliest", "now", a time or an event id; an id means from that event on.
func (h *Hub) from(t hark.TenantID, from string) (after hark.Offset, err error) {
	switch {
	case from == "earliest":
		return h.log.Floor(t) - 1, nil
	case from == "now":
		return h.log.End(), nil
	case strings.HasPrefix(from, "evt_"):
		id, err := hark.ParseEventID(from)
		if err != nil {
			return 0, err
		}
		o, err := h.log.Locate(id)
		return max(o, 1) - 1, err
	}
	at, err := time.Parse(time.RFC3339, from)
	if err != nil {
		return 0, hark.Invalidf("from", `must be "earliest", "now", an event id or a time like 2026-01-31T15:04:05Z`)
	}
	return h.log.FindTime(t, at)
}
