package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/harkhq/hark"
)

// EventQuery says which events to read and from where: at most one of After, Earliest,
// From, FromEvent and Last may be set. Without any, reading starts at now: there is
// nothing to read yet, only a cursor to get.
type EventQuery struct {
	// Topics are patterns, one of which must match; none for every topic.
	Topics []hark.Pattern
	// After is a position to go on after.
	After hark.Cursor
	// Earliest starts with the oldest event there is.
	Earliest bool
	// From starts with the first event received at this time or later.
	From time.Time
	// FromEvent starts with this event.
	FromEvent hark.EventID
	// Last starts with the newest events that match, so many of them, 1 to 1000.
	Last int
	// Wait is how long the server holds a request until there is something, up to 30
	// seconds: a long poll. 0 is answered at once.
	Wait time.Duration
	// PageSize is how many events one request asks for; 0 leaves it to the server.
	PageSize int
	// Position, if it is not nil, is kept at the position reached: give it as After
	// to go on later. It moves past events that did not match, too.
	Position *hark.Cursor
}

func (q *EventQuery) values() (url.Values, error) {
	v := url.Values{}
	for _, p := range q.Topics {
		if err := hark.CheckPattern(p); err != nil {
			return nil, err
		}
		v.Add("topic", string(p))
	}
	if !q.After.IsZero() {
		v.Set("after", q.After.String())
	}
	if q.Earliest {
		v.Add("from", "earliest")
	}
	if !q.From.IsZero() {
		v.Add("from", q.From.UTC().Format(time.RFC3339Nano))
	}
	if !q.FromEvent.IsZero() {
		v.Add("from", q.FromEvent.String())
	}
	if q.Last != 0 {
		v.Set("last", strconv.Itoa(q.Last))
	}
	if len(v["after"])+len(v["from"])+len(v["last"]) > 1 {
		return nil, hark.Invalidf("from", "give at most one of After, Earliest, From, FromEvent and Last")
	}
	if q.Wait > 0 {
		v.Set("wait", strconv.FormatFloat(q.Wait.Seconds(), 'f', -1, 64))
	}
	if q.PageSize > 0 {
		v.Set("limit", strconv.Itoa(q.PageSize))
	}
	return v, nil
}

// EventPage is one answer.
type EventPage struct {
	Events []hark.Event
	// Cursor is the position after the page: the next query's After.
	Cursor hark.Cursor
	// Gap is not nil when events before the page may be missing.
	Gap *hark.Gap
	// More is true when another page is there already.
	More bool
}

// EventPage reads one page.
func (c *Client) EventPage(ctx context.Context, q EventQuery) (EventPage, error) {
	return c.eventPage(ctx, q, nil, true)
}

// eventPage reads one page, again and again if need be or just once.
func (c *Client) eventPage(ctx context.Context, q EventQuery, header http.Header, again bool) (page EventPage, err error) {
	query, err := q.values()
	if err != nil {
		return page, err
	}
	var answer struct {
		Events []json.RawMessage `json:"events"`
		Cursor hark.Cursor       `json:"cursor"`
		Gap    *hark.Gap         `json:"gap"`
		More   bool              `json:"more"`
	}
	k := call{method: "GET", path: "/v1/events", query: query, header: header, safe: true, wait: q.Wait, once: !again}
	if err := c.do(ctx, k, &answer); err != nil {
		return page, err
	}
	page = EventPage{Cursor: answer.Cursor, Gap: answer.Gap, More: answer.More, Events: make([]hark.Event, len(answer.Events))}
	for i, text := range answer.Events {
		if page.Events[i], err = parseEvent(text); err != nil {
			return EventPage{}, fmt.Errorf("event %d of the page: %w", i, err)
		}
	}
	return page, nil
}

// parseEvent reads an event that a server says is in its log.
func parseEvent(text []byte) (hark.Event, error) {
	e, err := hark.ParseEventJSON(text)
	if err != nil {
		return hark.Event{}, err
	}
	if e.ID.IsZero() || e.Topic == "" {
		return hark.Event{}, errors.New("an event without id or topic")
	}
	return *e, nil
}

// Events reads page by page until there is nothing more at the moment. A gap is told
// as a [*GapError], after which reading goes on; any other error ends it.
//
//	var at hark.Cursor
//	for e, err := range c.Events(ctx, client.EventQuery{Earliest: true, Position: &at}) {
//		if gap, ok := errors.AsType[*client.GapError](err); ok { … continue }
//		if err != nil { return err }
//		…
//	}
func (c *Client) Events(ctx context.Context, q EventQuery) iter.Seq2[hark.Event, error] {
	return func(yield func(hark.Event, error) bool) {
		reached := func(at hark.Cursor) {
			if q.Position != nil && !at.IsZero() {
				*q.Position = at
			}
		}
		reached(q.After)
		for {
			page, err := c.EventPage(ctx, q)
			if err != nil {
				yield(hark.Event{}, err)
				return
			}
			if page.Gap != nil && !yield(hark.Event{}, &GapError{*page.Gap}) {
				return
			}
			for _, e := range page.Events {
				// Before yielding: whoever stops at an event has seen it.
				reached(e.ID)
				if !yield(e, nil) {
					return
				}
			}
			reached(page.Cursor)
			if !page.More || page.Cursor.IsZero() || page.Cursor == q.After {
				return
			}
			q.After, q.Earliest, q.From, q.FromEvent, q.Last = page.Cursor, false, time.Time{}, hark.EventID{}, 0
		}
	}
}

// Event returns one event by its id.
func (c *Client) Event(ctx context.Context, id hark.EventID) (hark.Event, error) {
	var text json.RawMessage
	if err := c.do(ctx, call{method: "GET", path: "/v1/events/" + id.String(), safe: true}, &text); err != nil {
		return hark.Event{}, err
	}
	return parseEvent(text)
}
