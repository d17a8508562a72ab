package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

// beginning is where reading begins, as flags say it.
type beginning struct {
	After string `help:"Go on after this cursor." placeholder:"CURSOR"`
	From  string `help:"Begin at earliest, an event id, a time, or 2h for two hours ago." placeholder:"WHERE"`
	Last  int    `help:"Begin with the newest events that match, so many of them." placeholder:"N"`
}

// query checks the flags and the topics.
func (b *beginning) query(topics []string) (q client.EventQuery, err error) {
	if q.Topics, err = patterns("topic", topics); err != nil {
		return q, err
	}
	given := 0
	for _, set := range []bool{b.After != "", b.From != "", b.Last != 0} {
		if set {
			given++
		}
	}
	if given > 1 {
		return q, wrongUse("", "give at most one of --after, --from and --last")
	}
	if b.Last < 0 || b.Last > 1000 {
		return q, wrongUse("--last 20", "--last must be from 1 to 1000")
	}
	q.Last = b.Last
	if b.After != "" {
		if q.After, err = hark.ParseCursor(b.After); err != nil {
			return q, wrongUse("a cursor that hark poll or hark tail told", "--after: %v", err)
		}
	}
	text, err := startText("--from", b.From)
	switch {
	case err != nil:
		return q, err
	case text == "earliest":
		q.Earliest = true
	case strings.HasPrefix(text, "evt_"):
		q.FromEvent, err = hark.ParseEventID(text)
	case text != "" && text != "now":
		q.From, err = time.Parse(time.RFC3339Nano, text)
	}
	return q, err
}

type tailCmd struct {
	Topics []string `arg:"" optional:"" name:"topic" help:"Topic patterns, such as 'orders.>'; without any, all that the key reaches."`
	beginning
	Count int `help:"End after so many events." placeholder:"N"`
	remote
}

func (*tailCmd) Help() string {
	return `It goes on after cuts and restarts of the server, with nothing lost and nothing
twice. With --json each line is one event, for programs.

Examples:
  hark tail 'orders.>'
  hark tail 'orders.>' --last 20
  hark tail --from 2h --json | jq .data`
}

func (t *tailCmd) Run(a *app) error {
	q, err := t.query(t.Topics)
	if err != nil {
		return err
	}
	c, err := t.client()
	if err != nil {
		return err
	}
	var at hark.Cursor
	begun := false
	o := client.SubscribeOptions{After: q.After, Earliest: q.Earliest, From: q.From, FromEvent: q.FromEvent, Last: q.Last, Position: &at,
		OnState: func(s client.SubscribeState) { t.told(a, s, &begun) }}
	seen := 0
	for e, err := range c.Subscribe(a.ctx, q.Topics, o) {
		if gap, ok := errors.AsType[*client.GapError](err); ok {
			if err := a.showGap(gap.Gap); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := a.showEvent(&e); err != nil {
			return err
		}
		if seen++; seen == t.Count {
			return nil
		}
	}
	if !at.IsZero() {
		a.note("to go on from here: --after %s", at)
	}
	return a.ctx.Err()
}

// told says what becomes of the connection. A server that cannot be reached at all is
// still waited for: it may be about to start.
func (t *tailCmd) told(a *app, s client.SubscribeState, begun *bool) {
	switch {
	case s.Err != nil:
		a.note("hark: %s; again in %s", oneLine(strings.TrimPrefix(s.Err.Error(), "client: ")), span(s.Retry))
	case *begun:
		a.note("hark: connected again")
	case s.Transport == "longpoll":
		a.note("hark: no stream gets through; following %s by long polls", t.what())
	default:
		a.note("following %s; stop with Ctrl-C", t.what())
	}
	*begun = *begun || s.Connected
}

func (t *tailCmd) what() string {
	if len(t.Topics) == 0 {
		return "all topics"
	}
	return strings.Join(t.Topics, ", ")
}

// showEvent writes one event on one line.
func (a *app) showEvent(e *hark.Event) error {
	if a.json {
		_, err := a.stdout.Write(append(hark.AppendEventJSONLine(nil, e), '\n'))
		return err
	}
	st := bold
	if hark.IsReserved(e.Topic) {
		st = warn
	}
	line := a.paint(faint, e.Received.Local().Format("15:04:05.000")) + "  " + a.paint(st, e.Topic) + "  " + dataLine(e) + "\n"
	_, err := a.stdout.Write([]byte(line))
	return err
}

// maxShown bounds the letters of an event's data on a line for people.
const maxShown = 16 << 10

// dataLine is an event's data on one line.
func dataLine(e *hark.Event) string {
	var compact bytes.Buffer
	if hark.IsJSON(e.ContentType) && json.Compact(&compact, e.Data) == nil {
		return harmless(compact.String(), maxShown)
	}
	return snippet(e.Data, maxShown)
}

func (a *app) showGap(g hark.Gap) error {
	if !a.json {
		a.note("%s", a.paint(warn, "hark: "+(&client.GapError{Gap: g}).Error()))
		return nil
	}
	return json.NewEncoder(a.stdout).Encode(map[string]hark.Gap{"gap": g})
}
