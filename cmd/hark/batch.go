package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type batchCmd struct {
	Send   batchSend   `cmd:"" help:"Publish many events and have somebody told when all are done."`
	List   batchList   `cmd:"" aliases:"ls" help:"List batches, newest first."`
	Show   batchShow   `cmd:"" aliases:"get" help:"Show one, and how far it is."`
	Remove batchRemove `cmd:"" aliases:"rm,delete" help:"Forget one: nobody is told of its end. Its events and deliveries stay."`
}

func (*batchCmd) Help() string {
	return "A batch is a set of events whose end is told.\n\nExample:\n  hark batch send texts.ndjson --callback https://example.com/done --wait"
}

type batchSend struct {
	File           string        `arg:"" help:"File of events in JSON, one on each line or an array; - for the standard input."`
	Topic          string        `help:"Topic of the events that name none." placeholder:"TOPIC" short:"t"`
	Callback       string        `help:"URL to call, signed, when all are done." placeholder:"URL" xor:"callback" required:""`
	CallbackTopic  string        `help:"Publish what tells to this topic instead." placeholder:"TOPIC" xor:"callback" required:""`
	CallbackTo     string        `help:"Send what tells to this destination instead: its id or uid." placeholder:"ID" xor:"callback" required:""`
	Deadline       time.Duration `help:"Tell at the latest after this time (24h)." placeholder:"DURATION"`
	UID            string        `name:"uid" help:"Your own name for it: the same batch again is no second one." placeholder:"TEXT"`
	IdempotencyKey string        `help:"Send once, however often this runs within 24 hours." placeholder:"TEXT"`
	Wait           bool          `help:"Stay until all is done, and tell how far it is. Ends with 1 unless everything was delivered or filtered."`
	remote
}

func (*batchSend) Help() string {
	return `At most 1000 events and 8 MiB, all published or none.

Examples:
  hark batch send texts.ndjson --callback https://example.com/done --uid parcels
  cat texts.ndjson | hark batch send - --topic texts.out --callback-topic texts.done --wait`
}

func (b *batchSend) Run(a *app) error {
	events, err := b.events(a)
	if err != nil {
		return err
	}
	if n := chunk(events); n < len(events) {
		return wrongUse("several batches", "a batch holds at most %d events and 8 MiB, and these are %d events", hark.MaxBatchEvents, len(events))
	}
	c, err := b.client()
	if err != nil {
		return err
	}
	var options []client.PublishOption
	if b.IdempotencyKey != "" {
		options = append(options, client.IdempotencyKey(b.IdempotencyKey))
	}
	made, err := c.SendBatch(a.ctx, client.BatchSpec{Events: events, URL: b.Callback, Topic: b.CallbackTopic, To: b.CallbackTo,
		Deadline: b.Deadline, UID: b.UID}, options...)
	if err != nil {
		return err
	}
	if !b.Wait {
		return a.answer(made, func() { a.showMade(made) })
	}
	a.noteMade(made)
	one, err := c.WaitBatch(a.ctx, made.ID, a.progress())
	if err != nil {
		return err
	}
	if err := a.answer(one, func() { a.showBatch(one) }); err != nil {
		return err
	}
	if k := one.Counts; k.Delivered+k.Filtered < k.Total() {
		return &failure{msg: fmt.Sprintf("%d of %d were not delivered", k.Total()-k.Delivered-k.Filtered, k.Total()),
			try: "hark deliveries list --state dead", code: exitFailure}
	}
	return nil
}

