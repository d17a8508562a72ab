package main

import (
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

// later is when to publish, as flags say it.
type later struct {
	In string `help:"Publish it after this time, such as 90m or 2d." placeholder:"DURATION" xor:"later"`
	At string `help:"Publish it at this time, such as 2026-12-01T09:00 (in this machine's zone unless it names one)." placeholder:"TIME" xor:"later"`
}

// due returns when; zero for at once.
func (l *later) due() (time.Time, error) {
	switch {
	case l.In != "":
		d, err := parseSpan(l.In)
		if err != nil || d < 0 || d > hark.MaxScheduleAhead {
			return time.Time{}, wrongUse("--in 90m, or --in 2d", "--in: %q is not a duration of at most 366 days", l.In)
		}
		return time.Now().Add(d), nil
	case l.At != "":
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
			if t, err := time.ParseInLocation(layout, l.At, time.Local); err == nil {
				return t, nil
			}
		}
		return time.Time{}, wrongUse("--at 2026-12-01T09:00:00Z", "--at: %q is not a time", l.At)
	}
	return time.Time{}, nil
}

// answerScheduled tells what became of an event that was to be published later.
func (a *app) answerScheduled(r client.ScheduleReceipt) error {
	return a.answer(r, func() {
		if r.ID == (hark.ScheduledID{}) {
			a.printf("%s\n", r.Event)
			a.note("its time is over: it is published")
		} else {
			a.printf("%s\n", r.ID)
			a.note("it is published at %s; hark scheduled cancel %s prevents it", stamp(r.DeliverAt), r.ID)
		}
		if r.Duplicate {
			a.note("asked for before, with the same idempotency key")
		}
	})
}

type scheduledCmd struct {
	List   scheduledList   `cmd:"" aliases:"ls" help:"List events that are to be published later, those that are due first."`
	Show   scheduledShow   `cmd:"" aliases:"get" help:"Show one."`
	Cancel scheduledCancel `cmd:"" aliases:"rm,remove,delete" help:"Have one not be published."`
}

func (*scheduledCmd) Help() string {
	return "Events published with --in or --at wait here for their time.\n\nExample:\n  hark publish reminders.42 --data '{\"title\":\"Stand-up\"}' --in 2h"
}

type scheduledList struct {
	Limit int `help:"How many at most (20)." default:"20" short:"n"`
	remote
}

func (*scheduledList) Help() string { return "Example:\n  hark scheduled list" }

func (l *scheduledList) Run(a *app) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	events := []*client.ScheduledEvent{}
	if l.Limit > 0 {
		for e, err := range c.Scheduled(a.ctx) {
			if err != nil {
				return err
			}
			if events = append(events, e); len(events) == l.Limit {
				break
			}
		}
	}
	return a.answer(events, func() {
		if len(events) == 0 {
			a.note("nothing is to be published later")
			return
		}
		rows := [][]cell{header("ID", "AT", "TOPIC", "KEY")}
		for _, e := range events {
			rows = append(rows, []cell{plain(e.ID), plain(stamp(e.DeliverAt)), plain(e.Topic), plain(harmless(e.Key, hark.MaxKeyBytes))})
		}
		a.table(rows...)
	})
}

// oneScheduled is a verb's event, by its id.
type oneScheduled struct {
	ID string `arg:"" help:"Its id, sch_…."`
	remote
}

func (o *oneScheduled) find() (*client.Client, hark.ScheduledID, error) {
	id, err := hark.ParseScheduledID(o.ID)
	if err != nil {
		return nil, id, wrongUse("hark scheduled list", "%v", err)
	}
	c, err := o.client()
	return c, id, err
}

type scheduledShow struct{ oneScheduled }

func (*scheduledShow) Help() string { return "Example:\n  hark scheduled show sch_…" }

func (s *scheduledShow) Run(a *app) error {
	c, id, err := s.find()
	if err != nil {
		return err
	}
	e, err := c.ScheduledByID(a.ctx, id)
	if err != nil {
		return err
	}
	return a.answer(e, func() {
		data := dataLine(&hark.Event{ContentType: "application/json", Data: e.Data})
		if e.Data == nil && e.DataBase64 != nil {
			data = count(len(e.DataBase64), "byte")
		}
		a.facts("id", e.ID, "at", stamp(e.DeliverAt), "topic", e.Topic, "key", harmless(e.Key, hark.MaxKeyBytes), "content type", e.ContentType, "data", data)
	})
}

type scheduledCancel struct{ oneScheduled }

func (*scheduledCancel) Help() string { return "Example:\n  hark scheduled cancel sch_…" }

func (s *scheduledCancel) Run(a *app) error {
	c, id, err := s.find()
	if err != nil {
		return err
	}
	if err := c.CancelScheduled(a.ctx, id); err != nil {
		return err
	}
	a.note("%s is not published", id)
	return nil
}
