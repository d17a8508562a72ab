package main

import (
	"encoding/json"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type pollCmd struct {
	Topics []string `arg:"" optional:"" name:"topic" help:"Topic patterns, such as 'orders.>'; without any, all that the key reaches."`
	beginning
	For   time.Duration `name:"wait" help:"Wait so long for the first event, up to 30s; it fails (exit code 1) when none came." placeholder:"DURATION"`
	Limit int           `help:"At most so many events, up to 1000 (100)." default:"100" placeholder:"N"`
	remote
}

func (*pollCmd) Help() string {
	return `It prints what is there after a cursor, and the cursor to go on with. Without
--after, --from and --last there is only a cursor: the one of now.

Examples:
  hark poll 'orders.>' --from earliest --limit 10
  hark poll 'orders.>' --after evt_00000qo4gjvg000000000008 --wait 20s --json`
}

func (p *pollCmd) Run(a *app) error {
	q, err := p.query(p.Topics)
	if err != nil {
		return err
	}
	switch {
	case p.Limit < 1 || p.Limit > hark.MaxPageSize:
		return wrongUse("--limit 100", "--limit must be from 1 to %d", hark.MaxPageSize)
	case p.For < 0 || p.For > 30*time.Second:
		return wrongUse("--wait 20s, and again with the cursor that it prints", "--wait must be from 0s to 30s")
	}
	q.PageSize, q.Wait = p.Limit, p.For
	c, err := p.client()
	if err != nil {
		return err
	}
	page, err := c.EventPage(a.ctx, q)
	if err != nil {
		return err
	}
	if err := a.showPage(page); err != nil {
		return err
	}
	if p.For > 0 && len(page.Events) == 0 && page.Gap == nil {
		return errQuiet
	}
	return nil
}

func (a *app) showPage(page client.EventPage) error {
	if a.json {
		answer := struct {
			Events []json.RawMessage `json:"events"`
			Cursor hark.Cursor       `json:"cursor"`
			Gap    *hark.Gap         `json:"gap"`
			More   bool              `json:"more"`
		}{Events: []json.RawMessage{}, Cursor: page.Cursor, Gap: page.Gap, More: page.More}
		for i := range page.Events {
			answer.Events = append(answer.Events, hark.AppendEventJSONLine(nil, &page.Events[i]))
		}
		return a.answer(answer, nil)
	}
	if page.Gap != nil {
		if err := a.showGap(*page.Gap); err != nil {
			return err
		}
	}
	for i := range page.Events {
		if err := a.showEvent(&page.Events[i]); err != nil {
			return err
		}
	}
	more := ""
	if page.More {
		more = "  there is more"
	}
	a.printf("%s %s%s\n", a.paint(faint, "cursor"), page.Cursor, a.paint(warn, more))
	return nil
}