// events reads the file: an array, or an event on each line.
func (b *batchSend) events(a *app) (events []hark.Event, err error) {
	var data []byte
	if b.File == "-" {
		data, err = io.ReadAll(a.stdin)
	} else {
		data, err = os.ReadFile(b.File)
	}
	if err != nil {
		return nil, err
	}
	p := publishCmd{Topic: b.Topic}
	if start := bytes.TrimSpace(data); len(start) == 0 || start[0] != '[' {
		return p.parseLines(data)
	}
	if err := checkJSON(data); err != nil {
		return nil, wrongUse("hark batch send --help", "%s: %v", b.File, err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	for i, text := range all {
		e, err := p.parseLine(text)
		if err != nil {
			return nil, wrongUse(`events like {"topic":"orders.paid","data":{"total":42}}`, "event %d: %v", i, err)
		}
		events = append(events, e)
	}
	if len(events) == 0 {
		return nil, wrongUse("hark batch send --help", "there are no events to publish")
	}
	return events, nil
}

func (a *app) showMade(m *client.BatchMade) {
	a.printf("%s\n", m.ID)
	a.noteMade(m)
}

// noteMade tells people what they get only once.
func (a *app) noteMade(m *client.BatchMade) {
	switch {
	case m.Duplicate:
		a.note("sent before: this is that batch")
	case m.Destinations == 0:
		a.note("no destination has a topic of these events: nothing is waited for")
	default:
		a.note("%s for %s", count(len(m.IDs), "event"), count(m.Destinations, "destination"))
	}
	if m.Callback.Secret != "" {
		a.note("the callback is signed with %s: keep it, it is shown once", m.Callback.Secret.Reveal())
	}
}

// progress tells people how far a batch is, when that changed.
func (a *app) progress() func(*client.Batch) {
	last := ""
	return func(b *client.Batch) {
		if text := tally(b.Counts); text != last && b.State == hark.BatchOpen {
			last = text
			a.note("%s", text)
		}
	}
}

// tally writes counts for people, leaving out what is 0.
func tally(c *hark.BatchCounts) string {
	if c == nil {
		return ""
	}
	var parts []string
	for _, x := range []struct {
		n    int
		what string
	}{{c.Delivered, "delivered"}, {c.Dead, "dead"}, {c.Cancelled, "cancelled"}, {c.Filtered, "filtered"}, {c.Expired, "expired"}, {c.Unfinished, "unfinished"}} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if len(parts) == 0 {
		return "nothing to deliver"
	}
	return strings.Join(parts, ", ")
}

func batchStateCell(s hark.BatchState) cell {
	switch s {
	case hark.BatchCompleted:
		return styled(good, string(s))
	case hark.BatchExpired:
		return styled(bad, string(s))
	}
	return plain(string(s))
}

func calls(c *client.BatchCallback) string {
	switch {
	case c.URL != "":
		return c.URL
	case c.Topic != "":
		return "topic " + c.Topic
	}
	return c.To.String()
}

func (a *app) showBatch(b *client.Batch) {
	told := ""
	if d := b.Callback.Delivery; d != nil {
		told = d.State.String()
	}
	a.facts("id", b.ID, "uid", b.UID, "state", batchStateCell(b.State), "events", b.Events, "counts", tally(b.Counts), "accepted", stamp(b.Accepted),
		"deadline", stamp(b.Deadline), "ended", stamp(b.Ended), "tells", calls(&b.Callback), "event", b.Callback.Event, "callback", told)
	if len(b.Destinations) == 0 {
		return
	}
	rows := [][]cell{header("DESTINATION", "UID", "EVENTS", "COUNTS")}
	for _, d := range b.Destinations {
		counts := tally(&d.Counts)
		if d.Deleted {
			counts += " (deleted)"
		}
		rows = append(rows, []cell{plain(d.Destination), plain(d.UID), plain(d.Events), plain(counts)})
	}
	a.printf("\n")
	a.table(rows...)
}

type batchList struct {
	State string `help:"In this state: open, completed or expired." placeholder:"STATE"`
	Limit int    `help:"How many at most (20)." default:"20" short:"n"`
	remote
}

func (*batchList) Help() string { return "Example:\n  hark batch list --state open" }

func (l *batchList) Run(a *app) error {
	switch state := hark.BatchState(l.State); state {
	case "", hark.BatchOpen, hark.BatchCompleted, hark.BatchExpired:
	default:
		return wrongUse("--state open", "--state: %q is not a state: open, completed, expired", l.State)
	}
	c, err := l.client()
	if err != nil {
		return err
	}
	list := struct {
		Batches []*client.Batch `json:"batches"`
	}{[]*client.Batch{}}
	for one, err := range c.Batches(a.ctx, client.BatchQuery{State: hark.BatchState(l.State), PageSize: pageSize(l.Limit)}) {
		if err != nil {
			return err
		}
		if list.Batches = append(list.Batches, one); len(list.Batches) >= l.Limit {
			break
		}
	}
	return a.answer(list, func() {
		if len(list.Batches) == 0 {
			a.note("no batches")
			return
		}
		rows := [][]cell{header("ID", "UID", "STATE", "EVENTS", "COUNTS", "ACCEPTED", "TELLS")}
		for _, b := range list.Batches {
			rows = append(rows, []cell{plain(b.ID), plain(b.UID), batchStateCell(b.State), plain(b.Events), plain(tally(b.Counts)), plain(ago(b.Accepted)), plain(calls(&b.Callback))})
		}
		a.table(rows...)
	})
}

type batchShow struct {
	ID string `arg:"" help:"Id (bat_…) or uid of the batch."`
	remote
}

func (*batchShow) Help() string { return "Example:\n  hark batch show parcels" }

func (s *batchShow) Run(a *app) error {
	c, id, err := oneBatch(a, s.ID, &s.remote)
	if err != nil {
		return err
	}
	one, err := c.Batch(a.ctx, id)
	if err != nil {
		return err
	}
	return a.answer(one, func() { a.showBatch(one) })
}

// oneBatch finds a batch by id or uid.
func oneBatch(a *app, text string, r *remote) (*client.Client, hark.BatchID, error) {
	c, err := r.client()
	if err != nil {
		return nil, hark.BatchID{}, err
	}
	if id, err := hark.ParseBatchID(text); err == nil {
		return c, id, nil
	}
	for one, err := range c.Batches(a.ctx, client.BatchQuery{UID: text}) {
		if err != nil {
			return nil, hark.BatchID{}, err
		}
		return c, one.ID, nil
	}
	return nil, hark.BatchID{}, &failure{msg: fmt.Sprintf("there is no batch with the uid %q", text), try: "hark batch list", code: exitNotFound}
}

type batchRemove struct {
	ID string `arg:"" help:"Id (bat_…) or uid of the batch."`
	remote
}

func (*batchRemove) Help() string { return "Example:\n  hark batch remove parcels" }

func (r *batchRemove) Run(a *app) error {
	c, id, err := oneBatch(a, r.ID, &r.remote)
	if err != nil {
		return err
	}
	if err := c.ForgetBatch(a.ctx, id); err != nil {
		return err
	}
	return a.answer(map[string]any{"id": id}, func() { a.printf("%s is forgotten; its events and deliveries stay\n", id) })
}
